"""Train a language model as a recipe says.

    python -m llmbook.training RECIPE.json                            one process
    torchrun --nproc-per-node 2 -m llmbook.training RECIPE.json       two, with "parallel": "ddp" or "fsdp"

Add --resume to go on with what the recipe's folder holds; a run can go on with another number of processes if
batch_size times that number stays the same. Ctrl-C ends the step, writes a checkpoint and stops.
"""

import argparse
import json
import os
import sys
import textwrap
from pathlib import Path

import torch

from llmbook.model import DecoderLM, TransformerConfig
from llmbook.storage import SourceError, write_file
from llmbook.text import (
    BPETokenizer,
    ByteTokenizer,
    CharTokenizer,
    LMBatches,
    Tokenizer,
    eval_windows,
    load_corpus,
    load_tokenizer,
    load_tokens,
    save_tokens,
)
from llmbook.text import corpora as known_corpora
from llmbook.text.corpus import split_text
from llmbook.training.callbacks import Announce, JsonlLog, ProgressBar
from llmbook.training.checkpoint import CheckpointError
from llmbook.training.config import TrainConfig
from llmbook.training.errors import TrainingError
from llmbook.training.loop import Trainer
from llmbook.training.parallel import ALONE, Parallel, find_checkpoint
from llmbook.training.recipe import ENTRIES, REQUIRED, Recipe, RecipeError, fields_of, read_recipe
from llmbook.training.runtime import choose_runtime

RESUMED_ALIKE = ("model", "corpus", "tokenizer", "seed")  # entries of a recipe that a resumed run may not change


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0 done, 1 refused or failed (the reason is on stderr), 130 interrupted."""
    options = _parser().parse_args(arguments)
    try:
        recipe = read_recipe(options.recipe)
        _require_processes(recipe)
        if recipe.parallel == "none":
            return train(recipe, Path(options.recipe), resume=options.resume, parallel=ALONE)
        from llmbook.training.distributed import make_parallel, process_group

        with process_group():
            return train(recipe, Path(options.recipe), resume=options.resume, parallel=make_parallel(recipe.parallel))
    except (RecipeError, CheckpointError, TrainingError, SourceError, ValueError, OSError) as error:
        if _rank() == 0 or not isinstance(error, (RecipeError, CheckpointError, TrainingError)):
            print(f"error: {error}", file=sys.stderr)
        return 1


def train(recipe: Recipe, path: Path, *, resume: bool, parallel: Parallel) -> int:
    """Follow a recipe; every process of the run calls this."""
    first = parallel.rank == 0
    say = print if first else lambda *_: None
    asked = (recipe.device, recipe.dtype) != ("auto", "auto")
    runtime = choose_runtime(recipe.device, recipe.dtype) if asked else None  # None: the trainer chooses
    say(f"processes  {parallel.world_size}" + ("" if parallel is ALONE else f", {parallel.name}"))

    if first:
        _open_folder(recipe, path, resume)
        _prepare(recipe)
    parallel.any(False)  # the others wait here until the files are there
    tokenizer = load_tokenizer(recipe.folder / "tokenizer.json")
    train_tokens, valid_tokens = (load_tokens(recipe.folder / f"{name}.npy") for name in ("train", "valid"))
    say(f"corpus     {recipe.corpus}: {len(train_tokens):,} tokens to train on, {len(valid_tokens):,} held out")
    sizes = dict(seq_len=recipe.data.seq_len)
    batches = LMBatches(  # the whole batch: each process takes its own rows
        train_tokens,
        batch_size=recipe.data.batch_size * parallel.world_size,
        seed=recipe.seed,
        replacement=recipe.data.replacement,
        **sizes,
    )
    torch.manual_seed(recipe.seed)
    model = DecoderLM(recipe.model_config(tokenizer.vocab_size))
    torch.manual_seed(recipe.seed + 1 + parallel.rank)  # each process draws its own dropout
    say(f"model      {model.num_parameters():,} parameters")

    callbacks = [Announce(), ProgressBar(), JsonlLog(recipe.folder / "log.jsonl")] if first else []
    trainer = Trainer(
        model,
        batches,
        recipe.train,
        valid_batches=list(eval_windows(valid_tokens, batch_size=recipe.data.batch_size, **sizes)),
        callbacks=callbacks,
        runtime=runtime,
        folder=recipe.folder,
        parallel=parallel,
    )
    history = trainer.run(resume=resume)
    done = trainer.step == recipe.train.steps
    if history.valid_loss:
        say(f"validation loss {history.valid_loss[-1]:.4f} nats per token at step {history.valid_steps[-1]}")
    say(f"{recipe.folder} holds")
    for name, size, about in _contents(recipe.folder):
        say(f"  {name:<18} {size:>10}  {about}")
    if not done:
        say(f"stopped at step {trainer.step} of {recipe.train.steps}: go on with --resume")
    return 0 if done else 130


def _require_processes(recipe: Recipe) -> None:
    """One engine for one process, another for several."""
    n = int(os.environ.get("WORLD_SIZE", 1))
    if recipe.parallel == "none" and n > 1:
        raise RecipeError(
            f"parallel='none', but torchrun has started {n} processes, which would each train the same model: "
            f"{ENTRIES['parallel']}"
        )


def _open_folder(recipe: Recipe, path: Path, resume: bool) -> None:
    """Refuse to write over another run; leave a copy of the recipe."""
    last, copy = find_checkpoint(recipe.folder, "last"), recipe.folder / "recipe.json"
    now = json.loads(path.read_text(encoding="utf-8"))
    if last and not resume:
        raise CheckpointError(f"{last} holds an earlier run: continue it with --resume, or choose another folder")
    if last and copy.exists():
        then = json.loads(copy.read_text(encoding="utf-8"))
        for name in RESUMED_ALIKE:
            if then.get(name) != now.get(name):
                raise CheckpointError(
                    f"{recipe.folder} was made with {name}={then.get(name)!r}, not {now.get(name)!r}: resume it with "
                    "its own recipe.json, or choose another folder"
                )
    write_file(copy, json.dumps(now, indent=2, ensure_ascii=False) + "\n")


def _prepare(recipe: Recipe) -> None:
    """Tokenizer and tokens in the folder; what a run has made once, its resumed self finds there."""
    files = [recipe.folder / name for name in ("tokenizer.json", "train.npy", "valid.npy")]
    if find_checkpoint(recipe.folder, "last") and all(file.exists() for file in files):
        return
    train_text, valid_text = _texts(recipe)
    tokenizer = _make_tokenizer(recipe, train_text, valid_text)
    recipe.model_config(tokenizer.vocab_size)  # refuse a model that does not fit before the text is encoded
    tokenizer.save(files[0])
    for file, text in zip(files[1:], (train_text, valid_text), strict=True):
        save_tokens(file, tokenizer.encode(text), vocab_size=tokenizer.vocab_size)


def _texts(recipe: Recipe) -> tuple[str, str]:
    """What to train on, and what is held out."""
    if recipe.corpus in known_corpora():
        return load_corpus(recipe.corpus).split(recipe.data.valid)
    try:
        text = Path(recipe.corpus).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError(f"corpus={recipe.corpus!r} is not UTF-8: {error}") from None
    return split_text(text, recipe.data.valid, name=recipe.corpus)


def _make_tokenizer(recipe: Recipe, train_text: str, valid_text: str) -> Tokenizer:
    match recipe.tokenizer:
        case "char":
            return CharTokenizer.train(train_text + valid_text)  # a held-out character must have a number, too
        case "byte":
            return ByteTokenizer()
        case ("bpe", vocab_size):
            return BPETokenizer.train(train_text, vocab_size=vocab_size)
        case _:
            return load_tokenizer(str(recipe.tokenizer))


def _contents(folder: Path) -> list[tuple[str, str, str]]:
    """What lies in the folder: name, size, and what it is for."""
    about = {
        "best": "the model at its lowest validation loss (llmbook.training.distributed.load_trained reads it)",
        "last": "to go on from with --resume",
        "log.jsonl": "losses by step",
        "recipe.json": "this run's recipe",
        "tokenizer.json": "llmbook.text.load_tokenizer reads it",
        "train.npy": "tokens",
        "valid.npy": "tokens held out",
    }
    rows = []
    for path in sorted(folder.iterdir()):
        if not path.name.startswith("."):
            files = [path] if path.is_file() else list(path.iterdir())
            size = f"{sum(file.stat().st_size for file in files) / 1e6:,.2f} MB"
            rows.append((path.name, size, about.get(path.name, about.get(path.name.split(".")[0].split("-")[0], ""))))
    return rows


def _rank() -> int:
    return int(os.environ.get("RANK", 0))


def _parser() -> argparse.ArgumentParser:
    lines = [f"{name:<10}  {text}" + " (required)" * (name in REQUIRED) for name, text in ENTRIES.items()]
    options = [f"{name:<10}  {fields_of(cls)}" for name, cls in (("model", TransformerConfig), ("train", TrainConfig))]
    entries, fields = (
        "\n".join(textwrap.fill(line, width=100, initial_indent="  ", subsequent_indent=" " * 14) for line in group)
        for group in (lines, options)
    )
    parser = argparse.ArgumentParser(
        prog="python -m llmbook.training",
        description=__doc__,
        epilog=f"entries of a recipe (paths are relative to where the command runs):\n{entries}\n\n"
        f"fields and their defaults:\n{fields}\n\n"
        "examples/shakespeare.json in the repository is a whole one.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", metavar="RECIPE.json", help="what to train, see below")
    parser.add_argument("--resume", action="store_true", help="go on with the run in the recipe's folder, if any")
    return parser


if __name__ == "__main__":
    sys.exit(main())
