"""Finding passages: by the words they share with a question, and by putting the orders of several searches together."""

from llmbook.retrieval.bm25 import BM25, words
from llmbook.retrieval.fusion import fuse

__all__ = ["BM25", "fuse", "words"]
