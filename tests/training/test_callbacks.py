"""What watches a run: short output, and a log without gaps or doubles."""

import io
import json

import pytest

from llmbook.training import Callback, JsonlLog, ProgressBar
from tests.training.helpers import tiny_trainer


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def without_seconds(records):
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


class Crash(Callback):
    def on_log(self, trainer, step):
        if step >= 9:
            raise RuntimeError("crash")


def test_hooks_come_in_order():
    """Catches an evaluation reported before its losses, or a hook that is never called."""
    seen = []

    class Note(Callback):
        def on_start(self, trainer):
            seen.append("start")

        def on_log(self, trainer, step):
            seen.append(("log", step, trainer.history.steps[-1]))

        def on_evaluate(self, trainer, step):
            seen.append(("evaluate", step, len(trainer.history.valid_loss)))

        def on_end(self, trainer):
            seen.append("end")

    tiny_trainer(callbacks=[Note()], steps=6, eval_every=4, log_every=3, checkpoint_every=6).run()
    assert seen == [
        "start", ("evaluate", 0, 1), ("log", 3, 3), ("log", 4, 4), ("evaluate", 4, 2), ("log", 6, 6),
        ("evaluate", 6, 3), "end",
    ]  # fmt: skip


def test_the_end_is_told_of_a_run_that_breaks_off():
    """Catches a bar left open and a hook left on the optimiser, because an error came between."""
    seen = []

    class Note(Callback):
        def on_end(self, trainer):
            seen.append(trainer.step)

    with pytest.raises(RuntimeError, match="crash"):
        tiny_trainer(callbacks=[Note(), Crash()]).run()
    assert seen == [9]


def test_the_log_holds_the_history(tmp_path):
    """Catches steps that are logged twice or not at all."""
    path = tmp_path / "log" / "run.jsonl"
    trainer = tiny_trainer(callbacks=[JsonlLog(path)])
    history = trainer.run()
    records = read(path)
    steps = [record for record in records if "train_loss" in record]
    assert [record["step"] for record in steps] == history.steps
    for name in ("train_loss", "lr", "grad_norm", "tokens", "seconds"):
        assert [record[name] for record in steps] == getattr(history, name)
    evaluations = [(r["step"], r["valid_loss"]) for r in records if "valid_loss" in r]
    assert evaluations == list(zip(history.valid_steps, history.valid_loss, strict=True))
    assert [record["step"] for record in records] == sorted(record["step"] for record in records)


def test_a_resumed_log_has_no_gap_and_no_double(tmp_path):
    """Catches steps after the last checkpoint that appear twice, and half a line left by the crash."""
    whole = tmp_path / "whole.jsonl"
    tiny_trainer(callbacks=[JsonlLog(whole)]).run()
    path = tmp_path / "run.jsonl"
    try:
        tiny_trainer(tmp_path / "run", callbacks=[JsonlLog(path), Crash()]).run()
    except RuntimeError as error:
        assert str(error) == "crash"  # noqa: PT017
    assert read(path)[-1]["step"] == 9
    with open(path, "a") as file:
        file.write('{"step": 10, "train')
    tiny_trainer(tmp_path / "run", callbacks=[JsonlLog(path)]).run(resume=True)
    assert without_seconds(read(path)) == without_seconds(read(whole))


def test_an_earlier_log_is_kept(tmp_path):
    """Catches a second run that erases the log of the first."""
    path = tmp_path / "run.jsonl"
    path.write_text("the first run\n")
    tiny_trainer(callbacks=[JsonlLog(path)], steps=1, warmup_steps=0).run()
    assert (tmp_path / "run.jsonl.bak").read_text() == "the first run\n"
    assert len(read(path)) == 3


def test_progress_outside_a_terminal_is_a_few_lines():
    """Catches a bar that writes a line per step into a stored notebook."""
    stream = io.StringIO()
    tiny_trainer(callbacks=[ProgressBar(lines=4, stream=stream)], log_every=1).run()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("step  3/12  loss ")
    assert lines[-1].startswith("step 12/12  loss ")
    assert lines[-1].endswith("0:00 left")
    assert all("tokens/s" in line and "valid " in line for line in lines)
    assert "\r" not in stream.getvalue()


def test_progress_in_a_terminal_is_one_bar():
    """Catches a bar that is not closed, or starts at 0 when a run goes on."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    tiny_trainer(callbacks=[ProgressBar(stream=stream)]).run()
    assert "12/12" in stream.getvalue()
    assert "tokens/s" in stream.getvalue()
