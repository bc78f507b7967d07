"""How good a model is on text it has not seen: nats per token, perplexity, bits per byte, loss by position.

Losses per token cannot be compared between tokenizers, because the tokens differ; bits per byte can: the same
text has the same bytes whichever tokenizer cuts it.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from llmbook.model import evaluating
from llmbook.training.objectives import Batch, Objective, causal_lm_loss, causal_nll
from llmbook.training.parallel import ALONE, Parallel
from llmbook.training.runtime import Runtime, where_it_is


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The result of ``evaluate``.

    loss: mean negative log-likelihood, nats per token. n_tokens: how many tokens were predicted.
    per_position: mean loss by position in the window, position 0 being predicted from one token; NaN where
    no target fell.
    """

    loss: float
    n_tokens: int
    per_position: Float[Tensor, "T"] = field(repr=False)

    @property
    def perplexity(self) -> float:
        """exp(loss): the number of equally likely tokens that would be as hard to choose between."""
        return math.exp(self.loss) if self.loss < 700 else math.inf  # e^709 is the largest a float holds

    def bits_per_byte(self, n_bytes: int) -> float:
        """The loss of the whole text in bits, divided by its length in bytes (UTF-8, of the predicted text).

        Raises ValueError for fewer than 1 byte.
        """
        if n_bytes < 1:
            raise ValueError(f"n_bytes={n_bytes}: give the length in bytes of the text that was evaluated")
        return self.loss * self.n_tokens / math.log(2) / n_bytes


def evaluate(model: nn.Module, batches: Iterable[Batch], *, runtime: Runtime | None = None) -> Evaluation:
    """The causal language model's loss over all ``batches``: an exact mean over target tokens.

    ``batches`` hold ``input_ids`` [B, T+1] and optionally ``labels`` and ``attention_mask``, as in
    ``causal_lm_loss``; windows of different lengths may be mixed. ``eval_windows`` makes batches in which every
    token of a text is predicted exactly once. Without ``runtime`` the model runs where it is, as it is.
    Raises ValueError if nothing is scored.
    """
    runtime = runtime or where_it_is(model)
    nats_sum = torch.zeros(0, dtype=torch.float64)  # by position; in float64, because a text has many tokens
    counts = torch.zeros(0, dtype=torch.int64)
    with evaluating(model):
        for batch in batches:
            with runtime.autocast():
                nats, scored = causal_nll(model, runtime.to_device(batch))  # [B, T]
            nats_sum = _add(nats_sum, nats.sum(0).cpu().double())
            counts = _add(counts, scored.sum(0).cpu())
    n_tokens = int(counts.sum())
    _require_targets(n_tokens)
    return Evaluation(
        loss=float(nats_sum.sum() / n_tokens), n_tokens=n_tokens, per_position=(nats_sum / counts).float()
    )


def mean_loss(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    objective: Objective = causal_lm_loss,
    runtime: Runtime | None = None,
    parallel: Parallel = ALONE,
) -> float:
    """Any objective's loss over all ``batches``, per target. Raises ValueError if nothing is scored.

    Of several processes each computes its share of the batches, and all return the same number.
    """
    runtime = runtime or where_it_is(model)
    total = n_targets = 0.0
    with evaluating(model):
        for batch, counts in parallel.share(batches):
            with runtime.autocast():
                loss = objective(model, runtime.to_device(batch))
            if counts:
                total += loss.total.item()
                n_targets += int(loss.n_targets)
    total, n_targets = parallel.sum_numbers(total, n_targets)
    _require_targets(n_targets)
    return total / n_targets


def _add(total: Tensor, part: Tensor) -> Tensor:
    """Add two rows of different length: the shorter counts as 0 beyond its end."""
    length = max(len(total), len(part))
    return F.pad(total, (0, length - len(total))) + F.pad(part, (0, length - len(part)))


def _require_targets(n_targets: float) -> None:
    if n_targets == 0:
        raise ValueError("nothing to evaluate: no batches, or every label is -100")
