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

import importlib.machinery
import importlib.metadata
import importlib.util
import os
import sys
from dataclasses import dataclass

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

    @property
    def n_bytes(self) -> int:
        return int(self.gib * 2**30)


CARDS = {
    "t4": Card(f"Tesla T4 {MARK}", (7, 5), 14.7),  # multiplies float16, not bfloat16
    "a100": Card(f"NVIDIA A100-SXM4-40GB {MARK}", (8, 0), 39.4),
    "h200": Card(f"NVIDIA H200 {MARK}", (9, 0), 139.7),
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
    """Finds torch where it is, and has the device made around its import."""

    def find_spec(self, name, path=None, target=None):
        if name != "torch":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None:
            spec.loader.exec_module = _with_device(spec.loader.exec_module)
        return spec


def _with_device(execute):
    def run(module) -> None:
        from pretended_gpu.build import built

        card = chosen()
        check_version()
        part = built()
        library = part.load()  # before torch is executed, which then asks whether CUDA is there
        execute(module)
        from pretended_gpu.fill_in import begin

        begin(library, card, part.rules())

    return run
