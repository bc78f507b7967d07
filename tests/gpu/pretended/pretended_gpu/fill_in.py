"""What torch lacks in a build without CUDA: the answers of ``torch.cuda``, storages, two kernels of its own."""

import contextlib
import ctypes
import os
import time
import types

import torch

from pretended_gpu import Card, PretendError

_kernels: list[torch.library.Library] = []  # kept: a library that is forgotten takes its kernels away


def begin(library: ctypes.CDLL, card: Card, rules: list) -> None:
    """Make ``card`` the GPU of this process. Raises PretendError where there is a real one."""
    if torch.version.cuda is not None:
        raise PretendError(f"torch {torch.__version__} is a build with CUDA: pretend on a build for the CPU alone")
    library.pretend_in_use.restype = library.pretend_peak.restype = ctypes.c_int64
    rehearse = bool(os.environ.get("PRETENDED_GPU_STEPS"))
    library.pretend_begin(ctypes.c_int64(card.n_bytes), card.capability >= (8, 0), rehearse)
    for operator, *about in rules:
        library.pretend_rule(operator.encode(), *map(int, about))
    _answer(library, card)
    _make_storages()
    _kernels.append(torch.library.Library("aten", "IMPL"))
    for kernel in (_thnn_fused_lstm_cell, _thnn_fused_lstm_cell_backward_impl):
        _kernels[-1].impl(kernel.__name__, kernel, "CUDA")


def _answer(library: ctypes.CDLL, card: Card) -> None:
    """``torch.cuda`` as a build with CUDA has it, on one card."""
    in_use, peak, (major, minor), stream = library.pretend_in_use, library.pretend_peak, card.capability, Stream()
    properties = types.SimpleNamespace(
        name=card.name, major=major, minor=minor, total_memory=card.n_bytes, multi_processor_count=40, warp_size=32
    )
    constants = {
        "is_available": True, "_is_compiled": True, "is_initialized": True, "_lazy_init": None, "device_count": 1,
        "current_device": 0, "set_device": None, "get_device_name": card.name, "get_device_capability": card.capability,
        "get_device_properties": properties, "_get_device_properties": properties,
        "get_arch_list": ["sm_75", "sm_80", "sm_90"], "empty_cache": None, "ipc_collect": None, "synchronize": None,
        "current_stream": stream, "default_stream": stream, "is_current_stream_capturing": False,
        "_exchange_device": 0, "_maybe_exchange_device": 0,
    }  # fmt: skip
    counted = {
        "mem_get_info": lambda: (card.n_bytes - in_use(), card.n_bytes),
        "memory_allocated": in_use,
        "memory_reserved": in_use,
        "max_memory_allocated": peak,
        "max_memory_reserved": peak,
        "reset_peak_memory_stats": library.pretend_reset_peak,
        "stream": contextlib.nullcontext,
    }
    for name, value in constants.items():
        setattr(torch.cuda, name, lambda *_, value=value, **__: value)
    for name, ask in counted.items():
        setattr(torch.cuda, name, lambda *_, ask=ask, **__: ask())
    for name, value in {"DeviceCount": 1, "Device": 0, "CurrentRawStream": 0}.items():
        setattr(torch._C, f"_cuda_get{name}", lambda *_, value=value: value)
    torch.cuda._initialized, torch.cuda.Event, torch.cuda.Stream = True, Event, Stream
    torch.cuda.default_generators = (torch.Generator("cuda"),)  # the first one made is the one that kernels draw from
    torch.version.cuda = "12.8"


class Stream:
    """Nothing runs beside the program."""

    device_index = device_type = cuda_stream = stream_id = 0

    def __init__(self, *_, **__):
        pass

    def record_event(self, event=None):
        return event or Event()

    def __getattr__(self, name):
        return lambda *_, **__: None


class Event(Stream):
    """Its times are those of the CPU."""

    def record(self, *_):
        self.at = time.perf_counter()

    def elapsed_time(self, end):
        return 1000 * (end.at - self.at)


def _make_storages() -> None:
    """Storages on the GPU, which deepcopy, torch.load and FSDP ask for by themselves: C++ without CUDA refuses them."""
    new, resize = torch.UntypedStorage.__new__, torch.UntypedStorage.resize_

    def made(cls, *arguments, device=None, **options):
        if device is None or torch.device(device).type != "cuda":
            return new(cls, *arguments, **({} if device is None else {"device": device}), **options)
        return torch.empty(*(arguments or [0]), dtype=torch.uint8, device="cuda").untyped_storage()

    def resized(self, n_bytes):  # grows, and keeps what it is told to give back
        if self.device.type != "cuda":
            return resize(self, n_bytes)
        torch.empty(0, dtype=torch.uint8, device="cuda").set_(self).resize_(n_bytes)
        return self

    torch.UntypedStorage.__new__, torch.UntypedStorage.resize_ = made, resized


# Kernels that CUDA has and the CPU has not.
def _thnn_fused_lstm_cell(from_input, from_hidden, cx, input_bias=None, hidden_bias=None):
    gates = from_input + from_hidden
    gates = gates if input_bias is None else gates + input_bias + hidden_bias
    i, f, g, o = gates.chunk(4, 1)
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    cy = f * cx + i * g
    return o * cy.tanh(), cy, torch.cat([i, f, g, o], 1)


def _thnn_fused_lstm_cell_backward_impl(grad_hy, grad_cy, cx, cy, workspace, has_bias):
    i, f, g, o = workspace.chunk(4, 1)
    hy = torch.zeros_like(cx) if grad_hy is None else grad_hy
    c = (0 if grad_cy is None else grad_cy) + hy * o * (1 - cy.tanh() ** 2)
    grads = [c * g * i * (1 - i), c * cx * f * (1 - f), c * i * (1 - g**2), hy * cy.tanh() * o * (1 - o)]
    grad_gates = torch.cat(grads, 1)
    return grad_gates, c * f, grad_gates.sum(0) if has_bias else cx.new_empty(0)
