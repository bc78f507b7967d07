"""Places in a model, named as ``llmbook.model.parts`` says: what a part gives, or with ".input" what it is given."""

import difflib
from collections.abc import Sequence

from torch import nn

from llmbook.model import Backbone, DecoderLM, EncoderDecoderLM
from llmbook.model.parts import matches

INPUT = ".input"


def find(model: nn.Module, patterns: str | Sequence[str]) -> list[str]:
    """Names of the modules that any pattern matches, in the model's order; with ".input" where a pattern has it.

    Raises:
        ValueError: a pattern matches nothing; names like it are given.
    """
    known = [name for name, _ in model.named_modules() if name]
    found = []
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        stem, end = (pattern.removesuffix(INPUT), INPUT) if pattern.endswith(INPUT) else (pattern, "")
        matching = [name for name in known if matches(name, stem)]
        if not matching:
            near = difflib.get_close_matches(stem, known, n=3, cutoff=0.5) or known[:3]
            raise ValueError(f"no part of {type(model).__name__} is called {stem!r}; there are {', '.join(near)} …")
        found += [name + end for name in matching if name + end not in found]
    order = {name: place for place, name in enumerate(known)}
    return sorted(found, key=lambda name: (order[name.removesuffix(INPUT)], not name.endswith(INPUT)))


def trunk(model: nn.Module) -> tuple[str, Backbone]:
    """The stack of blocks inside a model, and what its names begin with ("backbone.", "encoder." or nothing).

    Raises:
        TypeError: the model has none, or two.
    """
    if isinstance(model, Backbone):
        return "", model
    if isinstance(model, DecoderLM):
        return "backbone.", model.backbone
    if isinstance(model, EncoderDecoderLM):
        raise TypeError("an encoder–decoder has two stacks: give model.encoder or model.decoder")
    if isinstance(encoder := getattr(model, "encoder", None), Backbone):
        return "encoder.", encoder
    raise TypeError(f"a {type(model).__name__} has no stack of blocks to look into")
