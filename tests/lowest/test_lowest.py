"""The library with the lowest versions it says it works with, all at once: a bound nobody has tried is a guess.

An environment holds every package of ``lib/pyproject.toml`` at its lower bound, and torch as the book has it: torch's
own lowest is gigabytes. Its bound is set by what we use, which a test here names with the version that brought it.
"""

import os
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from publishing import beside
from publishing.book import ROOT

ENVIRONMENT = ROOT / "_build" / "environments" / "lowest"
# Beside our own: what the lowest ones need in versions of their time (with Jupyter 7 the notebook has them).
OF_THEIR_TIME = ["ipython==7.34.0", "ipykernel==6.17.1", "huggingface-hub==0.24.0", "traitlets==5.7.1"]
ALSO = ["backcall==0.2.0", "pickleshare==0.7.5", "decorator==4.4.2", "nest-asyncio==1.6.0", "jupyter_client==7.4.9"]
ALSO += ["typeguard==2.13.3", "ipython-genutils==0.2.0", "widgetsnbextension==3.6.10"]
ALSO += ["pydantic-core==2.20.0"]  # pydantic takes one version alone
TOOLS = ["pip", "pytest", "beartype", "jsonschema", "regex"]  # linked from the book's environment, as torch is

# What talks to a package directly, and what is computed beside it.
TESTS = [
    "figures/test_builders.py",
    "figures/test_columns.py",
    "figures/test_notebook.py",
    "figures/test_payload.py",
    "figures/test_sweep.py",
    "text/test_batches.py",
    "text/test_tokenizers.py",
    "text/test_spans.py",
    "interop/test_saved.py",
    "adaptation/test_conversations.py",
    "inference/test_grammar.py",
    "inference/server/test_answers.py",
    "inference/server/test_refusals.py",
    "training/test_callbacks.py",
    "training/test_checkpoint.py",
    "model/test_attention.py",
    "compression/test_linear.py",
]

# The newest things of torch we call, and the version that has them first.
TORCH = {
    "torch.compiler.skip_guard_on_all_nn_modules_unsafe": "2.8",
    "torch.distributed.fsdp.fully_shard": "2.6",  # public there; in 2.5 it stood under _composable
    "torch._weight_int4pack_mm_for_cpu": "2.6",
    "torch.nn.functional.rms_norm": "2.4",
    "torch.amp.GradScaler": "2.3",
}


def lower_bounds() -> dict[str, Version]:
    project = tomllib.loads((ROOT / "lib/pyproject.toml").read_text())["project"]
    bounds, extras = {}, project["optional-dependencies"].values()
    for requirement in map(Requirement, [*project["dependencies"], *(one for extra in extras for one in extra)]):
        (specifier,) = requirement.specifier
        assert specifier.operator == ">=", requirement
        bounds[canonicalize_name(requirement.name)] = Version(specifier.version)
    return bounds


@pytest.fixture(scope="module")
def python() -> Path:
    pins = [f"{name}=={version}" for name, version in lower_bounds().items() if name != "torch"]
    try:
        return beside.make(ENVIRONMENT, [*pins, *OF_THEIR_TIME, *ALSO], ["torch", *TOOLS])
    except beside.Unreachable as error:
        pytest.skip(f"no package index: {error}")


def run(python: Path, *arguments: str) -> subprocess.CompletedProcess:
    theirs = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "LLMBOOK", "PYTHON"))}
    env = {**theirs, "PYTHONPATH": str(ROOT / "lib"), "OMP_NUM_THREADS": "1"}
    return subprocess.run([python, *arguments], cwd=ROOT, env=env, capture_output=True, text=True)


def test_the_environment_is_the_lowest(python):
    """A pin that pip raised, or a package of the book's environment found in place of the old one."""
    found = beside.packages(python)
    for name, version in lower_bounds().items():
        assert name == "torch" or Version(found[name]) == version, name


def test_every_module_can_be_imported(python):
    """A name that a package has only got since, in a module no test of the subset reaches."""
    script = (
        "import importlib, pkgutil, llmbook\n"
        "names = [m.name for m in pkgutil.walk_packages(llmbook.__path__, 'llmbook.')]\n"
        "for name in names:\n"
        "    if not name.endswith('__main__'): importlib.import_module(name)\n"
        "print(len(names))"
    )
    done = run(python, "-c", script)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) == len(list((ROOT / "lib/llmbook").rglob("*.py"))) - 1  # all but the top itself


def test_what_uses_the_packages_works(python):
    """A figure, slider, tokenizer, file or template that needs a younger package than the bound says."""
    done = run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(f"tests/{name}" for name in TESTS))
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]


def test_the_bound_of_torch_covers_what_we_call():
    """A younger function of torch used in the library while its bound stays where it was."""
    import torch.distributed.fsdp

    bound = lower_bounds()["torch"]
    sources = "\n".join(path.read_text() for path in (ROOT / "lib/llmbook").rglob("*.py"))
    for name, first in TORCH.items():
        part = torch
        for attribute in name.split(".")[1:]:
            part = getattr(part, attribute)
        assert name.split(".")[-1] in sources, f"{name} is not used any more: take it off the list"
        assert bound >= Version(first), name
