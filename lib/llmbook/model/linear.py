"""A matrix product with a choice of kernel: what it computes is ``nn.Linear``, how fast depends on the machine.

On AMD processors the library behind torch's float32 products (MKL) runs at about half the speed of the other one
torch carries (oneDNN). Which is faster depends on the machine: measure it where the model runs, and choose by
``use_kernels`` (kernels.py); nothing else in the model changes.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from llmbook.cpu import onednn

LinearKernel = Literal["torch", "onednn"]


class Linear(nn.Linear):
    """``nn.Linear``: y = x Wᵀ + b, with ``kernel="onednn"`` for float32 on a CPU (other tensors take torch's)."""

    kernel: LinearKernel = "torch"

    def forward(self, x: Float[Tensor, "*P In"]) -> Float[Tensor, "*P Out"]:
        if self.kernel == "onednn" and _onednn_fits(x):
            return OneDnnLinear.apply(x, self.weight, self.bias)
        return F.linear(x, self.weight, self.bias)


class OneDnnLinear(torch.autograd.Function):
    """The product and the gradient of x through oneDNN; that of W, whose factors lie across, through torch.

    For y = x Wᵀ + b with x [N, I] and W [O, I]: dx = dy W, dW = dyᵀ x, db = Σ dy over the N rows.
    """

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return onednn.product(x, weight, bias)

    @staticmethod
    def backward(ctx, dy):
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        dx = dweight = dbias = None
        rows = dy.flatten(0, -2)  # [N, O]
        if needs_x:
            dx = onednn.product(dy, weight.t())
        if needs_weight:
            dweight = rows.t() @ x.flatten(0, -2)  # [O, I]
        if needs_bias:
            dbias = rows.sum(0)
        return dx, dweight, dbias


def _onednn_fits(x: Tensor) -> bool:
    lowered = torch.is_autocast_enabled("cpu")  # then the product is not a float32 one
    return x.device.type == "cpu" and x.dtype == torch.float32 and not lowered and x.numel() > 0
