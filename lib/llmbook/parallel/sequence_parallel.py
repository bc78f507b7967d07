r"""Sequence parallelism: what tensor parallelism computes everywhere is cut along the text (https://arxiv.org/abs/2205.05198).

Tensor parallelism cuts the matrices, but every process still keeps the whole stream x and every norm of it. Here each
keeps T/n of the positions there, and the two ends of a part change their meaning:

    x of T/n tokens ── norm ── f ── column-parallel ── σ or heads ── row-parallel ── g ── + bias ── x of T/n tokens
          forward: all-gather                              forward: reduce-scatter
          backward: reduce-scatter                         backward: all-gather

An all-reduce is these two in a row, so the traffic is the same. What is left: gains of norms and the biases behind
g are whole on every process but have seen T/n of the tokens, so their gradients must be added up.
"""

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from llmbook.model import DecoderLM
from llmbook.parallel.all_reduce import all_gather, reduce_scatter
from llmbook.parallel.tensor_parallel import RowParallelLinear, TensorParallel, tensor_parallel


class Gather(torch.autograd.Function):
    """f: from this process's tokens to all of them; each process's gradient of them is a part of a sum."""

    @staticmethod
    def forward(ctx, x):
        return gathered(x)

    @staticmethod
    def backward(ctx, dy):
        return scattered(dy)


class Scatter(torch.autograd.Function):
    """g: the sum of all parts, of which each process keeps its tokens."""

    @staticmethod
    def forward(ctx, part):
        return scattered(part)

    @staticmethod
    def backward(ctx, dy):
        return gathered(dy)


class Cut(torch.autograd.Function):
    """Where the cut begins: all processes have the same x, and each goes on with its tokens."""

    @staticmethod
    def forward(ctx, x):
        return _pieces(x)[_mine()]

    @staticmethod
    def backward(ctx, dy):
        return gathered(dy)


class Join(torch.autograd.Function):
    """Where it ends: all processes go on with all tokens, and compute the same from them."""

    @staticmethod
    def forward(ctx, x):
        return gathered(x)

    @staticmethod
    def backward(ctx, dy):
        return _pieces(dy)[_mine()]


class SequenceParallel(nn.Module):
    """A part of a block as ``TensorParallel`` shares it, that reads T/n tokens and gives its output for the same."""

    def __init__(self, shared: TensorParallel):
        super().__init__()
        self.part = shared.part
        name = "o_proj" if hasattr(self.part, "o_proj") else "down_proj"
        setattr(self.part, name, _ScatteredLinear(getattr(self.part, name)))

    def forward(self, x: Float[Tensor, "B TPart C"], *args, **kwargs):
        """As the whole module: the other arguments go to it."""
        return self.part(Gather.apply(x), *args, **kwargs)


class _ScatteredLinear(nn.Module):
    def __init__(self, row: RowParallelLinear):
        super().__init__()
        self.part, self.bias = row.part, row.bias

    def forward(self, x: Float[Tensor, "B T InPart"]) -> Float[Tensor, "B TPart Out"]:
        y = Scatter.apply(self.part(x))
        return y if self.bias is None else y + self.bias


def sequence_parallel(model: DecoderLM) -> DecoderLM:
    """A copy of a language model whose blocks are shared as by ``tensor_parallel``, their stream cut along the text.

    All processes read the same batch, of T tokens, a multiple of their number. After every backward pass call
    ``add_partial_gradients``. Raises ValueError as ``tensor_parallel`` does, for parts that see their neighbours
    (``conv_width``), and in the forward pass for T that does not divide.
    """
    if model.config.conv_width is not None:
        raise ValueError(f"conv_width={model.config.conv_width}: a token at the cut would not see the one before it")
    model = tensor_parallel(model)
    for block in model.backbone.blocks:
        for name in ("attention", "feed_forward"):
            setattr(block, name, SequenceParallel(getattr(block, name)))
    model.backbone.embeddings.register_forward_hook(lambda _, __, x: Cut.apply(x))
    model.backbone.final_norm.register_forward_hook(lambda _, __, x: Join.apply(x))
    return model


def add_partial_gradients(model: DecoderLM) -> list[str]:
    """Add up the gradients of what is whole everywhere and has read T/n of the tokens; returns its names."""
    cut = [(f"backbone.{name}", p) for name, p in model.backbone.named_parameters() if "embeddings" not in name]
    partial = [(name, p) for name, p in cut if ".part." not in name or name.endswith(("o_proj.bias", "down_proj.bias"))]
    for _, p in partial:
        dist.all_reduce(p.grad)
    return [name for name, _ in partial]


def gathered(x: Float[Tensor, "B TPart C"]) -> Float[Tensor, "B T C"]:
    """The tokens of all processes, in order."""
    n = dist.get_world_size()
    pieces = tuple(x.contiguous() if i == _mine() else torch.empty_like(x.contiguous()) for i in range(n))
    all_gather(pieces)
    return torch.cat(pieces, 1)


def scattered(x: Float[Tensor, "B T C"]) -> Float[Tensor, "B TPart C"]:
    """The sum over the processes, of which this one gets its tokens."""
    pieces = tuple(piece.clone(memory_format=torch.contiguous_format) for piece in _pieces(x))
    reduce_scatter(pieces)
    return pieces[_mine()]


def _mine() -> int:
    """Which piece of the text is this process's: r + 1, as the ring of ``all_reduce.py`` leaves them."""
    return (dist.get_rank() + 1) % dist.get_world_size()


def _pieces(x: Tensor) -> tuple[Tensor, ...]:
    n = dist.get_world_size()
    if x.shape[1] % n:
        raise ValueError(f"{x.shape[1]} tokens cannot be shared by {n} processes: pad them to a multiple of {n}")
    return x.chunk(n, 1)
