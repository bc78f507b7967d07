"""The compiled part: made once by g++ and kept under ``_build``, for its source and the version of torch."""

import ctypes
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from pretended_gpu import PretendError

HERE = Path(__file__).parent
KEPT = Path(__file__).parents[4] / "_build" / "pretended-gpu"
SOURCES = ("device.cpp", "cost.h", "memory.h", "rules.py")


@dataclass(frozen=True)
class Built:
    """Where the library lies, and beside it what was read in torch's tables."""

    library: Path

    def load(self) -> ctypes.CDLL:
        return ctypes.CDLL(str(self.library))

    def rules(self) -> list:
        return json.loads(self.library.with_suffix(".json").read_text(encoding="utf-8"))


def built() -> Built:
    """The compiled part, made now if it is not kept. Raises PretendError without g++, or with what g++ said."""
    sources = b"".join((HERE / name).read_bytes() for name in SOURCES)
    version = f"{importlib.metadata.version('torch')} {sys.implementation.cache_tag} {_torch_folder()}"
    key = hashlib.sha256(sources + version.encode()).hexdigest()[:16]
    library = Path(os.environ.get("PRETENDED_GPU_BUILD", KEPT)) / f"{key}.so"
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        _compile(library)
    return Built(library)


def _compile(library: Path) -> None:
    compiler = shutil.which("g++")
    if compiler is None:
        raise PretendError("no C++ compiler: the pretended GPU is compiled by g++, which is not on the PATH")
    torch_at = _torch_folder()
    partial = library.with_name(f".{library.name}.{os.getpid()}.partial")
    flags = ["-O1", "-fPIC", "-shared", "-std=c++20", f"-I{torch_at}/include"]
    flags += [f"-I{torch_at}/include/torch/csrc/api/include"]
    link = [f"-L{torch_at}/lib", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{torch_at}/lib"]
    command = [compiler, *flags, "-o", str(partial), str(HERE / "device.cpp"), *link]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise PretendError(f"g++ could not compile the pretended GPU:\n{done.stderr[-2000:]}")
    from pretended_gpu.rules import rules

    library.with_suffix(".json").write_text(json.dumps(list(rules())), encoding="utf-8")
    partial.replace(library)  # last: whoever finds it finds the table too


def _torch_folder() -> Path:
    return Path(importlib.util.find_spec("torch").origin).parent
