"""What an ``adapter_config.json`` of PEFT says: which layers are adapted, and by how much.

The rules by which PEFT finds a layer's name are its own: the end of a name, or a regular expression for all of it
(https://huggingface.co/docs/peft/package_reference/lora). A setting that would change what is computed and is not read
is refused by name.
"""

import re
from collections.abc import Callable
from typing import Any

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


class PeftSettings:
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
