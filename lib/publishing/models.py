"""Make a model of the book: train it by its recipe, and put it where readers find it.

    python -m publishing model shakespeare-chars

An interrupted run goes on where it stopped. At the end of it the model at its lowest validation loss is rounded to half
precision, judged once more as it will be used, and written beside its recipe, with its entry in manifest.json and its
part of README.md.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

import torch

from llmbook import published
from llmbook.inference import generate
from llmbook.model import DecoderLM
from llmbook.playground import export_model, round_to_half
from llmbook.published import manifest, recipe_path
from llmbook.results import commit, processor
from llmbook.storage import write_file
from llmbook.text import Tokenizer, eval_windows, load_corpus, load_tokenizer, load_tokens
from llmbook.training import evaluate, load_checkpoint
from llmbook.training.__main__ import main as train
from llmbook.training.distributed import load_trained
from llmbook.training.recipe import Recipe, read_recipe

from .book import BookError

SAMPLING = dict(temperature=0.8, top_p=0.95)  # of the samples
SAMPLE = 240  # tokens


@dataclass(frozen=True, kw_only=True)
class About:
    """What only a person can say of a model; the first prompt is the playground's."""

    title: str
    language: str
    prompts: tuple[str, str, str, str, str]


MODELS = {  # in the order of the playground, its default first
    "shakespeare-chars": About(
        title="Shakespeare, letter by letter",
        language="en",
        prompts=("ROMEO:\n", "HAMLET:\nTo be, or not", "First Witch:\n", "KING HENRY V:\nOnce more", "\n"),
    ),
    "shakespeare-bpe": About(
        title="Shakespeare, in pieces of words",
        language="en",
        prompts=("JULIET:\n", "HAMLET:\nTo be, or not", "First Witch:\n", "FALSTAFF:\nA cup of", "\n"),
    ),
    "sanguo-bpe": About(
        title="三国演义, Romance of the Three Kingdoms",
        language="zh",
        prompts=("话说天下大势，", "却说曹操", "孔明曰：“", "关公提刀上马，", "玄德"),
    ),
}


def make(name: str) -> int:
    """Train the model ``name`` and publish it; returns the exit code of the training.

    Raises:
        BookError: there is no such model.
    """
    if name not in MODELS:
        raise BookError(f"there is no model {name!r}; there are {', '.join(MODELS)}")
    code = train([str(recipe_path(name)), "--resume"])
    if code == 0:
        entry = publish(name)
        print(f"{entry['file']}  {entry['bytes'] / 1e6:.2f} MB, {entry['bits_per_byte']:.3f} bits per byte held out")
    return code


def publish(name: str) -> dict:
    """Write the model that the recipe's run left, and its entry in the manifest, which is returned."""
    folder = published.FOLDER
    recipe, made_from = read_recipe(recipe_path(name)), commit()  # before the tree changes
    tokenizer = load_tokenizer(recipe.folder / "tokenizer.json")
    model = round_to_half(load_trained(recipe.folder / "best.pt")).eval()
    path = export_model(model, tokenizer, folder / f"{name}.bin")
    history = load_checkpoint(recipe.folder / "last.pt").history
    entry = _entry(name, path, recipe, model, tokenizer, history) | {"commit": made_from}
    entries = {**manifest(), name: entry}
    entries = {known: entries[known] for known in MODELS if known in entries}
    write_file(published.MANIFEST, json.dumps(entries, indent=1, ensure_ascii=False) + "\n")
    write_file(folder / "README.md", readme(entries) + "\n")
    return entry


def held_out(model: DecoderLM, tokenizer: Tokenizer, tokens: torch.Tensor, seq_len: int) -> dict[str, float]:
    """The loss on text that was not trained on, in nats a token and bits a byte, of the weights as they are now."""
    found = evaluate(model, eval_windows(tokens, batch_size=8, seq_len=seq_len))
    n_bytes = len(tokenizer.decode(tokens[1:].tolist()).encode("utf-8"))
    return {"loss": round(found.loss, 4), "bits_per_byte": round(found.bits_per_byte(n_bytes), 4)}


def sample(model: DecoderLM, tokenizer: Tokenizer, prompt: str, seed: int) -> str:
    """One text of the model, prompt included."""
    ids = torch.tensor([tokenizer.encode(prompt)])
    generator = torch.Generator().manual_seed(seed)
    return tokenizer.decode(generate(model, ids, max_new_tokens=SAMPLE, generator=generator, **SAMPLING)[0])


def readme(entries: dict[str, dict]) -> str:
    """The manifest for people."""
    lines = [
        "# The book's own models",
        "",
        "Each is made by one command, `python -m publishing model NAME`, which also writes this page and",
        "[manifest.json](manifest.json). `load_pretrained(NAME)` opens them; the playground of the site runs them.",
        "",
        "| model | parameters | file | corpus, licence | held out: bits per byte | date |",
        "|---|---:|---:|---|---:|---|",
    ]
    for name, e in entries.items():
        lines.append(
            f"| `{name}` | {e['n_parameters']:,} | {e['bytes'] / 1e6:.2f} MB | {e['corpus']}: {e['licence']} "
            f"| {e['bits_per_byte']:.3f} | {e['date']} |"
        )
    lines += [
        "",
        f"Samples: temperature {SAMPLING['temperature']}, top-p {SAMPLING['top_p']}, seeds 0 to 4, none left out.",
    ]
    for name, e in entries.items():
        lines += ["", f"## {name}"]
        for text in e["samples"]:
            lines += ["", "```text", text.strip("\n"), "```"]
    return "\n".join(lines)


def _entry(name: str, path: Path, recipe: Recipe, model: DecoderLM, tokenizer: Tokenizer, history: dict) -> dict:
    about, corpus, content = MODELS[name], load_corpus(recipe.corpus), path.read_bytes()
    tokens = load_tokens(recipe.folder / "valid.npy")
    return {
        "title": about.title,
        "language": about.language,
        "prompt": about.prompts[0],
        "file": path.name,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "n_parameters": model.num_parameters(),
        "tokenizer": f"{tokenizer.kind}, {tokenizer.vocab_size:,} tokens",
        "corpus": corpus.name,
        "licence": corpus.licence,
        "citation": corpus.citation,
        "valid": recipe.data.valid,
        **held_out(model, tokenizer, tokens, recipe.data.seq_len),
        "steps": history["steps"][-1],
        "tokens_trained_on": history["tokens"][-1],
        "minutes": round(history["seconds"][-1] / 60, 1),
        "command": f"python -m publishing model {name}",
        "device": processor(),
        "threads": torch.get_num_threads(),
        "versions": {package: version(package) for package in ("torch", "llmbook")},
        "date": date.today().isoformat(),
        "samples": [sample(model, tokenizer, prompt, seed) for seed, prompt in enumerate(about.prompts)],
    }
