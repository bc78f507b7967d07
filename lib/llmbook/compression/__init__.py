"""Making a trained model smaller: fewer bits for each weight, fewer weights, or a smaller model taught by a larger.

Start with ``quantise.py``, two formulas and their error; then ``linear.py``, where they become layers.
"""

from llmbook.compression.linear import Int4Linear, Int8Linear
from llmbook.compression.model import QuantisationReport, quantise_model
from llmbook.compression.quantise import (
    Quantised,
    pack_nibbles,
    quantise_absmax,
    quantise_groups,
    unpack_nibbles,
)

__all__ = [
    "Int4Linear",
    "Int8Linear",
    "QuantisationReport",
    "Quantised",
    "pack_nibbles",
    "quantise_absmax",
    "quantise_groups",
    "quantise_model",
    "unpack_nibbles",
]
