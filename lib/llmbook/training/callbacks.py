"""What may watch a run: a callback has four moments and sees the trainer; it needs no more.

Callbacks run in the order they were given. What they draw at random in ``on_evaluate`` does not change the run.
"""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from tqdm import tqdm

from llmbook.storage import write_file

if TYPE_CHECKING:
    from llmbook.training.loop import Trainer


class Callback:
    """Does nothing; override the moments you want."""

    def on_start(self, trainer: "Trainer") -> None:
        """The run begins or goes on: ``trainer.step`` steps are done."""

    def on_log(self, trainer: "Trainer", step: int) -> None:
        """Losses up to ``step`` have been read into ``trainer.history``."""

    def on_evaluate(self, trainer: "Trainer", step: int) -> None:
        """A validation loss has been added; the place to draw samples."""

    def on_end(self, trainer: "Trainer") -> None:
        """The run is over: at its last step, stopped, or broken off by an error, which is raised afterwards."""


class Announce(Callback):
    """Says where the run computes and in which precision, with the reason, once that is decided."""

    def on_start(self, trainer: "Trainer") -> None:
        print(f"device     {trainer.runtime}", flush=True)


class ProgressBar(Callback):
    """Loss, tokens per second and the time that remains.

    In a terminal this is a bar. Anywhere else (a notebook, a log file) it prints at most ``lines`` lines, because
    a bar redrawn a thousand times is stored a thousand times.
    """

    def __init__(self, *, lines: int = 10, stream: TextIO | None = None):
        self.lines, self.stream = lines, stream
        self._bar: tqdm | None = None
        self._printed = 0

    def on_start(self, trainer: "Trainer") -> None:
        self._first_step = trainer.step
        self._start = _progress(trainer)
        self._printed = trainer.step * self.lines // trainer.config.steps
        stream = self.stream or sys.stderr
        if stream.isatty():
            self._bar = tqdm(total=trainer.config.steps, initial=trainer.step, file=stream, unit="step")

    def on_log(self, trainer: "Trainer", step: int) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str(self._numbers(trainer))
            self._bar.update(step - self._bar.n)
            return
        if (line := step * self.lines // trainer.config.steps) > self._printed:
            self._printed = line
            total = trainer.config.steps
            left = self._seconds_left(trainer, step)
            text = f"step {step:>{len(str(total))}}/{total}  {self._numbers(trainer)}  {_clock(left)} left"
            print(text, file=self.stream or sys.stdout, flush=True)

    def on_end(self, trainer: "Trainer") -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _numbers(self, trainer: "Trainer") -> str:
        history = trainer.history
        tokens, seconds = (now - then for now, then in zip(_progress(trainer), self._start, strict=True))
        valid = f"  valid {history.valid_loss[-1]:.3f}" if history.valid_loss else ""
        loss = f"loss {history.train_loss[-1]:.3f}" if history.train_loss else "no target yet"
        return f"{loss}{valid}  {tokens / max(seconds, 1e-9):,.0f} tokens/s"

    def _seconds_left(self, trainer: "Trainer", step: int) -> float:
        elapsed = _progress(trainer)[1] - self._start[1]
        return elapsed / (step - self._first_step) * (trainer.config.steps - step)


class JsonlLog(Callback):
    """One JSON object per step and per evaluation, in a file that can be read while the run is going on.

    When a run goes on, the file is written anew from the history up to that step, so that steps lost in a crash do
    not appear twice. When a run starts from the beginning, a file already there is kept as ``<name>.bak``.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def on_start(self, trainer: "Trainer") -> None:
        if trainer.step == 0 and self.path.exists():
            os.replace(self.path, f"{self.path}.bak")
        self._n_steps = self._n_evaluations = 0
        write_file(self.path, self._new_lines(trainer))

    def on_log(self, trainer: "Trainer", step: int) -> None:
        self._append(trainer)

    def on_evaluate(self, trainer: "Trainer", step: int) -> None:
        self._append(trainer)

    def _append(self, trainer: "Trainer") -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(self._new_lines(trainer))

    def _new_lines(self, trainer: "Trainer") -> str:
        """What the history holds beyond what has been written, in the order it happened."""
        history = trainer.history
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


def _progress(trainer: "Trainer") -> tuple[int, float]:
    """Tokens and seconds so far."""
    history = trainer.history
    return (history.tokens[-1], history.seconds[-1]) if history.steps else (0, 0.0)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}" if minutes >= 60 else f"{minutes}:{seconds:02}"
