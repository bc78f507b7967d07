r"""How byte-level BPE sees text before any merge: special tokens apart, then words, then bytes.

The choice is GPT-2's (https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf):
merges never cross the border of a "word", and a word carries the space before it. Its pattern reads

    's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+

Python's ``re`` has no ``\p{L}``, so the three classes are spelled out below. ``\w`` is letters, numbers and the
underscore, and ``\d`` the decimal digits; the numbers that are neither digit nor letter (½, Ⅳ, ③) are listed.
The result agrees with Hugging Face's on every character known to Python's Unicode tables, which the tests check.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache


@cache
def word_pattern() -> re.Pattern[str]:
    """GPT-2's pattern, in the standard library's dialect. Built on first use: it reads the Unicode tables."""
    # Above U+1FFFF there are only ideographs, tags and private use: no character is a number.
    other_numbers = "".join(chr(c) for c in range(0x20000) if unicodedata.category(chr(c)) in ("Nl", "No"))
    space = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # White_Space; \s adds \x1c-\x1f
    letter = rf"[^\W\d_{other_numbers}]"
    number = rf"[\d{other_numbers}]"
    other = rf"(?:[^\w{space}]|_)"
    return re.compile(
        rf"'s|'t|'re|'ve|'m|'ll|'d| ?{letter}+| ?{number}+| ?{other}+|[{space}]+(?![^{space}])|[{space}]+"
    )


def words(text: str) -> list[str]:
    """``text`` cut into GPT-2's words; joined, they are ``text`` again."""
    return word_pattern().findall(text)


def split_special(text: str, special_tokens: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Cut ``text`` at special tokens: (piece, is it special?) in order. The longest match wins at a position."""
    if not special_tokens:
        yield text, False
        return
    longest_first = sorted(special_tokens, key=len, reverse=True)
    pieces = re.split("(" + "|".join(map(re.escape, longest_first)) + ")", text)
    for index, piece in enumerate(pieces):
        if piece:
            yield (
                piece,
                index % 2 == 1,
            )  # re.split puts the captured separators at the odd places


@cache
def byte_characters() -> dict[int, str]:
    """GPT-2's printable stand-in for each byte, in the order in which they receive ids.

    A printable Latin-1 byte stands for itself; the 68 others get the characters from U+0100 on, so that the space
    is Ġ and the newline Ċ. BPE itself needs none of this: it is how merges are written in files, and it fixes the
    ids (``!`` is 0), which decide between pairs of equal count.
    """
    visible = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}


@cache
def _character_bytes() -> dict[str, int]:
    return {character: byte for byte, character in byte_characters().items()}


def to_characters(piece: bytes) -> str:
    """Bytes as GPT-2 writes them in files: ``b" the"`` is ``"Ġthe"``."""
    table = byte_characters()
    return "".join(table[byte] for byte in piece)


def from_characters(piece: str) -> bytes:
    """The inverse of :func:`to_characters`. Raises KeyError for a character that stands for no byte."""
    table = _character_bytes()
    return bytes(table[character] for character in piece)
