"""The set-up cell: silent where the library is, one pip call where it is not, one clear message where pip fails."""

import importlib.util
import subprocess
import sys
from types import SimpleNamespace

import pytest

from publishing.setup_cell import setup_source

SOURCE = setup_source("https://github.com/someone/book", "v1")


def run(monkeypatch, installed, code=0, stderr=""):
    calls = []

    def pip(command, **_):
        calls.append(command)
        return SimpleNamespace(returncode=code, stderr=stderr, stdout="")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if installed else None)
    monkeypatch.setattr(subprocess, "run", pip)
    exec(compile(SOURCE, "setup", "exec"), {})
    return calls


def test_nothing_happens_in_a_clone(monkeypatch, capsys):
    """Would catch a set-up that calls pip, or prints, where everything is installed."""
    assert run(monkeypatch, installed=True) == []
    assert capsys.readouterr().out == ""


def test_elsewhere_pip_installs_the_library(monkeypatch, capsys):
    """Would catch a wrong address, branch or folder, which only readers on Colab would see."""
    library = "llmbook @ git+https://github.com/someone/book@v1#subdirectory=lib"
    assert run(monkeypatch, installed=False) == [[sys.executable, "-m", "pip", "install", "--quiet", library]]
    assert capsys.readouterr().out == ""


def test_a_failing_pip_is_told_in_words(monkeypatch):
    """Would catch a chapter that goes on after a failed installation, or hides pip's reason."""
    with pytest.raises(SystemExit, match="could not be installed: no route to host"):
        run(monkeypatch, installed=False, code=1, stderr="pip tried\nno route to host\n")


def test_it_fits_into_a_cell():
    """Would catch a set-up cell that breaks the contract of the chapters it opens."""
    assert len(SOURCE.splitlines()) <= 25
    assert max(map(len, SOURCE.splitlines())) <= 120
