"""Four tokenizers behind one interface, and the one function that opens any of their files."""

import json
import os
from pathlib import Path
from typing import Any

from llmbook.text.tokenizers.bpe import BPETokenizer
from llmbook.text.tokenizers.byte import ByteTokenizer
from llmbook.text.tokenizers.char import CharTokenizer
from llmbook.text.tokenizers.hf import HFTokenizer
from llmbook.text.tokenizers.protocol import FORMAT, Tokenizer

__all__ = [
    "BPETokenizer",
    "ByteTokenizer",
    "CharTokenizer",
    "HFTokenizer",
    "Tokenizer",
    "load_tokenizer",
    "tokenizer_from_dict",
]

_KINDS = {cls.kind: cls for cls in (CharTokenizer, ByteTokenizer, BPETokenizer, HFTokenizer)}


def load_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """Open a tokenizer saved by any ``.save(path)``, or a ``tokenizer.json`` of Hugging Face.

    Raises FileNotFoundError if there is no such file, ValueError if it is not a tokenizer.
    """
    try:
        state = json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON, so not a tokenizer file: {error}") from None
    if isinstance(state, dict) and "model" in state and "pre_tokenizer" in state:
        return HFTokenizer.from_file(path)
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(f'{path} is JSON but not a tokenizer: it has no "format": "{FORMAT}"')
    try:
        return tokenizer_from_dict(state)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def tokenizer_from_dict(state: dict[str, Any]) -> Tokenizer:
    """The tokenizer whose ``kind`` and ``to_dict()`` are given together. Raises ValueError if that is none of ours."""
    if not isinstance(state.get("kind"), str) or state["kind"] not in _KINDS:
        raise ValueError(f"a tokenizer of unknown kind {state.get('kind')!r}; known: {list(_KINDS)}")
    try:
        return _KINDS[state["kind"]].from_dict(state)
    except KeyError as error:
        raise ValueError(f"the tokenizer lacks {error} or holds a wrong token: save it again") from None
    except (TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"the tokenizer holds an entry of a wrong type: {error}; save it again") from None
