"""The chapters' helpers."""

from types import SimpleNamespace

import pytest
import torch

from llmbook.notebook import choose_scale, expect_error, source_markdown


def sample(x):
    """Doc of sample.

    More.
    """

    def inner():
        "Doc of inner."
        return x

    return "```" if inner() else "not a docstring"


def machine(monkeypatch, *, name: str = "H200", n_bytes: float = 140e9) -> None:
    """A machine with this GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: name)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=n_bytes))


def test_choose_scale_says_what_and_why(monkeypatch, capsys):
    """Catches a scale taken in silence, "auto" that ignores a GPU, and an asked-for scale that is overridden."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_scale("auto", gpu=True) == "quick"
    assert choose_scale("full") == "full"
    machine(monkeypatch)
    assert choose_scale("auto", gpu=True) == "full"
    assert choose_scale("quick", gpu=True) == "quick"
    assert capsys.readouterr().out.splitlines() == [
        "scale: quick (no CUDA device found)",
        "scale: full (asked for)",
        "scale: full (found H200)",
        "scale: quick (asked for)",
    ]


def test_a_gpu_is_not_taken_for_what_computes_on_the_cpu(monkeypatch, capsys):
    """Catches minutes on the CPU of a machine whose GPU is idle, because "auto" saw the GPU."""
    machine(monkeypatch)
    assert choose_scale("auto") == "quick"
    assert "computes on the CPU" in capsys.readouterr().out


def test_a_gpu_must_have_the_memory(monkeypatch, capsys):
    """Catches a full run that ends on a small card in the middle, out of memory."""
    machine(monkeypatch, name="GTX 1650", n_bytes=4e9)
    assert choose_scale("auto", gpu=True) == "quick"
    assert "GTX 1650 has 4 GB, and full may need 12" in capsys.readouterr().out


def test_choose_scale_refuses_other_names():
    """Catches a misspelt scale that would run as quick."""
    with pytest.raises(ValueError, match="scale='fast'; expected one of 'auto', 'quick', 'full'"):
        choose_scale("fast")


def test_expect_error_prints_and_goes_on(capsys):
    """Catches an expected error that stops the chapter."""
    with expect_error(ValueError, KeyError):
        raise ValueError("d_model=100 is not divisible by n_heads=12")
    assert capsys.readouterr().out == "ValueError: d_model=100 is not divisible by n_heads=12\n"


def test_expect_error_notices_success_and_other_errors():
    """Catches a lesson about an error that no longer happens."""
    with pytest.raises(AssertionError, match="expected ValueError, but nothing was raised"), expect_error(ValueError):
        pass
    with pytest.raises(KeyError), expect_error(ValueError):
        raise KeyError("k")


def test_source_is_shown_as_it_stands():
    """Catches a fence closed by the code's own back-quotes, and a wrong file."""
    shown = source_markdown(sample)
    assert shown.startswith("**`sample`** in `test_notebook.py`\n")
    assert "\n````python\ndef sample(x):\n" in shown
    assert shown.endswith("\n````")
    assert "lib/llmbook/notebook.py" in source_markdown(choose_scale)


def test_docstrings_can_be_left_out_and_the_code_still_runs():
    """Catches a cut that takes code along, or leaves the inner documentation."""
    shown = source_markdown(sample, docstring=False)
    assert "Doc of" not in shown
    assert "not a docstring" in shown
    body = shown.split("python\n", 1)[1].rsplit("\n", 1)[0]
    space = {}
    exec(body, space)
    assert space["sample"](1) == "```"


def test_objects_without_source_are_refused():
    """Catches a built-in handed to show_source, with inspect's own riddle for an answer."""
    with pytest.raises(TypeError, match="no Python source to show"):
        source_markdown(len)
