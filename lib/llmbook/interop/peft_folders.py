"""Adapters as the library PEFT keeps them: a folder with a LoRA and how it was made, both ways.

    adapter_config.json            which layers are adapted, their ranks and scales
    adapter_model.safetensors      A and B of each, under Hugging Face's names of the layers; layers trained whole

Their names come from the tables of ``huggingface``. Where a file of theirs stacks several of our layers (GPT-2's
``c_attn``), these share A, and each has its rows of B. https://huggingface.co/docs/peft/developer_guides/checkpoint
"""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from llmbook.adaptation.freeze import freeze
from llmbook.adaptation.lora import LoRALinear
from llmbook.adaptation.targets import is_linear
from llmbook.interop.names import Entry, rows_of
from llmbook.interop.peft_names import CONFIG, PREFIX, WEIGHTS, PeftNames, stem_of
from llmbook.interop.peft_settings import PeftSettings
from llmbook.model.parts import replace_part

DELTAS = ("lora_A", "lora_B")


@dataclass(frozen=True)
class Adapted:
    """One of our layers to be adapted, and how."""

    r: int
    lora_alpha: float
    lora_A: Tensor
    lora_B: Tensor


def load_peft(model: nn.Module, folder: str | os.PathLike[str], *, family: str) -> None:
    """Put the adapter of a folder on a plain ``model``: LoRA layers, and the layers that were trained whole.

    As after ``add_lora``, only these train. A layer trained whole is no longer tied to another.

    Args:
        family: the model's kind, one of ``FAMILIES``, whose names the folder uses.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, it is no LoRA, asks for what ours lacks, or does not fit the model; the message
            names the file and the part. The model is then as it was.
    """
    folder = Path(folder)
    if any(isinstance(part, LoRALinear) for part in model.modules()):
        raise ValueError("the model has LoRA already; remove_lora(model) first")
    names = PeftNames(model.config, family)
    try:
        settings = PeftSettings(_read_config(folder / CONFIG))
    except (re.error, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{folder / CONFIG} is damaged: {type(error).__name__} at {error}") from None
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG}: {error}") from None
    tensors = _read_tensors(folder / WEIGHTS)
    try:
        layers, whole = _plan(model, names, settings, tensors)
    except (re.error, TypeError, RecursionError) as error:
        raise ValueError(f"{folder / CONFIG} is damaged: {error}") from None
    except ValueError as error:
        raise ValueError(f"{folder / WEIGHTS}: {error}") from None
    freeze(model)
    parts = dict(model.named_modules())
    for name, adapted in layers.items():
        layer = LoRALinear(parts[name], r=adapted.r, lora_alpha=adapted.lora_alpha, lora_dropout=settings.dropout)
        with torch.no_grad():
            layer.lora_A.copy_(adapted.lora_A)
            layer.lora_B.copy_(adapted.lora_B)
        replace_part(model, name, layer)
    _assign(model, whole)


# --- reading ------------------------------------------------------------------------------------------------------


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: an adapter of PEFT is a folder with {CONFIG} and {WEIGHTS}")
    values = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict) or values.get("peft_type") != "LORA":
        kind = values.get("peft_type") if isinstance(values, dict) else None
        raise ValueError(f"peft_type={kind!r}: only 'LORA' is read")
    return values


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        pickled = path.with_suffix(".bin")
        instead = f"; {pickled.name} is a pickle, which is not read" if pickled.is_file() else ""
        raise FileNotFoundError(f"{path} is not there{instead}")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} is damaged or cut short: {error}") from None


def _plan(
    model: nn.Module, names: PeftNames, settings: PeftSettings, tensors: dict[str, Tensor]
) -> tuple[dict[str, Adapted], dict[str, Tensor]]:
    """The layers to adapt, and the tensors of layers trained whole, under our names.

    Raises ValueError if not all of it fits.
    """
    corrections: dict[str, dict[str, Tensor]] = {}
    whole: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        module, _, last = name.removeprefix(PREFIX).rpartition(".")
        module, _, matrix = module.rpartition(".") if last == "weight" else (module, "", "")
        if matrix in DELTAS:
            corrections.setdefault(module, {})[matrix] = tensor
        else:
            stem = stem_of(name.removeprefix(PREFIX))
            if not stem.endswith(tuple(settings.saved)):  # of a name, not only of a part between dots, as PEFT has it
                raise ValueError(f"{name} belongs to no layer that {CONFIG} adapts or has trained whole")
            entry = names.entry(name.removeprefix(PREFIX))
            parts = rows_of(tensor, entry, names.config, names.table)
            whole |= dict(zip(entry.ours, parts, strict=True))
    layers: dict[str, Adapted] = {}
    for module, matrices in corrections.items():
        layers |= _adapted(model, names, settings, module, matrices)
    _check_targets(model, names, settings, set(layers))
    state = dict(model.named_parameters(remove_duplicate=False))
    for name, tensor in whole.items():
        if name not in state or state[name].shape != tensor.shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, which does not fit the model")
    for saved in settings.saved:
        if not any(stem_of(name).endswith(saved) for name in tensors):
            raise ValueError(f"modules_to_save names {saved}, of which there is no tensor")
    return layers, whole


def _adapted(
    model: nn.Module, names: PeftNames, settings: PeftSettings, module: str, matrices: dict[str, Tensor]
) -> dict[str, Adapted]:
    entry = names.entry(f"{module}.weight")
    if missing := set(DELTAS) - matrices.keys():
        raise ValueError(f"{module} lacks {min(missing)}")
    r, scaling = settings.scale(module)
    down, up = matrices["lora_A"], matrices["lora_B"]
    found, parts = {}, dict(model.named_modules())
    rows = rows_of(up, Entry(entry.theirs, entry.ours, shares=entry.shares), names.config, names.table)
    for name, part in zip(map(stem_of, entry.ours), rows, strict=True):
        layer = parts.get(name)
        if not is_linear(layer):
            raise ValueError(f"{module} is {name} here, which is no linear layer")
        expected = (r, layer.in_features), (layer.out_features, r)
        if (tuple(down.shape), tuple(part.shape)) != expected:
            raise ValueError(
                f"{module} has corrections of {tuple(down.shape)} and {tuple(part.shape)}; by {CONFIG} and the model "
                f"they are of {expected[0]} and {expected[1]}"
            )
        found[name] = Adapted(r, scaling * r, down, part)
    return found


def _check_targets(model: nn.Module, names: PeftNames, settings: PeftSettings, found: set[str]) -> None:
    """The file must have what its settings adapt, no less and no more."""
    parts, wanted = dict(model.named_modules()), set()
    for theirs, ours in names.layers():
        if all(is_linear(parts.get(name)) for name in ours):
            forms = {theirs, theirs.removeprefix(names.table.prefix)}
            if any(settings.is_target(form, is_head="lm_head" in ours) for form in forms):
                wanted |= set(ours)
    if different := sorted(wanted ^ found):
        which = "is adapted and not named by" if different[0] in found else "is not adapted, though named by"
        raise ValueError(f"{different[0]} {which} target_modules in {CONFIG}")


# --- whole layers -------------------------------------------------------------------------------------------------


def _assign(model: nn.Module, whole: dict[str, Tensor]) -> None:
    """New parameters in place of the old, which may be used elsewhere; those that are equal and were one stay one."""
    before, made = dict(model.named_parameters(remove_duplicate=False)), {}
    for name, tensor in whole.items():
        old, parent = before[name], model.get_submodule(stem_of(name))
        same = next(
            (p for other, p in made.items() if before[other] is old and torch.equal(whole[other], tensor)), None
        )
        made[name] = nn.Parameter(tensor.to(old).clone()) if same is None else same
        setattr(parent, name.rpartition(".")[2], made[name])
