"""The program of the GPU's figures, tried on the CPU: every line runs, and the limits are those of the machine."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import gpu, record, table, texts
from llmbook.model import DecoderLM, TransformerConfig

TEXT = "to be, or not to be, that is the question: " * 40


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A corpus that is there, and no CUDA, whatever the machine has."""
    monkeypatch.setattr(gpu, "load_corpus", lambda name: SimpleNamespace(split=lambda valid: (TEXT, TEXT[:430])))
    monkeypatch.setattr(texts, "problem", lambda name: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_everything_runs_at_toy_size(capsys):
    """Catches a program that meets its first error on a machine that costs money by the hour."""
    found = gpu.run(device="cpu", toy=True, compile=False, only=[""], text="tinyshakespeare")
    assert 0 < found["train"]["fraction"] == found["train"]["flops_per_second"] / found["train"]["matrix_peak"]
    n_bytes = 4 * DecoderLM(TransformerConfig.llama(**gpu.TOY.llama)).num_parameters()
    assert found["decode"]["bytes_per_token"] == n_bytes  # float32 on a CPU, a tied table once
    assert found["decode"]["limit"] == found["decode"]["bytes_per_second"] / n_bytes
    assert found["learn"]["valid_steps"] == list(range(7))
    assert found["learn"]["seconds_to_goal"] is None
    assert all(0 < value < math.inf for value in found["learn"]["valid_loss"])
    printed = capsys.readouterr().out
    for said in ("training GPT-2 124M, float32", "decoding, 135M, batch 1, float32, fused", "loss 1.47 not reached"):
        assert said in printed


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_precision_is_the_one_the_card_has(dtype, monkeypatch, capsys):
    """Catches bfloat16 on a card that only emulates it, and a table that names another precision than the run's."""
    chosen = replace(gpu.choose_runtime("cpu"), dtype=getattr(torch, dtype))
    monkeypatch.setattr(gpu, "choose_runtime", lambda device: chosen)
    found = gpu.run(device="cpu", toy=True, compile=False, only=["decode"])
    assert found["decode"]["dtype"] == dtype
    assert (
        found["decode"]["bytes_per_token"] == 2 * DecoderLM(TransformerConfig.llama(**gpu.TOY.llama)).num_parameters()
    )
    assert f"batch 1, {dtype}, plain" in capsys.readouterr().out


def test_another_text_has_no_goal_and_is_named(capsys):
    """Catches a loss on one text judged by what others reached on another."""
    found = gpu.run(device="cpu", toy=True, compile=False, only=["learn"])
    assert (found["learn"]["text"], found["learn"]["goal"]) == (texts.DEFAULT, None)
    printed = capsys.readouterr().out
    assert f"| {texts.DEFAULT}, 10.7M | loss " in printed
    assert "1.47" not in printed


def test_a_missing_text_costs_its_own_row(monkeypatch, capsys):
    """Catches the other figures lost because a text could not be fetched."""
    monkeypatch.setattr(texts, "problem", lambda name: "no network")
    found = gpu.run(device="cpu", toy=True, compile=False, only=["decode", "learn"])
    assert "decode" in found
    assert "learn" not in found
    assert "learn: no network" in capsys.readouterr().err


def test_the_goal_is_timed_when_it_is_first_reached(monkeypatch):
    """Catches the time of the best evaluation, or of the last, in place of the first good one."""
    monkeypatch.setattr(gpu, "GOALS", {"a text": 100.0})
    learned = gpu.learn(gpu.choose_runtime("cpu"), replace(gpu.TOY, steps=2), compile=False, text="a text")
    assert 0 < learned["seconds_to_goal"] < learned["seconds"]


@pytest.mark.parametrize("tied", [True, False])
def test_operations_are_counted_by_hand(tied):
    """Catches tables that multiply nothing counted as products, a factor of 2, and scores forgotten."""
    sizes = dict(vocab_size=50, max_seq_len=8, d_model=16, n_layers=2, n_heads=2, d_ff=64, bias=False)
    model = DecoderLM(TransformerConfig.gpt2(**sizes, tie_embeddings=tied))
    matrices = 2 * (4 * 16 * 16 + 2 * 16 * 64) + 50 * 16
    gains = 5 * 16  # of the norms: counted, as is usual, and next to nothing
    scores = 2 * (2 * 2 * 8 * 16)  # two layers; queries times keys, weights times values: 2 · T · C each
    assert gpu.flops_per_token(model) == 3 * (2 * (matrices + gains) + scores)  # backward twice forward


def test_gpt2_at_its_real_size():
    """Catches another model than the one the figure is named after."""
    with torch.device("meta"):
        n = DecoderLM(TransformerConfig.gpt2(**gpu.REAL.gpt2)).num_parameters()
        learner = DecoderLM(TransformerConfig.gpt2(vocab_size=65, **gpu.REAL.learner)).num_parameters()
    assert n == pytest.approx(124e6, rel=0.005)
    assert learner == pytest.approx(10.7e6, rel=0.01)


def test_what_is_refused(monkeypatch, capsys):
    """Catches figures of a CPU recorded as a GPU's, and toys recorded at all."""
    monkeypatch.setattr("sys.argv", ["benchmarks", "gpu"])
    assert command.main() == 2
    assert "these figures are a GPU's" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["benchmarks", "gpu", "--device", "cpu", "--toy", "--keep"])
    assert command.main() == 2
    assert "nothing worth keeping" in capsys.readouterr().err


def test_a_record_is_shown_in_the_readme(monkeypatch, tmp_path):
    """Catches figures that are kept and never seen, or shown under another machine's name."""
    monkeypatch.setattr(record, "FOLDER", tmp_path)
    monkeypatch.setattr(gpu, "describe", lambda device: "A fine GPU")
    monkeypatch.setattr("sys.argv", ["benchmarks", "gpu", "--keep"])
    found = gpu.run(device="cpu", toy=True, compile=False, only=["decode"])
    record.save("gpu", found)
    assert "A fine GPU, torch" in table.sections()
    assert "batch 1, float32, plain" in table.sections()
