"""What is known of one ``model_type``: its tables of names, and its settings both ways."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from llmbook.interop.names import Family
from llmbook.model import TransformerConfig


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of model.

    Attributes:
        names: its tables, by the name of the family.
        ours: reads the contents of a ``config.json``; raises ValueError for one that asks for a part our model lacks.
        theirs: writes one as far as theirs has settings; ``config_to_huggingface`` refuses the rest.
        variant: which of ``names`` a ``config.json`` means, where one architecture has several.
        also: further architectures that a table reads, leaving a part aside.
    """

    names: dict[str, Family]
    ours: Callable[[dict[str, Any]], TransformerConfig]
    theirs: Callable[[TransformerConfig], dict[str, Any]]
    variant: Callable[[dict[str, Any]], str] | None = None
    also: dict[str, str] = field(default_factory=dict)

    def family(self, values: dict[str, Any]) -> str:
        """The table for the model that these settings describe. Raises ValueError for a head that is not read."""
        asked = values.get("architectures") or []
        known = {table.architecture: name for name, table in reversed(self.names.items())} | self.also
        if not isinstance(asked, list) or not all(isinstance(name, str) for name in asked):
            raise ValueError(f"architectures={asked!r} is no list of names")
        if not asked:
            return next(iter(self.names)) if self.variant is None else self.variant(values)
        found = [known[name] for name in asked if name in known]
        if not found:
            raise ValueError(f"{asked[0]} has no table of names; known are {', '.join(sorted(known))}")
        return found[0] if self.variant is None else self.variant(values)


# Published kinds that are not read, and the part that is missing here.
MISSING = {
    "gemma3": "an encoder for images; its text models are of kind 'gemma3_text'",
    "gemma3n": "layers nested in each other",
    "qwen2_vl": "an encoder for images",
    "mixtral": "a mixture of experts",
    "olmoe": "a mixture of experts",
    "qwen2_moe": "a mixture of experts",
    "qwen3_moe": "a mixture of experts",
    "gpt_oss": "a mixture of experts and attention sinks",
    "deepseek_v2": "latent attention",
    "deepseek_v3": "latent attention",
    "olmo": "LayerNorm without a weight",
    "phi": "attention and feed-forward net side by side",
    "gpt_neox": "attention and feed-forward net side by side",
    "gptj": "attention and feed-forward net side by side",
    "falcon": "attention and feed-forward net side by side",
    "mamba": "a state space in place of attention",
    "mamba2": "a state space in place of attention",
    "rwkv": "a recurrence in place of attention",
    "modernbert": "windows that look both ways",
    "deberta-v2": "attention to content and position apart",
    "albert": "layers that share their weights",
    "electra": "embeddings narrower than the stream",
    "xlnet": "relative positions of its own",
}
