"""A trained LoRA as a file of its own: the small matrices, and how they were made, in one safetensors file.

The file holds nothing of the model it was trained on; it fits every model whose layers have those names and sizes.
"""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from llmbook.adaptation.lora import LoRALinear, add_lora, lora_layers
from llmbook.adaptation.targets import is_linear
from llmbook.storage import write_file

FORMAT = "llmbook lora"
_CONFIG = ("r", "lora_alpha", "lora_dropout", "target_modules")


def lora_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """The learned matrices alone, by dotted name. Raises ValueError if the model has no LoRA."""
    return {
        f"{name}.{matrix}": getattr(layer, matrix).detach()
        for name, layer in lora_layers(model).items()
        for matrix in ("lora_A", "lora_B")
    }


def lora_config(model: nn.Module) -> dict:
    """The arguments with which ``add_lora`` makes the same layers on a plain model.

    Raises ValueError if the model has no LoRA, or layers that were not made alike.
    """
    layers = lora_layers(model)
    first = next(iter(layers.values()))
    for name, layer in layers.items():
        if (layer.r, layer.lora_alpha, layer.dropout.p) != (first.r, first.lora_alpha, first.dropout.p):
            raise ValueError(f"{name} has another r, lora_alpha or lora_dropout than the first layer: use save_peft")
    return {
        "r": first.r,
        "lora_alpha": first.lora_alpha,
        "lora_dropout": first.dropout.p,
        "target_modules": list(layers),
    }


def save_lora(model: nn.Module, path: str | Path) -> None:
    """Write the LoRA of ``model``; the file appears whole or not at all."""
    tensors = {name: tensor.contiguous() for name, tensor in lora_state_dict(model).items()}
    content = save(tensors, metadata={"format": FORMAT, "config": json.dumps(lora_config(model))})
    write_file(path, content)


def load_lora(model: nn.Module, path: str | Path) -> None:
    """Put the LoRA of a file on ``model``: on a plain model as new layers, else into those it has.

    Raises:
        ValueError: the file is no LoRA, was made with another r, lora_alpha or other layers than the model has, its
            sizes do not fit, or the model's LoRA is merged. The model is then as it was.
    """
    tensors, config = _read(Path(path))
    if any(isinstance(part, LoRALinear) for part in model.modules()):
        _check_fits(lora_config(model), config, path)
        if any(layer.merged for layer in lora_layers(model).values()):
            raise ValueError("the model's LoRA is merged into its weights; unmerge(model) before loading another")
        _check_sizes({name: tensor.shape for name, tensor in lora_state_dict(model).items()}, tensors, path)
    else:
        parts = dict(model.named_modules())
        missing = [name for name in config["target_modules"] if not is_linear(parts.get(name))]
        if missing:
            raise ValueError(f"{path} adapts {', '.join(missing[:3])}, which are no linear layers of this model")
        expected = {}
        for name in config["target_modules"]:
            expected[f"{name}.lora_A"] = (config["r"], parts[name].in_features)
            expected[f"{name}.lora_B"] = (parts[name].out_features, config["r"])
        _check_sizes(expected, tensors, path)
        add_lora(model, **config)
    with torch.no_grad():
        for name, tensor in lora_state_dict(model).items():
            tensor.copy_(tensors[name])


def _read(path: Path) -> tuple[dict[str, Tensor], dict]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read as safetensors: {error}") from error
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} is no LoRA of this library: its format is {metadata.get('format')!r}")
    try:
        config = json.loads(metadata["config"])
        targets = config["target_modules"]
        if set(config) != set(_CONFIG) or not isinstance(targets, list) or not all(isinstance(t, str) for t in targets):
            raise ValueError(f"it says {config!r}")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not say how its LoRA was made: {error}") from None
    return tensors, config


def _check_fits(here: dict, there: dict, path) -> None:
    for name in ("r", "lora_alpha"):
        if here[name] != there[name]:
            raise ValueError(f"{path} was made with {name}={there[name]}, the model has {name}={here[name]}")
    different = sorted(set(here["target_modules"]) ^ set(there["target_modules"]))
    if different:
        raise ValueError(f"{path} and the model adapt different layers: {', '.join(different[:3])} in one of them only")


def _check_sizes(expected: dict, tensors: dict[str, Tensor], path) -> None:
    for name, size in expected.items():
        if name not in tensors:
            raise ValueError(f"{path} lacks {name}")
        if tensors[name].shape != tuple(size):
            raise ValueError(f"{path} has {name} of size {tuple(tensors[name].shape)}, the model needs {tuple(size)}")
