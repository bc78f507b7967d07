"""Byte-level byte-pair encoding, written to be read: merge the most frequent pair, and again.

Here is the tokenizer, from text to ids and back; the algorithm is in ``merges.py``. The order in which bytes get their
ids is that of Hugging Face's ``tokenizers``, so the two give a text the same ids.

Sennrich et al. 2016, https://arxiv.org/abs/1508.07909 (BPE for words); Radford et al. 2019 (bytes, the pattern),
https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from llmbook.text.tokenizers.merges import apply_merges, learn_merges
from llmbook.text.tokenizers.pretokenize import (
    byte_characters,
    from_characters,
    split_special,
    to_characters,
    words,
)
from llmbook.text.tokenizers.protocol import Tokenizer, printable, utf8

CACHED_WORDS = 100_000


class BPETokenizer(Tokenizer):
    """A tokenizer that starts from bytes and applies learned merges.

    ``vocab[id]`` is the bytes of a token, none for an id that is not used; ``merges`` the pairs of byte strings in the
    order they were learned (position = rank); ``special_tokens`` the ids of strings that stand for themselves and are
    never cut. Special tokens in the text given to :meth:`encode` are recognised. Raises ValueError if a byte has no
    token.
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
        """Read a pair of files in GPT-2's own format; entries of the vocabulary no merge makes are special.

        Every token keeps its id, also where the file skips some. Raises ValueError for an id that is no whole number
        from 0 or stands for two tokens, and for a line that is no merge.
        """
        ids = json.loads(Path(vocab_json).read_text(encoding="utf-8"))
        lines = Path(merges_txt).read_text(encoding="utf-8").splitlines()
        pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]
        if wrong := next((pair for pair in pairs if len(pair) != 2), None):
            raise ValueError(f"{merges_txt} holds {' '.join(wrong)!r}, which is no pair of tokens")
        by_id = {index: token for token, index in ids.items()}
        if len(by_id) < len(ids) or not all(isinstance(i, int) and i >= 0 for i in by_id):
            raise ValueError(f"{vocab_json} does not give each token a whole number of its own, from 0 on")
        merges = [(from_characters(left), from_characters(right)) for left, right in pairs]
        made = {to_characters(left + right) for left, right in merges} | set(byte_characters().values())
        special = {token: index for token, index in ids.items() if token not in made}
        pieces = [by_id.get(index, "") for index in range(max(by_id) + 1)]
        return cls([utf8(t) if t in special else from_characters(t) for t in pieces], merges, special)

    def prefix(self, vocab_size: int) -> Self:
        """The tokenizer as it was when its training had made ``vocab_size`` tokens (all, if it never made so many).

        Merges are learned one after the other, so a small vocabulary is the beginning of a large one. Raises
        ValueError if ``vocab_size`` cannot hold the special tokens and the bytes.
        """
        check_training(vocab_size, list(self.special_tokens))
        known = set(self.vocab[: 256 + len(self.special_tokens)])
        n_merges = 0
        for left, right in self.merges:
            if left + right not in known and len(known) == vocab_size:
                break
            known.add(left + right)
            n_merges += 1
        return type(self)(self.vocab[:vocab_size], self.merges[:n_merges], self.special_tokens)

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
        return printable(self.vocab[index]) or f"⟨unused {index}⟩"

    def token_bytes(self, index: int) -> bytes:
        (index,) = self._checked([index])
        return b"" if index in self.special_tokens.values() else self.vocab[index]

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
