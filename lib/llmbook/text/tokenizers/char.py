"""One id per character: the smallest vocabulary that can spell its training text, and nothing else.

Ids follow the characters' order in Unicode, so the same text always gives the same vocabulary.
"""

from collections.abc import Iterable
from typing import Any, Self

from llmbook.text.tokenizers.protocol import Tokenizer, printable, utf8


class CharTokenizer(Tokenizer):
    """A tokenizer over a fixed set of characters.

    ``characters`` is a string without repeats; its order gives the ids. Raises ValueError if it is empty or
    repeats a character.
    """

    kind = "char"

    def __init__(self, characters: str):
        if not characters:
            raise ValueError("a character tokenizer needs at least one character; the text was empty")
        self.characters = characters
        self._ids = {character: index for index, character in enumerate(characters)}
        if len(self._ids) != len(characters):
            twice = next(c for i, c in enumerate(characters) if self._ids[c] != i)
            raise ValueError(f"character {twice!r} appears more than once in the vocabulary")

    @classmethod
    def train(cls, text: str) -> Self:
        """The tokenizer of exactly the characters of ``text``."""
        return cls("".join(sorted(set(text))))

    @property
    def vocab_size(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> list[int]:
        """The ids of ``text``. Raises ValueError naming the first unknown character and its position."""
        try:
            return [self._ids[character] for character in text]
        except KeyError as error:
            unknown = error.args[0]
        raise ValueError(
            f"character {unknown!r} (U+{ord(unknown):04X}) at position {text.index(unknown)} is not among the "
            f"{self.vocab_size} characters seen in training: train on text that has it, or use ByteTokenizer"
        )

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(self.characters[index] for index in self._checked(ids))

    def token(self, index: int) -> str:
        (index,) = self._checked([index])
        return printable(utf8(self.characters[index]))

    def token_bytes(self, index: int) -> bytes:
        (index,) = self._checked([index])
        return utf8(self.characters[index])

    def to_dict(self) -> dict[str, Any]:
        return {"characters": self.characters}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Self:
        return cls(state["characters"])
