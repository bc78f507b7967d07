"""One id per byte of UTF-8: 256 ids spell every text of every language, and nothing is ever unknown.

The price is length: a Chinese character takes three ids. ByT5 (https://arxiv.org/abs/2105.13626) weighs the two.
"""

from collections.abc import Iterable
from typing import Any, Self

from llmbook.text.tokenizers.protocol import Tokenizer, printable, utf8


class ByteTokenizer(Tokenizer):
    """Id = byte value. There is nothing to train."""

    kind = "byte"

    @property
    def vocab_size(self) -> int:
        return 256

    def encode(self, text: str) -> list[int]:
        return list(utf8(text))

    def decode(self, ids: Iterable[int]) -> str:
        """Bytes that are not UTF-8 (a model may write half a character) become U+FFFD."""
        return bytes(self._checked(ids)).decode("utf-8", errors="replace")

    def token(self, index: int) -> str:
        return printable(bytes(self._checked([index])))

    def token_bytes(self, index: int) -> bytes:
        return bytes(self._checked([index]))

    def to_dict(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Self:
        return cls()
