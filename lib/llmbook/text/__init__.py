"""Text: tokenizers, corpora and batches.

Names are imported when first used, so that reading a corpus loads neither torch nor a tokenizer.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .batches import LMBatches, as_tokens, eval_windows, load_tokens, save_tokens
    from .corpus import Corpus, corpora, load_corpus
    from .sources import SourceError, fetch_package_files, package_files
    from .tokenizers import (
        BPETokenizer,
        ByteTokenizer,
        CharTokenizer,
        HFTokenizer,
        Tokenizer,
        load_tokenizer,
    )

_HOMES = {
    "batches": ("LMBatches", "as_tokens", "eval_windows", "load_tokens", "save_tokens"),
    "corpus": ("Corpus", "corpora", "load_corpus"),
    "sources": ("SourceError", "fetch_package_files", "package_files"),
    "tokenizers": (
        "BPETokenizer",
        "ByteTokenizer",
        "CharTokenizer",
        "HFTokenizer",
        "Tokenizer",
        "load_tokenizer",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "BPETokenizer",
    "ByteTokenizer",
    "CharTokenizer",
    "Corpus",
    "HFTokenizer",
    "LMBatches",
    "SourceError",
    "Tokenizer",
    "as_tokens",
    "corpora",
    "eval_windows",
    "fetch_package_files",
    "load_corpus",
    "load_tokenizer",
    "load_tokens",
    "package_files",
    "save_tokens",
]


def __getattr__(name: str):
    if name in _HOME_OF:
        value = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
