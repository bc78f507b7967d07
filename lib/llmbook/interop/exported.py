"""A file that the playground's page runs, as a model: what ``export_model`` wrote, and the book's own models."""

import os

import torch

from llmbook.interop.building import build_for
from llmbook.model import DecoderLM, TransformerConfig
from llmbook.playground import Exported, read_exported
from llmbook.text import Tokenizer
from llmbook.text.tokenizers import tokenizer_from_dict

TABLE, HEAD = "backbone.embeddings.tokens.weight", "lm_head.weight"


def load_exported(path: str | os.PathLike[str]) -> tuple[DecoderLM, Tokenizer]:
    """The model of such a file in evaluation mode, its weights as float32, and its tokenizer.

    Raises:
        ValueError: it is another file, was cut short, or its header does not describe such a model.
    """
    try:
        return _built(read_exported(path), path)
    except (KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise ValueError(f"{path} is damaged: {type(error).__name__} at {error}; export or fetch it again") from None


def _built(stored: Exported, path: str | os.PathLike[str]) -> tuple[DecoderLM, Tokenizer]:
    config = TransformerConfig.from_dict(stored.config)
    if config.positions == "t5":
        raise ValueError(f"{path} holds T5's biases by distance, from which its table cannot be restored")
    places = {name: name for name in stored.shapes}
    if config.tie_embeddings and TABLE in places:
        places[HEAD] = TABLE
    shapes = {name: stored.shapes[place] for name, place in places.items()}
    model = build_for(lambda: DecoderLM(config), config, shapes, source=path)
    for name, own in model.state_dict().items():
        own.copy_(torch.from_numpy(stored.weight(places[name])))
    return model.eval(), tokenizer_from_dict(stored.tokenizer)
