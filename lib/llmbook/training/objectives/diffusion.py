r"""Masked diffusion: guess whatever is hidden, however much that is (https://arxiv.org/abs/2406.07524).

With a share t of the text hidden, drawn evenly from (0, 1], and M the hidden places,

$$-\log p(x) \;\le\; \mathbb{E}_{t, M}\Bigl[\frac{1}{t} \sum_{i \in M} -\log p(x_i \mid x_{\text{not } M})\Bigr].$$

The weight 1/t makes it a bound on the log-likelihood of the *text*, so that it can be compared with a causal loss; with
a fixed t, as in BERT, it is none.
"""

from torch import nn

from llmbook.training.objectives.base import Batch, Loss, optional, required, same_shape, token_nll


def masked_diffusion_loss(model: nn.Module, batch: Batch) -> Loss:
    """The bound above, summed over texts; the count is of *all* tokens, hidden or not: nats per token of text.

    ``batch`` is what ``HideShare`` makes: ``input_ids`` [B, T] with tokens hidden, ``labels`` [B, T], −100 where
    nothing is hidden, ``share`` [B]; ``attention_mask`` if some of it is padding. The model returns logits for the
    token *at* each place, having read both sides. Raises ValueError without labels or shares, when shapes do not fit,
    and for a share outside (0, 1].
    """
    labels, share = required(batch, "labels", "HideShare"), required(batch, "share", "HideShare")
    same_shape(batch, "input_ids", "labels")
    if share.shape != labels.shape[:1]:
        raise ValueError(f"share has shape {tuple(share.shape)}: expected one number a row, {tuple(labels.shape[:1])}")
    if share.device.type == "cpu" and not bool(((share > 0) & (share <= 1)).all()):
        raise ValueError(f"share={share.tolist()}: each must lie above 0 and be at most 1")
    inputs = optional(batch, "attention_mask")
    each = token_nll(model(batch["input_ids"], **inputs).logits, labels)  # [B, T], 0 where nothing is hidden
    real = inputs["attention_mask"].bool() if inputs else labels == labels
    return Loss((each / share[:, None]).sum(), real.sum())
