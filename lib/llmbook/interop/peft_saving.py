"""A LoRA of ours as a folder that PEFT opens; ``peft_folders.py`` says what is in it."""

import json
import os
import re
from collections import Counter
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from llmbook.adaptation.lora import lora_layers
from llmbook.interop.peft_names import CONFIG, PREFIX, WEIGHTS, PeftNames, stem_of
from llmbook.storage import write_file


def save_peft(model: nn.Module, folder: str | os.PathLike[str], *, family: str, base_model: str | None = None) -> None:
    """Write the LoRA of ``model``, and layers that train whole beside it, as a folder that PEFT opens.

    ``base_model`` is what the folder names as the model it belongs to, a repository of the Hub or a folder.

    Raises:
        ValueError: the model has no LoRA, or one that such a folder cannot hold: layers that are one of theirs adapted
            apart, or a trained parameter that is only a part of a layer or tied to another.
    """
    layers, names = lora_layers(model), PeftNames(model.config, family)
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
    content = save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata={"format": "pt"})
    write_file(folder / WEIGHTS, content)
    write_file(folder / CONFIG, json.dumps(values, indent=2))


def _trained_whole(model: nn.Module, names: PeftNames) -> dict[str, Tensor]:
    """The layers beside the corrections that train, under their names."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    chosen = {n: p for n, p in parameters.items() if p.requires_grad and ".lora_" not in f".{n}"}
    found = {}
    for entry in names.entries.values():
        ours = [name for name in entry.ours if name in chosen]
        if not ours:
            continue
        layer = [n for n in parameters if stem_of(n) == stem_of(entry.ours[0])]
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
