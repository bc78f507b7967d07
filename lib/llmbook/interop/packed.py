"""The file a page runs (``figures.export_model`` writes it), opened in Python: the same numbers in both places.

Eight letters, the length of a JSON header, the header, then each tensor where the header says; figures/packing.py
describes it. Tables the page needs because it has no formulas (angles, biases by distance) are left: a model makes
its own.
"""

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llmbook.interop.building import build_for
from llmbook.model import DecoderLM, TransformerConfig
from llmbook.text import Tokenizer
from llmbook.text.tokenizers import tokenizer_from_dict

MAGIC = b"LLMBOOK1"
PREFIX = len(MAGIC) + 4
DTYPES = ("f2", "f4")
TABLES = ("positions", "frequencies", "distance_bias")  # what a page needs and a model makes by itself
TABLE, HEAD = "backbone.embeddings.tokens.weight", "lm_head.weight"


def load_exported(path: str | os.PathLike[str]) -> tuple[DecoderLM, Tokenizer]:
    """The model of such a file in evaluation mode, its weights as float32, and its tokenizer.

    Raises ValueError if the file is none, was cut short, or its header lacks a part.
    """
    content = Path(path).read_bytes()
    header, start = _header(content, path)
    try:
        return _opened(content, header, start, path)
    except (KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise ValueError(f"{path} is damaged: {type(error).__name__} at {error}; export or fetch it again") from None


def _opened(content: bytes, header: dict[str, Any], start: int, path: Any) -> tuple[DecoderLM, Tokenizer]:
    config = TransformerConfig.from_dict(header["config"])
    if config.positions == "t5":
        raise ValueError(f"{path} holds T5's biases by distance, from which its table cannot be had back")
    stored = {name: about for name, about in header["tensors"].items() if name not in TABLES}
    if config.tie_embeddings and TABLE in stored:
        stored[HEAD] = stored[TABLE]
    shapes = {name: _shape(about) for name, about in stored.items()}
    model = build_for(lambda: DecoderLM(config), config, shapes, source=path)
    for name, own in model.state_dict().items():
        own.copy_(_tensor(content, start, stored[name]))
    return model.eval(), tokenizer_from_dict(header["tokenizer"])


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


def _tensor(content: bytes, start: int, about: dict[str, Any]) -> torch.Tensor:
    dtype, offset, n = about["dtype"], about["offset"], math.prod(about["shape"])
    if dtype not in DTYPES or type(offset) is not int or not offset >= 0:
        raise ValueError(f"a tensor of {dtype!r} begins at {offset!r}: expected {' or '.join(DTYPES)} and a place")
    array = np.frombuffer(content, dtype=f"<{dtype}", count=n, offset=start + offset)
    return torch.from_numpy(array.astype(np.float32)).reshape(about["shape"])
