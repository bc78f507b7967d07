"""The loop: resume is exact, trouble is named, and looking changes nothing."""

import math
import os
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from llmbook.inference import generate
from llmbook.model import DecoderLM, TransformerConfig
from llmbook.text import CharTokenizer, LMBatches, eval_windows
from llmbook.training import (
    Callback,
    CheckpointError,
    Loss,
    ProgressBar,
    Runtime,
    TrainConfig,
    Trainer,
    TrainingError,
    causal_lm_loss,
    evaluate,
    load_checkpoint,
    restore_model,
)
from tests.training.helpers import (
    CPU,
    CountingBatches,
    Disturbed,
    same_parameters,
    tiny_model,
    tiny_trainer,
    valid_batches,
)

ROOT = Path(__file__).parents[2]

KILLED = """
import os, signal, sys
import llmbook.training.checkpoint as checkpoint
from llmbook.training import causal_lm_loss
from tests.training.helpers import tiny_trainer

folder, where, optimizer = sys.argv[1:]
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
calls = 0

def objective(model, batch):
    global calls
    calls += model.training
    if where == "in step 8" and calls == 2 * 8:  # the second of two micro-batches: half a gradient is there
        die()
    return causal_lm_loss(model, batch)

if where == "in the checkpoint of step 10":
    write = checkpoint.torch.save
    def save(state, file):
        if state["step"] == 10 and "last" in file.name:
            file.write(b"half a checkpoint")
            file.flush()
            die()
        write(state, file)
    checkpoint.torch.save = save

tiny_trainer(folder, objective=objective, optimizer=optimizer).run()
"""


@pytest.fixture(scope="module")
def uninterrupted():
    trainer = tiny_trainer()
    trainer.run()
    return trainer


def check_same_run(trainer, reference):
    assert same_parameters(trainer.model, reference.model)
    for name in ("steps", "train_loss", "lr", "grad_norm", "tokens", "valid_steps", "valid_loss"):
        assert getattr(trainer.history, name) == getattr(reference.history, name), name
    moments, expected = trainer.state.optimizer.state_dict()["state"], reference.state.optimizer.state_dict()["state"]
    assert all(torch.equal(moments[i][name], expected[i][name]) for i in expected for name in expected[i])


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="who is dead is not asked on Windows, so nothing is swept")
@pytest.mark.parametrize(
    ("where", "optimizer"),
    [("in step 8", "adamw"), ("in the checkpoint of step 10", "adamw"), ("in step 8", "muon")],
)
def test_a_killed_run_resumes_bit_for_bit(where, optimizer, tmp_path):
    """Catches any state a checkpoint forgets: moments, schedule, dropout's random state, data position, history; and
    half a checkpoint that stays in the folder for ever."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'lib'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED, tmp_path, where, optimizer]
    child = subprocess.run(command, env=environment, cwd=ROOT, check=False)
    assert child.returncode == -signal.SIGKILL
    assert load_checkpoint(tmp_path / "last.pt").step == 5
    assert len(list(tmp_path.glob(".last.pt.*.tmp"))) == ("checkpoint" in where)
    torch.manual_seed(99)  # the resumed process starts anywhere
    trainer = tiny_trainer(tmp_path, optimizer=optimizer)
    trainer.run(resume=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "last.pt"]
    uninterrupted = tiny_trainer(optimizer=optimizer)
    uninterrupted.run()
    check_same_run(trainer, uninterrupted)


def test_muon_and_adamw_keep_their_own_learning_rates():
    """Catches one learning rate written over both groups, and a schedule that only one of them follows."""
    trainer = tiny_trainer(optimizer="muon", muon_lr=0.05, lr=1e-2)
    seen = []

    def objective(model, batch):
        if model.training:
            seen.append([group["lr"] for group in trainer.state.optimizer.param_groups])
        return causal_lm_loss(model, batch)

    trainer.objective = objective
    history = trainer.run()
    for step in range(12):
        matrices, *rest = seen[2 * step]  # two micro-batches a step
        assert rest == [history.lr[step]] * 2
        assert matrices == pytest.approx(5 * history.lr[step])
    assert max(history.lr) == pytest.approx(1e-2)


def test_every_checkpoint_leads_to_the_same_end(tmp_path, uninterrupted):
    """Catches a checkpoint written at the wrong moment of a step, evaluation or log window."""

    class KeepAll(Callback):
        def on_log(self, run, step):
            first.save(f"{step}.pt")

    first = tiny_trainer(tmp_path, callbacks=[KeepAll()])
    first.run()
    check_same_run(first, uninterrupted)
    steps = sorted(int(path.stem) for path in tmp_path.glob("[0-9]*.pt"))
    assert steps == [3, 4, 5, 6, 8, 9, 10, 12]  # wherever losses are read
    for step in steps:
        trainer = tiny_trainer()
        trainer.resume(tmp_path / f"{step}.pt")
        trainer.run()
        check_same_run(trainer, uninterrupted)


def test_an_interrupt_finishes_the_step_and_keeps_the_work(tmp_path, uninterrupted):
    """Catches Ctrl-C in the middle of a step, lost history, and an interrupt handler left behind."""
    interrupt = Disturbed([7], lambda loss: signal.raise_signal(signal.SIGINT) or loss)
    handler = signal.getsignal(signal.SIGINT)
    trainer = tiny_trainer(tmp_path, objective=interrupt)
    history = trainer.run()
    assert signal.getsignal(signal.SIGINT) is handler
    assert history.steps == [1, 2, 3, 4, 5, 6, 7]
    assert history.train_loss == uninterrupted.history.train_loss[:7]
    interrupted_at = tmp_path / "interrupted.pt"
    os.replace(tmp_path / "last.pt", interrupted_at)
    trainer.run()  # the same object can go on
    check_same_run(trainer, uninterrupted)
    resumed = tiny_trainer(tmp_path)
    resumed.resume(interrupted_at)  # and so can another process
    resumed.run()
    check_same_run(resumed, uninterrupted)


def test_a_second_interrupt_breaks_off():
    """Catches a run that cannot be stopped because one step never ends."""

    def impatient(model, batch):
        if model.training:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return causal_lm_loss(model, batch)

    with pytest.raises(KeyboardInterrupt):
        tiny_trainer(objective=impatient).run()


def test_watching_does_not_change_the_run(uninterrupted):
    """Catches samples drawn during training that move dropout's random numbers, and a model left in eval mode."""

    class Watch(Callback):
        def on_evaluate(self, trainer, step):
            torch.rand(step + 1)
            trainer.model.eval()

    trainer = tiny_trainer(callbacks=[Watch()], log_every=1)
    trainer.run()
    check_same_run(trainer, uninterrupted)


def test_the_model_learns_a_certain_rule():
    """Catches a loop that runs and teaches nothing: counting modulo 11 starts at ln 11 and must be nearly solved."""
    trainer = Trainer(
        tiny_model(dropout=0.0),
        CountingBatches(batch_size=8),
        TrainConfig(steps=120, lr=1e-2, warmup_steps=10, eval_every=60, log_every=60),
        valid_batches=valid_batches(),
        runtime=CPU,
    )
    history = trainer.run()
    assert history.valid_steps == [0, 60, 120]
    assert abs(history.valid_loss[0] - math.log(11)) < 0.05
    assert history.valid_loss[-1] < 0.1
    assert history.steps == list(range(1, 121))
    assert history.tokens[-1] == 120 * 8 * 8
    assert history.seconds == sorted(history.seconds)
    assert history.lr[9] == pytest.approx(1e-2)
    assert history.lr[-1] == pytest.approx(1e-3)


def test_the_best_checkpoint_is_the_best(tmp_path):
    """Catches "best" overwritten by a later, worse evaluation."""
    learn_to_be_wrong = Disturbed(range(7, 13), lambda loss: Loss(-3 * loss.total, loss.n_targets))
    trainer = tiny_trainer(tmp_path, objective=learn_to_be_wrong, eval_every=2)
    history = trainer.run()
    best = load_checkpoint(tmp_path / "best.pt")
    assert best.step == history.valid_steps[history.valid_loss.index(min(history.valid_loss))] < 12
    assert best.history["valid_loss"][-1] == min(history.valid_loss) < history.valid_loss[-1]
    assert load_checkpoint(tmp_path / "last.pt").step == 12


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_divergence_stops_the_run_and_keeps_the_good_checkpoint(value, tmp_path):
    """Catches hours of training on NaN, and a checkpoint of ruined weights written over the last good one."""
    diverge = Disturbed([9], lambda loss: Loss(loss.total * value, loss.n_targets))
    trainer = tiny_trainer(tmp_path, objective=diverge, eval_every=None, log_every=12)
    with pytest.raises(TrainingError, match=rf"loss {value}.* at step 9 with learning rate 0\.00\d+:.*last\.pt"):
        trainer.run()
    assert trainer.history.steps == list(range(1, 9))
    saved = load_checkpoint(tmp_path / "last.pt")
    assert saved.step == 5
    assert all(tensor.isfinite().all() for tensor in saved.model.values())


def test_a_gradient_that_is_not_finite_stops_the_run():
    """Catches weights ruined by the very last step, whose loss was still finite."""
    spoil = Disturbed([12], lambda loss: loss.total.register_hook(lambda gradient: gradient * math.nan) and loss)
    with pytest.raises(TrainingError, match="gradient norm nan at step 12"):
        tiny_trainer(objective=spoil).run()


def test_weights_ruined_by_the_last_update_are_not_kept(tmp_path):
    """Catches a checkpoint whose losses were finite and whose weights are not: the loss is that before the update."""

    class Ruin(Callback):
        def on_log(self, trainer, step):
            if step == 10:
                next(trainer.model.parameters()).data.view(-1)[3] = math.inf

    with pytest.raises(TrainingError, match=r"a weight is inf after step 10 with learning rate 0\.00\d+: .*last\.pt"):
        tiny_trainer(tmp_path, callbacks=[Ruin()], log_every=1).run()
    saved = load_checkpoint(tmp_path / "last.pt")
    assert saved.step == 5
    assert all(tensor.isfinite().all() for tensor in saved.model.values())


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (8, r"^validation loss nan at step 8 with learning rate 0\.00\d+: training has diverged; .*last\.pt"),
        (0, r"^validation loss nan at step 0, before the first update, so no hyper-parameter is to blame\. Look at"),
    ],
)
def test_a_validation_that_is_not_finite_stops_the_run(step, message, tmp_path):
    """Catches a NaN seen only in evaluation mode that trains on, or is reported without its learning rate; and a
    lower one advised where nothing has been learned yet."""

    def objective(model, batch):
        loss = causal_lm_loss(model, batch)
        ill = not model.training and trainer.step == step
        return Loss(loss.total * math.nan, loss.n_targets) if ill else loss

    trainer = tiny_trainer(tmp_path, objective=objective)
    with pytest.raises(TrainingError, match=message):
        trainer.run()
    assert trainer.history.steps == list(range(1, step + 1))
    assert trainer.history.valid_steps == list(range(0, step, 4))


def test_the_advice_after_divergence_works(tmp_path):
    """Catches advice that is refused: the old run takes no other settings, and a new one begins from good weights."""
    diverge = Disturbed([9], lambda loss: Loss(loss.total * math.nan, loss.n_targets))
    with pytest.raises(TrainingError, match="cannot be resumed with other hyper-parameters; begin") as error:
        tiny_trainer(tmp_path / "old", objective=diverge).run()
    with pytest.raises(CheckpointError, match=r"lr: 0\.01 → 0\.002"):
        tiny_trainer(tmp_path / "old", lr=0.002).run(resume=True)
    trainer = tiny_trainer(tmp_path / "new", lr=0.002, warmup_steps=6, clip_norm=0.5)
    load = re.search(r"with its weights, (.*), and a lower lr", str(error.value))[1]
    eval(load, {"restore_model": restore_model, "load_checkpoint": load_checkpoint, "model": trainer.model})
    good = load_checkpoint(tmp_path / "old" / "last.pt")
    assert good.step == 5
    assert all(torch.equal(tensor, good.model[name]) for name, tensor in trainer.model.state_dict().items())
    history = trainer.run()
    assert history.steps == list(range(1, 13))
    assert history.valid_loss[-1] < history.valid_loss[0] < good.history["valid_loss"][0]


class Ignored(CountingBatches):
    """Batches of which some have no target."""

    def __init__(self, ignored):
        super().__init__()
        self.ignored, self.number = ignored, 0

    def __next__(self):
        batch = super().__next__()
        self.number += 1
        hidden = torch.full_like(batch["input_ids"], -100)
        return {**batch, "labels": hidden} if self.ignored(self.number) else batch


def test_a_run_without_targets_is_named():
    """Catches 0 / 0 reported as divergence (the fault is in the data), and a model that is NaN once it is reported."""
    trainer = tiny_trainer(batches=Ignored(lambda number: True))
    with pytest.raises(TrainingError, match=r"the \d+ steps up to step \d+ have no target token"):
        trainer.run()
    assert same_parameters(trainer.model, tiny_model())


@pytest.mark.parametrize("log_every", [1, 4])
def test_a_step_without_targets_does_no_harm(log_every):
    """A masked language model whose small batch happens to hide nothing: the run died of it."""
    trainer = tiny_trainer(
        batches=Ignored(lambda number: number in (1, 2, 5)),
        log_every=log_every,
        accumulation_steps=1,
        callbacks=[ProgressBar(lines=100)],
    )
    history = trainer.run()
    steps = trainer.state.config.steps
    assert history.steps == [step for step in range(1, steps + 1) if step not in (1, 2, 5)]
    assert all(map(math.isfinite, history.train_loss))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"),
        MemoryError(),
    ],
)
def test_out_of_memory_says_which_dials_to_turn(error):
    """Catches a raw allocator message that names no batch and no remedy."""

    def hungry(model, batch):
        if model.training:
            raise error
        return causal_lm_loss(model, batch)

    with pytest.raises(TrainingError, match=r"step 1 with micro-batches of shape \(4, 9\): halve batch_size and"):
        tiny_trainer(objective=hungry).run()


@pytest.mark.parametrize("step", [0, 4])
def test_out_of_memory_in_a_validation_names_its_batch(step):
    """Catches the shape of a training batch, or None before the first, blamed for a validation batch; and the dials of
    training advised, of which none would help."""

    def hungry(model, batch):
        if not model.training and trainer.step == step and len(batch["input_ids"]) == 7:
            raise MemoryError
        return causal_lm_loss(model, batch)

    trainer = tiny_trainer(objective=hungry)
    trainer.valid_batches = [*valid_batches(), {"input_ids": torch.zeros(7, 16, dtype=torch.long)}, *valid_batches()]
    where = rf"^out of memory on cpu in the validation at step {step} with batches of shape \(7, 16\): "
    with pytest.raises(TrainingError, match=where + "give validation batches of fewer rows"):
        trainer.run()


def test_other_errors_come_through_unchanged():
    """Catches every fault of an objective disguised as one of memory."""

    def broken(model, batch):
        raise RuntimeError("a fault of mine")

    with pytest.raises(RuntimeError, match=r"^a fault of mine$"):
        tiny_trainer(objective=broken).run()


def test_batches_that_end_are_named():
    """Catches a bare StopIteration, which some callers take for the end of training."""
    finite = iter(CountingBatches().__next__() for _ in range(5))
    with pytest.raises(TrainingError, match="batches ended at step 3 of 12"):
        tiny_trainer(batches=finite).run()


def test_an_earlier_run_is_not_overwritten(tmp_path):
    """Catches a cell run twice that throws away the first training."""
    tiny_trainer(tmp_path, steps=3).run()
    with pytest.raises(CheckpointError, match=r"last\.pt holds an earlier run: continue it with run\(resume=True\)"):
        tiny_trainer(tmp_path, steps=3).run()
    finished = tiny_trainer(tmp_path, steps=3).run(resume=True)
    assert finished.steps == [1, 2, 3]


def test_another_run_is_not_continued(tmp_path):
    """Catches a resume under other settings, which would be neither the old run nor a new one."""
    tiny_trainer(tmp_path).run()
    with pytest.raises(CheckpointError, match=r"lr: 0\.01 → 0\.02"):
        tiny_trainer(tmp_path, lr=0.02).run(resume=True)
    assert tiny_trainer(tmp_path, log_every=1, eval_every=6).run(resume=True).steps[-1] == 12


BF16 = Runtime(torch.device("cpu"), torch.bfloat16, "a test")
EAGER = Runtime(torch.device("cpu"), torch.float32, "a test", attention="eager")
SPELT_OUT = Runtime(torch.device("cpu"), torch.float32, "a test", linear="torch", attention="sdpa")


@pytest.mark.parametrize(
    ("first", "then", "said"),
    [
        (CPU, BF16, "with cpu, float32, torch products and sdpa attention and goes on with cpu, bfloat16"),
        (BF16, CPU, "with cpu, bfloat16, .* and goes on with cpu, float32"),
        (EAGER, CPU, "eager attention and goes on with cpu, float32, torch products and sdpa attention"),
        (CPU, CPU, None),
        (BF16, BF16, None),
        (SPELT_OUT, CPU, None),
    ],
)
def test_another_precision_on_resume_is_said(first, then, said, tmp_path):
    """Catches a resumed run that is no longer bit for bit the old one and says nothing; and a false alarm."""
    tiny_trainer(tmp_path, runtime=first).run()
    resumed = tiny_trainer(tmp_path, runtime=then)
    expected = warnings.catch_warnings() if said is None else pytest.warns(UserWarning, match=rf"last\.pt .*{said}")
    with expected:
        if said is None:
            warnings.simplefilter("error")
        resumed.run(resume=True)
    assert resumed.step == 12


def test_what_cannot_be_resumed_is_said_at_the_start(tmp_path):
    """Catches a folder of checkpoints that forget where the data stood, and validation data gone after one look."""
    with pytest.raises(ValueError, match="list_iterator has no state_dict"):
        tiny_trainer(tmp_path, batches=iter(valid_batches()))
    with pytest.raises(ValueError, match="valid_batches can be read only once"):
        Trainer(tiny_model(), CountingBatches(), TrainConfig(steps=1), valid_batches=iter([]), runtime=CPU)
    with pytest.raises(ValueError, match="resume=True needs a folder"):
        tiny_trainer().run(resume=True)


def test_a_callback_can_stop_the_run():
    """Catches a stop that loses the losses of the step it was asked in."""

    class StopAt5(Callback):
        def on_log(self, trainer, step):
            if step >= 5:
                trainer.stop()

    assert tiny_trainer(callbacks=[StopAt5()], log_every=5, eval_every=None).run().steps == [1, 2, 3, 4, 5]


def test_an_overflow_is_skipped_and_the_run_goes_on(tmp_path):
    """Catches a float16 run stopped by the overflow its scaler is made for, and a scaler not put back on resume."""
    half = Runtime(torch.device("cpu"), torch.float16, "to see the scaler without a GPU")
    spoil = Disturbed([4], lambda loss: loss.total.register_hook(lambda gradient: gradient * math.inf) and loss)
    trainer = tiny_trainer(tmp_path, objective=spoil, runtime=half)
    history = trainer.run()
    assert [step for step, norm in zip(history.steps, history.grad_norm, strict=True) if norm == 0] == [4]
    assert trainer.state.scaler.get_scale() == 8.0
    resumed = tiny_trainer(tmp_path, runtime=half)
    resumed.run(resume=True)
    assert resumed.state.scaler.get_scale() == 8.0


def test_real_batches_windows_and_samples_fit_together(tmp_path):
    """Catches parts that work alone and not together: text to tokens, a run, its resume, a score, a sample."""
    text = "to be or not to be, that is the question: " * 30
    tokenizer = CharTokenizer.train(text)
    ids = tokenizer.encode(text)

    class Sample(Callback):
        texts: ClassVar[list[str]] = []

        def on_evaluate(self, trainer, step):
            prompt = torch.tensor([tokenizer.encode("to ")])
            new = generate(trainer.model, prompt, max_new_tokens=12, temperature=0)
            self.texts.append(tokenizer.decode(new[0].tolist()))

    def trainer(callbacks):
        return Trainer(
            tiny_model(vocab_size=tokenizer.vocab_size, d_model=32, dropout=0.0),
            LMBatches(ids, batch_size=8, seq_len=16, seed=3),
            TrainConfig(steps=150, lr=1e-2, warmup_steps=10, eval_every=75, checkpoint_every=100),
            valid_batches=list(eval_windows(ids, batch_size=16, seq_len=16)),
            callbacks=callbacks,
            runtime=CPU,
            folder=tmp_path,
        )

    whole = trainer([Sample()])
    whole.run()
    assert whole.history.valid_loss[-1] < 0.5 < 2.5 < whole.history.valid_loss[0]
    assert Sample.texts[-1] == "to be or not to"
    result = evaluate(whole.model, eval_windows(ids, batch_size=5, seq_len=16))
    assert result.n_tokens == len(ids) - 1
    assert result.loss == pytest.approx(whole.history.valid_loss[-1], rel=1e-5)
    assert result.per_position[0] > result.per_position[8:].mean()  # context helps
    best = load_checkpoint(tmp_path / "best.pt")
    rebuilt = DecoderLM(TransformerConfig.from_dict(best.model_config))
    restore_model(rebuilt, best.model)
    assert same_parameters(rebuilt, whole.model)
    (tmp_path / "last.pt").unlink()
    again = trainer([])
    again.run()
    assert same_parameters(again.model, whole.model)
