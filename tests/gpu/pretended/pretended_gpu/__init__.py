"""A pretended GPU for a CPU build of torch: ``torch.device("cuda")`` is there, and computes on the CPU.

    PRETENDED_GPU=t4 PYTHONPATH=tests/gpu/pretended python script.py      # or a100, h200

Every Python process with these two variables gets the device when it imports torch: pytest and its workers, kernels of
notebooks, processes that a test starts. ``python -m pretended_gpu`` compiles what is needed and says whether it works.

Tensors say ``cuda:0`` and lie in ordinary memory. Autograd, autocast, GradScaler, ``torch.load`` and the rest of torch
are the real ones: ``device.cpp`` adds a kernel under the dispatcher's key CUDA, for every operator, which checks what
CUDA's kernels check and calls the CPU's. Which operators look at devices, and which have no kernel for CUDA at all, is
read from the tables torch itself is generated from (``rules.py``). ``fill_in.py`` is what ``torch.cuda`` lacks in a
build without CUDA: one card, with the name, memory and compute capability of the one that was asked for.

It sees: tensors and generators on the wrong device; ``.numpy()`` of a GPU tensor; an operator that CUDA lacks, or lacks
for integers; a token id outside its table (an assertion on the device, without a row number); float16 that overflows in
the results of a product; memory that runs out; a choice that depends on the capability, and a product in bfloat16 where
the card emulates it (a warning, once).

It cannot see: speed; waiting, streams and races (a GPU runs behind the program, this does not); the arithmetic of real
kernels (flash attention, TF32, the order of sums, cuBLAS); inductor and Triton; NCCL between processes, and more than
one GPU. A run on it is a rehearsal, and says so: the card's name ends with "(pretended)".
"""

import functools
import importlib.machinery
import importlib.metadata
import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path

TORCH = "2.13.0"  # the version whose internals device.cpp is written for
MARK = "(pretended)"


class PretendError(ImportError):
    """The device cannot be had here; says why, and what to do."""


@dataclass(frozen=True)
class Card:
    """What a program can ask about a card."""

    name: str
    capability: tuple[int, int]
    gib: float
    limits: tuple[float, float, float, float]  # flops a second in 16 and in 32 bits, bytes a second, seconds to start

    @property
    def n_bytes(self) -> int:
        return int(self.gib * 2**30)


# Limits: about 0.4 of the data sheet's multiplications, 0.7 of its bandwidth, and an operator started every 20 µs by
# the slow processor beside a T4 in Colab, every 10 µs elsewhere.
CARDS = {
    "t4": Card(f"Tesla T4 {MARK}", (7, 5), 14.7, (25e12, 4e12, 220e9, 20e-6)),  # multiplies float16, not bfloat16
    "a100": Card(f"NVIDIA A100-SXM4-40GB {MARK}", (8, 0), 39.4, (125e12, 12e12, 1100e9, 10e-6)),
    "h200": Card(f"NVIDIA H200 {MARK}", (9, 0), 139.7, (400e12, 30e12, 3400e9, 10e-6)),
}


def chosen() -> Card:
    """The card that the environment asks for. Raises PretendError for one that is not known."""
    name = os.environ.get("PRETENDED_GPU", "t4")
    if name not in CARDS:
        raise PretendError(f"PRETENDED_GPU={name!r} is not a card that is known: use {', '.join(CARDS)}")
    return CARDS[name]


def check_version() -> None:
    """Raise PretendError unless the torch of this environment is the one that device.cpp is written for."""
    found = importlib.metadata.version("torch")
    if found.split("+")[0] != TORCH:
        raise PretendError(
            f"the pretended GPU is written for torch {TORCH}, and torch {found} is installed: install that version, "
            "or port tests/gpu/pretended to this one (its self-test, tests/gpu/test_pretended.py, says what differs)"
        )


def wait_for_torch() -> None:
    """Make the device when torch is imported; until then a process pays nothing."""
    if "torch" in sys.modules:
        raise PretendError("torch has been imported already: the pretended GPU must be asked for before")
    sys.meta_path.insert(0, _Finder())


class _Finder:
    """Finds torch and the training loop where they are, and does something around their import."""

    def __init__(self):
        self.around = {"torch": self._make_device}
        if os.environ.get("PRETENDED_GPU_STEPS"):
            self.around["llmbook.training.loop"] = self._cut_training

    def find_spec(self, name, path=None, target=None):
        if name not in self.around:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None:
            spec.loader.exec_module = functools.partial(self.around[name], spec.loader.exec_module)
        return spec

    def _make_device(self, execute, module) -> None:
        from pretended_gpu.build import built

        card = chosen()
        check_version()
        part = built()
        library = part.load()  # before torch is executed, which then asks whether CUDA is there
        execute(module)
        from pretended_gpu.fill_in import begin
        from pretended_gpu.rehearse import Costs, report_at_exit

        begin(library, card, part.rules())
        self.costs = Costs(library)
        if folder := os.environ.get("PRETENDED_GPU_REPORT"):
            report_at_exit(self.costs, Path(folder))

    def _cut_training(self, execute, module) -> None:
        execute(module)
        from pretended_gpu.rehearse import cut

        cut(module.Trainer, self.costs, int(os.environ["PRETENDED_GPU_STEPS"]))
