"""Text: tokenizers, corpora and batches."""

from llmbook.text.batches import LMBatches, as_tokens, eval_windows, load_tokens, save_tokens
from llmbook.text.corpus import Corpus, corpora, load_corpus
from llmbook.text.labels import IGNORE
from llmbook.text.sources import SourceError, fetch_package_files, package_files
from llmbook.text.tokenizers import (
    BPETokenizer,
    ByteTokenizer,
    CharTokenizer,
    HFTokenizer,
    Tokenizer,
    load_tokenizer,
)

__all__ = [
    "IGNORE",
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
