"""Adapters as the library PEFT keeps them: a folder with a LoRA and how it was made, both ways.

    adapter_config.json            which layers are adapted, their ranks and scales
    adapter_model.safetensors      A and B of each, under Hugging Face's names of the layers; whole layers trained beside

Their names come from the tables of ``huggingface``. Where a file of theirs stacks several of our layers (GPT-2's
``c_attn``), these share A, and each has its rows of B. https://huggingface.co/docs/peft/developer_guides/checkpoint
"""

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from llmbook.adaptation.freeze import freeze
from llmbook.adaptation.lora import LoRALinear, lora_layers
from llmbook.adaptation.targets import is_linear
from llmbook.interop.huggingface import FAMILIES
from llmbook.interop.names import Entry, rows_of
from llmbook.model import TransformerConfig
from llmbook.model.parts import replace_part
from llmbook.text.files import whole_file

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX, DELTAS = "base_model.model.", ("lora_A", "lora_B")
# What is read, and what says nothing of the computation; every other setting must be off.
_READ = (
    "r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules", "modules_to_save", "layers_to_transform",
    "layers_pattern", "rank_pattern", "alpha_pattern", "use_rslora", "bias", "init_lora_weights", "peft_type",
)  # fmt: skip
_OF_NO_EFFECT = (
    "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
    "fan_in_fan_out", "megatron_core", "qalora_group_size", "eva_config", "ensure_weight_tying",
)  # fmt: skip
_INITIALISATIONS = (True, False, "gaussian", "orthogonal", "eva")  # the others change the model's own weights as well


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
    names = _Names(model.config, family)
    try:
        settings = _Settings(_read_config(folder / CONFIG))
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


def save_peft(model: nn.Module, folder: str | os.PathLike[str], *, family: str, base_model: str | None = None) -> None:
    """Write the LoRA of ``model``, and layers that train whole beside it, as a folder that PEFT opens.

    ``base_model`` is what the folder names as the model it belongs to, a repository of the Hub or a folder.

    Raises:
        ValueError: the model has no LoRA, or one that such a folder cannot hold: layers that are one of theirs adapted
            apart, or a trained parameter that is only a part of a layer or tied to another.
    """
    layers, names = lora_layers(model), _Names(model.config, family)
    tensors, settings = {}, {}
    for module, group in names.adapted(set(layers)).items():
        first, *others = (layers[name] for name in group)
        if any(o.scaling != first.scaling or not torch.equal(o.lora_A, first.lora_A) for o in others):
            raise ValueError(f"PEFT keeps one lora_A for {module}, and here {', '.join(group)} have their own")
        tensors[f"{PREFIX}{module}.lora_A.weight"] = first.lora_A.detach()
        tensors[f"{PREFIX}{module}.lora_B.weight"] = torch.cat([layers[name].lora_B.detach() for name in group])
        settings[module] = first.r, first.scaling * first.r, first.dropout.p
    whole = _trained_whole(model, names)
    tensors |= {f"{PREFIX}{name}": tensor for name, tensor in whole.items()}
    if len({dropout for _, _, dropout in settings.values()}) > 1:
        raise ValueError("the layers have different lora_dropout, and PEFT keeps one")
    (r, _), (alpha, _) = (Counter(s[i] for s in settings.values()).most_common(1)[0] for i in (0, 1))
    values = {
        "peft_type": "LORA",
        "base_model_name_or_path": base_model,
        "r": r,
        "lora_alpha": alpha,
        "lora_dropout": next(iter(settings.values()))[2],
        "bias": "none",
        "target_modules": list(settings),
        "rank_pattern": {re.escape(name): s[0] for name, s in settings.items() if s[0] != r},
        "alpha_pattern": {re.escape(name): s[1] for name, s in settings.items() if s[1] != alpha},
        "modules_to_save": sorted({name.rpartition(".")[0] for name in whole}) or None,
        "inference_mode": True,
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / WEIGHTS) as file:
        file.write(save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata={"format": "pt"}))
    with whole_file(folder / CONFIG) as file:
        file.write(json.dumps(values, indent=2).encode())


# --- names --------------------------------------------------------------------------------------------------------


class _Names:
    """Which of their layers are which of ours, for one model."""

    def __init__(self, config: TransformerConfig, family: str):
        if family not in FAMILIES:
            raise ValueError(f"no names for the architecture {family!r}; known are {', '.join(FAMILIES)}")
        self.table, self.config = FAMILIES[family], config
        self.entries = {e.theirs: e for e in self.table.entries(config.n_layers, config.n_decoder_layers)}

    def entry(self, name: str) -> Entry:
        """The entry of one of their tensors, with or without the prefix. Raises ValueError if there is none."""
        prefix = self.table.prefix
        for form in (name, prefix + name, name.removeprefix(prefix)):
            if form in self.entries:
                return self.entries[form]
        raise ValueError(f"{name} is no part of a {self.table.architecture} with {self.config.n_layers} layers")

    def layers(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Each of their layers with a weight, and ours."""
        for entry in self.entries.values():
            if entry.theirs.endswith(".weight"):
                yield _stem(entry.theirs), tuple(map(_stem, entry.ours))

    def adapted(self, names: set[str]) -> dict[str, tuple[str, ...]]:
        """Their layers for ours. Raises ValueError if one of theirs would be adapted in part, or has no name there."""
        found = {theirs: ours for theirs, ours in self.layers() if names & set(ours)}
        known = {name for ours in found.values() for name in ours}
        if apart := sorted(known ^ names):
            raise ValueError(
                f"{apart[0]} cannot be kept as PEFT does: a {self.table.architecture} has no layer for it alone"
            )
        return found


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


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


class _Settings:
    """What an ``adapter_config.json`` says. Raises ValueError for what is not read."""

    def __init__(self, values: dict[str, Any]):
        for name, value in values.items():
            if name not in (*_READ, *_OF_NO_EFFECT) and value:
                raise ValueError(f"{name}={value!r} is not read, only LoRA without it")
        if values.get("bias", "none") != "none":
            raise ValueError(f"bias={values['bias']!r}: trained biases are not read, only 'none'")
        initial = values.get("init_lora_weights", True)
        if not any(initial is allowed or initial == allowed for allowed in _INITIALISATIONS):
            raise ValueError(
                f"init_lora_weights={initial!r} changes the weights of the model as well: convert it to LoRA"
            )
        self.r, self.alpha, self.dropout = values["r"], values.get("lora_alpha", 8), values.get("lora_dropout", 0.0)
        self.ranks, self.alphas = values.get("rank_pattern") or {}, values.get("alpha_pattern") or {}
        if not isinstance(self.ranks, dict) or not isinstance(self.alphas, dict):
            raise ValueError("rank_pattern and alpha_pattern must be objects of numbers by name")
        numbers = [self.r, self.alpha, self.dropout, *self.ranks.values(), *self.alphas.values()]
        if not all(type(number) in (int, float) for number in numbers):
            raise ValueError(f"ranks, scales and dropout must be numbers: {numbers!r}")
        self.rslora = bool(values.get("use_rslora", False))
        self.targets = _matcher("target_modules", values.get("target_modules"))
        self.excluded = _matcher("exclude_modules", values.get("exclude_modules"))
        self.saved = [] if values.get("modules_to_save") is None else values["modules_to_save"]
        if not isinstance(self.saved, list) or not all(isinstance(name, str) and name for name in self.saved):
            raise ValueError(f"modules_to_save={self.saved!r} is no list of names")
        self.all_linear = values.get("target_modules") == "all-linear"
        self.by_name = not isinstance(values.get("target_modules"), str)
        self.layers, patterns = values.get("layers_to_transform"), values.get("layers_pattern") or []
        self.patterns = [patterns] if isinstance(patterns, str) else patterns

    def scale(self, module: str) -> tuple[int, float]:
        """Rank and alpha / r, or alpha / √r, of a layer."""
        r = next((n for pattern, n in self.ranks.items() if _ends_with(module, pattern)), self.r)
        alpha = next((n for pattern, n in self.alphas.items() if _ends_with(module, pattern)), self.alpha)
        if r < 1:
            raise ValueError(f"{module} has rank {r}")
        return r, alpha / (r**0.5 if self.rslora else r)

    def is_target(self, module: str, *, is_head: bool) -> bool:
        """Whether a layer is adapted, by PEFT's rules."""
        if self.excluded(module) or any(re.match(rf"(^|.*\.){name}($|\..*)", module) for name in self.saved):
            return False
        if self.all_linear:
            return not is_head
        if not self.targets(module):
            return False
        return not self.by_name or self.layers in (None, []) or self._in_layers(module)

    def _in_layers(self, module: str) -> bool:
        patterns = self.patterns or [r"[^.]*"]
        found = next((m for p in patterns if (m := re.match(rf"(?:^|.*?\.){p}\.(\d+)\.", module))), None)
        wanted = self.layers if isinstance(self.layers, list) else [self.layers]
        return found is not None and int(found.group(1)) in wanted


def _matcher(name: str, targets: Any) -> Callable[[str], bool]:
    """A list of ends of names, or one regular expression for whole ones."""
    if not targets:
        return lambda module: False
    if isinstance(targets, str):
        whole = re.compile(targets)
        return lambda module: whole.fullmatch(module) is not None
    if not isinstance(targets, list) or not all(isinstance(target, str) for target in targets):
        raise ValueError(f"{name}={targets!r} is neither a list of names nor a regular expression")
    return lambda module: any(module == target or module.endswith(f".{target}") for target in targets)


def _ends_with(module: str, pattern: str) -> bool:
    return re.match(rf"(.*\.)?({pattern})$", module) is not None


def _plan(
    model: nn.Module, names: _Names, settings: _Settings, tensors: dict[str, Tensor]
) -> tuple[dict[str, Adapted], dict[str, Tensor]]:
    """The layers to adapt, and the tensors of layers trained whole, under our names. Raises ValueError if not all fits."""
    corrections: dict[str, dict[str, Tensor]] = {}
    whole: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        module, _, last = name.removeprefix(PREFIX).rpartition(".")
        module, _, matrix = module.rpartition(".") if last == "weight" else (module, "", "")
        if matrix in DELTAS:
            corrections.setdefault(module, {})[matrix] = tensor
        else:
            stem = _stem(name.removeprefix(PREFIX))
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
        if not any(_stem(name).endswith(saved) for name in tensors):
            raise ValueError(f"modules_to_save names {saved}, of which there is no tensor")
    return layers, whole


def _adapted(
    model: nn.Module, names: _Names, settings: _Settings, module: str, matrices: dict[str, Tensor]
) -> dict[str, Adapted]:
    entry = names.entry(f"{module}.weight")
    if missing := set(DELTAS) - matrices.keys():
        raise ValueError(f"{module} lacks {min(missing)}")
    r, scaling = settings.scale(module)
    down, up = matrices["lora_A"], matrices["lora_B"]
    found, parts = {}, dict(model.named_modules())
    rows = rows_of(up, Entry(entry.theirs, entry.ours, shares=entry.shares), names.config, names.table)
    for name, part in zip(map(_stem, entry.ours), rows, strict=True):
        layer = parts.get(name)
        if not is_linear(layer):
            raise ValueError(f"{module} is {name} here, which is no linear layer")
        expected = (r, layer.in_features), (layer.out_features, r)
        if (tuple(down.shape), tuple(part.shape)) != expected:
            raise ValueError(
                f"{module} has corrections of {tuple(down.shape)} and {tuple(part.shape)}; by {CONFIG} and the model they "
                f"are of {expected[0]} and {expected[1]}"
            )
        found[name] = Adapted(r, scaling * r, down, part)
    return found


def _check_targets(model: nn.Module, names: _Names, settings: _Settings, found: set[str]) -> None:
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
        old, parent = before[name], model.get_submodule(_stem(name))
        same = next(
            (p for other, p in made.items() if before[other] is old and torch.equal(whole[other], tensor)), None
        )
        made[name] = nn.Parameter(tensor.to(old).clone()) if same is None else same
        setattr(parent, name.rpartition(".")[2], made[name])


def _trained_whole(model: nn.Module, names: _Names) -> dict[str, Tensor]:
    """The layers beside the corrections that train, under their names."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    chosen = {n: p for n, p in parameters.items() if p.requires_grad and ".lora_" not in f".{n}"}
    found = {}
    for entry in names.entries.values():
        ours = [name for name in entry.ours if name in chosen]
        if not ours:
            continue
        layer = [n for n in parameters if _stem(n) == _stem(entry.ours[0])]
        tied = [n for n, p in parameters.items() if p is chosen[ours[0]] and n != ours[0]]
        if len(ours) < len(entry.ours) or not all(n in chosen for n in layer) or tied:
            raise ValueError(
                f"{ours[0]} trains, and is only a part of a layer, or tied to another: PEFT keeps whole layers"
            )
        tensor = torch.cat([chosen[name].detach() for name in entry.ours])
        found[entry.theirs] = tensor.t() if entry.transposed else tensor
    if left := sorted(chosen.keys() - {name for entry in names.entries.values() for name in entry.ours}):
        raise ValueError(f"{left[0]} trains, and a {names.table.architecture} has no name for it")
    return found
