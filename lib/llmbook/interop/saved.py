"""A saved model, to keep or to give away: a folder with its weights, its settings and its tokenizer.

    model.safetensors    every tensor once, in its own type; tensors and nothing else, so it cannot run code
    config.json          the class, its settings, and which names share one tensor
    tokenizer.json       text to the numbers this model was trained on

Three things are kept on disk, and a model passes through them in this order. A *checkpoint* is the state of a run
(``llmbook.training.checkpoint``): optimiser, random state and place in the data besides the weights. A *saved model*
is this folder; ``save_trained`` makes it from a checkpoint. A *published model* (``llmbook.published``) comes with
the library, in half precision, as the file that the playground's page runs.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from llmbook.interop.building import build_for
from llmbook.model import (
    Backbone,
    DecoderLM,
    Encoder,
    EncoderDecoderLM,
    MaskedLM,
    SequenceClassifier,
    TokenClassifier,
    TransformerConfig,
)
from llmbook.model.language_model import config_of_weights
from llmbook.text import Tokenizer, load_tokenizer
from llmbook.training.checkpoint import restore_model
from llmbook.training.distributed import load_trained

FORMAT, VERSION = "llmbook model", 1
WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
_PLAIN = {cls.__name__: cls for cls in (DecoderLM, Encoder, EncoderDecoderLM, MaskedLM)}
_CLASSIFIERS = {cls.__name__: cls for cls in (SequenceClassifier, TokenClassifier)}


def save_model(folder: str | os.PathLike[str], model: nn.Module, tokenizer: Tokenizer) -> None:
    """Write ``model`` and ``tokenizer`` to ``folder``, which appears whole or not at all.

    A model saved there before is replaced; a folder that holds anything else is left alone.

    Raises:
        ValueError: the class is not known here, the model has parts its class has not (adapters, quantised layers),
            the tokenizer is not the model's, or the folder is taken.
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    settings = _settings(model)
    _check_vocabulary(model.config, tokenizer, folder)
    _check_parts(model, settings)
    if folder.exists() and any(folder.iterdir()) and not _is_ours(folder):
        raise ValueError(f"{folder} is not empty and holds no model of this library: choose another folder")
    weights, shared = _once(model.state_dict())
    folder.parent.mkdir(parents=True, exist_ok=True)
    new, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{end}") for end in ("new", "old"))
    try:
        new.mkdir()
        save_file(weights, new / WEIGHTS)
        tokenizer.save(new / TOKENIZER)
        values = {"format": FORMAT, "version": VERSION, **settings, "shared": shared}
        (new / CONFIG).write_text(json.dumps(values, indent=2), encoding="utf-8")
        if folder.exists():
            os.replace(folder, old)
        try:
            os.replace(new, folder)
        except OSError:
            if old.exists():
                os.replace(old, folder)
            raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def load_model(folder: str | os.PathLike[str]) -> tuple[nn.Module, Tokenizer]:
    """The model of ``save_model`` in evaluation mode, on the CPU and of the type it was saved in, and its tokenizer.

    Raises:
        FileNotFoundError: the folder or one of its three files is missing.
        ValueError: a file is damaged or foreign, or the three do not belong together; the message says which.
    """
    folder = Path(folder)
    for name in (CONFIG, WEIGHTS, TOKENIZER):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} is not there: a saved model is a folder of three files")
    values = _read_config(folder / CONFIG)
    tokenizer = load_tokenizer(folder / TOKENIZER)
    weights = _read_weights(folder / WEIGHTS)
    for name, other in values["shared"].items():
        if other in weights:
            weights[name] = weights[other]
    config = _config(values, weights, folder / CONFIG)
    shapes = {name: tensor.shape for name, tensor in weights.items()}
    model = build_for(lambda: _build(values, config, folder / CONFIG), config, shapes, source=folder / WEIGHTS)
    _check_vocabulary(model.config, tokenizer, folder)
    for name, own in (*model.named_parameters(), *model.named_buffers()):
        if name in weights:
            own.data = own.data.to(weights[name].dtype)
    restore_model(model, weights, source=folder / WEIGHTS)
    return model.eval(), tokenizer


def save_trained(
    path: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    tokenizer: Tokenizer,
    *,
    model_class: type[nn.Module] = DecoderLM,
) -> nn.Module:
    """Save the model of a training checkpoint, ``best.pt`` or a ``.dcp`` folder, as ``save_model`` does, and return it.

    Raises:
        ValueError: the checkpoint is damaged, keeps no configuration or belongs to another class.
    """
    model = load_trained(path, model_class=model_class).eval()
    save_model(folder, model, tokenizer)
    return model


# --- the class and its settings ---------------------------------------------------------------------------------


def _settings(model: nn.Module) -> dict[str, Any]:
    kind = type(model).__name__
    if kind not in _PLAIN | _CLASSIFIERS:
        raise ValueError(f"a {kind} cannot be saved here; known are {', '.join(_PLAIN | _CLASSIFIERS)}")
    values = {"class": kind, "config": model.config.to_dict()}
    if kind in _CLASSIFIERS:
        values["head"] = {
            "causal": model.encoder.causal,
            "n_labels": model.classifier.out_features,
            "dropout": model.dropout.p,
        }
    if kind == SequenceClassifier.__name__:
        values["head"] |= {"pooling": model.pooling, "pooler_layer": model.pooler is not None}
    return values


def _config(values: dict[str, Any], weights: Mapping[str, Tensor], path: Path) -> TransformerConfig:
    try:
        return config_of_weights(TransformerConfig.from_dict(values["config"]), weights)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} does not describe a model of this library: {error}") from None


def _build(values: dict[str, Any], config: TransformerConfig, path: Path) -> nn.Module:
    try:
        if values["class"] in _CLASSIFIERS:
            head = dict(values["head"])
            causal = head.pop("causal", False)  # older files do not say: their bodies were encoders
            backbone = Backbone(config, causal=True) if causal else Encoder(config)
            return _CLASSIFIERS[values["class"]](backbone, **head)
        return _PLAIN[values["class"]](config)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} does not describe a model of this library: {error}") from None


def _check_parts(model: nn.Module, settings: dict[str, Any]) -> None:
    """Refuse now what ``load_model`` could not put together again."""
    with torch.device("meta"):  # names without memory
        names = _build(settings, model.config, Path(CONFIG)).state_dict().keys()
    if changed := sorted(names ^ model.state_dict().keys()):
        raise ValueError(
            f"the parts of this {type(model).__name__} are not those of its class: {', '.join(changed[:3])} "
            f"({len(changed)} in all); merge adapters and undo quantisation before saving"
        )


def _read_config(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise ValueError(
            f'{path} was not written by save_model: it has no "format": "{FORMAT}". '
            "A model of Hugging Face's is read with config_from_huggingface and from_huggingface"
        )
    if values.get("version") != VERSION:
        raise ValueError(f"{path} has version {values.get('version')}, this llmbook reads {VERSION}")
    if missing := {"class", "config", "shared"} - values.keys():
        raise ValueError(f"{path} is damaged: it lacks {', '.join(sorted(missing))}")
    kinds = {"class": str, "config": dict, "shared": dict}
    if wrong := [name for name, kind in kinds.items() if not isinstance(values[name], kind)]:
        raise ValueError(f"{path} is damaged: {wrong[0]} is {values[wrong[0]]!r}")
    if not all(isinstance(other, str) for other in values["shared"].values()):
        raise ValueError(f"{path} is damaged: shared names which tensor is which, and holds {values['shared']!r}")
    return values


def is_saved_model(folder: str | os.PathLike[str]) -> bool:
    """Whether ``save_model`` has written this folder's settings."""
    try:
        _read_config(Path(folder) / CONFIG)
    except (OSError, ValueError):
        return False
    return True


def _is_ours(folder: Path) -> bool:
    return is_saved_model(folder) and {path.name for path in folder.iterdir()} <= {WEIGHTS, CONFIG, TOKENIZER}


def _check_vocabulary(config: TransformerConfig, tokenizer: Tokenizer, folder: Path) -> None:
    """A model may have rows that no token uses: vocabularies are padded to widths that computers like."""
    if config.vocab_size < tokenizer.vocab_size:
        raise ValueError(
            f"{folder}: the model has a vocabulary of {config.vocab_size} and the tokenizer one of "
            f"{tokenizer.vocab_size}: they do not belong together"
        )


# --- the weights ------------------------------------------------------------------------------------------------


def _once(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Each tensor under its first name, and the other names it has: name → first name."""
    first: dict[tuple, str] = {}
    shared = {}
    for name, tensor in weights.items():
        place = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride())
        if first.setdefault(place, name) != name:
            shared[name] = first[place]
    kept = {name: tensor.contiguous() for name, tensor in weights.items() if name not in shared}
    return kept, shared


def _read_weights(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or cut short: {error}") from None
