"""Everything a run needs to go on as if nothing had happened, in one file that is either whole or absent.

Weights alone are not enough: without the optimiser's moments, the position in the data or the random state a
resumed run still looks right and is another run. The file is written beside its final name, flushed to the
disk and renamed, so a crash in the middle leaves the former checkpoint. It is read with
``torch.load(weights_only=True)``: tensors and plain values, never code.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from llmbook.storage import sweep_unfinished, whole_file

FORMAT = "llmbook checkpoint"
VERSION = 2


class CheckpointError(ValueError):
    """A checkpoint that cannot be written, read or used; the message says which and what to do."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The state of a run after ``step`` optimiser steps. ``model_config`` is None for models without one.

    ``arithmetic`` says on what kind of device, in which precision and with which kernels the run computed (None in
    checkpoints written before this was kept).
    """

    step: int
    model: dict
    optimizer: dict
    scaler: dict
    rng: dict
    data: dict
    history: dict
    train_config: dict
    model_config: dict | None = None
    arithmetic: dict | None = None


def save_checkpoint(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write atomically: after a crash at any moment ``path`` holds the old checkpoint or the new one.

    What a process killed while it wrote a checkpoint has left in the folder is swept away. Raises CheckpointError if
    a value is neither tensor nor plain, or the disk refuses.
    """
    path = Path(path)
    state = {field.name: getattr(checkpoint, field.name) for field in dataclasses.fields(checkpoint)}
    _require_plain(state, "checkpoint")
    try:
        sweep_unfinished(path.parent, path.suffix)
        with whole_file(path) as file:
            torch.save({"format": FORMAT, "version": VERSION, **state}, file)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"could not write {path}: {error}; a former checkpoint of that name is untouched"
        ) from error


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint onto the CPU. Raises CheckpointError if it is missing, damaged, foreign or of other format."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} is not there: check the folder, or start a new run")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types here, depending on where the file breaks
        raise CheckpointError(
            f"{path} cannot be read: truncated, damaged or not a checkpoint "
            f"({type(error).__name__}). Delete it and resume from another one, such as best.pt"
        ) from error
    if not isinstance(state, dict) or state.pop("format", None) != FORMAT:
        raise CheckpointError(f"{path} was not written by save_checkpoint: give a checkpoint of this library")
    version = state.pop("version", None)
    if version != VERSION:
        raise CheckpointError(
            f"{path} has format version {version}, this llmbook reads {VERSION}: use the llmbook that wrote it"
        )
    names = {field.name for field in dataclasses.fields(Checkpoint)}
    if set(state) != names:
        raise CheckpointError(f"{path} lacks or adds {', '.join(sorted(set(state) ^ names))}: it is damaged")
    return Checkpoint(**state)


def restore_model(model: nn.Module, state: dict, *, source: str | Path = "the checkpoint") -> None:
    """Copy saved weights into ``model``. Raises CheckpointError listing what does not fit; then nothing changed."""
    own = {name: tensor.shape for name, tensor in model.state_dict().items()}
    require_same_shapes(own, {name: tensor.shape for name, tensor in state.items()}, source=source)
    model.load_state_dict(state)


def require_same_shapes(
    own: dict[str, torch.Size], saved: dict[str, torch.Size], *, source: str | Path = "the checkpoint"
) -> None:
    """Raise CheckpointError listing names and shapes in which a checkpoint and what should read it differ."""
    wrong = [f"{name} is missing" for name in own.keys() - saved.keys()]
    wrong += [f"{name} is unknown here" for name in saved.keys() - own.keys()]
    wrong += [
        f"{name} has shape {tuple(saved[name])}, here {tuple(own[name])}"
        for name in own.keys() & saved.keys()
        if saved[name] != own[name]
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointError(
            f"{source} belongs to another model: {'; '.join(sorted(wrong)[:3])}{more}. "
            "Build the model with the configuration it was trained with (model_config in the checkpoint)"
        )


def _require_plain(value: Any, where: str) -> None:
    """Refuse what weights_only could not read back, now and by name, not at the resume days later."""
    if isinstance(value, dict):
        for key, item in value.items():
            _require_plain(item, f"{where}[{key!r}]")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _require_plain(item, f"{where}[{index}]")
    elif type(value) not in (torch.Tensor, nn.Parameter, int, float, bool, str, bytes, type(None)):
        raise CheckpointError(
            f"{where} is a {type(value).__module__}.{type(value).__name__}: a checkpoint holds tensors and plain "
            "values only; return those from state_dict()"
        )
