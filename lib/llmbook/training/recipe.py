"""A whole training run as one JSON file: model, corpus, tokenizer, hyper-parameters, sizes, folder, parallel engine.

JSON and not TOML, because the parts already travel as JSON: what ``TransformerConfig.to_json`` and
``TrainConfig.to_json`` print can be pasted in, and the run writes its recipe back into its folder.

Everything is checked before anything is loaded. An entry that is unknown, missing or of the wrong type is refused by
its name, with what would be possible: a misspelt hyper-parameter that was ignored would cost a day. Names and types
are checked by pydantic, against the dataclasses that the entries become; values by those classes themselves.
"""

import dataclasses
import difflib
import json
from collections.abc import Iterable
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError, create_model

from llmbook.model import RopeScaling, TransformerConfig
from llmbook.text import corpora
from llmbook.training.config import TrainConfig

PRESETS = ("gpt2", "llama", "modern")  # the decoders among TransformerConfig's presets
STRICT = ConfigDict(extra="forbid", strict=True, protected_namespaces=())
Text = Annotated[str, StringConstraints(min_length=1)]

ENTRIES = {
    "model": f'fields of TransformerConfig, or {{"preset": {" | ".join(PRESETS)}, and fields that differ}}; '
    "vocab_size follows from the tokenizer",
    "corpus": "a name from llmbook.text.corpora(), or the path of a UTF-8 text file",
    "tokenizer": '"char", "byte", {"bpe": VOCAB_SIZE} (trained on the training text), or the path of a saved tokenizer',
    "train": "fields of TrainConfig; steps is required",
    "data": "batch_size (rows of one process), seq_len, valid: the fraction held out (0.1), "
    "where the corpus has no split of its own, and replacement: whether windows may come again before all have come "
    "(true)",
    "folder": "where checkpoints, log, tokenizer and tokens go",
    "parallel": '"none" (one process), "ddp" (every process holds the model) or "fsdp" (every process holds a part); '
    'default "none"',
    "seed": "of weights, dropout and data; default 0",
    "device": '"auto", "cpu", "cuda", "mps"; default "auto"',
    "dtype": '"auto", "float32", "bfloat16", "float16": of the matrix products; default "auto"',
}
REQUIRED = ("model", "corpus", "tokenizer", "train", "data", "folder")


class RecipeError(ValueError):
    """A recipe that cannot be followed; the message names the entry and what would be possible."""


@dataclass(frozen=True, kw_only=True)
class DataSizes:
    """Rows per process and micro-batch, tokens per row, the fraction of the text held out, and how windows are drawn.

    Raises ValueError for a size below 1 and a fraction outside (0, 1).
    """

    batch_size: int
    seq_len: int
    valid: float = 0.1
    replacement: bool = True

    def __post_init__(self) -> None:
        for name in ("batch_size", "seq_len"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        if not 0 < self.valid < 1:
            raise ValueError(f"valid={self.valid}: must lie between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A run, checked. ``model`` may lack vocab_size until the tokenizer is known: see ``model_config``."""

    model: dict[str, Any]
    corpus: str
    tokenizer: str | tuple[str, int]
    train: TrainConfig
    data: DataSizes
    folder: Path
    parallel: str = "none"
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"

    def model_config(self, vocab_size: int) -> TransformerConfig:
        """The model for a tokenizer of ``vocab_size``. Raises RecipeError if the two do not fit."""
        values = {"vocab_size": vocab_size, **self.model}
        preset = values.pop("preset", None)
        if values["vocab_size"] < vocab_size:
            raise RecipeError(
                f"model.vocab_size={values['vocab_size']} is smaller than the tokenizer's {vocab_size}: leave it out, "
                "or give at least that"
            )
        if isinstance(values.get("rope_scaling"), dict):
            values["rope_scaling"] = _made("model.rope_scaling", RopeScaling, values["rope_scaling"])
        make = TransformerConfig if preset is None else getattr(TransformerConfig, preset)
        try:
            config = make(**values)
        except ValueError as error:
            raise RecipeError(f"model: {error}") from None
        if config.positions == "learned" and self.data.seq_len > config.max_seq_len:
            raise RecipeError(
                f"data.seq_len={self.data.seq_len} is longer than model.max_seq_len={config.max_seq_len}, where "
                "learned positions end"
            )
        return config


def read_recipe(path: str | Path) -> Recipe:
    """Read and check a recipe. Raises RecipeError if it cannot be read or followed."""
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise RecipeError(f"{path} is not JSON: {error}") from None
    try:
        return parse_recipe(values)
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from None


def parse_recipe(values: Any) -> Recipe:
    """Check the entries of a recipe one by one. Raises RecipeError for the first that cannot be followed."""
    try:
        plain = _ENTRIES.model_validate_json(json.dumps(values)).model_dump()
    except ValidationError as error:
        raise RecipeError(_in_words(error, values)) from None
    corpus, tokenizer = plain["corpus"], plain["tokenizer"]
    if corpus not in corpora() and not Path(corpus).is_file():
        near = difflib.get_close_matches(corpus, corpora(), n=1)
        raise RecipeError(
            f"corpus={corpus!r} is neither a file nor a corpus of the book"
            + (f"; did you mean {near[0]!r}?" if near else f": there are {', '.join(corpora())}")
        )
    if isinstance(tokenizer, dict):
        tokenizer = ("bpe", tokenizer["bpe"])
    elif tokenizer not in ("char", "byte") and not Path(tokenizer).is_file():
        raise RecipeError(f"tokenizer={tokenizer!r}: {ENTRIES['tokenizer']}")
    made = {
        "model": values["model"],  # as it was written: a preset fills in the rest
        "tokenizer": tokenizer,
        "train": _made("train", TrainConfig, values["train"]),
        "data": _made("data", DataSizes, values["data"]),
        "folder": Path(plain["folder"]),
    }
    return Recipe(**{**plain, **made})


def fields_of(cls: type) -> str:
    """The fields of a dataclass with their defaults, for the help text."""
    missing = dataclasses.MISSING
    return ", ".join(f.name if f.default is missing else f"{f.name}={f.default}" for f in dataclasses.fields(cls))


def _made(where: str, cls: type, values: dict[str, Any]) -> Any:
    """A dataclass from its entry in the recipe; what the class refuses is told with the entry's name."""
    try:
        return cls(**values)
    except ValueError as error:
        raise RecipeError(f"{where}: {error}") from None


# --- what pydantic checks: names and types ----------------------------------------------------------------------


def _schema(cls: type, *, partial: bool = False, **more: Any) -> type[BaseModel]:
    """The fields of a dataclass as an entry of a recipe; with ``partial`` none of them is required."""
    hints = get_type_hints(cls)
    fields: dict[str, Any] = {
        field.name: (hints[field.name], ... if field.default is MISSING and not partial else None)
        for field in dataclasses.fields(cls)
    }
    return create_model(cls.__name__, __config__=STRICT, **{**fields, **more})


_SCHEMAS = {
    "model": _schema(
        TransformerConfig,
        partial=True,
        preset=(Literal[PRESETS], None),
        rope_scaling=(_schema(RopeScaling) | None, None),
    ),
    "train": _schema(TrainConfig),
    "data": _schema(DataSizes),
}
_FIELDS: dict[str, Any] = {
    **{name: (schema, ...) for name, schema in _SCHEMAS.items()},
    "corpus": (Text, ...),
    "tokenizer": (Text | create_model("Bpe", __config__=STRICT, bpe=(int, ...)), ...),
    "folder": (Text, ...),
    "parallel": (Literal["none", "ddp", "fsdp"], "none"),
    "seed": (int, 0),
    "device": (Text, "auto"),
    "dtype": (Text, "auto"),
}
_ENTRIES = create_model("Recipe", __config__=STRICT, **_FIELDS)


def _in_words(error: ValidationError, values: Any) -> str:
    """The first complaint of pydantic, misspelt names before all others, in this file's words."""
    problems = error.errors(include_url=False)
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    if not problem["loc"]:
        return f"a recipe is an object with the entries {', '.join(ENTRIES)}"
    *parents, name = path = _path(problem["loc"], values, missing=problem["type"] == "missing")
    where = ".".join(path)
    if problem["type"] == "extra_forbidden":
        known = _names(parents)
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return f"there is no entry {where!r}; {hint}Possible: {', '.join(known)}"
    if problem["type"] == "missing":
        return f"{where!r} is missing" + (f": {ENTRIES[name]}" if not parents else "")
    needed = ENTRIES[name] if not parents else problem["msg"][0].lower() + problem["msg"][1:]
    return f"{where}={_value(path, values)!r}: {needed}"


def _path(loc: tuple[int | str, ...], values: Any, *, missing: bool) -> list[str]:
    """The names of the entries on the way to a problem, without those of alternatives, which pydantic adds."""
    path: list[str] = []
    for i, part in enumerate(loc):
        if isinstance(values, dict) and (part in values or (missing and i == len(loc) - 1)):
            path.append(str(part))
            values = values.get(part)
    return path


def _value(path: Iterable[str], values: Any) -> Any:
    for name in path:
        values = values[name]
    return values


def _names(parents: list[str]) -> list[str]:
    """The entries that are possible inside ``parents``."""
    if parents[-1:] == ["rope_scaling"]:
        return [field.name for field in dataclasses.fields(RopeScaling)]
    if not parents:
        return list(ENTRIES)
    return list(_SCHEMAS[parents[0]].model_fields) if parents[0] in _SCHEMAS else ["bpe"]
