"""EleutherAI's evaluation harness (https://github.com/EleutherAI/lm-evaluation-harness) on our server and our library.

It brings forty packages, so it lives in an environment of its own, made once and kept.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch

from llmbook.inference import Engine, choice_log_probs
from llmbook.inference.server import ModelServer
from llmbook.interop import save_model
from llmbook.text import HFTokenizer
from publishing import beside
from publishing.book import ROOT
from tests.inference.server.helpers import make_model

HERE = Path(__file__).parent
ENVIRONMENT = ROOT / "_build" / "environments" / "lm-eval"
LINKED = ["torch", "transformers", "numpy", "requests", "tenacity", "jaxtyping", "safetensors"]
TEXTS = ["the cat sat on", "mat", "a longer text about cats 你好", "x y z", "the the the"]
CHOICES, ANSWERS = ["a", "b", "c"], [1, 0, 2, 2, 1]


@pytest.fixture(scope="module")
def python() -> Path:
    try:
        return beside.make(ENVIRONMENT, beside.pins(HERE / "requirements.txt"), LINKED)
    except beside.Unreachable as error:
        pytest.skip(f"no package index: {error}")


@pytest.fixture(scope="module")
def tokenizer() -> HFTokenizer:
    return HFTokenizer.train("the cat sat on the mat", vocab_size=257, special_tokens=["<|endoftext|>"])


@pytest.fixture(scope="module")
def model():
    return make_model(vocab_size=257, max_seq_len=128)


@pytest.fixture
def folder(tmp_path, tokenizer) -> Path:
    """A tokenizer as transformers reads it, and a task of lm-eval."""
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}
    (tmp_path / "tokenizer.json").write_text(tokenizer.backend.to_str(), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    rows = [{"text": text, "choices": CHOICES, "answer": i} for text, i in zip(TEXTS, ANSWERS, strict=True)]
    (tmp_path / "task.json").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("road", ["served", "direct"])
def test_it_finds_what_choice_log_probs_finds(road, python, tokenizer, model, folder):
    """Log-probabilities shifted by a token, of the wrong choice, or of a distribution that some option has changed."""
    if road == "served":
        engine = Engine(model, n_pages=200, page_size=8, tokenizer=tokenizer)
        with ModelServer(engine, name="tiny", end_tokens=tokenizer.end_tokens) as server:
            found = run(python, server.url, folder)
    else:
        save_model(folder / "model", model, tokenizer)
        found = run(python, str(folder / "model"), folder)
    choices = [tokenizer.encode(choice)[0] for choice in CHOICES]
    rows = [tokenizer.encode(text) for text in TEXTS]
    expected = choice_log_probs(model, rows, choices)
    scores = torch.tensor([[score for score, _ in row] for row in found["answers"]])
    torch.testing.assert_close(scores, expected, atol=1e-4, rtol=0)
    greedy = torch.tensor([[is_greedy for _, is_greedy in row] for row in found["answers"]])
    likeliest = torch.stack([model(torch.tensor([row])).logits[0, -1].argmax() for row in rows])
    assert torch.equal(greedy, likeliest[:, None] == torch.tensor(choices))
    assert found["accuracy"] == pytest.approx(float((expected.argmax(1) == torch.tensor(ANSWERS)).float().mean()))


def run(python: Path, source: str, folder: Path) -> dict:
    theirs = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON"))}
    env = {**theirs, "PYTHONPATH": str(ROOT / "lib"), "HF_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    command = [python, HERE / "score.py", source, folder]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
