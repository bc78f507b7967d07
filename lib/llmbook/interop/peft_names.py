"""Which of their layers are which of ours, where an adapter of PEFT names theirs."""

from collections.abc import Iterator

from llmbook.interop.huggingface import FAMILIES
from llmbook.interop.names import Entry
from llmbook.model import TransformerConfig

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."


class PeftNames:
    """Which of their layers are which of ours, for one model. Raises ValueError for an unknown ``family``."""

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
                yield stem_of(entry.theirs), tuple(map(stem_of, entry.ours))

    def adapted(self, names: set[str]) -> dict[str, tuple[str, ...]]:
        """Their layers for ours. Raises ValueError if one of theirs would be adapted in part, or has no name there."""
        found = {theirs: ours for theirs, ours in self.layers() if names & set(ours)}
        known = {name for ours in found.values() for name in ours}
        if apart := sorted(known ^ names):
            raise ValueError(
                f"{apart[0]} cannot be kept as PEFT does: a {self.table.architecture} has no layer for it alone"
            )
        return found


def stem_of(name: str) -> str:
    return name.rpartition(".")[0]
