"""Where a model runs and in which precision: chosen once, with the reason, and passed along.

Weights stay in float32 everywhere. ``dtype`` is the precision of the matrix products under autocast:
bfloat16 on a GPU that has it (the exponent range of float32, so nothing overflows), float16 with a gradient
scaler on older ones (https://arxiv.org/abs/1710.03740), float32 on a CPU and on Apple's MPS. A long run on a CPU
measures whether another choice is faster (``autotune.py``).
"""

import itertools
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from llmbook.model import use_kernels
from llmbook.training.allocator import keep_freed_memory
from llmbook.training.objectives import Batch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Runtime:
    """A device, the precision of its matrix products, and why they were chosen (``str`` says it).

    ``linear`` and ``attention`` name the kernels of ``use_kernels``; None leaves the model's own. With ``compile`` the
    model is trained through torch.compile.
    """

    device: torch.device
    dtype: torch.dtype
    reason: str
    linear: str | None = None
    attention: str | None = None
    compile: bool = False

    def __str__(self) -> str:
        return f"{self.device}, {str(self.dtype).removeprefix('torch.')}: {self.reason}"

    def prepare(self, model: nn.Module) -> None:
        """Give the model the kernels of this choice; on a CPU, keep the memory of a step for the next one."""
        if self.device.type == "cpu":
            keep_freed_memory()
        use_kernels(model, linear=self.linear, attention=self.attention)

    def choice(self) -> dict[str, str | bool | None]:
        """What was chosen, in words that a file can hold."""
        dtype = str(self.dtype).removeprefix("torch.")
        return {"dtype": dtype, "linear": self.linear, "attention": self.attention, "compile": self.compile}

    def with_choice(self, choice: Mapping[str, str | bool | None], reason: str) -> "Runtime":
        """This device with what ``choice`` (another runtime's) says."""
        options: dict[str, Any] = {**choice, "dtype": DTYPES[str(choice["dtype"])]}
        return replace(self, **options, reason=reason)

    def autocast(self) -> AbstractContextManager:
        """The context a forward pass runs in: matrix products in ``dtype``, softmax and loss in float32."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def grad_scaler(self) -> torch.amp.GradScaler:
        """Scales a float16 loss so that small gradients do not round to 0; does nothing in other precisions.

        The scale starts at 16, not at torch's 65536: our losses are sums over tokens, thousands of times
        larger than the means torch's default is made for.
        """
        return torch.amp.GradScaler(self.device.type, init_scale=16.0, enabled=self.dtype == torch.float16)

    def to_device(self, batch: Batch) -> dict[str, Tensor | str]:
        """The batch with every tensor on the device."""
        return {
            name: value.to(self.device, non_blocking=True) if isinstance(value, Tensor) else value
            for name, value in batch.items()
        }


def in_words(choice: Mapping[str, str | bool | None]) -> str:
    """What ``Runtime.choice`` gave, in one line; a kernel that is not named is the plain one."""
    kernels = f"{choice['linear'] or 'torch'} products and {choice['attention'] or 'sdpa'} attention"
    return f"{choice['dtype']}, {kernels}{', compiled' if choice['compile'] else ''}"


def where_it_is(model: nn.Module) -> Runtime:
    """The device the model lies on, in float32: what measures a model takes it as it finds it."""
    tensors = itertools.chain(model.parameters(), model.buffers())  # models that count have buffers only
    device = next((tensor.device for tensor in tensors), torch.device("cpu"))
    return Runtime(device, torch.float32, "where the model is")


def choose_runtime(device: str = "auto", dtype: str = "auto") -> Runtime:
    """Choose CUDA, else MPS, else the CPU, and the precision that suits it; or take what the caller names.

    ``device`` is "auto" or anything torch.device reads; ``dtype`` is "auto", "float32", "bfloat16" or
    "float16". Raises ValueError for a device that is not there or a precision it cannot use.
    """
    chosen, why_device = _choose_device(device)
    if dtype == "auto":
        precision, why_dtype = _choose_dtype(chosen)
    elif dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r} is unknown: use 'auto' or one of {', '.join(map(repr, DTYPES))}")
    elif dtype == "float16" and chosen.type != "cuda":
        raise ValueError(f"dtype='float16' needs a CUDA GPU, not {chosen}: use 'float32' or 'auto'")
    else:
        precision, why_dtype = DTYPES[dtype], f"{dtype} as asked"
    return Runtime(chosen, precision, f"{why_device}; {why_dtype}")


def _choose_device(name: str) -> tuple[torch.device, str]:
    mps = torch.backends.mps.is_available()
    if name != "auto":
        try:
            device = torch.device(name)
        except RuntimeError as error:
            raise ValueError(f"device={name!r} is not a device: use 'auto', 'cpu', 'cuda' or 'mps'") from error
        count = {"cpu": 1, "mps": int(mps), "cuda": torch.cuda.device_count()}.get(device.type, 0)
        if (device.index or 0) >= count:
            raise ValueError(f"device={name!r} is not available here: use 'auto' or 'cpu'")
        return device, f"{device.type} as asked"
    if torch.cuda.is_available():
        return torch.device("cuda"), torch.cuda.get_device_name()
    if mps:
        return torch.device("mps"), "Apple GPU, no CUDA"
    return torch.device("cpu"), f"no GPU, {torch.get_num_threads()} CPU threads"


def sixteen_bits(device: torch.device) -> torch.dtype:
    """The 16 bits that a CUDA device multiplies natively: bfloat16, or float16 on one too old for it (a T4)."""
    return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16


def _choose_dtype(device: torch.device) -> tuple[torch.dtype, str]:
    if device.type == "cuda":
        dtype, (major, minor) = sixteen_bits(device), torch.cuda.get_device_capability(device)
        if dtype == torch.bfloat16:
            return dtype, f"compute capability {major}.{minor} multiplies bfloat16 natively"
        return dtype, f"compute capability {major}.{minor} has no bfloat16, float16 with a scaler"
    # On a CPU bfloat16 pays only with the right instructions and sizes; unless measured, float32 is the safe one.
    return torch.float32, f"float32 is the safe choice on {device.type}"
