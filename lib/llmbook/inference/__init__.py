"""Using a trained model: the next token's distribution, and text drawn from it."""

from llmbook.inference.generate import generate, next_token_distribution
from llmbook.inference.sampling import apply_temperature, keep_top_k, keep_top_p, sample, to_distribution

__all__ = [
    "apply_temperature",
    "generate",
    "keep_top_k",
    "keep_top_p",
    "next_token_distribution",
    "sample",
    "to_distribution",
]
