"""The algorithm of byte-pair encoding: learn merges from words and their frequencies, and apply them to a word.

Training counts pairs once and then only repairs the counts where a merge changed a word; ties go to the pair of
smaller ids. Both choices are those of Hugging Face's ``tokenizers``, so the two learn the same merges in one order.
Sennrich et al. 2016, https://arxiv.org/abs/1508.07909
"""

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise

from llmbook.text.tokenizers.protocol import utf8

Pair = tuple[int, int]


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
