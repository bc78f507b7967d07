"""What every tokenizer of the book can do: text to ids, ids to text, and a JSON file that holds all of it.

One small interface, four implementations (characters, bytes, byte-level BPE, and Hugging Face's library), so
that a model never knows which of them fed it. Ids are below ``vocab_size``; a vocabulary from elsewhere may skip some.
"""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import cached_property
from typing import Any, Self

from llmbook.storage import write_file

FORMAT = "llmbook-tokenizer"
# Marks that end a text or a turn, in the vocabularies that have them as one token.
ENDS = ("<|im_end|>", "<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "</s>")
VISIBLE = {" ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍"}


class Tokenizer(ABC):
    """Text ↔ ids. A subclass names its ``kind`` (written into the file) and implements the seven methods below."""

    kind: str

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """The highest id and one: the least width of a model's output layer."""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """The ids of ``text``; the empty string gives the empty list."""

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """The text of ``ids`` (list, array or 1-D tensor). Any ids of the vocabulary decode to some text.

        Raises ValueError for an id outside the vocabulary, naming it.
        """

    @abstractmethod
    def token(self, index: int) -> str:
        """One token in printable form: spaces and line ends made visible, incomplete UTF-8 as ⟨E4⟩.

        Raises ValueError for an id outside the vocabulary.
        """

    @abstractmethod
    def token_bytes(self, index: int) -> bytes:
        """The bytes that one token adds to a text; none for an unused number and for a mark that is no text.

        Raises ValueError for an id outside the vocabulary.
        """

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Everything needed to rebuild this tokenizer, as JSON-able values."""

    @classmethod
    @abstractmethod
    def from_dict(cls, state: dict[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the tokenizer as JSON; the file appears whole or not at all."""
        state = {"format": FORMAT, "kind": self.kind, **self.to_dict()}
        write_file(path, json.dumps(state, ensure_ascii=False, indent=1))

    @cached_property
    def end_tokens(self) -> tuple[int, ...]:
        """The tokens by which this vocabulary ends a text, as far as their names are usual ones: ``<|endoftext|>``,
        ``</s>``, … What ``generate`` takes as ``eos_token_id``; empty for vocabularies of bytes and characters."""
        ends = []
        for mark in ENDS:
            try:
                ids = self.encode(mark)
            except ValueError:  # characters the vocabulary does not have
                continue
            if len(ids) == 1:
                ends += ids
        return tuple(ends)

    def tokens(self, text: str) -> list[str]:
        """The tokens of ``text`` in printable form: what a figure writes along its axis."""
        return [self.token(index) for index in self.encode(text)]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(vocab_size={self.vocab_size})"

    def _checked(self, ids: Iterable[int]) -> list[int]:
        ids = ids.tolist() if hasattr(ids, "tolist") else list(ids)
        vocab_size = self.vocab_size
        for position, index in enumerate(ids):
            if isinstance(index, list):
                raise ValueError("decode takes one sequence of ids; got a batch: decode its rows one by one")
            if not 0 <= index < vocab_size:
                raise ValueError(
                    f"id {index} at position {position} is outside the vocabulary (0 to {vocab_size - 1}): "
                    "was it made by another tokenizer?"
                )
        return ids


def utf8(text: str) -> bytes:
    """``text`` as UTF-8. Raises ValueError naming a lone surrogate, the one character UTF-8 cannot hold."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"character {text[error.start]!r} at position {error.start} is half of a surrogate pair, which is "
            "not text: read the file with errors='replace'"
        ) from None


def printable(piece: bytes) -> str:
    """Bytes of a token as something a figure can show, one visible mark for each invisible thing."""
    shown = ""
    for character in piece.decode("utf-8", errors="surrogateescape"):
        if 0xDC80 <= ord(character) <= 0xDCFF:  # an undecodable byte, as surrogateescape marks it
            shown += f"⟨{ord(character) - 0xDC00:02X}⟩"
        elif character in VISIBLE:
            shown += VISIBLE[character]
        else:
            shown += character if character.isprintable() else f"⟨U+{ord(character):04X}⟩"
    return shown
