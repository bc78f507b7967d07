"""Reading and changing what flows through a model, anywhere, without changing the model.

``capture`` keeps what the named parts give while its block runs; ``patch`` puts something else in its place. Both
hang hooks on the modules and take them off again, whatever happens in between. A name means the part's output; with
".input" at its end, what the part is given. Of a part that gives several values (attention gives its mixture and
its weights) the first is meant.

    with capture(model, "backbone.blocks.*") as states:
        model(ids)
    with patch(model, {"backbone.blocks.3": states["backbone.blocks.3"]}):
        logits = model(other_ids).logits          # as if layer 3 had read ``ids``

Inside one another they act in the order they were entered. Attention weights by head need no hook:
``model(ids, need_weights=True).attentions``. https://arxiv.org/abs/2304.14997 says what such experiments are for.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from llmbook.interpret.names import INPUT, find
from llmbook.model import evaluating

Change = Tensor | Callable[[Tensor], Tensor]


class States(dict[str, Tensor]):
    """What was captured, by name; of a part that ran several times, the last. Raises KeyError for what was not."""

    def __missing__(self, name: str) -> Tensor:
        raise KeyError(f"{name} was not captured: was it asked for, and did the model run inside the block?")


@contextmanager
def capture(model: nn.Module, names: str | Sequence[str], *, keep_graph: bool = False) -> Iterator[States]:
    """Keep what the named parts give (or with ".input", are given) while the block runs.

    Args:
        names: of parts, as in ``llmbook.model.parts``; the states are kept under whole names.
        keep_graph: keep the tensors as they are, with gradients, and their ``.grad`` after a backward pass; otherwise
            they are detached.

    Raises:
        ValueError: a name matches nothing.
        TypeError: a part gives no tensor.
    """
    states = States()

    def keep(name: str) -> Callable[[Tensor], None]:
        def look(value: Tensor) -> None:
            if keep_graph and value.requires_grad:
                value.retain_grad()
            states[name] = value if keep_graph else value.detach()

        return look

    with _hooks(model, {name: keep(name) for name in find(model, names)}):
        yield states


@contextmanager
def patch(model: nn.Module, changes: Mapping[str, Change]) -> Iterator[None]:
    """Put something else in the place of what the named parts give (or with ".input", are given).

    Args:
        changes: name or pattern → a tensor of the same shape, or a function of the value that returns one.

    Raises:
        ValueError: a name matches nothing, two patterns match the same part, or a shape is another.
        TypeError: a part gives no tensor, or a function returns none.
    """
    chosen: dict[str, Change] = {}
    for pattern, change in changes.items():
        for name in find(model, pattern):
            if name in chosen:
                raise ValueError(f"{name} is named twice: which change is meant?")
            chosen[name] = change

    def put(name: str, change: Change) -> Callable[[Tensor], Tensor]:
        def replace(value: Tensor) -> Tensor:
            new = change(value) if callable(change) else change
            if not isinstance(new, Tensor):
                raise TypeError(f"the function for {name} returned {type(new).__name__}, not a tensor")
            if new.shape != value.shape:
                raise ValueError(f"{name} gives {tuple(value.shape)}; {tuple(new.shape)} cannot take its place")
            return new

        return replace

    with _hooks(model, {name: put(name, change) for name, change in chosen.items()}):
        yield


@contextmanager
def _hooks(model: nn.Module, actions: Mapping[str, Callable[[Tensor], Tensor | None]]) -> Iterator[None]:
    """Hooks that let an action see, and where it returns something replace, the first value of each named part."""
    with ExitStack() as stack:
        for name, action in actions.items():
            module = model.get_submodule(name.removesuffix(INPUT))
            if name.endswith(INPUT):
                handle = module.register_forward_pre_hook(_on_input(name, action))
            else:
                handle = module.register_forward_hook(_on_output(name, action))
            stack.callback(handle.remove)
        yield


def _on_output(name: str, action: Callable[[Tensor], Tensor | None]):
    def hook(module, inputs, output):
        several = isinstance(output, tuple)
        new = action(_tensor(output[0] if several else output, name))
        if new is None:
            return None
        return (new, *output[1:]) if several else new

    return hook


def _on_input(name: str, action: Callable[[Tensor], Tensor | None]):
    def hook(module, inputs):
        new = action(_tensor(inputs[0] if inputs else None, name))
        return None if new is None else (new, *inputs[1:])

    return hook


def _tensor(value, name: str) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} holds {type(value).__name__}, not a tensor: name a part inside it")
    return value


def patching_grid(
    model: nn.Module,
    clean: dict[str, Tensor],
    corrupted: dict[str, Tensor],
    metric: Callable[..., float],
    *,
    names: str | Sequence[str],
) -> Float[Tensor, "N T"]:
    """How much each part at each position brings back: the metric of the corrupted run with that one value clean.

    Known as activation patching or causal tracing (https://arxiv.org/abs/2202.05262).

    Args:
        clean, corrupted: keyword arguments of two runs of equal shape, such as ``{"input_ids": …}``.
        metric: a number for the ``Output`` of a run.
        names: parts whose output is [B, T, C].

    Returns:
        One row for each part in the model's order, one column for each position.

    Raises:
        ValueError, TypeError: where ``capture`` and ``patch`` do.
    """
    rows = []
    with evaluating(model):
        with capture(model, names) as states:
            model(**clean)
        for name in find(model, names):
            row = []
            for position in range(states[name].shape[1]):
                with patch(model, {name: _at(position, states[name])}):
                    row.append(float(metric(model(**corrupted))))
            rows.append(row)
    return torch.tensor(rows)


def _at(position: int, value: Float[Tensor, "B T C"]) -> Callable[[Tensor], Tensor]:
    """A change that takes one position from ``value`` and leaves the others."""

    def change(now: Tensor) -> Tensor:
        now = now.clone()
        now[:, position] = value[:, position]
        return now

    return change
