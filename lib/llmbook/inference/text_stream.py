"""Text while it is written: every piece that comes out is final, and the pieces together are the whole text.

Tokens are not characters. A token may be a third of a Chinese character or a quarter of an emoji, and its text may
be the beginning of a stop string. Both are held back until it is clear what they become.
"""

from collections.abc import Sequence

from llmbook.inference.stopping import StopStrings
from llmbook.text import Tokenizer

UNREADABLE = "\N{REPLACEMENT CHARACTER}"  # what tokenizers decode bytes to that are not UTF-8, or not yet
LONGEST = 3  # a character has at most four bytes, so an unfinished one shows as at most three of these
PROMPT_END = 16  # tokens of a prompt that can matter for how the text goes on


def _settled(tokenizer: Tokenizer, ids: Sequence[int]) -> list[int]:
    """The last tokens of a text that are needed to decode what follows: the shortest end of ``ids`` that is readable
    by itself, or all of them. One token is not always enough, since a character may be spelled by several."""
    for n in range(1, min(len(ids), LONGEST + 1) + 1):
        if UNREADABLE not in tokenizer.decode(ids[-n:]):
            return list(ids[-n:])
    return list(ids)


class TextStream:
    """Tokens in, final text out: whole characters only, and nothing from a stop string on.

    Args:
        tokenizer: decodes the tokens.
        prompt_ids: what stands before. Some tokenizers write a token otherwise at the beginning of a text.
        stop: the strings that end the text and do not belong to it.
    """

    def __init__(self, tokenizer: Tokenizer, prompt_ids: Sequence[int] = (), *, stop: str | Sequence[str] = ()):
        self.tokenizer, self._stops = tokenizer, StopStrings(stop)
        self._known = _settled(
            tokenizer, [int(token) for token in prompt_ids[-PROMPT_END:]]
        )  # the last tokens whose text is settled
        self._new: list[int] = []  # the tokens after it
        self._given = 0  # characters of their text given out

    @property
    def stopped(self) -> str | None:
        """The stop string that has ended the text."""
        return self._stops.found

    def push(self, token: int) -> str:
        """Take a token and give back the text that is final now, possibly none."""
        self._new.append(token)
        text = self._decode()
        unfinished = min(len(text) - len(text.rstrip(UNREADABLE)), LONGEST)
        piece = text[self._given : len(text) - unfinished]
        self._given += len(piece)
        if not unfinished:  # a character ends with this token: no need to decode it again
            self._known, self._new, self._given = _settled(self.tokenizer, self._known + self._new), [], 0
        return self._stops.push(piece)

    def finish(self) -> str:
        """What was held back, when no more tokens will come."""
        rest = self._decode()[self._given :]
        self._new, self._given = [], 0
        return self._stops.push(rest) + self._stops.finish()

    def _decode(self) -> str:
        before = self.tokenizer.decode(self._known)
        text = self.tokenizer.decode(self._known + self._new)
        if text.startswith(before):
            return text[len(before) :]
        # Byte-fallback decoders make all neighbouring bytes unreadable as long as one character of them is unfinished.
        return self.tokenizer.decode(self._new)
