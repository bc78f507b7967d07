"""Weights of other libraries in our models, and back: tables of names, nothing else."""

from llmbook.interop.huggingface import FAMILIES, config_from_huggingface, from_huggingface, to_huggingface

__all__ = ["FAMILIES", "config_from_huggingface", "from_huggingface", "to_huggingface"]
