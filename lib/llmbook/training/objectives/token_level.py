"""Predict what stands at a place, not what comes after it: no shift, the logits at t are scored against label t.

    masked        t₁ [MASK] t₃ t₄ → t₂     some tokens hidden, all others read (BERT)
    permutation   t₄ t₁ → t₃ → t₂          tokens read in an order drawn at random (XLNet)
    classes       [CLS] a a [SEP] b b → 0/1   one label for a text or a pair of texts

Which tokens are hidden, in which order they are read and which pairs belong together was decided when the batch was
made: see ``llmbook.text.masking``, ``permutation`` and ``pairs``.
"""

from torch import nn

from llmbook.text.labels import IGNORE
from llmbook.training.objectives.base import Batch, Loss, optional, required, same_shape, summed


def masked_lm_loss(model: nn.Module, batch: Batch) -> Loss:
    """Guess the hidden tokens from both sides (https://arxiv.org/abs/1810.04805, §3.1); for a ``MaskedLM``.

    ``batch`` is what ``MaskTokens`` makes: ``input_ids`` [B, T] in which some tokens are replaced, ``labels`` [B, T]
    with the original token at those places and −100 elsewhere; ``attention_mask`` and ``segment_ids`` if there are.
    Raises ValueError without labels, or when shapes do not fit.
    """
    labels = required(batch, "labels", "MaskTokens")
    same_shape(batch, "input_ids", "labels")
    chosen = labels != IGNORE
    # The head answers there alone: at every place it would cost more than a small encoder.
    inputs = optional(batch, "attention_mask", "segment_ids")
    return summed(model(batch["input_ids"], at=chosen, **inputs).logits, labels[chosen])


def permutation_lm_loss(model: nn.Module, batch: Batch) -> Loss:
    """Predict tokens from those earlier in an order (https://arxiv.org/abs/1906.08237, §2.2); for a ``TwoStreamLM``.

    ``batch`` is what ``PermuteOrder`` makes: ``input_ids`` [B, T], ``order`` [B, T] (the places in the order in which
    they are read) and ``labels`` [B, T], −100 at the places that are only read. Raises ValueError without one of the
    two, or when shapes do not fit.
    """
    required(batch, "order", "PermuteOrder")
    labels = required(batch, "labels", "PermuteOrder")
    same_shape(batch, "input_ids", "labels")
    return summed(_logits(model, batch, "order", "attention_mask"), labels)


def classification_loss(model: nn.Module, batch: Batch) -> Loss:
    """Name the class of a text or of a pair: next sentence or not, which order, which sentiment.

    ``batch["labels"]`` [B] holds one class a row (−100: none), or [B, T] one a token; ``input_ids``,
    ``attention_mask`` and ``segment_ids`` are handed to the model. Predicting the next sentence is
    https://arxiv.org/abs/1810.04805 (§3.1), the order of two sentences https://arxiv.org/abs/1909.11942 (§3.1).
    Raises ValueError without labels.
    """
    labels = required(batch, "labels", "PairBatches")
    return summed(_logits(model, batch, "attention_mask", "segment_ids"), labels)


def _logits(model: nn.Module, batch: Batch, *names: str):
    return model(batch["input_ids"], **optional(batch, *names)).logits
