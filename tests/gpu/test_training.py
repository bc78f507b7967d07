"""Training on one device as on the other: scaler, Muon, engines, checkpoints that travel, memory that runs out."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from llmbook.training import Loss, Runtime, TrainingError, causal_lm_loss, choose_runtime, evaluate, loop, orthogonalise
from llmbook.training.distributed import make_parallel, process_group
from tests.training.distributed.worker import make_trainer, weights
from tests.training.helpers import same_parameters, tiny_trainer, valid_batches

CLOSE = dict(atol=1e-4, rtol=1e-3)


def on(device: torch.device, dtype: torch.dtype = torch.float32) -> Runtime:
    return Runtime(device, dtype, "a test")


def test_the_choice_on_this_machine(device):
    """A GPU that is there and not taken."""
    if device.type == "cuda":
        assert choose_runtime().device.type == "cuda"
        assert choose_runtime().dtype in (torch.bfloat16, torch.float16)
    assert choose_runtime(device.type).device == device


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_learns(device, sixteen_bits, optimizer):
    """Losses that fall on the CPU alone; an optimiser whose state is made on another device than its parameters."""
    trainer = tiny_trainer(runtime=on(device, sixteen_bits), steps=60, optimizer=optimizer)
    history = trainer.run()
    assert history.valid_loss[-1] < 0.6 * history.valid_loss[0]
    assert evaluate(trainer.model, valid_batches(), runtime=trainer.runtime).n_tokens > 0
    assert {p.device.type for p in trainer.model.parameters()} == {device.type}


def test_the_same_losses_as_on_the_cpu(device):
    """A step that differs by more than rounding: a clip taken before the division, a schedule off by one."""
    wanted, got = make_trainer().run(), make_trainer_on(device).run()
    torch.testing.assert_close(got.train_loss, wanted.train_loss, **CLOSE)
    torch.testing.assert_close(got.grad_norm, wanted.grad_norm, **CLOSE)
    torch.testing.assert_close(got.valid_loss, wanted.valid_loss, **CLOSE)


def make_trainer_on(device, parallel=None, **dials):
    options = {} if parallel is None else {"parallel": parallel}
    return make_trainer(runtime=on(device), **options, **dials)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_float16_skips_what_overflows_and_goes_on(device, optimizer):
    """A step taken with infinite gradients, a scale that never falls, a skipped step that ends the run; an average of
    gradients that has seen an infinite one."""
    dials = dict(steps=40, log_every=1, accumulation_steps=1, optimizer=optimizer)
    trainer = tiny_trainer(runtime=on(device, torch.float16), **dials)
    trainer.state.scaler = torch.amp.GradScaler(device.type, init_scale=2.0**40)
    before = [p.detach().clone() for p in trainer.model.parameters()]
    trainer.callbacks = [StopAt(1)]
    trainer.run()
    assert trainer.step == 1
    assert all(torch.equal(p, q) for p, q in zip(before, trainer.model.parameters(), strict=True))
    trainer.callbacks = []
    history = trainer.run()
    assert trainer.state.scaler.get_scale() < 2.0**40
    assert 0.0 in history.grad_norm  # how a skipped step is written down
    assert history.train_loss[-1] < history.train_loss[0]


def test_muon_rounds_as_it_may(device):
    """Newton–Schulz in bfloat16 whose directions are no longer those of float32."""
    matrices = torch.randn(3, 24, 16)
    wanted = orthogonalise(matrices.double(), dtype=torch.float64).float()
    got = orthogonalise(matrices.to(device), dtype=torch.bfloat16).cpu()
    cosine = torch.cosine_similarity(got.flatten(1), wanted.flatten(1))
    assert cosine.min() > 0.98
    assert got.dtype == torch.float32
    singular = torch.linalg.svdvals(got)
    assert 0.4 < singular.min() < singular.max() < 1.4


def test_compiled_is_the_same(device):
    """A graph that breaks in any kind of model, a constant frozen at the first length; a compiled model whose
    checkpoints have other names.

    In a process of its own: the checks of shapes that these tests run under cannot be compiled.
    """
    root = Path(__file__).parents[2]
    path = [str(root / "lib"), str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.gpu.compiled", device.type]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["forward", "graphs", "training"]


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
@pytest.mark.usefixtures("nccl")
def test_an_engine_of_one_process(device, kind, tmp_path):
    """NCCL asked for tensors of the CPU, or gloo for the GPU's; a sharded checkpoint that only its device can read."""
    reference = make_trainer_on(device)
    wanted = reference.run()
    with process_group():
        trainer = make_trainer_on(device, make_parallel(kind), folder=tmp_path)
        torch.testing.assert_close(trainer.run().train_loss, wanted.train_loss, **CLOSE)
        for name, value in weights(trainer.model).items():
            torch.testing.assert_close(value.cpu(), reference.model.state_dict()[name].cpu(), **CLOSE)
    resumed = make_trainer(folder=tmp_path)  # one process, on the CPU
    resumed.run(resume=True)
    assert resumed.step == trainer.step
    for name, value in resumed.model.state_dict().items():
        torch.testing.assert_close(value, reference.model.state_dict()[name].cpu(), **CLOSE)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("there_first", [True, False])
def test_a_checkpoint_travels(device, tmp_path, there_first, optimizer):
    """Moments that come back on the device they were saved from, or a checkpoint only a GPU can open."""
    first, second = (device, torch.device("cpu")) if there_first else (torch.device("cpu"), device)
    dials = dict(optimizer=optimizer, checkpoint_every=3)
    wanted = make_trainer(**dials).run()
    begun = make_trainer_on(first, folder=tmp_path, callbacks=[StopAt(3)], **dials)
    begun.run()
    assert begun.step < wanted.steps[-1]
    ended = make_trainer_on(second, folder=tmp_path, **dials)
    history = ended.run(resume=True)
    torch.testing.assert_close(history.train_loss, wanted.train_loss, **CLOSE)
    moments = (
        v for s in ended.state.optimizer.state.values() for n, v in s.items() if torch.is_tensor(v) and n != "step"
    )
    assert {moment.device.type for moment in moments} == {second.type}


class StopAt:
    """Ends a run after a step: what a kill does, without the mess."""

    def __init__(self, step: int):
        self.at = step

    def __getattr__(self, name):
        return lambda trainer, *_: trainer.stop() if trainer.step >= self.at else None


def test_dropout_goes_on_where_it_was(device, tmp_path):
    """The generator of the GPU left out of the checkpoint: other neurons are dropped after the resume."""
    whole = tiny_trainer(runtime=on(device))
    whole.run()
    begun = tiny_trainer(tmp_path, runtime=on(device), callbacks=[StopAt(5)])
    begun.run()
    ended = tiny_trainer(tmp_path, runtime=on(device))
    torch.randn(99, device=device)  # somebody else draws
    ended.run(resume=True)
    torch.testing.assert_close(ended.history.train_loss, whole.history.train_loss, **CLOSE)
    if device.type == "cpu":
        assert same_parameters(ended.model, whole.model)


@pytest.mark.parametrize(
    ("in_training", "advice"),
    [(True, r"step 1.*halve batch_size"), (False, r"validation at step 0.*validation batches of fewer rows")],
)
def test_memory_that_runs_out(device, in_training, advice):
    """An allocator's traceback in place of the dial to turn."""

    def greedy(model, batch) -> Loss:
        if model.training is in_training:
            torch.empty(2**50, device=device)
        return causal_lm_loss(model, batch)

    with pytest.raises(TrainingError, match=f"out of memory .*{advice}"):
        tiny_trainer(runtime=on(device), objective=greedy).run()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_losses_stay_on_the_device(device, monkeypatch, optimizer, dtype):
    """A number read at every step: the CPU then waits for the GPU each time. A gradient scaler reads one for every
    optimiser that does not look itself whether a gradient overflowed."""
    dials = dict(steps=6, log_every=6, eval_every=6, checkpoint_every=6, optimizer=optimizer)
    trainer = tiny_trainer(runtime=on(device, dtype), **dials)
    reads, while_stepping = [], []
    item, tolist, step = torch.Tensor.item, torch.Tensor.tolist, loop.train_step

    def watched(*args, **options):
        before, result = len(reads), step(*args, **options)
        while_stepping.append(len(reads) - before)
        return result

    monkeypatch.setattr(torch.Tensor, "item", lambda self: (reads.append(1), item(self))[1])
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: (reads.append(1), tolist(self))[1])
    monkeypatch.setattr(loop, "train_step", watched)
    trainer.run()
    assert while_stepping == [0] * 6
    assert reads  # at the end they are read
