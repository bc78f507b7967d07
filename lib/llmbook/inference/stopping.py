"""When to stop: at a token that means the end, or at a text that means it.

An end token is known as soon as it is drawn. A stop string is not: it may be spread over several tokens, begin or
end inside one, and what looks like its beginning may turn out to be something else. So the text is watched, not the
tokens, and what might still become a stop string is held back.
"""

from collections.abc import Sequence
from operator import index


def end_tokens(eos_token_id: int | Sequence[int] | None, vocab_size: int) -> list[int]:
    """One end token, several or none, as a list. Raises ValueError naming one outside the vocabulary."""
    given = () if eos_token_id is None else eos_token_id
    ids = [index(given)] if hasattr(given, "__index__") else [index(token) for token in given]
    for token in ids:
        if not 0 <= token < vocab_size:
            raise ValueError(f"eos_token_id={token} is outside the vocabulary 0…{vocab_size - 1}")
    return ids


def check_lengths(max_new_tokens: int, min_new_tokens: int = 0, *, ends: Sequence[int] = ()) -> None:
    """Raise ValueError, naming the number, unless a text of between so many tokens can be written."""
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens={max_new_tokens}: must not be negative")
    if not 0 <= min_new_tokens <= max_new_tokens:
        raise ValueError(f"min_new_tokens={min_new_tokens}: must lie between 0 and max_new_tokens={max_new_tokens}")
    if min_new_tokens and not ends:
        raise ValueError(f"min_new_tokens={min_new_tokens} forbids an early end: name it with eos_token_id")


class StopStrings:
    """Lets text through up to the first stop string, whatever pieces it arrives in.

    The first is the one that is complete first; of two complete at the same character, the longer.

    Attributes:
        found: the stop string that ended the text, or None.

    Raises:
        ValueError: a stop string is empty or not text.
    """

    def __init__(self, stop: str | Sequence[str] = ()):
        self.stop = [stop] if isinstance(stop, str) else list(stop)
        for string in self.stop:
            if not isinstance(string, str) or not string:
                raise ValueError(f"stop={string!r}: a stop string must be text of at least one character")
        self.found: str | None = None
        self._held = ""

    def push(self, text: str) -> str:
        """Take more text and give back what is final: sure to stand before any stop string."""
        if self.found is not None:
            return ""
        self._held += text
        found = [(self._held.find(s) + len(s), -len(s), s) for s in self.stop if s in self._held]
        if found:
            end, _, self.found = min(found)
            return self._release(end - len(self.found), forget_rest=True)
        return self._release(len(self._held) - self._open_beginning())

    def finish(self) -> str:
        """What was held back, when no more text will come."""
        return self._release(len(self._held))

    def _open_beginning(self) -> int:
        """How many of the last characters may be the beginning of a stop string."""
        longest = max(map(len, self.stop), default=1) - 1
        for n in range(min(longest, len(self._held)), 0, -1):
            if any(string.startswith(self._held[-n:]) for string in self.stop):
                return n
        return 0

    def _release(self, n: int, *, forget_rest: bool = False) -> str:
        text, self._held = self._held[:n], "" if forget_rest else self._held[n:]
        return text
