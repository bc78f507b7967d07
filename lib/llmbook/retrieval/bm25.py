r"""BM25: a passage is relevant that has the question's rare words, often, in few words.

$$s(q, d) = \sum_{w \in q} \ln\Big(1 + \frac{N - n_w + \frac12}{n_w + \frac12}\Big)\;
  \frac{f_{w,d}\,(k_1 + 1)}{f_{w,d} + k_1\,(1 - b + b\,|d| / \overline{|d|})}$$

with N passages, of which $n_w$ have the word w, $f_{w,d}$ times in passage d. The first factor is that of Lucene, which
is never negative (https://doi.org/10.1561/1500000019, https://doi.org/10.1007/978-3-030-45442-5_4).
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """The words of a text, in lower case; what stands between them is left out."""
    return _WORD.findall(text.casefold())


class BM25:
    """An index of ``passages``; ``scores`` and ``search`` compare a question with all of them.

    Raises ValueError for no passages, ``k1`` below 0 or ``b`` outside of 0 … 1.
    """

    def __init__(self, passages: Sequence[str], *, k1: float = 1.5, b: float = 0.75):
        if not passages:
            raise ValueError("there are no passages to search in")
        if k1 < 0 or not 0 <= b <= 1:
            raise ValueError(f"k1={k1}, b={b}: k1 must not be negative, and b lies between 0 and 1")
        counts = [Counter(words(passage)) for passage in passages]
        lengths = [count.total() for count in counts]
        mean = sum(lengths) / len(lengths) or 1.0
        self.n_passages = len(passages)
        self._weights: dict[str, list[tuple[int, float]]] = {}  # for each word, the passages that have it
        for i, count in enumerate(counts):
            damping = k1 * (1 - b + b * lengths[i] / mean)
            for word, n in count.items():
                self._weights.setdefault(word, []).append((i, n * (k1 + 1) / (n + damping)))

    def scores(self, question: str) -> list[float]:
        """The score of every passage; 0 where no word is shared. A word that is asked twice counts twice."""
        totals = [0.0] * self.n_passages
        for word, times in Counter(words(question)).items():
            having = self._weights.get(word, [])
            rarity = math.log(1 + (self.n_passages - len(having) + 0.5) / (len(having) + 0.5))
            for i, weight in having:
                totals[i] += times * rarity * weight
        return totals

    def search(self, question: str, n: int = 10) -> list[int]:
        """The numbers of the ``n`` best passages, best first; those that share no word are left out."""
        scores = self.scores(question)
        order = sorted((i for i, score in enumerate(scores) if score > 0), key=lambda i: (-scores[i], i))
        return order[:n]
