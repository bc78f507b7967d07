"""GGUF, the one-file format of llama.cpp: settings, vocabulary and quantised weights together.

    "GGUF", version, number of tensors, number of settings
    settings   name, type, value                      "llama.block_count": 30, every token of the vocabulary, …
    tensors    name, shape, type, where it begins
    data       each tensor's bytes, at a multiple of 32

https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. A quantised tensor is a row of blocks; each holds 32
weights in 4 or 8 bits and the scale they share. Nothing is read but the head of the file until a tensor is asked for.
"""

import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

ALIGNMENT = 32
MOST_DIMENSIONS, DEEPEST = (
    4,
    8,
)  # dimensions of a tensor; arrays within arrays, beyond any real file
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as it lies in the file: ``data`` are its bytes, ``shape`` is ours (a matrix is [out, in])."""

    format: str
    shape: tuple[int, ...]
    data: UInt8[Tensor, "N"]

    def dequantise(self) -> Float[Tensor, "..."]:
        """The weights as float32."""
        return _FORMATS[self.format].decode(self.data).reshape(self.shape)


@dataclass(frozen=True)
class GGUF:
    """What a file holds: ``values`` by name ("llama.block_count"), ``tensors`` by name, still quantised."""

    path: Path
    values: dict[str, Any]
    tensors: dict[str, StoredTensor]


def read_gguf(path: str | os.PathLike[str]) -> GGUF:
    """Open a file. The tensors stay on the disk, mapped into memory, until they are dequantised.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not GGUF of version 2 or 3, is cut short or damaged, says a thing twice, or holds a kind of
            block that is not read here.
    """
    path = Path(path)
    size = path.stat().st_size
    if not size:
        raise ValueError(f"{path} is empty")
    content = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)
    head = _Head(memoryview(content.numpy()))
    try:
        magic, version, n_tensors, n_values = head.numbers("4sIQQ")
        if magic != b"GGUF" or version not in (2, 3):
            raise ValueError(f"{path} is not a GGUF file of version 2 or 3: it begins with {magic!r}, {version}")
        values: dict[str, Any] = {}
        for _ in range(n_values):
            name = head.string()
            if name in values:
                raise ValueError(f"{path} says {name} twice")
            values[name] = head.value()
        found = [head.tensor() for _ in range(n_tensors)]
    except (struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not all of a GGUF file: {error}") from None
    alignment = values.get("general.alignment", ALIGNMENT)
    if type(alignment) is not int or alignment < 1:
        raise ValueError(f"{path} has general.alignment={alignment!r}: expected a whole number of bytes")
    data = -(-head.at // alignment) * alignment
    tensors: dict[str, StoredTensor] = {}
    for name, shape, kind, offset in found:
        if name in tensors:
            raise ValueError(f"{path} holds {name} twice")
        if kind not in _BY_NUMBER:
            raise ValueError(f"{name} in {path} is of type {kind}; read are {', '.join(_FORMATS)}")
        form = _FORMATS[_BY_NUMBER[kind]]
        if shape[-1] % form.block:
            raise ValueError(f"{name} in {path} has rows of {shape[-1]}, which are no blocks of {form.block}")
        begin, n_bytes = data + offset, form.n_bytes(math.prod(shape))
        if begin + n_bytes > size:
            raise ValueError(f"{path} is cut short: {name} would end at byte {begin + n_bytes:,} of {size:,}")
        tensors[name] = StoredTensor(_BY_NUMBER[kind], shape, content[begin : begin + n_bytes])
    return GGUF(path, values, tensors)


class _Head:
    """Reads the front of the file piece by piece; ``at`` is the next byte."""

    def __init__(self, content: memoryview):
        self.content, self.at = content, 0

    def numbers(self, layout: str) -> tuple:
        found = struct.unpack_from("<" + layout, self.content, self.at)
        self.at += struct.calcsize("<" + layout)
        return found

    def string(self) -> str:
        (length,) = self.numbers("Q")
        self.at += length
        if self.at > len(self.content):
            raise struct.error(f"a text of {length} bytes goes beyond its end")
        return bytes(self.content[self.at - length : self.at]).decode()

    def value(self, kind: int | None = None, depth: int = 0) -> Any:
        if kind is None:
            (kind,) = self.numbers("I")
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            kind, length = self.numbers("IQ")
            if kind in _NUMBERS:
                return list(self.numbers(f"{length}{_NUMBERS[kind]}"))
            if depth == DEEPEST:
                raise struct.error(f"an array lies in {DEEPEST} others")
            return [self.value(kind, depth + 1) for _ in range(length)]
        if kind not in _NUMBERS:
            raise struct.error(f"there is no type {kind}")
        return self.numbers(_NUMBERS[kind])[0]

    def tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        """Name, shape, number of the format, first byte in the data. The file names the fastest dimension first."""
        name, (n_dims,) = self.string(), self.numbers("I")
        if not 1 <= n_dims <= MOST_DIMENSIONS:
            raise struct.error(f"{name} has {n_dims} dimensions")
        shape = self.numbers(f"{n_dims}Q")[::-1]
        if 0 in shape:
            raise struct.error(f"{name} has shape {shape}")
        return name, shape, *self.numbers("IQ")


# --- blocks -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Format:
    """``block_bytes`` bytes hold ``block`` weights; ``decode`` makes numbers of the bytes."""

    number: int
    block: int
    block_bytes: int
    decode: Any

    def n_bytes(self, n_weights: int) -> int:
        return n_weights // self.block * self.block_bytes


def _plain(dtype: torch.dtype):
    # A copy, for the bytes may begin anywhere and belong to the file.
    return lambda data: data.clone().view(dtype).float()


def _halves(blocks: UInt8[Tensor, "N bytes"], start: int) -> Float[Tensor, "N 1"]:
    """The 16-bit number that begins at byte ``start`` of each block."""
    return blocks[:, start : start + 2].clone().view(torch.float16).float()


def _nibbles(blocks: UInt8[Tensor, "N bytes"], start: int) -> Float[Tensor, "N 32"]:
    """16 bytes hold 32 numbers of 4 bits: the low halves are the first 16, the high halves the others."""
    packed = blocks[:, start:]
    return torch.cat((packed & 15, packed >> 4), dim=1).float()


def _q8_0(data: UInt8[Tensor, "N"]) -> Float[Tensor, "..."]:
    """scale × q, q from -128 to 127."""
    blocks = data.view(-1, 34)
    return _halves(blocks, 0) * blocks[:, 2:].view(torch.int8).float()


def _q4_0(data: UInt8[Tensor, "N"]) -> Float[Tensor, "..."]:
    """scale × (q - 8), q from 0 to 15."""
    blocks = data.view(-1, 18)
    return _halves(blocks, 0) * (_nibbles(blocks, 2) - 8)


def _q4_1(data: UInt8[Tensor, "N"]) -> Float[Tensor, "..."]:
    """scale × q + smallest, q from 0 to 15."""
    blocks = data.view(-1, 20)
    return _halves(blocks, 0) * _nibbles(blocks, 4) + _halves(blocks, 2)


_FORMATS = {
    "F32": _Format(0, 1, 4, _plain(torch.float32)),
    "F16": _Format(1, 1, 2, _plain(torch.float16)),
    "BF16": _Format(30, 1, 2, _plain(torch.bfloat16)),
    "Q4_0": _Format(2, 32, 18, _q4_0),
    "Q4_1": _Format(3, 32, 20, _q4_1),
    "Q8_0": _Format(8, 32, 34, _q8_0),
}
_BY_NUMBER = {form.number: name for name, form in _FORMATS.items()}
