"""The benchmarks where readers are: behind a package mirror alone, or without any index. Nothing here is timed."""

import json
import socket
import subprocess
import sys

import pytest

from benchmarks import __main__ as command
from benchmarks import environment, quality, record, speed, table, texts
from benchmarks.harness import Failure, compare
from llmbook.storage import SourceError

SETTINGS = dict(
    keep=False, only=[""], clock="seconds", n_rounds=1, threads=1, patience=0.0, block_seconds=0,
)  # fmt: skip


class NetworkAsked(AssertionError):
    pass


@pytest.fixture(autouse=True)
def refused(monkeypatch, tmp_path):
    """No connection from this process, no index for pip in the ones it starts, and nothing fetched before."""

    def refuse(*_: object, **__: object) -> None:
        raise NetworkAsked("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("LLMBOOK_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LLMBOOK_DATA", raising=False)


def test_the_texts_are_package_data():
    """Catches a benchmark that asks the open network for its text where a mirror of packages would do."""
    from llmbook.text.registry import REGISTRY

    assert REGISTRY[texts.DEFAULT].package is not None
    assert REGISTRY[speed.TEXT].package is not None


def test_a_text_that_cannot_be_had_is_one_line_that_says_what_to_do():
    """Catches a traceback, or a list of all that was tried, in the cell of a table."""
    why = texts.problem(texts.DEFAULT)
    assert "\n" not in why
    assert "is not available" in why
    assert "What to do: connect to a package index" in why
    with pytest.raises(ValueError, match="no corpus named 'tinyshakespear'"):
        texts.problem("tinyshakespear")


def test_decoding_is_measured_without_the_text(monkeypatch, capfd):
    """Catches speeds that are not measured because of a text that only the bits per byte need."""
    asked = {}
    monkeypatch.setattr(speed, "compare", lambda contenders, **_: (asked.update(contenders), ({}, {}))[1])
    assert speed.decode(texts.DEFAULT, SETTINGS)
    assert {arguments for _, arguments in asked.values()} == {(name, None) for name in speed.DECODERS}
    assert capfd.readouterr().err.count("\n") == 1


def _double(fails):
    if fails == "import":
        import a_peer_that_is_not_there  # noqa: F401
    if fails == "text":
        raise SourceError("a text", [("the web", "refused"), ("a mirror", "refused")], "connect")
    return lambda n: {"work": n}


def test_contenders_that_cannot_be_made_are_a_line_each(capfd):
    """Catches one traceback for each contender, and the others lost with them."""
    contenders = {"base": (_double, (None,)), "peer": (_double, ("import",)), "reader": (_double, ("text",))}
    settings = dict(base="base", n_rounds=1, threads=1, patience=0.0, block_seconds=0)
    samples, failures = compare(contenders, **settings)
    assert set(samples) == {"base"}
    assert failures == {
        "peer": "ModuleNotFoundError: No module named 'a_peer_that_is_not_there'",
        "reader": "SourceError: a text is not available. What to do: connect",
    }
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert [line for line in said.splitlines() if ": " in line] == [f"{n}: {why}" for n, why in failures.items()]


def test_without_the_base_there_is_one_line_and_a_failing_exit(monkeypatch, capfd):
    """Catches a traceback, and an exit status that says all went well."""
    with pytest.raises(Failure, match="with which all are compared: ModuleNotFoundError"):
        compare({"b": (_double, ("import",))}, base="b", n_rounds=1, threads=1, patience=0.0, block_seconds=0)

    def fail(*_: object, **__: object) -> None:
        raise Failure("transformers: not installed")

    monkeypatch.setattr(speed, "compare", fail)
    monkeypatch.setattr(environment, "enter", lambda: None)
    monkeypatch.setattr("sys.argv", ["benchmarks", "train", "--size", "small"])
    capfd.readouterr()
    assert command.main() == 1
    assert capfd.readouterr().err.splitlines()[-1] == "train-small: transformers: not installed"


def test_quality_without_its_text_starts_no_training(monkeypatch, capfd):
    """Catches two dozen processes that each find out the same, with a traceback each."""
    monkeypatch.setattr(quality, "ProcessPoolExecutor", None)
    assert quality.run(only=[""], n_seeds=1, steps=1, text=texts.DEFAULT, keep=False) is False
    assert capfd.readouterr().err.startswith("quality: SourceError: corpus 'shakespeare-plays'")


def test_a_training_that_fails_is_told_in_words(monkeypatch):
    """Catches a peer that is not installed and takes all finished trainings with it."""
    done = quality.train_once("no such contender", 0, 1, texts.DEFAULT)
    assert done["name"] == "no such contender"
    assert done["error"].startswith("SourceError")


def test_losses_on_two_texts_are_not_kept_in_one_table(monkeypatch, tmp_path):
    """Catches a loss on the plays in a table of losses on tinyshakespeare."""
    monkeypatch.setattr(record, "FOLDER", tmp_path)
    record.save("quality", {"about": "", "text": "tinyshakespeare", "steps": 1, "runs": []})
    with pytest.raises(ValueError, match="measured on tinyshakespeare: add --text tinyshakespeare"):
        quality.run(only=[""], n_seeds=1, steps=1, text=texts.DEFAULT, keep=True)


def test_every_kept_result_that_read_a_text_names_it():
    """Catches figures of one text under the name of another: what was measured on tinyshakespeare says so."""
    for name in ("decode", "quality", "tokenizer-train", "tokenizer-encode"):
        assert json.loads((record.FOLDER / f"{name}.json").read_text())["text"], name
    shown = table.sections()
    for header in ("bits per byte of tiny", "validation loss on tinyshakespeare", "tokenizer on shakespeare-plays"):
        assert header in shown
    readme = table.README.read_text(encoding="utf-8")
    assert readme.partition(table.BEGIN)[2].partition(table.END)[0].strip() == shown


def test_peers_that_cannot_be_installed_are_a_line_each(monkeypatch, capsys, tmp_path):
    """Catches an environment that is not made at all where no index answers."""
    monkeypatch.setattr(environment, "VENV", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    environment._create(python)
    assert environment._install(python) is False
    said = capsys.readouterr().err
    assert "x-transformers" in said.partition("could not be installed")[0]
    assert "Traceback" not in said
    inside = subprocess.run([python, "-c", "import torch"], capture_output=True, text=True)
    assert inside.returncode == 0, inside.stderr
    assert sys.prefix != str(tmp_path / "venv")
