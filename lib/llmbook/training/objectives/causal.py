"""Predict the next token: the objective of every decoder, and its three relatives.

    causal    t₁ t₂ t₃ → t₄           every token from those before it
    reversed  t₄ t₃ t₂ → t₁           every token from those after it
    prefix    [t₁ t₂] t₃ → t₄         as causal, but the tokens of a prefix also read each other forwards
    seq2seq   s₁ s₂ s₃ ; t₁ t₂ → t₃   every token of an output from those before it and a whole input

The shift is owned here, and nowhere else: the model returns logits at every position, and the logits at
position t are scored against the token at t + 1.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from llmbook.model import causal_mask, padding_mask
from llmbook.text.labels import IGNORE
from llmbook.training.objectives.base import Batch, Loss, optional, required, summed, tensor, token_nll


def causal_lm_loss(model: nn.Module, batch: Batch) -> Loss:
    """Predict every token from those before it: −Σ log p(token at t+1 | tokens up to t), in nats.

    ``batch["input_ids"]`` is [B, T+1]: the first T are read, the last T are predicted. Optional, of the same
    shape: ``labels`` (what to predict, −100 where nothing is scored; by default the input itself) and
    ``attention_mask`` (True or 1 for real tokens). Raises ValueError when shapes do not fit.
    """
    each, scored = causal_nll(model, batch)
    return Loss(each.sum(), scored.sum())


def causal_nll(model: nn.Module, batch: Batch) -> tuple[Float[Tensor, "B T"], Bool[Tensor, "B T"]]:
    """The negative log-likelihood of every token, in nats, and which of them are targets (0 where not).

    The batch is that of ``causal_lm_loss``. Raises ValueError when shapes do not fit.
    """
    inputs, mask, targets = shifted(batch, "input_ids", "attention_mask")
    return token_nll(model(inputs, attention_mask=mask).logits, targets), targets != IGNORE


def reversed_lm_loss(model: nn.Module, batch: Batch) -> Loss:
    """Predict every token from those after it: the causal loss of the text read from right to left.

    The batch is that of ``causal_lm_loss``, in reading order; the model sees it turned round. Raises
    ValueError when shapes do not fit.
    """
    names = [name for name in ("input_ids", "labels", "attention_mask") if name in batch]
    return causal_lm_loss(model, {name: tensor(batch, name).flip(1) for name in names})


def prefix_lm_loss(model: nn.Module, batch: Batch) -> Loss:
    """Predict what follows a prefix whose tokens read each other both ways (https://arxiv.org/abs/1910.10683, §3.2.1).

    ``batch["prefix_len"]`` [B] says how many tokens of each row are prefix; the rest of the batch is that of
    ``causal_lm_loss``. Only tokens after the prefix are targets: one inside has been read by those before it.
    Raises ValueError for a model with a sliding window shorter than the text: a window looks back only; without
    ``prefix_len``; and when shapes do not fit.
    """
    prefix_len = required(batch, "prefix_len", "choose_prefix")
    inputs, mask, targets = shifted(batch, "input_ids", "attention_mask")
    window = getattr(getattr(getattr(model, "module", model), "config", None), "sliding_window", None)  # DDP: .module
    if window is not None and window < inputs.shape[1]:
        raise ValueError(
            f"sliding_window={window} looks back only, and a prefix is read both ways: make the model without one, or "
            f"give texts of at most {window} tokens"
        )
    ids = tensor(batch, "input_ids")
    real = optional(batch, "attention_mask").get("attention_mask", torch.ones_like(ids)).long()
    in_prefix = real.cumsum(1) <= prefix_len[:, None]  # [B, T + 1]; padding on the left is not counted
    past = causal_mask(inputs.shape[1], device=inputs.device)
    may_attend = past | padding_mask(in_prefix[:, :-1])  # [B, 1, T, T]: a prefix_mask for each row
    logits = model(inputs, attention_mask=mask, mask=may_attend).logits
    return summed(logits, targets.masked_fill(in_prefix[:, 1:], IGNORE))


def seq2seq_loss(model: nn.Module, batch: Batch) -> Loss:
    """Predict an output token by token, having read a whole input: translation, T5's span corruption.

    ``batch["input_ids"]`` [B, M] goes to the encoder, with its ``attention_mask`` if some of it is padding.
    ``batch["decoder_input_ids"]`` [B, T+1] is the output with a start token before it: as in ``causal_lm_loss`` the
    first T are read and the last T predicted. Optional, of that shape: ``labels`` and ``decoder_attention_mask``.
    Raises ValueError when shapes do not fit.
    """
    outputs, mask, targets = shifted(batch, "decoder_input_ids", "decoder_attention_mask")
    logits = model(
        batch["input_ids"], outputs, attention_mask=batch.get("attention_mask"), decoder_attention_mask=mask
    ).logits
    return summed(logits, targets)


def shifted(batch: Batch, ids_name: str, mask_name: str) -> tuple[Tensor, Tensor | None, Tensor]:
    """What is read [B, T], which of it is real (or None), and the token after each [B, T], −100 where not scored.

    Raises ValueError for ids that are not [B, T+1] with T of 1 or more, and for labels or a mask of another shape.
    """
    ids, extras = tensor(batch, ids_name), optional(batch, "labels", mask_name)  # [B, T + 1]
    labels, mask = extras.get("labels", ids), extras.get(mask_name)
    if ids.ndim != 2 or ids.shape[1] < 2:
        raise ValueError(
            f"{ids_name} has shape {tuple(ids.shape)}: expected [batch, tokens] with at least 2 tokens, "
            "because the last T tokens are predicted from the first T"
        )
    for name, other in (("labels", labels), (mask_name, mask)):
        if other is not None and other.shape != ids.shape:
            raise ValueError(
                f"{name} has shape {tuple(other.shape)} but {ids_name} {tuple(ids.shape)}: give both the same "
                "shape; the objective does the shift by one itself"
            )
    targets = labels[:, 1:]
    if mask is None:
        return ids[:, :-1], None, targets
    # Both ends must be real: a first token after left padding would be predicted from nothing.
    real = mask.bool()
    return ids[:, :-1], mask[:, :-1], targets.masked_fill(~(real[:, 1:] & real[:, :-1]), IGNORE)
