r"""Whole heads and channels removed: a model of the same shape with narrower matrices.

The parts are what an output projection adds up: the columns of W_o that belong to one head, the column of W_down that
belongs to one feed-forward channel. Multiplying a part's output by a gate g = 1 and asking how the loss would change is
a matter of the weights alone, because the gate and the columns are one product:

$$\frac{\partial \mathcal{L}}{\partial g_h} = \sum_{w \,\in\, \text{columns of } h}
  w\,\frac{\partial \mathcal{L}}{\partial w}$$

Its magnitude, taken for each example and then averaged, is a head's importance (https://arxiv.org/abs/1905.10650):
averaged first, the gradients of different examples would cancel. Without data, the norm of the columns serves.
Heads that share keys and values form a group (one head alone in multi-head attention) and go together. Every layer
loses the same number, so that one configuration still describes the model.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmbook.model import DecoderLM, Encoder, evaluating
from llmbook.model.parts import plain_weight
from llmbook.training import Batch, Objective, causal_lm_loss
from llmbook.training.runtime import where_it_is


@dataclass(frozen=True, kw_only=True)
class Importance:
    """How much each part matters.

    Attributes:
        heads: [L, Hk], a number for each group of heads that share keys and values.
        channels: [L, F], a number for each feed-forward channel.
    """

    heads: Float[Tensor, "L Hk"]
    channels: Float[Tensor, "L F"]


def importance_by_norm(model: nn.Module) -> Importance:
    """The norm of the columns that carry each part's output into the residual stream.

    Raises:
        ValueError: the model is of another kind than ``keep_parts`` takes, or has been adapted or quantised.
    """
    squares = _sums(model, [weight.detach().square() for weight in _outputs(model)])
    return Importance(heads=squares.heads.sqrt(), channels=squares.channels.sqrt())


def importance_by_gradient(
    model: nn.Module, batches: Iterable[Batch], *, objective: Objective = causal_lm_loss
) -> Importance:
    """|∂L/∂gate| of each part, the mean over the examples (rows) of ``batches``.

    L is the loss per target of one example, without dropout. Batches are moved to where the model is.

    Raises:
        ValueError: as ``importance_by_norm``; there are no batches, or an output projection is frozen.
    """
    weights, found, runtime = _outputs(model), [], where_it_is(model)
    if not all(weight.requires_grad for weight in weights):
        raise ValueError("some output projections are frozen, so no gradient reaches them: unfreeze(model) first")
    with evaluating(model), torch.enable_grad():
        for example in (row for batch in batches for row in _rows(batch)):
            loss = objective(model, runtime.to_device(example))
            gradients = torch.autograd.grad(loss.total / loss.n_targets, weights)
            found.append(_sums(model, [w.detach() * g for w, g in zip(weights, gradients, strict=True)]))
    if not found:
        raise ValueError("no batches: importance by gradient needs text to measure on")
    return Importance(
        heads=torch.stack([one.heads.abs() for one in found]).mean(0),
        channels=torch.stack([one.channels.abs() for one in found]).mean(0),
    )


def most_important(scores: Float[Tensor, "L n"], keep: int) -> Int[Tensor, "L keep"]:
    """The numbers of the ``keep`` parts of each layer with the highest scores, in their old order.

    Raises ValueError unless ``keep`` is a whole number between 1 and the n parts there are, or if a score is nan.
    """
    if scores.ndim != 2:
        raise ValueError(f"scores have shape {tuple(scores.shape)}: give a row for each layer, a number for each part")
    if isinstance(keep, bool) or not isinstance(keep, Integral):
        raise ValueError(f"keep={keep!r} is not a whole number: how many parts shall stay in each layer?")
    if scores.isnan().any():
        raise ValueError("some scores are nan, which is neither more nor less than others: was the loss finite?")
    if not 1 <= keep <= scores.shape[1]:
        raise ValueError(f"keep={keep}: each layer has {scores.shape[1]} parts, of which at least 1 must stay")
    return scores.topk(keep, dim=1).indices.sort(dim=1).values


def keep_parts(
    model: nn.Module,
    *,
    heads: Int[Tensor, "L keep_heads"] | None = None,
    channels: Int[Tensor, "L keep_channels"] | None = None,
) -> nn.Module:
    """A new, smaller model with only the named groups of heads and feed-forward channels; None keeps all.

    Its outputs are those of ``model`` with the other parts masked to 0. ``model`` itself is not changed.

    Raises:
        ValueError: the model is neither ``DecoderLM`` nor ``Encoder``, or adapted or quantised, or has mixers or
            experts; a number is no part's;
            a head is more than its weights (ALiBi and T5 tie a bias to its number, for all layers at once; a norm over
            all heads ties them to each other).
    """
    config = _body(model).config
    for name in ("mixers", "experts"):
        if getattr(config, name):
            raise ValueError(
                f"{name}={getattr(config, name)}: only attention's heads and dense nets can be made smaller"
            )
    _outputs(model)  # refuses what has no plain weights
    if heads is not None and config.positions in ("alibi", "t5"):
        raise ValueError(
            f"positions={config.positions!r} gives head 0 of every layer one bias, head 1 the next, and so on: layers "
            "cannot lose different heads; remove channels only"
        )
    if heads is not None and config.qk_norm and config.qk_norm_width == "all":
        raise ValueError("qk_norm_width='all' normalises all heads together: without some of them the others change")
    heads = _every(config.n_layers, config.n_kv_heads) if heads is None else heads
    channels = _every(config.n_layers, config.d_ff) if channels is None else channels
    _check_parts("heads", heads, config.n_layers, config.n_kv_heads)
    _check_parts("channels", channels, config.n_layers, config.d_ff)
    smaller = config.replace(
        n_heads=config.n_heads // config.n_kv_heads * heads.shape[1],
        n_kv_heads=heads.shape[1],
        d_head=config.d_head,
        d_ff=channels.shape[1],
    )
    state = {}
    for name, tensor in model.state_dict().items():
        if found := re.search(r"blocks\.(\d+)\.(attention|feed_forward)\.(\w+)_proj\.(weight|bias)", name):
            layer, part, projection, kind = found.groups()
            keep = (heads if part == "attention" else channels)[int(layer)]
            n_parts = config.n_kv_heads if part == "attention" else config.d_ff
            tensor = _narrowed(tensor, keep, n_parts, writes=projection in ("o", "down"), kind=kind)
        state[name] = tensor
    weight = next(model.parameters())
    made = type(model)(smaller).to(device=weight.device, dtype=weight.dtype)
    made.load_state_dict(state)
    return made.train(model.training)


def _rows(batch: Batch) -> Iterator[Batch]:
    """The examples of a batch, each a batch of one; words in it, such as a reduction, go with each."""
    n_rows = max(len(value) for value in batch.values() if isinstance(value, Tensor))
    for i in range(n_rows):
        yield {name: value[i : i + 1] if isinstance(value, Tensor) else value for name, value in batch.items()}


def _narrowed(tensor: Tensor, keep: Tensor, n_parts: int, *, writes: bool, kind: str) -> Tensor:
    """A projection's weight or bias without the rows of the parts that go, or (where they write) the columns."""
    if writes and kind == "bias":
        return tensor  # added once, whatever the parts wrote
    axis = 1 if writes else 0
    parts = tensor.unflatten(axis, (n_parts, -1))  # each part's rows (or columns) lie together
    return parts.index_select(axis, keep.to(tensor.device)).flatten(axis, axis + 1)


def _body(model: nn.Module) -> nn.Module:
    if isinstance(model, DecoderLM):
        return model.backbone
    if isinstance(model, Encoder):
        return model
    raise ValueError(f"a {type(model).__name__} cannot be narrowed here: give a DecoderLM or an Encoder")


def _outputs(model: nn.Module) -> list[nn.Parameter]:
    """The weights whose columns belong to parts: of layer 0 W_o and W_down, of layer 1, …"""
    blocks = _body(model).blocks
    return [plain_weight(p) for block in blocks for p in (block.attention.o_proj, block.feed_forward.down_proj)]


def _sums(model: nn.Module, values: Sequence[Tensor]) -> Importance:
    """``values``, numbers for every weight in ``_outputs``, summed over the columns of each part."""
    n_groups = _body(model).config.n_kv_heads
    return Importance(
        heads=torch.stack([value.unflatten(1, (n_groups, -1)).sum((0, 2)) for value in values[0::2]]),
        channels=torch.stack([value.sum(0) for value in values[1::2]]),
    )


def _every(n_layers: int, n_parts: int) -> Tensor:
    return torch.arange(n_parts).expand(n_layers, -1)


def _check_parts(name: str, keep: Tensor, n_layers: int, n_parts: int) -> None:
    if not isinstance(keep, Tensor) or keep.dtype not in (torch.int64, torch.int32):
        kind = keep.dtype if isinstance(keep, Tensor) else type(keep).__name__
        raise ValueError(f"{name} is of type {kind}: give a tensor of whole numbers, as most_important makes")
    if keep.ndim != 2 or len(keep) != n_layers or keep.shape[1] == 0:
        raise ValueError(
            f"{name} has shape {tuple(keep.shape)}: give at least one number for each of {n_layers} layers"
        )
    wrong = keep[(keep < 0) | (keep >= n_parts)]
    if len(wrong):
        raise ValueError(f"{name} names {int(wrong[0])}: a layer has the numbers 0 to {n_parts - 1}")
    for row in keep.tolist():
        if len(set(row)) < len(row):
            raise ValueError(f"{name} names a part twice in {row}")
