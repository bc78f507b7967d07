"""Making a trained model smaller: fewer bits for each weight, fewer weights, or a smaller model taught by a larger.

Start with ``quantise.py``, two formulas and their error; then ``linear.py``, where they become layers.
"""

from llmbook.compression.distil import Distillation, kl_divergence
from llmbook.compression.gptq import quantise_by_outputs
from llmbook.compression.linear import Int4Linear, Int8Linear
from llmbook.compression.model import QuantisationReport, quantise_model
from llmbook.compression.prune import HoldMasks, Masks, largest, prune_by_magnitude, prune_two_of_four, two_of_four
from llmbook.compression.quantise import (
    Quantised,
    pack_nibbles,
    quantise_absmax,
    quantise_groups,
    unpack_nibbles,
)
from llmbook.compression.structured import (
    Importance,
    importance_by_gradient,
    importance_by_norm,
    keep_parts,
    most_important,
)

__all__ = [
    "Distillation",
    "HoldMasks",
    "Importance",
    "Int4Linear",
    "Int8Linear",
    "Masks",
    "QuantisationReport",
    "Quantised",
    "importance_by_gradient",
    "importance_by_norm",
    "keep_parts",
    "kl_divergence",
    "largest",
    "most_important",
    "pack_nibbles",
    "prune_by_magnitude",
    "prune_two_of_four",
    "quantise_absmax",
    "quantise_by_outputs",
    "quantise_groups",
    "quantise_model",
    "two_of_four",
    "unpack_nibbles",
]
