r"""What a head does: where it looks, what it carries, and what breaks without it.

On random tokens that come twice, x_1 … x_n x_1 … x_n, three habits can be told apart by where a head looks from
position t (https://transformer-circuits.pub/2022/in-context-learning-and-induction-heads):

    previous token     t - 1          what came before me
    duplicate token    t - n          where I have been before
    induction          t - n + 1      what came *after* me then, and will come now

Weights alone mislead where the vector that is read is short: what a head adds to position i from position j has the
length $a_{ij}\,\lVert v_j W^O_h\rVert$ (https://arxiv.org/abs/2004.10102).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmbook.interpret.capture import capture, patch
from llmbook.interpret.names import trunk
from llmbook.interpret.rollout import square
from llmbook.model import MultiHeadAttention, evaluating
from llmbook.model.parts import plain_weight

Attentions = Sequence[Float[Tensor, "B H T S"]]


def offset_score(attentions: Attentions, offset: int, *, first: int = 0) -> Float[Tensor, "L H"]:
    """Mean weight on the position ``offset`` back, over queries from ``first`` on that have one.

    Raises:
        ValueError: no query is left, or queries and keys are not the same positions (a run with a cache).
    """
    weights = torch.stack([square(each) for each in attentions])  # [L, B, H, T, T]
    queries = torch.arange(max(first, offset), weights.shape[-1], device=weights.device)
    if offset < 0 or len(queries) == 0:
        raise ValueError(f"no position from {first} on looks {offset} back in a sequence of {weights.shape[-1]}")
    return weights[..., queries, queries - offset].mean((1, 3))


def previous_token_score(attentions: Attentions) -> Float[Tensor, "L H"]:
    """Mean weight on the token before; 1 is a perfect previous-token head."""
    return offset_score(attentions, 1)


def duplicate_token_score(attentions: Attentions, *, period: int) -> Float[Tensor, "L H"]:
    """Mean weight, in the second of two copies of ``period`` tokens, on the same token in the first."""
    return offset_score(attentions, period, first=period)


def induction_score(attentions: Attentions, *, period: int) -> Float[Tensor, "L H"]:
    """Mean weight, in the second of two copies of ``period`` tokens, on the token that followed in the first."""
    return offset_score(attentions, period - 1, first=period)


@dataclass(frozen=True, kw_only=True)
class HeadScores:
    """Three habits of every head, each [L, H] with entries from 0 to 1."""

    previous_token: Tensor
    duplicate_token: Tensor
    induction: Tensor


def head_scores(
    model: nn.Module, *, period: int = 32, batch_size: int = 8, generator: torch.Generator | None = None
) -> HeadScores:
    """Let the model read random tokens twice over and say where each head looked."""
    vocab_size, device = model.config.vocab_size, next(model.parameters()).device
    ids = repeated_tokens(vocab_size, period=period, batch_size=batch_size, generator=generator).to(device)
    with evaluating(model):
        attentions = model(ids, need_weights=True).attentions
    return HeadScores(
        previous_token=previous_token_score(attentions),
        duplicate_token=duplicate_token_score(attentions, period=period),
        induction=induction_score(attentions, period=period),
    )


def repeated_tokens(
    vocab_size: int, *, period: int, batch_size: int = 1, generator: torch.Generator | None = None
) -> Int[Tensor, "B T"]:
    """Rows of ``period`` tokens drawn without repetition, then the same again: [B, 2 · period], where ``generator`` is.

    Raises:
        ValueError: the vocabulary has fewer than ``period`` tokens.
    """
    if period > vocab_size:
        raise ValueError(f"{period} different tokens cannot be drawn from a vocabulary of {vocab_size}")
    device = None if generator is None else generator.device
    rows = [torch.randperm(vocab_size, generator=generator, device=device)[:period] for _ in range(batch_size)]
    once = torch.stack(rows)
    return torch.cat((once, once), dim=1)


# --- what a head carries ----------------------------------------------------------------------------------------


def head_outputs(attention: MultiHeadAttention, mixed: Float[Tensor, "*P HD"]) -> Float[Tensor, "*P H C"]:
    """What each head adds to the stream: its slice of ``o_proj``'s input times its slice of W^O, without the bias.

    Raises:
        ValueError: ``o_proj`` has been adapted or quantised, so that it is no sum over heads.
    """
    by_head = mixed.unflatten(-1, (attention.n_heads, attention.d_head))  # [*P, H, D]
    w_o = plain_weight(attention.o_proj).unflatten(1, (attention.n_heads, attention.d_head))  # [C, H, D]
    return torch.einsum("...hd,chd->...hc", by_head, w_o)


def contributions(model: nn.Module, input_ids: Int[Tensor, "B T"], **inputs) -> Float[Tensor, "L B H T T"]:
    """Length of what head h adds to position i from position j, in every layer: a_ij ‖v_j W^O_h‖.

    Divide by the sum over the last axis for shares. ``inputs`` are other arguments of the model.

    Raises ValueError where a norm behind attention changes those lengths.
    """
    prefix, backbone = trunk(model)
    if backbone.config.norm_position in ("sandwich", "output"):
        raise ValueError(
            f"norm_position={backbone.config.norm_position!r} normalises what all heads add together: the share of one "
            "has no length of its own"
        )
    names = [f"{prefix}blocks.{i}.attention.v_proj" for i in range(len(backbone.blocks))]
    with evaluating(model):
        with capture(model, names) as values:
            attentions = model(input_ids, need_weights=True, **inputs).attentions
        lengths = []
        for name, block in zip(names, backbone.blocks, strict=True):
            attention = block.attention
            v = values[name].unflatten(-1, (attention.n_kv_heads, attention.d_head))  # [B, T, Hk, D]
            v = v.repeat_interleave(attention.n_heads // attention.n_kv_heads, dim=2).flatten(2)  # [B, T, H·D]
            lengths.append(head_outputs(attention, v).norm(dim=-1).transpose(1, 2))  # [B, H, T]
    return torch.stack([a * length[:, :, None] for a, length in zip(attentions, lengths, strict=True)])


# --- what breaks without it -------------------------------------------------------------------------------------


@contextmanager
def without_heads(model: nn.Module, heads: Iterable[tuple[int, int]], *, how: str = "zero") -> Iterator[None]:
    """Silence heads, given as (layer, head), while the block runs.

    Args:
        how: "zero" takes away all a head says; "mean" only what it says about this input, leaving the mean over
            rows and positions of the pass.

    Raises:
        ValueError: there is no such head, or no such way.
    """
    prefix, backbone = trunk(model)
    if how not in ("zero", "mean"):
        raise ValueError(f"how={how!r} is not one of 'zero', 'mean'")
    by_layer: dict[int, list[int]] = {}
    for layer, head in heads:
        if not (0 <= layer < len(backbone.blocks) and 0 <= head < backbone.config.n_heads):
            raise ValueError(
                f"there is no head {head} in layer {layer}: {len(backbone.blocks)} layers, "
                f"{backbone.config.n_heads} heads"
            )
        by_layer.setdefault(layer, []).append(head)

    def silence(silent: list[int]) -> Callable[[Tensor], Tensor]:
        def change(mixed: Tensor) -> Tensor:
            by_head = mixed.unflatten(-1, (backbone.config.n_heads, backbone.config.d_head)).clone()  # [B, T, H, D]
            said = by_head[:, :, silent]
            by_head[:, :, silent] = said.mean((0, 1), keepdim=True) if how == "mean" else 0.0
            return by_head.flatten(2)

        return change

    changes = {f"{prefix}blocks.{layer}.attention.o_proj.input": silence(hs) for layer, hs in by_layer.items()}
    with patch(model, changes):
        yield


def ablation_effect(
    model: nn.Module, measure: Callable[[nn.Module], float | Tensor], *, how: str = "zero"
) -> Float[Tensor, "L H"]:
    """By how much ``measure`` (a loss, say) rises when each head alone is silenced."""
    _, backbone = trunk(model)
    with evaluating(model):
        usual = float(measure(model))
        effect = torch.zeros(len(backbone.blocks), backbone.config.n_heads)
        for layer in range(effect.shape[0]):
            for head in range(effect.shape[1]):
                with without_heads(model, [(layer, head)], how=how):
                    effect[layer, head] = float(measure(model)) - usual
    return effect
