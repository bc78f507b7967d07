"""Hugging Face's ``tokenizers`` behind the book's interface: the same byte-level BPE, in Rust, for real work.

It also opens any ``tokenizer.json``, such as the one that comes with an encoder's weights.
https://huggingface.co/docs/tokenizers
"""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as RustTokenizer

from llmbook.text.tokenizers.bpe import check_training
from llmbook.text.tokenizers.pretokenize import from_characters, split_special
from llmbook.text.tokenizers.protocol import Tokenizer, printable, utf8


class HFTokenizer(Tokenizer):
    """A ``tokenizers.Tokenizer`` (at ``.backend``). Truncation and padding its file asks for are switched off:
    a text's ids are the ids of the whole text, and batches are padded where batches are made."""

    kind = "hf"
    chat_template: str | None = None  # Jinja: how its model was shown conversations, if it was

    def __init__(self, backend: RustTokenizer):
        backend.no_truncation()
        backend.no_padding()
        self.backend = backend
        self._special = {i for i, added in backend.get_added_tokens_decoder().items() if added.special}
        state = json.loads(backend.to_str())
        self._byte_level = '"ByteLevel"' in json.dumps(state["decoder"])

    @classmethod
    def train(
        cls,
        text: str | Iterable[str],
        *,
        vocab_size: int,
        special_tokens: Sequence[str] = (),
        min_frequency: int = 2,
    ) -> Self:
        """Byte-level BPE with the ids and merges of :meth:`BPETokenizer.train`; the same arguments and errors."""
        check_training(vocab_size, special_tokens)
        backend = RustTokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=min_frequency,
            special_tokens=[AddedToken(token, special=True, normalized=False) for token in special_tokens],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        documents = [text] if isinstance(text, str) else text
        pieces = (
            piece
            for document in documents
            for piece, is_special in split_special(document, special_tokens)
            if not is_special
        )
        backend.train_from_iterator(pieces, trainer)
        return cls(backend)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """A tokenizer from the contents of a ``tokenizer.json``. Raises ValueError if they are not one."""
        try:
            backend = RustTokenizer.from_str(text)
        except Exception as error:  # the Rust side raises bare Exception
            raise ValueError(f"not a tokenizer.json of Hugging Face tokenizers: {error}") from None
        return cls(backend)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """A tokenizer from a ``tokenizer.json`` on disk."""
        return cls.from_json(Path(path).read_text(encoding="utf-8"))

    @property
    def vocab_size(self) -> int:
        return self.backend.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """The ids of ``text``; with ``add_special_tokens``, framed as its model expects ([CLS] … [SEP])."""
        utf8(text)  # a lone surrogate gets our error rather than a Rust traceback
        return self.backend.encode(text, add_special_tokens=add_special_tokens).ids

    def decode(self, ids: Iterable[int]) -> str:
        return self.backend.decode(self._checked(ids), skip_special_tokens=False)

    def token(self, index: int) -> str:
        (index,) = self._checked([index])
        text = self.backend.id_to_token(index)
        if text is None:  # a vocabulary may skip numbers
            return f"⟨unused {index}⟩"
        if self._byte_level and index not in self._special:
            return printable(from_characters(text))
        return printable(utf8(text))

    def to_dict(self) -> dict[str, Any]:
        state = {"tokenizer": json.loads(self.backend.to_str())}
        return state if self.chat_template is None else {**state, "chat_template": self.chat_template}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Self:
        tokenizer = cls.from_json(json.dumps(state["tokenizer"]))
        tokenizer.chat_template = state.get("chat_template")
        return tokenizer
