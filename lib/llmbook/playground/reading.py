"""The file a page runs, opened in Python: the same numbers in both places.

Eight letters, the length of a JSON header, the header, then each tensor where the header says; writing.py describes
it. Tables the page needs because it has no formulas (angles, biases by distance) are left out: a model computes its
own.
"""

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

MAGIC = b"LLMBOOK1"
PREFIX = len(MAGIC) + 4
DTYPES = ("f2", "f4")
TABLES = ("positions", "frequencies", "distance_bias")  # what a page needs and a model makes by itself


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What such a file holds: configuration and tokenizer as plain values, the weights by name."""

    config: dict[str, Any]
    tokenizer: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    _content: bytes = field(repr=False)
    _start: int = field(repr=False)
    _tensors: dict[str, dict[str, Any]] = field(repr=False)

    def weight(self, name: str) -> np.ndarray:
        """The weight ``name`` in float32. Raises ValueError where the header places it outside the file."""
        about, shape = self._tensors[name], self.shapes[name]
        dtype, offset = about["dtype"], about["offset"]
        if dtype not in DTYPES or type(offset) is not int or not offset >= 0:
            raise ValueError(f"a tensor of {dtype!r} begins at {offset!r}: expected {' or '.join(DTYPES)} and a place")
        array = np.frombuffer(self._content, dtype=f"<{dtype}", count=math.prod(shape), offset=self._start + offset)
        return array.astype(np.float32).reshape(shape)


def read_exported(path: str | os.PathLike[str]) -> Exported:
    """Open a file of ``export_model``; no weight is decoded yet.

    Raises:
        ValueError: it is another file, was cut short, or its header lacks a part.
    """
    content = Path(path).read_bytes()
    header, start = _header(content, path)
    tensors = {name: about for name, about in header["tensors"].items() if name not in TABLES}
    return Exported(
        config=header["config"],
        tokenizer=header["tokenizer"],
        shapes={name: _shape(about) for name, about in tensors.items()},
        _content=content,
        _start=start,
        _tensors=tensors,
    )


def _header(content: bytes, path: Any) -> tuple[dict[str, Any], int]:
    if content[: len(MAGIC)] != MAGIC:
        raise ValueError(f"{path} is not a model written by export_model")
    start = PREFIX + int.from_bytes(content[len(MAGIC) : PREFIX], "little")
    try:
        header = json.loads(content[PREFIX:start])
        whole = start + header["bytes"]
    except (ValueError, KeyError, TypeError):  # no JSON, or not such a header
        header, whole = {}, start
    if len(content) != whole or not header:
        raise ValueError(f"{path} is damaged: it has {len(content):,} bytes of {whole:,}; export or fetch it again")
    if not isinstance(header, dict):
        raise ValueError(f"{path} is damaged: its header is no object; export or fetch it again")
    if missing := {"config", "tensors", "tokenizer"} - header.keys():
        raise ValueError(f"{path} is damaged: its header lacks {', '.join(sorted(missing))}; export or fetch it again")
    return header, start


def _shape(about: dict[str, Any]) -> tuple[int, ...]:
    shape = tuple(about["shape"])
    if not all(type(n) is int and n > 0 for n in shape):
        raise ValueError(f"a tensor has shape {shape}")
    return shape
