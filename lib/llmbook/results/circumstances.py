"""What can move a number without anybody's mistake, and how far it usually does.

The circumstances of a run are a mapping from the names below to words: ``{"device": "Tesla T4", "dtype": "float16"}``.
One that a run does not know it leaves out, and what is unknown on either side is never given as a cause.

The sizes are rules of thumb, stated so that they can be disputed. Scale, steps, text, code and the library's version
may change a number by any amount. A seed, a device, another version of PyTorch draw other random numbers or round
differently, and training makes of that what another seed makes. A shorter number adds its own rounding.
"""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from llmbook.results.recorded import commit, processor

Circumstances = Mapping[str, str]


@dataclass(frozen=True)
class Cause:
    """A circumstance that can differ. It moves a number by any amount, or about as far as another seed does."""

    name: str
    words: str
    any_amount: bool = False


# In the order of their usual size: candidates are listed in it.
CAUSES = (
    Cause("scale", "scale", any_amount=True),
    Cause("steps", "steps", any_amount=True),
    Cause("text", "text", any_amount=True),
    Cause("chapter", "the chapter's code", any_amount=True),
    Cause("llmbook", "llmbook", any_amount=True),
    Cause("seed", "seed"),
    Cause("device", "device"),
    Cause("dtype", "precision"),
    Cause("torch", "torch"),
    Cause("numpy", "numpy"),
    Cause("python", "Python"),
    Cause("threads", "threads"),
    Cause("machine", "processor"),
)
# What rounding moves in a number by itself, as a share of it: in any other order of adding, and in a short precision.
ROUNDING = {"float32": 0.001, "float16": 0.005, "bfloat16": 0.02}


@dataclass(frozen=True)
class Difference:
    """One circumstance in which two runs differ."""

    cause: Cause
    yours: str
    ours: str

    def __str__(self) -> str:
        if self.cause.name == "chapter":
            return "the chapter's code has changed since ours was recorded"
        return f"{self.cause.words} {self.yours} (ours {self.ours})"


def differences(yours: Circumstances, ours: Circumstances) -> list[Difference]:
    """Every known circumstance in which the two differ, the usually largest first."""
    both = [cause for cause in CAUSES if cause.name in yours and cause.name in ours]
    return [Difference(c, yours[c.name], ours[c.name]) for c in both if yours[c.name] != ours[c.name]]


def rounding(found: list[Difference]) -> float:
    """How far rounding moves a number between two runs that differ so, as a share of it."""
    words = {side for d in found if d.cause.name == "dtype" for side in (d.yours, d.ours)}
    return max((share for name, share in ROUNDING.items() if name in words), default=ROUNDING["float32"])


def here(*, runtime: Any = None) -> dict[str, str]:
    """The circumstances of this process. ``runtime`` is the chapter's, where it has one: it knows what was chosen."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    found = {
        "device": gpu,
        "torch": str(torch.__version__),
        "numpy": _version("numpy"),
        "python": platform.python_version(),
        "llmbook": _version("llmbook"),
        "threads": str(torch.get_num_threads()),
        "machine": processor(),
        "commit": commit(),
    }
    if runtime is not None:
        found["device"] = {"cpu": "CPU", "cuda": gpu}.get(runtime.device.type, runtime.device.type)
        found["dtype"] = str(runtime.dtype).removeprefix("torch.")
    return {name: words for name, words in found.items() if words != "unknown"}


def settings(data: Mapping[str, Any]) -> dict[str, str]:
    """The circumstances that ``data``, the argument of ``record``, states: scale, steps, text, seed."""
    training = data.get("training")
    training = training if isinstance(training, Mapping) else {}
    stated = {
        "scale": data.get("scale"),
        "steps": data.get("steps", training.get("steps")),
        "text": data.get("corpus", data.get("text")),
        "seed": data.get("seed", training.get("seed")),
    }
    return {name: str(value) for name, value in stated.items() if isinstance(value, (int, str))}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
