"""What may watch a run: a callback is told of four moments and given the state of the run.

Callbacks run in the order they were given. What they draw at random in ``on_evaluate`` does not change the run.
"""

import json
import os
import sys
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from llmbook.storage import write_file
from llmbook.training.state import RunState


class Callback:
    """Does nothing; override the moments you want."""

    def on_start(self, run: RunState) -> None:
        """The run begins or goes on: ``run.step`` steps are done."""

    def on_log(self, run: RunState, step: int) -> None:
        """Losses up to ``step`` have been read into ``run.history``."""

    def on_evaluate(self, run: RunState, step: int) -> None:
        """A validation loss has been added; the place to draw samples."""

    def on_end(self, run: RunState) -> None:
        """The run is over: at its last step, stopped, or broken off by an error, which is raised afterwards."""


class Announce(Callback):
    """Says where the run computes and in which precision, with the reason, once that is decided."""

    def on_start(self, run: RunState) -> None:
        print(f"device     {run.runtime}", flush=True)


class ProgressBar(Callback):
    """Loss, tokens per second and the time that remains.

    In a terminal this is a bar. Anywhere else (a notebook, a log file) it prints at most ``lines`` lines, because
    a bar redrawn a thousand times is stored a thousand times.
    """

    def __init__(self, *, lines: int = 10, stream: TextIO | None = None):
        self.lines, self.stream = lines, stream
        self._bar: tqdm | None = None
        self._printed = 0

    def on_start(self, run: RunState) -> None:
        self._first_step = run.step
        self._start = _progress(run)
        self._printed = run.step * self.lines // run.config.steps
        stream = self.stream or sys.stderr
        if stream.isatty():
            self._bar = tqdm(total=run.config.steps, initial=run.step, file=stream, unit="step")

    def on_log(self, run: RunState, step: int) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str(self._numbers(run))
            self._bar.update(step - self._bar.n)
            return
        if (line := step * self.lines // run.config.steps) > self._printed:
            self._printed = line
            total = run.config.steps
            left = self._seconds_left(run, step)
            text = f"step {step:>{len(str(total))}}/{total}  {self._numbers(run)}  {_clock(left)} left"
            print(text, file=self.stream or sys.stdout, flush=True)

    def on_end(self, run: RunState) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _numbers(self, run: RunState) -> str:
        history = run.history
        tokens, seconds = (now - then for now, then in zip(_progress(run), self._start, strict=True))
        valid = f"  valid {history.valid_loss[-1]:.3f}" if history.valid_loss else ""
        loss = f"loss {history.train_loss[-1]:.3f}" if history.train_loss else "no target yet"
        return f"{loss}{valid}  {tokens / max(seconds, 1e-9):,.0f} tokens/s"

    def _seconds_left(self, run: RunState, step: int) -> float:
        elapsed = _progress(run)[1] - self._start[1]
        return elapsed / (step - self._first_step) * (run.config.steps - step)


class JsonlLog(Callback):
    """One JSON object per step and per evaluation, in a file that can be read while the run is going on.

    When a run goes on, the file is written again from the history up to that step, so that steps lost in a crash do
    not appear twice. When a run starts from the beginning, a file already there is kept as ``<name>.bak``.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def on_start(self, run: RunState) -> None:
        if run.step == 0 and self.path.exists():
            os.replace(self.path, f"{self.path}.bak")
        self._n_steps = self._n_evaluations = 0
        write_file(self.path, self._new_lines(run))

    def on_log(self, run: RunState, step: int) -> None:
        self._append(run)

    def on_evaluate(self, run: RunState, step: int) -> None:
        self._append(run)

    def _append(self, run: RunState) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(self._new_lines(run))

    def _new_lines(self, run: RunState) -> str:
        """What the history holds beyond what has been written, in the order it happened."""
        history = run.history
        columns = ("train_loss", "lr", "grad_norm", "tokens", "seconds")
        records = [
            {"step": history.steps[i], **{name: getattr(history, name)[i] for name in columns}}
            for i in range(self._n_steps, len(history.steps))
        ]
        records += [
            {"step": history.valid_steps[i], "valid_loss": history.valid_loss[i]}
            for i in range(self._n_evaluations, len(history.valid_steps))
        ]
        self._n_steps, self._n_evaluations = len(history.steps), len(history.valid_steps)
        records.sort(key=lambda record: record["step"])  # stable: an evaluation comes after its step
        return "".join(json.dumps(record) + "\n" for record in records)


def _progress(run: RunState) -> tuple[int, float]:
    """Tokens and seconds so far."""
    history = run.history
    return (history.tokens[-1], history.seconds[-1]) if history.steps else (0, 0.0)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}" if minutes >= 60 else f"{minutes}:{seconds:02}"
