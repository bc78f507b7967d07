"""Letters and sounds: the CMU Pronouncing Dictionary as a task of translation, "knight" → N AY T.

    k  n  i  g  h  t       what an encoder reads
    <s>  N  AY  T  </s>    what a decoder writes

One vocabulary serves both sides: padding, start and end, then 26 letters, then 39 sounds. The dictionary marks the
stress of vowels by a digit (AH0, AY1); it is left out here.
"""

import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from llmbook.text.corpus import load_corpus

PAD_ID, START_ID, END_ID = 0, 1, 2
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SOUNDS = tuple(
    [
        "AA",
        "AE",
        "AH",
        "AO",
        "AW",
        "AY",
        "B",
        "CH",
        "D",
        "DH",
        "EH",
        "ER",
        "EY",
        "F",
        "G",
        "HH",
        "IH",
        "IY",
        "JH",
        "K",
        "L",
        "M",
        "N",
        "NG",
        "OW",
        "OY",
        "P",
        "R",
        "S",
        "SH",
        "T",
        "TH",
        "UH",
        "UW",
        "V",
        "W",
        "Y",
        "Z",
        "ZH",
    ]
)
Pronunciations = Mapping[str, tuple[str, ...]]


class LettersAndSounds:
    """The vocabulary of both sides: words to numbers, numbers to sounds."""

    def __init__(self) -> None:
        self.symbols = ("<pad>", "<s>", "</s>", *LETTERS, *SOUNDS)
        self._ids = {symbol: index for index, symbol in enumerate(self.symbols)}

    def __len__(self) -> int:
        return len(self.symbols)

    def read(self, symbols: Iterable[str]) -> list[int]:
        """The numbers of letters ("cat") or of sounds (["K", "AE", "T"]). Raises ValueError for another symbol."""
        symbols = list(symbols)
        if unknown := [symbol for symbol in symbols if symbol not in self._ids]:
            raise ValueError(f"{unknown[0]!r} is neither a small English letter nor a sound of {', '.join(SOUNDS)}")
        return [self._ids[symbol] for symbol in symbols]

    def write(self, ids: Iterable[int]) -> list[str]:
        """The sounds of a row of numbers: from behind the start up to the end, padding left out."""
        found: list[str] = []
        for index in map(int, ids):
            if index == END_ID:
                break
            if index not in (PAD_ID, START_ID):
                found.append(self.symbols[index])
        return found

    def batch(self, words: Sequence[Sequence[str]], sounds: Sequence[Sequence[str]] | None = None) -> dict[str, Tensor]:
        """A batch for ``seq2seq_loss``: words padded on the right, with their masks; so are the sounds, if given."""
        batch = _padded([self.read(word) for word in words], "input_ids", "attention_mask")
        if sounds is not None:
            rows = [[START_ID, *self.read(row), END_ID] for row in sounds]
            batch |= _padded(rows, "decoder_input_ids", "decoder_attention_mask")
        return batch


def _padded(rows: list[list[int]], ids_name: str, mask_name: str) -> dict[str, Tensor]:
    ids = torch.full((len(rows), max(map(len, rows))), PAD_ID)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
    return {ids_name: ids, mask_name: ids != PAD_ID}


def load_pronunciations(*, longest: int = 12) -> dict[str, tuple[str, ...]]:
    """Word → its sounds (the first entry, without stress), for words of 2 to ``longest`` plain letters and at most as
    many sounds, in the dictionary's order."""
    found: dict[str, tuple[str, ...]] = {}
    for line in load_corpus("cmudict").text.splitlines():
        word, *sounds = line.split("#")[0].split()
        if re.fullmatch(f"[a-z]{{2,{longest}}}", word) and len(sounds) <= longest:
            found[word] = tuple(re.sub(r"\d", "", sound) for sound in sounds)
    return found


def split_at_random(
    words: Iterable[str], *, held_out: int, keep: Iterable[str] = (), seed: int = 0
) -> tuple[list[str], list[str]]:
    """(training words, held-out words): ``held_out`` of the words, drawn at random, none of them in ``keep``.

    Raises ValueError if that leaves no word to train on.
    """
    shuffled, kept = sorted(words), set(keep)
    random.Random(seed).shuffle(shuffled)
    test = [word for word in shuffled if word not in kept][:held_out]
    if len(test) < held_out or len(test) == len(shuffled):
        raise ValueError(f"held_out={held_out} of {len(shuffled)} words leaves none to train on")
    drawn = set(test)
    return [word for word in shuffled if word not in drawn], test


def pronunciation_batches(
    pronunciations: Pronunciations, words: Sequence[str], *, symbols: int = 1536, seed: int = 0
) -> Iterator[dict[str, Tensor]]:
    """Endless batches of about ``symbols`` letters and sounds: words of like length together, in random order."""
    vocabulary, rng = LettersAndSounds(), random.Random(seed)
    while True:
        order = rng.sample(words, len(words))
        order.sort(key=lambda word: (len(word), len(pronunciations[word])))  # stable: equals stay shuffled
        batches: list[list[str]] = [[]]
        for word in order:
            if (len(batches[-1]) + 1) * (len(word) + len(pronunciations[word]) + 2) > symbols:
                batches.append([])
            batches[-1].append(word)
        rng.shuffle(batches)
        for batch in batches:
            yield vocabulary.batch(batch, [pronunciations[word] for word in batch])
