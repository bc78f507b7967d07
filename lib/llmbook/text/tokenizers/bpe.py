"""Byte-level byte-pair encoding, written to be read: merge the most frequent pair, and again.

Training counts pairs once and then only repairs the counts where a merge changed a word; ties go to the pair of
smaller ids. Both choices, and the order in which bytes get their ids, are those of Hugging Face's ``tokenizers``,
so the two learn the same merges in the same order.

Sennrich et al. 2016, https://arxiv.org/abs/1508.07909 (BPE for words); Radford et al. 2019 (bytes, the pattern),
https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
"""

import heapq
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from llmbook.text.tokenizers.pretokenize import (
    byte_characters,
    from_characters,
    split_special,
    to_characters,
    words,
)
from llmbook.text.tokenizers.protocol import Tokenizer, printable, utf8

Pair = tuple[int, int]
CACHED_WORDS = 100_000


class BPETokenizer(Tokenizer):
    """A tokenizer that starts from bytes and applies learned merges.

    ``vocab[id]`` is the bytes of a token, ``merges`` the pairs of byte strings in the order they were learned
    (position = rank), ``special_tokens`` the ids of strings that stand for themselves and are never cut.
    Special tokens in the text given to :meth:`encode` are recognised.
    """

    kind = "bpe"

    def __init__(
        self,
        vocab: Sequence[bytes],
        merges: Sequence[tuple[bytes, bytes]],
        special_tokens: Mapping[str, int] | None = None,
    ):
        self.vocab = list(vocab)
        self.merges = list(merges)
        self.special_tokens = dict(special_tokens or {})
        special = set(self.special_tokens.values())
        self._ids = {piece: index for index, piece in enumerate(self.vocab) if index not in special}
        missing = [byte for byte in range(256) if bytes([byte]) not in self._ids]
        if missing:
            raise ValueError(f"the vocabulary lacks {len(missing)} of the 256 bytes, first 0x{missing[0]:02X}")
        # pair of ids → (rank, id of the merged token)
        self._ranks = {
            (self._ids[left], self._ids[right]): (rank, self._ids[left + right])
            for rank, (left, right) in enumerate(self.merges)
        }
        self._cache: dict[str, list[int]] = {}

    @classmethod
    def train(
        cls,
        text: str | Iterable[str],
        *,
        vocab_size: int,
        special_tokens: Sequence[str] = (),
        min_frequency: int = 2,
    ) -> Self:
        """Learn merges from ``text`` (or several texts) until there are ``vocab_size`` tokens.

        Ids: special tokens first, then the 256 bytes in GPT-2's order, then one per merge. Training stops early,
        with a smaller vocabulary, when no pair occurs ``min_frequency`` times. Raises ValueError if
        ``vocab_size`` cannot hold the special tokens and the bytes.
        """
        check_training(vocab_size, special_tokens)
        frequencies: Counter[str] = Counter()
        for document in [text] if isinstance(text, str) else text:
            for piece, is_special in split_special(document, special_tokens):
                if not is_special:
                    frequencies.update(words(piece))
        alphabet = [utf8(token) for token in special_tokens] + [bytes([byte]) for byte in byte_characters()]
        vocab, merges = learn_merges(
            frequencies,
            alphabet,
            vocab_size=vocab_size,
            min_frequency=min_frequency,
            first=len(special_tokens),
        )
        return cls(vocab, merges, {token: index for index, token in enumerate(special_tokens)})

    @classmethod
    def from_gpt2(cls, vocab_json: str | os.PathLike[str], merges_txt: str | os.PathLike[str]) -> Self:
        """Read a pair of files in GPT-2's own format; entries of the vocabulary no merge makes are special."""
        ids = json.loads(Path(vocab_json).read_text(encoding="utf-8"))
        lines = Path(merges_txt).read_text(encoding="utf-8").splitlines()
        pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]
        merges = [(from_characters(left), from_characters(right)) for left, right in pairs]
        made = {to_characters(left + right) for left, right in merges} | set(byte_characters().values())
        special = {token: index for token, index in ids.items() if token not in made}
        by_id = sorted(ids, key=ids.__getitem__)
        return cls(
            [utf8(t) if t in special else from_characters(t) for t in by_id],
            merges,
            special,
        )

    @property
    def vocab_size(self) -> int:
        return len(self.vocab)

    def encode(self, text: str) -> list[int]:
        """Cut into words, then merge each word's bytes: the lowest rank first, the leftmost of equals."""
        utf8(text)  # a lone surrogate is reported by its place in the text, not in its word
        ids: list[int] = []
        for piece, is_special in split_special(text, list(self.special_tokens)):
            if is_special:
                ids.append(self.special_tokens[piece])
                continue
            for word in words(piece):
                if word not in self._cache:
                    if len(self._cache) >= CACHED_WORDS:
                        self._cache.clear()
                    self._cache[word] = apply_merges([self._ids[bytes([b])] for b in utf8(word)], self._ranks)
                ids += self._cache[word]
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Bytes that are not UTF-8 (a token may end inside a character) become U+FFFD."""
        return b"".join(self.vocab[index] for index in self._checked(ids)).decode("utf-8", errors="replace")

    def token(self, index: int) -> str:
        (index,) = self._checked([index])
        return printable(self.vocab[index])

    def to_dict(self) -> dict[str, Any]:
        special = set(self.special_tokens.values())
        return {
            "vocab": [None if i in special else to_characters(piece) for i, piece in enumerate(self.vocab)],
            "merges": [f"{to_characters(left)} {to_characters(right)}" for left, right in self.merges],
            "special_tokens": self.special_tokens,
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Self:
        names = {index: token for token, index in state["special_tokens"].items()}
        vocab = [utf8(names[i]) if p is None else from_characters(p) for i, p in enumerate(state["vocab"])]
        pairs = [line.split(" ") for line in state["merges"]]
        merges = [(from_characters(left), from_characters(right)) for left, right in pairs]
        return cls(vocab, merges, state["special_tokens"])


def learn_merges(
    frequencies: Mapping[str, int],
    alphabet: Sequence[bytes],
    *,
    vocab_size: int,
    min_frequency: int = 2,
    first: int = 0,
) -> tuple[list[bytes], list[tuple[bytes, bytes]]]:
    """The vocabulary and the merges that BPE learns from words and their frequencies.

    ``alphabet[first:]`` are the single bytes the words are spelled with; what precedes is kept but never merged.
    """
    vocab = list(alphabet)
    ids = {piece: index for index, piece in enumerate(vocab) if index >= first}
    spelled = [[ids[bytes([byte])] for byte in utf8(word)] for word in frequencies]
    times = list(frequencies.values())

    counts: defaultdict[Pair, int] = defaultdict(int)  # pair → occurrences in the corpus
    places: defaultdict[Pair, set[int]] = defaultdict(set)  # pair → the words that hold it
    for place, symbols in enumerate(spelled):
        for pair in pairwise(symbols):
            counts[pair] += times[place]
            places[pair].add(place)

    # The most frequent pair comes first, then the one of smaller ids. A count in the queue may be out of date: it
    # is corrected when it reaches the top, which is cheaper than finding it each time a merge lowers it.
    queue = [(-counts[pair], pair, held) for pair, held in places.items()]
    heapq.heapify(queue)
    merges: list[tuple[bytes, bytes]] = []
    while queue and len(vocab) < vocab_size:
        negative, (left, right), held = heapq.heappop(queue)
        count = counts[left, right]
        if count != -negative:
            heapq.heappush(queue, (-count, (left, right), held))
            continue
        if count < max(min_frequency, 1):
            break
        merged = vocab[left] + vocab[right]
        if merged not in ids:  # "ab"+"c" and "a"+"bc" make one token between them
            ids[merged] = len(vocab)
            vocab.append(merged)
        merges.append((vocab[left], vocab[right]))

        appeared: defaultdict[Pair, set[int]] = defaultdict(set)
        for place in held:
            for pair, change in merge_in_place(spelled[place], left, right, ids[merged]):
                counts[pair] += change * times[place]
                if change > 0:
                    appeared[pair].add(place)
        for pair, held in appeared.items():
            if counts[pair] > 0:
                heapq.heappush(queue, (-counts[pair], pair, held))
    return vocab, merges


def merge_in_place(symbols: list[int], left: int, right: int, merged: int) -> list[tuple[Pair, int]]:
    """Replace every ``left, right`` by ``merged``, from the left; return the pairs that came (+1) or went (−1)."""
    changes: list[tuple[Pair, int]] = []
    i = 0
    while i + 1 < len(symbols):
        if symbols[i] == left and symbols[i + 1] == right:
            if i > 0:
                before = symbols[i - 1]
                changes += [((before, left), -1), ((before, merged), +1)]
            if i + 2 < len(symbols):
                after = symbols[i + 2]
                changes += [((right, after), -1), ((merged, after), +1)]
            symbols[i : i + 2] = [merged]
        i += 1
    return changes


def apply_merges(symbols: list[int], ranks: Mapping[Pair, tuple[int, int]]) -> list[int]:
    """Merge the pair of lowest rank (the leftmost of equals) until no pair has a rank.

    The symbols form a linked list and the candidate pairs a heap, so a word of n bytes takes O(n log n).
    """
    symbols = list(symbols)
    following = [*range(1, len(symbols)), -1]
    preceding = list(range(-1, len(symbols) - 1))
    candidates: list[tuple[int, int, Pair]] = []  # (rank, place of the left symbol, the pair itself)

    def consider(place: int) -> None:
        if place >= 0 and following[place] >= 0:
            pair = symbols[place], symbols[following[place]]
            if pair in ranks:
                heapq.heappush(candidates, (ranks[pair][0], place, pair))

    for place in range(len(symbols)):
        consider(place)
    while candidates:
        _, place, pair = heapq.heappop(candidates)
        second = following[place]
        if second < 0 or (symbols[place], symbols[second]) != pair:
            continue  # an earlier merge took one of the two
        symbols[place] = ranks[pair][1]
        symbols[second] = -1  # gone; −1 is no id, so no waiting pair matches it
        following[place] = following[second]
        if following[place] >= 0:
            preceding[following[place]] = place
        consider(preceding[place])
        consider(place)
    return [symbol for symbol in symbols if symbol >= 0]


def check_training(vocab_size: int, special_tokens: Sequence[str]) -> None:
    """Raise ValueError, naming the value, for a vocabulary that cannot be trained."""
    if "" in special_tokens or len(set(special_tokens)) != len(special_tokens):
        raise ValueError(f"special tokens must be non-empty and all different, got {list(special_tokens)}")
    least = 256 + len(special_tokens)
    if vocab_size < least:
        raise ValueError(
            f"vocab_size={vocab_size} is too small for byte-level BPE: 256 bytes + {len(special_tokens)} special "
            f"tokens need at least {least}"
        )
