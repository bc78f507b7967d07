"""The file a page runs (``figures.export_model`` writes it), opened in Python: the same numbers in both places.

Eight letters, the length of a JSON header, the header, then each tensor where the header says; figures/packing.py
describes it. Tables the page needs because it has no formulas (angles, biases by distance) are left: a model makes
its own.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llmbook.interop.undrawn import undrawn
from llmbook.model import DecoderLM, TransformerConfig
from llmbook.text import Tokenizer
from llmbook.text.tokenizers import tokenizer_from_dict

MAGIC = b"LLMBOOK1"
PREFIX = len(MAGIC) + 4


def read_packed(path: str | os.PathLike[str]) -> tuple[DecoderLM, Tokenizer]:
    """The model of such a file in evaluation mode, its weights as float32, and its tokenizer.

    Raises ValueError if the file is none, was cut short, or its header lacks a part.
    """
    content = Path(path).read_bytes()
    header, start = _header(content, path)
    config = TransformerConfig.from_dict(header["config"])
    with undrawn():
        model = DecoderLM(config)
    state = model.state_dict()
    stored = {name: _tensor(content, start, about) for name, about in header["tensors"].items()}
    for name, own in state.items():
        source = "body.embeddings.tokens.weight" if name == "lm_head.weight" and config.tie_embeddings else name
        if name == "body.position_bias.table.weight":
            raise ValueError(f"{path} holds T5's biases by distance, from which its table cannot be had back")
        own.copy_(stored[source])
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
    if missing := {"config", "tensors", "tokenizer"} - header.keys():
        raise ValueError(f"{path} is damaged: its header lacks {', '.join(sorted(missing))}; export or fetch it again")
    return header, start


def _tensor(content: bytes, start: int, about: dict[str, Any]) -> torch.Tensor:
    n = int(np.prod(about["shape"]))
    array = np.frombuffer(content, dtype=f"<{about['dtype']}", count=n, offset=start + about["offset"])
    return torch.from_numpy(array.astype(np.float32)).reshape(about["shape"])
