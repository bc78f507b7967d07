"""Parts of a model by name: one rule for freezing, adapting, compressing and looking inside.

A name means every part whose dotted name is it or ends with it: ``"q_proj"`` all query projections, ``"blocks.1"`` the
second block and not the twelfth, ``"backbone.blocks.1.attention.q_proj"`` one matrix. ``*``, ``?`` and ``[0-3]`` stand
for characters between two dots, as in a shell: ``"blocks.*"`` are the blocks, ``"*_norm"`` all norms.
"""

from fnmatch import fnmatchcase

from torch import nn


def matches(name: str, pattern: str) -> bool:
    """Whether the part of this dotted name is meant."""
    wanted = pattern.split(".")
    end = name.split(".")[-len(wanted) :]
    return len(end) == len(wanted) and all(map(fnmatchcase, end, wanted))


def lies_in(name: str, pattern: str) -> bool:
    """Whether the part of this dotted name is meant, or one that it belongs to."""
    steps = name.split(".")
    return any(matches(".".join(steps[:n]), pattern) for n in range(1, len(steps) + 1))


def plain_weight(layer: nn.Module) -> nn.Parameter:
    """The matrix of a linear layer [out, in]. Raises ValueError for a layer that has been adapted or quantised."""
    if not isinstance(layer, nn.Linear):
        raise ValueError(
            f"{type(layer).__name__} has no plain weight, which is needed here: merge and remove adaptations before, "
            "quantise after"
        )
    return layer.weight


def replace_part(model: nn.Module, name: str, new: nn.Module) -> None:
    """Put ``new`` where ``name``, a whole dotted name, points; it takes on the mode of what it becomes a part of."""
    parent_name, _, last = name.rpartition(".")
    parent = model.get_submodule(parent_name)
    setattr(parent, last, new.train(parent.training))
