"""Models as Hugging Face's Hub keeps them: a folder with settings, weights and tokenizer, on the disk or fetched.

    config.json                       the kind of model and its sizes
    model.safetensors                 the weights; of large models in several files, which an index lists
    tokenizer.json                    text to numbers; ``tokenizer_config.json`` beside it has what chats need

Weights come from safetensors alone: the older ``pytorch_model.bin`` is a pickle, which can run code when it is read.
"""

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from llmbook.interop.building import filled
from llmbook.interop.huggingface import FAMILIES, config_from_huggingface, family_of, from_huggingface
from llmbook.model import (
    DecoderLM,
    Encoder,
    EncoderDecoderLM,
    MaskedLM,
    SequenceClassifier,
    TokenClassifier,
    TransformerConfig,
)
from llmbook.model.language_model import HEAD, config_of_weights
from llmbook.storage import SourceError
from llmbook.text import HFTokenizer

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
_PLAIN = {cls.__name__: cls for cls in (DecoderLM, Encoder, EncoderDecoderLM, MaskedLM)}


def load_folder(folder: str | os.PathLike[str]) -> tuple[nn.Module, HFTokenizer]:
    """The model of such a folder and its tokenizer.

    The class is that of ``architectures`` in ``config.json``: ``DecoderLM``, ``Encoder``, ``EncoderDecoderLM``,
    ``MaskedLM`` or a classifier.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, they do not belong together, or the model has a part that ours lacks; the message
            names the file and the part.
    """
    folder = Path(folder)
    values = _read_json(folder / CONFIG)
    try:
        config, family = config_from_huggingface(values), family_of(values)
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG}: {error}") from None
    theirs = _read_weights(folder)
    try:
        _require_head(theirs, family, config)
        depth = {"n_layers": config.n_layers, "n_decoder_layers": config.n_decoder_layers}
        weights = from_huggingface(theirs, family, **depth, config=config)
    except ValueError as error:
        raise ValueError(f"the weights in {folder}: {error}") from None
    config = config_of_weights(config, weights)
    model = filled(_maker(family, config, weights), config, weights, source=folder)
    tokenizer = _tokenizer(folder)
    _check_vocabulary(config, tokenizer, folder)
    return model, tokenizer


def fetch(name: str) -> Path:
    """The folder of ``"ORG/NAME"``, or ``"ORG/NAME@REVISION"``, by ``huggingface_hub``, which keeps what it fetches.

    Raises:
        SourceError: it could not be had; the message says why.
        ValueError: the index of its weights is damaged.
    """
    repository, _, revision = name.partition("@")
    advice = (
        "connect to the Hub (or a mirror of it, by HF_ENDPOINT), or give the path of a folder that holds the model: "
        f"{CONFIG}, {WEIGHTS}, {_TOKENIZER[0]}"
    )
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise SourceError(
            f"model {name}", [("huggingface_hub", "not installed")], f"`pip install huggingface_hub`, or {advice}"
        ) from None
    get = partial(snapshot_download, repository, revision=revision or None)
    try:
        folder = Path(get(allow_patterns=[CONFIG, INDEX, *_TOKENIZER]))
        shards = sorted(set(_index(folder / INDEX).values())) if (folder / INDEX).is_file() else [WEIGHTS]
        return Path(get(allow_patterns=[CONFIG, INDEX, *_TOKENIZER, *shards]))
    except ValueError as error:
        if type(error) is ValueError:  # our own; that of a name the Hub cannot have is a subclass
            raise
        raise SourceError(f"model {name}", [("the Hub", str(error))], advice) from error
    except Exception as error:  # of several HTTP libraries, depending on the version
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise SourceError(f"model {name}", [("the Hub", reason[0])], advice) from error


# --- the files ------------------------------------------------------------------------------------------------------


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: a model's folder holds {CONFIG}, {WEIGHTS} and {_TOKENIZER[0]}")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} is damaged: it holds no object")
    return values


def _index(path: Path) -> dict[str, str]:
    """Which file holds which tensor. Raises ValueError for a name that is no file of the folder."""
    places = _read_json(path).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise ValueError(f"{path} is damaged: it has no weight_map")
    for name, file in places.items():
        plain = isinstance(file, str) and file.endswith(".safetensors") and not {"/", "\\", "\0"} & set(file)
        if not plain:
            raise ValueError(f"{path} says that {name} lies in {file!r}, which is no safetensors file beside it")
    return places


def _read_weights(folder: Path) -> dict[str, Tensor]:
    if (folder / INDEX).is_file():
        places = _index(folder / INDEX)
        files = [folder / name for name in sorted(set(places.values()))]
    elif (folder / WEIGHTS).is_file():
        places, files = None, [folder / WEIGHTS]
    else:
        pickled = sorted(path.name for path in folder.glob("*.bin"))
        instead = f"; {pickled[0]} is a pickle, which is not read: convert it to safetensors" if pickled else ""
        raise FileNotFoundError(f"{folder} holds neither {WEIGHTS} nor {INDEX}{instead}")
    weights: dict[str, Tensor] = {}
    for file in files:
        for name, tensor in _read_safetensors(file).items():
            if name in weights or (places is not None and places.get(name) != file.name):
                raise ValueError(f"{file} holds {name}, which {INDEX} places in {places and places.get(name)!r}")
            weights[name] = tensor
    if missing := sorted((places or {}).keys() - weights.keys()):
        raise ValueError(f"{folder / INDEX} names {missing[0]}, which {places[missing[0]]} does not hold")
    return weights


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise ValueError(f"{path} is not there, though {INDEX} names it: has the download ended?")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or cut short: {error}") from None


def _tokenizer(folder: Path) -> HFTokenizer:
    if not (folder / _TOKENIZER[0]).is_file():
        others = sorted(p.name for p in folder.iterdir() if p.name in ("vocab.txt", "vocab.json", "tokenizer.model"))
        found = f", only {others[0]}" if others else ""
        raise FileNotFoundError(
            f"{folder} holds no {_TOKENIZER[0]}{found}: save the tokenizer with a library that writes one"
        )
    return HFTokenizer.from_folder(folder)


# --- the model ------------------------------------------------------------------------------------------------------


def _require_head(weights: dict[str, Tensor], family: str, config: TransformerConfig) -> None:
    """A head that a file lacks is the token table only where the settings say so."""
    table = FAMILIES[family]
    heads = {entry.theirs for entry in table.outside if HEAD in entry.ours}
    if not config.tie_embeddings and heads and not heads & weights.keys():
        raise ValueError(f"{min(heads)} is missing, and the settings do not say that it is the token table")


def _maker(family: str, config: TransformerConfig, weights: dict[str, Tensor]) -> Callable[[], nn.Module]:
    model = FAMILIES[family].model
    if model in _PLAIN:
        return lambda: _PLAIN[model](config)
    n_labels = len(weights["classifier.bias"])
    if model == SequenceClassifier.__name__:
        return lambda: SequenceClassifier(Encoder(config), n_labels=n_labels, pooling="cls")
    return lambda: TokenClassifier(Encoder(config), n_labels=n_labels)


def _check_vocabulary(config: TransformerConfig, tokenizer: HFTokenizer, folder: Path) -> None:
    """Tokens that were added for another model of the same series may lie beyond the table."""
    own = max(tokenizer.backend.get_vocab(with_added_tokens=False).values(), default=-1) + 1
    if own > config.vocab_size:
        raise ValueError(
            f"{folder}: the model has a vocabulary of {config.vocab_size} and the tokenizer one of {own}: they do not "
            "belong together"
        )
