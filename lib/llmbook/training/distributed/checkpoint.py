"""Checkpoints of runs with several processes: a folder into which every process writes its own shards.

Tensors go through PyTorch's distributed checkpoint (DCP): each process writes what it holds, and a reader with another
number of processes, or with none of this at all, reads the pieces it needs. Beside them lie ``run.pt``, what the run
needs to go on (the random state of each process included), and ``manifest.json``, which says what the folder is and
how long its files are.

    last-000050.dcp/   __0_0.distcp  __1_0.distcp  .metadata  run.pt  manifest.json

A folder cannot be replaced in one motion as a file can. So its name carries the step: it is written beside, renamed
to a name that was free, and only then is its predecessor deleted. A crash leaves the old one, the new one or both.
DCP's ``.metadata`` is a pickle: read checkpoints of runs you trust.
"""

import json
import os
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
)

from llmbook.model import DecoderLM, TransformerConfig
from llmbook.model.language_model import config_of_weights
from llmbook.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    require_same_shapes,
    restore_model,
    save_checkpoint,
)

FORMAT = "llmbook sharded checkpoint"
VERSION = 1


def save_sharded(
    folder: Path,
    name: str,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    run: Checkpoint,
) -> None:
    """Write ``folder/name-STEP.dcp``; every process calls this. ``run`` has no tensors of model and optimiser.

    Raises CheckpointError on every process if one of them cannot write; a former checkpoint is then untouched.
    """
    final = folder / f"{name}-{run.step:06}.dcp"
    if final.exists():
        return  # the same run at the same step: the same state
    temporary = folder / f".{name}.tmp"
    rank, world_size = dist.get_rank(), dist.get_world_size()
    random_states = [None] * world_size if rank == 0 else None
    dist.gather_object(run.rng, random_states)
    error = None
    if rank == 0:
        shutil.rmtree(temporary, ignore_errors=True)  # left by a crash
    dist.barrier()
    try:
        writer = dcp.FileSystemWriter(temporary, sync_files=True)
        dcp.save(_tensors(model, optimizer), storage_writer=writer)
        if rank == 0:
            save_checkpoint(temporary / "run.pt", replace(run, rng={"processes": random_states}))
            files = {path.name: path.stat().st_size for path in sorted(temporary.iterdir())}
            manifest = {"format": FORMAT, "version": VERSION, "processes": world_size, "files": files}
            (temporary / "manifest.json").write_text(json.dumps(manifest, indent=2), encoding="utf-8")
            os.replace(temporary, final)
            for old in _folders(folder, name):
                if old != final:
                    shutil.rmtree(old, ignore_errors=True)
            (folder / f"{name}.pt").unlink(missing_ok=True)  # of the time when this run had one process
    except (OSError, CheckpointError, CheckpointException) as caught:  # the last derives from BaseException alone
        error = f"could not write {final}: {_first_line(caught)}; a former checkpoint is untouched"
    errors = [error]
    dist.broadcast_object_list(errors, src=0)  # so that all processes stop, or none
    if errors[0] or error:
        raise CheckpointError(errors[0] or error)


def load_run(path: Path) -> Checkpoint:
    """All of a sharded checkpoint but its tensors. Raises CheckpointError if it is foreign, truncated or too new."""
    manifest = path / "manifest.json"
    try:
        found = json.loads(manifest.read_text(encoding="utf-8"))
        known = found.get("format") == FORMAT
    except (OSError, ValueError, AttributeError):
        known = False
    if not known:
        raise CheckpointError(
            f"{path} is not a sharded checkpoint of this library: it has no manifest.json that says so"
        )
    if found.get("version") != VERSION:
        raise CheckpointError(
            f"{path} has format version {found.get('version')}, this llmbook reads {VERSION}: use the one that wrote it"
        )
    for name, size in found["files"].items():
        actual = (path / name).stat().st_size if (path / name).is_file() else None
        if actual != size:
            what = "missing" if actual is None else f"truncated or changed ({actual} bytes of {size})"
            raise CheckpointError(f"{path / name} is {what}: delete {path} and resume from another checkpoint")
    return load_checkpoint(path / "run.pt")


def load_sharded(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Read tensors into ``model`` (and ``optimizer``), sharded or not; all processes of a group call this together.

    Raises CheckpointError naming what does not fit; then nothing has changed.
    """
    tensors = _tensors(model, optimizer)
    try:
        metadata = dcp.FileSystemReader(path).read_metadata().state_dict_metadata
        saved = {n: entry.size for n, entry in metadata.items() if isinstance(entry, TensorStorageMetadata)}
        for part, own in tensors.items():
            prefix = f"{part}."
            ours = {n.removeprefix(prefix): t.shape for n, t in _flat(own, part).items()}
            theirs = {n.removeprefix(prefix): size for n, size in saved.items() if n.startswith(prefix)}
            require_same_shapes(ours, theirs, source=path)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # one process may read as well
            dcp.load(tensors, storage_reader=dcp.FileSystemReader(path), no_dist=not dist.is_initialized())
    except CheckpointError:
        raise
    except (Exception, CheckpointException) as error:
        raise CheckpointError(f"{path} cannot be read ({_first_line(error)}): resume from another one") from error
    # All values are in their places now; by this, layers that keep something made from the old ones hear of it.
    set_model_state_dict(model, tensors["model"])


def load_trained(path: str | Path, *, model_class: type[nn.Module] = DecoderLM) -> nn.Module:
    """The model a run has trained, on the CPU of one process: from ``last.pt`` as from a ``.dcp`` folder.

    Raises CheckpointError if there is none, it does not keep the model's configuration, or the run trained a model of
    another class.
    """
    path = Path(path)
    saved = load_run(path) if path.is_dir() else load_checkpoint(path)
    if saved.model_config is None:
        raise CheckpointError(
            f"{path} does not say what model it holds: build it and use load_sharded or restore_model"
        )
    model = model_class(config_of_weights(TransformerConfig.from_dict(saved.model_config), saved.model))
    if path.is_dir():
        load_sharded(path, model)
    else:
        restore_model(model, saved.model, source=path)
    return model


def _tensors(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> dict:
    """What DCP writes, and what it reads into: tensors only, the model's and the optimiser's own, not copies.

    An optimiser without moments gets them here; its hyper-parameters are in the run's configuration."""
    tensors: dict[str, Any] = {"model": get_model_state_dict(model)}
    if optimizer is not None:
        tensors["optimizer"] = get_optimizer_state_dict(model, optimizer)["state"]
    return tensors


def _flat(tree: dict, prefix: str) -> dict[str, torch.Tensor]:
    """Nested dicts as one, keys joined by dots as DCP joins them."""
    flat: dict[str, torch.Tensor] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}.{key}") if isinstance(value, dict) else {f"{prefix}.{key}": value}
    return flat


def _folders(folder: Path, name: str) -> list[Path]:
    return sorted(folder.glob(f"{name}-*.dcp"))


def _first_line(error: BaseException) -> str:
    """DCP wraps the errors of all processes in one long report; the cause is its last line."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1]
