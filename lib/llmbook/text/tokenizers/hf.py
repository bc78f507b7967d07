"""Hugging Face's ``tokenizers`` behind the book's interface: the same byte-level BPE, in Rust, for real work.

It also opens any ``tokenizer.json``, such as the one that comes with an encoder's weights.
https://huggingface.co/docs/tokenizers
"""

import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as RustTokenizer

from llmbook.text.tokenizers.bpe import check_training
from llmbook.text.tokenizers.pretokenize import from_characters, split_special
from llmbook.text.tokenizers.protocol import Tokenizer, printable, utf8

HIGHEST_ID = 10_000_000
BYTE_TOKEN = re.compile("<0x([0-9A-F]{2})>")  # a byte of a character that has no token
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # stands for a space in the vocabularies of SentencePiece


class HFTokenizer(Tokenizer):
    """A ``tokenizers.Tokenizer`` (at ``.backend``), to which nothing is added later.

    Truncation and padding its file asks for are switched off: a text's ids are the ids of the whole text, and batches
    are padded where batches are made.

    Attributes:
        chat_template: Jinja, how its model was shown conversations, if it was.
        special_tokens_map: the texts of the tokens that templates call ``bos_token``, ``eos_token`` and so on.
    """

    kind = "hf"
    chat_template: str | None = None

    def __init__(self, backend: RustTokenizer):
        backend.no_truncation()
        backend.no_padding()
        self.backend = backend
        self.special_tokens_map: dict[str, str] = {}
        self._added = set(backend.get_added_tokens_decoder())
        # Asked once: the backend counts its vocabulary at every call. A vocabulary may skip numbers.
        self._vocab_size = max(backend.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        self._marks = {index for index, token in backend.get_added_tokens_decoder().items() if token.special}
        decoder = json.dumps(json.loads(backend.to_str())["decoder"])
        self._byte_level = '"ByteLevel"' in decoder
        self._spells_bytes = '"ByteFallback"' in decoder or '"Metaspace"' in decoder  # as SentencePiece's do

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
        _check_ids(text)
        try:
            backend = RustTokenizer.from_str(text)
        except Exception as error:  # the Rust side raises bare Exception
            raise ValueError(f"not a tokenizer.json of Hugging Face tokenizers: {error}") from None
        return cls(backend)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """A tokenizer from a ``tokenizer.json`` on disk."""
        return cls.from_json(Path(path).read_text(encoding="utf-8"))

    @classmethod
    def from_folder(cls, folder: str | os.PathLike[str]) -> Self:
        """The tokenizer of a model's folder: ``tokenizer.json``, and beside it, where they are there,
        ``tokenizer_config.json`` and ``chat_template.jinja`` with what chats need.

        Raises FileNotFoundError without ``tokenizer.json``, ValueError if a file is damaged.
        """
        folder = Path(folder)
        tokenizer = cls.from_file(folder / "tokenizer.json")
        for name in ("special_tokens_map.json", "tokenizer_config.json"):
            if (folder / name).is_file():
                try:
                    values = json.loads((folder / name).read_text(encoding="utf-8"))
                    tokenizer._configure(values)
                except (ValueError, TypeError, KeyError, AttributeError) as error:
                    raise ValueError(f"{folder / name} is damaged: {error}") from None
        if (folder / "chat_template.jinja").is_file():
            tokenizer.chat_template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
        return tokenizer

    def _configure(self, values: dict[str, Any]) -> None:
        for name, token in values.items():
            text = token.get("content") if isinstance(token, dict) else token
            if name.endswith("_token") and isinstance(text, str):
                self.special_tokens_map[name] = text
        template = values.get("chat_template")
        if isinstance(template, list):  # several, by name
            template = {entry["name"]: entry["template"] for entry in template}.get("default")
        self.chat_template = template or self.chat_template

    @property
    def vocab_size(self) -> int:
        return self._vocab_size

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
        if self._byte_level and index not in self._added:  # what was added stands as it is written
            return printable(from_characters(text))
        return printable(utf8(text))

    def token_bytes(self, index: int) -> bytes:
        """As the interface says. Raises ValueError for a tokenizer such as WordPiece, whose tokens have no bytes of
        their own: what they add depends on their neighbours."""
        (index,) = self._checked([index])
        text = self.backend.id_to_token(index)
        if text is None or index in self._marks:
            return b""
        if index in self._added:
            return utf8(text)
        if self._byte_level:
            return from_characters(text)
        if not self._spells_bytes:
            raise ValueError("the tokens of this tokenizer are pieces of words, not bytes of a text")
        if byte := BYTE_TOKEN.fullmatch(text):
            return bytes([int(byte[1], 16)])
        return utf8(text.replace(SPACE, " "))

    def to_dict(self) -> dict[str, Any]:
        state = {"tokenizer": json.loads(self.backend.to_str())}
        if self.chat_template is not None:
            state["chat_template"] = self.chat_template
        if self.special_tokens_map:
            state["special_tokens_map"] = self.special_tokens_map
        return state

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Self:
        tokenizer = cls.from_json(json.dumps(state["tokenizer"]))
        tokenizer.chat_template = state.get("chat_template")
        tokenizer.special_tokens_map = dict(state.get("special_tokens_map", {}))
        return tokenizer


def _check_ids(text: str) -> None:
    """Raise ValueError for an id that no vocabulary has: the Rust side takes memory up to it, and ends the process."""
    try:
        state = json.loads(text)
    except ValueError:
        return  # which is said better by the Rust side
    if not isinstance(state, dict):
        return
    model, added = state.get("model"), state.get("added_tokens")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    ids = list(vocab.values()) if isinstance(vocab, dict) else []
    ids += [token.get("id") for token in added if isinstance(token, dict)] if isinstance(added, list) else []
    for index in ids:
        if type(index) is int and index > HIGHEST_ID:
            raise ValueError(f"not a tokenizer.json: a token has id {index:,}; none goes beyond {HIGHEST_ID:,}")
