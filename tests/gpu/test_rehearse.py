"""Training cut short on the pretended GPU: the run goes to its end, and its whole cost is counted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRETENDED = Path(__file__).parent / "pretended"
RUN = """
import torch
from llmbook.model import DecoderLM, TransformerConfig
from llmbook.training import TrainConfig, Trainer

config = TransformerConfig.gpt2(vocab_size=61, max_seq_len=16, d_model=32, n_layers=2, n_heads=4)
batches = iter(lambda: {"input_ids": torch.randint(61, (4, 17))}, None)
trainer = Trainer(DecoderLM(config), batches, TrainConfig(steps=12, warmup_steps=2))
assert trainer.runtime.device.type == "cuda"
assert len(trainer.run().train_loss) == 12
"""


def counted(folder: Path, n_steps: int) -> dict:
    """What a run of twelve steps costs, of which so many are taken."""
    folder.mkdir()
    path = os.pathsep.join([str(ROOT / "lib"), str(PRETENDED)])
    env = os.environ | {"PRETENDED_GPU": "t4", "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    env |= {"PRETENDED_GPU_STEPS": str(n_steps), "PRETENDED_GPU_REPORT": str(folder)}
    done = subprocess.run([sys.executable, "-c", RUN], env=env, capture_output=True, text=True)
    if "PretendError" in done.stderr:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.returncode == 0, done.stderr[-2000:]
    (report,) = folder.glob("*.json")
    return json.loads(report.read_text())


def test_steps_that_are_not_taken_are_counted(tmp_path):
    """A full run estimated from the steps that were taken alone, or from the first, which also makes the optimiser's
    state; multiplications that are counted after they have been cut short."""
    cut, whole = counted(tmp_path / "cut", 2), counted(tmp_path / "whole", 12)
    for what in ("operators", "bytes", "flops"):
        assert cut[what] == pytest.approx(whole[what], rel=0.02), what
    weights = 2 * 12 * 32**2 + 61 * 32  # of the products; positions are looked up
    scores = 2 * 2 * 16 * 32  # two layers, queries times keys and weights times values
    by_hand = 12 * 4 * 16 * (6 * weights + 6 * scores)
    assert by_hand == pytest.approx(whole["flops"], rel=0.02)
    assert whole["seconds"]["t4"] > whole["seconds"]["a100"] > whole["besides"]
