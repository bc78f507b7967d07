"""When to stop: at a token that means the end, or at a text that means it.

An end token is known as soon as it is drawn. A stop string is not: it may be spread over several tokens, begin or
end inside one, and what looks like its beginning may turn out to be something else. So the text is watched, not the
tokens, and what might still become a stop string is held back.
"""

from collections.abc import Sequence


def end_tokens(ids: Sequence[int], vocab_size: int) -> list[int]:
    """The end tokens as a list. Raises ValueError naming one outside the vocabulary."""
    for token in ids:
        if not 0 <= token < vocab_size:
            raise ValueError(f"eos_token_id={token} is outside the vocabulary 0…{vocab_size - 1}")
    return list(ids)


def stop_strings(stop: str | Sequence[str] | None) -> tuple[str, ...]:
    """One stop string, several or none, as a tuple. Raises ValueError for one that is empty or no text."""
    strings = () if stop is None else (stop,) if isinstance(stop, str) else tuple(stop)
    for string in strings:
        if not isinstance(string, str) or not string:
            raise ValueError(f"stop={string!r}: a stop string must be text of at least one character")
    return strings


class StopStrings:
    """Lets text through up to the first stop string, whatever pieces it arrives in.

    The first is the one that is complete first; of two complete at the same character, the longer.

    Attributes:
        found: the stop string that ended the text, or None.

    Raises:
        ValueError: a stop string is empty or not text.
    """

    def __init__(self, stop: str | Sequence[str] = ()):
        self.stop = stop_strings(stop)
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
