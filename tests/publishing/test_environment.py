"""The environment is made once, completed after an interruption, and a failure is one line."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from publishing import environment
from publishing.book import ROOT


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "requirements.txt").write_text("")
    (tmp_path / "lib/pyproject.toml").write_text("[project]\n")
    return tmp_path


@pytest.fixture
def pip(monkeypatch):
    """Record what pip would do, in a folder that only looks like an environment."""
    calls = []

    def create(venv):
        (venv / "bin").mkdir(parents=True)
        (venv / "bin/python").symlink_to(sys.executable)

    monkeypatch.setattr(environment, "_create", create)
    monkeypatch.setattr(environment, "_pip", lambda venv, log, *arguments: calls.append(arguments[:2]))
    return calls


def test_once_and_again_when_the_pins_change(checkout, pip, tmp_path):
    """Would catch an installation at every `make`, and a new pin that is never installed."""
    venv = tmp_path / "venv"
    assert environment.prepare(checkout, venv) is True
    assert environment.prepare(checkout, venv) is False
    (checkout / "requirements.txt").write_text("numpy==2.4.6\n")
    assert environment.prepare(checkout, venv) is True
    assert pip == [("install", "-r"), ("install", "--no-deps")] * 2


def test_an_interrupted_installation_is_taken_up_again(checkout, pip, tmp_path, monkeypatch):
    """Would catch half an environment taken for a whole one after Ctrl-C."""
    venv = tmp_path / "venv"

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(environment, "_pip", interrupted)
        with pytest.raises(KeyboardInterrupt):
            environment.prepare(checkout, venv)
    assert environment.prepare(checkout, venv) is True
    assert len(pip) == 2


def test_no_network_is_one_line(tmp_path, monkeypatch):
    """Would catch forty lines of pip's retries where one says what to do."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(environment.EnvironmentProblem) as caught:
        environment._pip(Path(sys.prefix), tmp_path / "log", "install", "there-is-no-such-package==1")
    assert re.fullmatch(r"no package index could be reached: ERROR: .* run make again: .*", str(caught.value))


def make(*arguments, path):
    env = {"PATH": str(path), "HOME": str(path)}
    command = ["/usr/bin/env", "make", "-C", str(ROOT), "--no-print-directory", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_a_python_that_is_too_old_is_one_line(tmp_path):
    """Would catch a SyntaxError of an old Python, and version managers' empty names being taken for one."""
    for tool in ("make", "sh"):
        found = next(p for d in os.environ["PATH"].split(":") if (p := f"{d}/{tool}") and os.access(p, os.X_OK))
        (tmp_path / tool).symlink_to(found)
    for name in ("python3", "python3.13"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    none = make("env", f"VENV={tmp_path}/venv", path=tmp_path)
    assert none.returncode
    assert none.stderr.splitlines()[0] == (
        "error: there is no Python 3.11, 3.12 or 3.13: install one, or name it with PYTHON=."
    )
    named = make("env", f"VENV={tmp_path}/venv", "PYTHON=python3", path=tmp_path)
    assert named.stderr.startswith("error: python3 is not Python 3.11, 3.12 or 3.13")
    assert not (tmp_path / "venv").exists()


def test_it_runs_before_anything_is_installed():
    """Would catch an import of ours or of a package in the script that makes the environment."""
    script = ROOT / "lib/publishing/environment.py"
    done = subprocess.run([sys.executable, "-ISE", str(script), "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
