"""The pretended GPU where it cannot be had: every reason in one clear line. Nothing here needs a GPU or a compiler."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "pretended"


@pytest.fixture
def pretended(monkeypatch, tmp_path):
    """The package, with an empty folder for what it compiles."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv("PRETENDED_GPU_BUILD", str(tmp_path))
    import pretended_gpu

    return pretended_gpu


def test_another_torch(pretended, monkeypatch):
    """Internals of one version called in another: a crash without a word."""
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.14.1+cpu")
    with pytest.raises(pretended.PretendError, match=r"written for torch 2\.13\.0, and torch 2\.14\.1\+cpu is"):
        pretended.check_version()


def test_no_compiler(pretended, monkeypatch):
    """FileNotFoundError: 'g++', out of the import of torch."""
    from pretended_gpu.build import built

    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(pretended.PretendError, match=r"no C\+\+ compiler"):
        built()


def test_a_compiler_that_fails(pretended, monkeypatch, tmp_path):
    """Half a library that the next start takes for a whole one."""
    from pretended_gpu.build import built

    monkeypatch.setattr(shutil, "which", lambda name: sys.executable)
    with pytest.raises(pretended.PretendError, match="could not compile"):
        built()
    assert not list(tmp_path.glob("*.so"))


def test_an_unknown_card(pretended, monkeypatch):
    """A misspelt name that becomes another card."""
    monkeypatch.setenv("PRETENDED_GPU", "t5")
    with pytest.raises(pretended.PretendError, match=r"PRETENDED_GPU='t5'.*t4, a100, h200"):
        pretended.chosen()


def test_too_late(pretended):
    """Asked for after torch, when torch has already found no CUDA: every later error would be a riddle."""
    with pytest.raises(pretended.PretendError, match="imported already"):
        pretended.wait_for_torch()


def test_nobody_asked():
    """A folder on the path that changes a process which asked for nothing."""
    env = {k: v for k, v in os.environ.items() if k != "PRETENDED_GPU"} | {"PYTHONPATH": str(FOLDER)}
    code = "import sys; print('pretended_gpu' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], env=env, text=True).strip() == "False"
