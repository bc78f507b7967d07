"""Weights of other libraries in our models, and back: tables of names, and models trained by others."""

from llmbook.interop.huggingface import FAMILIES, config_from_huggingface, from_huggingface, to_huggingface
from llmbook.interop.pretrained import PRETRAINED, load_pretrained

__all__ = [
    "FAMILIES",
    "PRETRAINED",
    "config_from_huggingface",
    "from_huggingface",
    "load_pretrained",
    "to_huggingface",
]
