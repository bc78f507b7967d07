"""Choosing arithmetic by measurement must change the time of a run and nothing else."""

from contextlib import nullcontext

import pytest
import torch

from llmbook.model import DecoderLM
from llmbook.training import Announce, TrainConfig, Trainer, autotune, causal_lm_loss
from llmbook.training.checkpoint import load_checkpoint
from tests.training.helpers import CPU, CountingBatches, tiny_model

BATCH = {"input_ids": torch.arange(8)[None]}
PLAIN, EAGER, BF16 = ("float32", "torch", "sdpa"), ("float32", "torch", "eager"), ("bfloat16", "torch", "eager")


def kernels(runtime) -> tuple[str, str, str]:
    """dtype, linear, attention."""
    return tuple(runtime.choice().values())[:3]


def choices(runtime) -> list:
    """Three of what ``candidates`` may list."""
    names = ("dtype", "linear", "attention")
    return [runtime.with_choice(dict(zip(names, kernel, strict=True)), "") for kernel in (PLAIN, EAGER, BF16)]


def pretend(monkeypatch, **seconds: float) -> list:
    """Replace the clock: eager attention, sdpa and bfloat16 take what is given. Returns what was asked."""
    asked = []

    def measure(runtime, model, batch, objective):
        asked.append(kernels(runtime))
        key = "bfloat16" if runtime.dtype == torch.bfloat16 else runtime.attention
        return seconds[key]

    monkeypatch.setattr(autotune, "_seconds", measure)
    monkeypatch.setattr(autotune, "candidates", choices)
    return asked


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [
        (dict(sdpa=1.0, eager=0.5, bfloat16=0.7), EAGER),
        (dict(sdpa=1.0, eager=2.0, bfloat16=0.7), BF16),
        (dict(sdpa=1.0, eager=0.95, bfloat16=0.99), PLAIN),
        (dict(sdpa=1.0, eager=0.95, bfloat16=float("inf")), PLAIN),
    ],
)
def test_the_fastest_is_kept_if_it_is_worth_it(monkeypatch, seconds, wanted):
    """The slowest chosen, noise taken for a gain, or a choice whose loss is not finite."""
    pretend(monkeypatch, **seconds)
    runtime = autotune.autotuned(CPU, tiny_model(), BATCH, causal_lm_loss)
    assert kernels(runtime) == wanted
    assert not runtime.compile
    assert "measured" in str(runtime)


@pytest.mark.parametrize(
    ("n_batches", "compiled", "wanted"), [(600, 0.4, False), (700, 0.4, True), (700, 0.49, False), (700, None, False)]
)
def test_compiling_must_pay_within_the_run(monkeypatch, n_batches, compiled, wanted):
    """Compiled for a run that ends before it is earned back, for a gain within the noise, or where no compiler is."""
    pretend(monkeypatch, sdpa=1.0, eager=0.5, bfloat16=0.7)
    plain_measure = autotune._seconds

    def measure(runtime, model, batch, objective):
        return plain_measure(runtime, model, batch, objective) if isinstance(model, DecoderLM) else compiled_seconds()

    def compiled_seconds():
        if compiled is None:
            raise RuntimeError("no C++ compiler")
        return compiled

    monkeypatch.setattr(autotune, "_seconds", measure)
    expected = pytest.warns(UserWarning, match="not used: .*no C\\+\\+ compiler") if compiled is None else nullcontext()
    with expected:
        runtime = autotune.autotuned(CPU, tiny_model(), BATCH, causal_lm_loss, n_batches=n_batches)
    assert kernels(runtime) == EAGER
    assert runtime.compile is wanted
    assert (", compiled takes 0.40" in str(runtime)) is wanted


def test_a_run_that_chose_to_compile_trains_the_compiled_model(monkeypatch, tmp_path):
    """Compiled for the measurement, then trained as it was; or, after a crash, resumed as it was."""
    pretend(monkeypatch, sdpa=1.0, eager=0.5, bfloat16=0.7)
    monkeypatch.setattr(autotune, "_share_compiled", lambda *_: 0.2)
    compiled = []

    class Compiled(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model, self.n_calls = model, 0
            compiled.append(self)

        def forward(self, *arguments, **keywords):
            self.n_calls += 1
            return self.model(*arguments, **keywords)

    monkeypatch.setattr(torch, "compile", Compiled)
    first = stopped_after(trainer(tmp_path, steps=700), 2)
    assert [(c.model, c.n_calls) for c in compiled] == [(first.model, 2)]
    assert load_checkpoint(tmp_path / "last.pt").arithmetic["compile"] is True
    second = stopped_after(trainer(tmp_path, steps=700), 4, resume=True)
    assert compiled[-1].model is second.model
    assert compiled[-1].n_calls == 2


def test_measuring_leaves_no_trace():
    """Gradients, weights or random numbers spent by the measurement: the run would be another."""
    model = tiny_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    autotune.autotuned(CPU, model, BATCH, causal_lm_loss)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())


def test_a_slow_moment_does_not_decide_on_compiling(monkeypatch):
    """A compiled model held against what the other took minutes before, on a machine that was faster then."""
    moment = iter([1.0] * 6 + [3.0] * 100)  # everything takes three times as long from the seventh pass on
    times = dict(sdpa=1.0, eager=0.5)

    def measure(runtime, model, batch, objective):
        return times[runtime.attention] * (1.0 if isinstance(model, DecoderLM) else 0.8) * next(moment)

    monkeypatch.setattr(autotune, "_seconds", measure)
    monkeypatch.setattr(autotune, "candidates", lambda runtime: choices(runtime)[:2])
    monkeypatch.setattr(autotune, "ROUNDS", range(3, 4))
    assert autotune.autotuned(CPU, tiny_model(), BATCH, causal_lm_loss, n_batches=700).compile


def test_every_choice_here_gives_the_same_loss():
    """A choice that computes something else: float32 to rounding, bfloat16 to its three digits."""
    model = tiny_model(dropout=0.0)
    losses = []
    for runtime in autotune.candidates(CPU):
        runtime.prepare(model)
        with runtime.autocast():
            losses.append(causal_lm_loss(model, BATCH).total.item())
        near = 1e-5 if runtime.dtype == torch.float32 else 0.02
        assert losses[-1] == pytest.approx(losses[0], rel=near), kernels(runtime)


def trainer(folder, *, steps=600, runtime=None, callbacks=()) -> Trainer:
    config = TrainConfig(steps=steps, log_every=1, checkpoint_every=2, warmup_steps=2)
    model = tiny_model(dropout=0.0)
    return Trainer(model, CountingBatches(), config, runtime=runtime, folder=folder, callbacks=callbacks)


def stopped_after(run: Trainer, steps: int, **keywords) -> Trainer:
    advance = run._advance

    def step_and_stop():
        advance()
        if run.step >= steps:
            run.state.stop()

    run._advance = step_and_stop
    run.run(**keywords)
    return run


def test_a_resumed_run_keeps_its_choice(monkeypatch, tmp_path):
    """A second measurement after a crash that chooses otherwise: the resumed run would no longer be the same run."""
    asked = pretend(monkeypatch, sdpa=1.0, eager=0.5, bfloat16=0.7)
    first = stopped_after(trainer(tmp_path), 2)
    arithmetic = dict(device="cpu", dtype="float32", linear="torch", attention="eager", compile=False)
    assert load_checkpoint(tmp_path / "last.pt").arithmetic == arithmetic
    assert first.runtime.attention == "eager"
    assert asked
    asked.clear()
    second = stopped_after(trainer(tmp_path), 4, resume=True)
    assert asked == []
    assert second.runtime.attention == "eager"


@pytest.mark.parametrize("callbacks", [[], [Announce()]])
def test_a_choice_nobody_made_is_printed_once(monkeypatch, tmp_path, capsys, callbacks):
    """Catches a run that changes its precision and does not say so, or says it twice; also when it goes on."""
    pretend(monkeypatch, sdpa=1.0, eager=2.0, bfloat16=0.5)
    for steps in (2, 4):
        stopped_after(trainer(tmp_path, callbacks=callbacks), steps, resume=True)
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 1
        assert lines[0].startswith("device     cpu, bfloat16: ")
        assert ("bfloat16, torch products and eager attention takes 0.50" in lines[0]) == (steps == 2)
    stopped_after(trainer(tmp_path / "asked", runtime=CPU), 1)
    stopped_after(trainer(tmp_path / "short", steps=100), 1)
    assert capsys.readouterr().out == ""


def test_only_long_runs_without_a_choice_are_measured(monkeypatch, tmp_path):
    """Measuring that costs more than it saves, or overrules the caller; and batches spent by it."""
    asked = pretend(monkeypatch, sdpa=1.0, eager=0.5, bfloat16=0.7)
    stopped_after(trainer(tmp_path / "a", runtime=CPU), 1)
    stopped_after(trainer(tmp_path / "b", steps=100), 1)
    assert asked == []
    measured, plain = trainer(tmp_path / "c"), trainer(tmp_path / "d", runtime=CPU)
    losses = [stopped_after(run, 3).history.train_loss for run in (measured, plain)]
    assert asked
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
