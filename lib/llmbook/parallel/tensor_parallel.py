r"""Tensor parallelism: one layer on several processes, each with a slice of its matrices (https://arxiv.org/abs/1909.08053).

Cut the first matrix of a pair by columns of $W$ (rows of ``nn.Linear.weight``) and the second the other way:

$$\sigma(x\,[A_1\;A_2])\begin{bmatrix}B_1\\B_2\end{bmatrix} = \sigma(xA_1)\,B_1 + \sigma(xA_2)\,B_2$$

Between the two nothing needs to be said, for σ works on each number alone. In attention the heads play that part:
each process has some heads, whole. What is left is one sum at the end, forward, and one at the beginning, backward:

    x ── f ── column-parallel ── σ or heads ── row-parallel ── g ── + bias
         forward: nothing                         forward: all-reduce
         backward: all-reduce                     backward: nothing

The modules are the library's own; only their projections are replaced by slices.
"""

import copy

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from llmbook.model import DecoderLM, MultiHeadAttention
from llmbook.model.layers import Block, FeedForward
from llmbook.model.linear import Linear


class Enter(torch.autograd.Function):
    """f: every process reads the same x, so the gradient of x is the sum of what each sends back."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, dy):
        dx = dy.clone()
        dist.all_reduce(dx)
        return dx


class Leave(torch.autograd.Function):
    """g: the output is the sum of all parts, so each part receives the gradient of the whole as it is."""

    @staticmethod
    def forward(ctx, part):
        whole = part.clone()
        dist.all_reduce(whole)
        return whole

    @staticmethod
    def backward(ctx, dy):
        return dy


def column_parallel(linear: nn.Linear) -> Linear:
    """This process's 1/n of the outputs of ``linear``: a plain linear layer. Its input must have come through f."""
    weight, bias = linear.weight, linear.bias
    return _linear(_slice(weight, 0, "outputs"), None if bias is None else _slice(bias, 0, "outputs"))


class RowParallelLinear(nn.Module):
    """``linear`` for inputs of which each process has 1/n: a partial product, g, and then the bias, once."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.part = _linear(_slice(linear.weight, 1, "inputs"), None)
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.detach().clone())

    def forward(self, x: Float[Tensor, "*P InPart"]) -> Float[Tensor, "*P Out"]:
        y = Leave.apply(self.part(x))
        return y if self.bias is None else y + self.bias


class TensorParallel(nn.Module):
    """A feed-forward net or an attention layer of which this process computes 1/n; all of them read the same input.

    Every process gets the whole output. Inputs and parameters outside get the whole gradient, the same everywhere; the
    slices get their slice of it. Raises ValueError if widths or heads do not divide, or for normalised queries and
    keys, whose gains all processes share: their gradient would need a sum of its own.
    """

    def __init__(self, whole: FeedForward | MultiHeadAttention):
        super().__init__()
        self.part = copy.deepcopy(whole)
        if isinstance(whole, FeedForward):
            if whole.gate_proj is not None:
                self.part.gate_proj = column_parallel(whole.gate_proj)
            self.part.up_proj = column_parallel(whole.up_proj)
            self.part.down_proj = RowParallelLinear(whole.down_proj)
            return
        n = dist.get_world_size()
        if whole.n_heads % n or whole.n_kv_heads % n:
            raise ValueError(
                f"{whole.n_heads} heads with {whole.n_kv_heads} heads of keys cannot be shared by {n} processes: both "
                f"must be multiples of {n}"
            )
        if not isinstance(whole.q_norm, nn.Identity):
            raise ValueError(
                "qk_norm=True has gains that all heads share, or a mean over all of them; use qk_norm=False under "
                "tensor parallelism"
            )
        self.part.n_heads, self.part.n_kv_heads = whole.n_heads // n, whole.n_kv_heads // n
        for name in ("q_proj", "k_proj", "v_proj"):
            setattr(self.part, name, column_parallel(getattr(whole, name)))
        self.part.o_proj = RowParallelLinear(whole.o_proj)

    def forward(self, x: Float[Tensor, "B T C"], *args, **kwargs):
        """As the whole module: the other arguments go to it."""
        return self.part(Enter.apply(x), *args, **kwargs)


def tensor_parallel(model: DecoderLM) -> DecoderLM:
    """A copy of a language model with every block's attention and feed-forward net shared by the processes.

    All processes must hold the same ``model`` and read the same batch. Attention weights, if asked for, are those of a
    process's own heads. Raises ValueError for dropout, where shared parts would draw different masks, for a bias of
    positions that all heads share, for mixers and experts, and as ``TensorParallel`` does.
    """
    if model.config.dropout:
        raise ValueError(f"dropout={model.config.dropout}: processes would draw different masks; use dropout=0")
    if model.backbone.position_bias is not None:
        raise ValueError(
            f"positions={model.config.positions!r} has a bias for every head, and a process has only some of them; "
            "use 'rope', 'learned', 'sinusoidal' or 'none'"
        )
    for name in ("mixers", "experts"):
        if getattr(model.config, name):
            raise ValueError(f"{name}={getattr(model.config, name)}: shares are made of attention and dense nets alone")
    model = copy.deepcopy(model)
    for block in model.backbone.blocks:
        assert isinstance(block, Block)
        for name, part in (("attention", block.attention), ("feed_forward", block.feed_forward)):
            setattr(block, name, TensorParallel(part))
    return model


def _slice(tensor: Tensor, dim: int, what: str) -> Tensor:
    """This process's part of ``tensor`` along ``dim``."""
    n, size = dist.get_world_size(), tensor.shape[dim]
    if size % n:
        raise ValueError(f"{size} {what} cannot be shared by {n} processes: choose a width that is a multiple of {n}")
    return tensor.detach().chunk(n, dim)[dist.get_rank()]


def _linear(weight: Tensor, bias: Tensor | None) -> Linear:
    part = Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    with torch.no_grad():
        part.weight.copy_(weight)
        if bias is not None:
            part.bias.copy_(bias)
    return part
