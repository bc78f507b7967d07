"""A whole training run as one JSON file: model, corpus, tokenizer, dials, sizes, folder, number of processes' engine.

JSON and not TOML, because the parts already travel as JSON: what ``TransformerConfig.to_json`` and
``TrainConfig.to_json`` print can be pasted in, and the run writes its recipe back into its folder.

Everything is checked before anything is loaded. An entry that is unknown, missing or of the wrong type is refused by
its name, with what would be possible: a misspelt dial that was ignored would cost a day.
"""

import dataclasses
import difflib
import json
import types
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from llmbook.model import RopeScaling, TransformerConfig
from llmbook.text import corpora
from llmbook.training.config import TrainConfig

PRESETS = ("gpt2", "llama", "modern")  # the decoders among TransformerConfig's presets
PARALLEL = ("none", "ddp", "fsdp")

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
            values["rope_scaling"] = _build("model.rope_scaling", RopeScaling, values["rope_scaling"])
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
    if not isinstance(values, dict):
        raise RecipeError(f"a recipe is an object with the entries {', '.join(ENTRIES)}")
    _require_known("", values, ENTRIES)
    for name in REQUIRED:
        if name not in values:
            raise RecipeError(f"{name!r} is missing: {ENTRIES[name]}")
    plain = {name: values[name] for name in ("seed", "device", "dtype", "corpus", "folder") if name in values}
    for name, value in plain.items():
        wanted = int if name == "seed" else str
        if type(value) is not wanted or value == "":
            raise RecipeError(f"{name}={value!r}: {ENTRIES[name]}")
    if values.get("parallel", "none") not in PARALLEL:
        raise RecipeError(f"parallel={values['parallel']!r}: {ENTRIES['parallel']}")
    if plain["corpus"] not in corpora() and not Path(plain["corpus"]).is_file():
        near = difflib.get_close_matches(plain["corpus"], corpora(), n=1)
        raise RecipeError(
            f"corpus={plain['corpus']!r} is neither a file nor a corpus of the book"
            + (f"; did you mean {near[0]!r}?" if near else f": there are {', '.join(corpora())}")
        )
    return Recipe(
        **{**plain, "folder": Path(plain["folder"])},
        model=_model(values["model"]),
        tokenizer=_tokenizer(values["tokenizer"]),
        train=_build("train", TrainConfig, values["train"]),
        data=_build("data", DataSizes, values["data"]),
        parallel=values.get("parallel", "none"),
    )


def fields_of(cls: type) -> str:
    """The fields of a dataclass with their defaults, for the help text."""
    missing = dataclasses.MISSING
    return ", ".join(f.name if f.default is missing else f"{f.name}={f.default}" for f in dataclasses.fields(cls))


def _model(values: Any) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise RecipeError(f"model={values!r}: {ENTRIES['model']}")
    if values.get("preset", PRESETS[0]) not in PRESETS:
        raise RecipeError(f"model.preset={values['preset']!r} is not one of {', '.join(map(repr, PRESETS))}")
    _check_fields("model", TransformerConfig, {k: v for k, v in values.items() if k != "preset"}, more=("preset",))
    return values


def _tokenizer(value: Any) -> str | tuple[str, int]:
    if isinstance(value, dict) and list(value) == ["bpe"] and type(value["bpe"]) is int:
        return ("bpe", value["bpe"])
    if isinstance(value, str) and (value in ("char", "byte") or Path(value).is_file()):
        return value
    raise RecipeError(f"tokenizer={value!r}: {ENTRIES['tokenizer']}")


def _build(where: str, cls: type, values: Any) -> Any:
    """A dataclass from its entry in the recipe, the errors carrying the entry's name."""
    if not isinstance(values, dict):
        raise RecipeError(f"{where}={values!r} must be an object with fields of {cls.__name__}")
    _check_fields(where, cls, values)
    for field in dataclasses.fields(cls):
        if field.default is dataclasses.MISSING and field.name not in values:
            raise RecipeError(f"'{where}.{field.name}' is missing")
    try:
        return cls(**values)
    except ValueError as error:
        raise RecipeError(f"{where}: {error}") from None


def _check_fields(where: str, cls: type, values: dict[str, Any], *, more: Iterable[str] = ()) -> None:
    hints = get_type_hints(cls)
    _require_known(f"{where}.", values, [*more, *(field.name for field in dataclasses.fields(cls))])
    for name, value in values.items():
        if not _fits(value, hints[name]):
            raise RecipeError(f"{where}.{name}={value!r} has the wrong type: {_words(hints[name])} is needed")


def _require_known(prefix: str, given: Iterable[str], known: Iterable[str]) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise RecipeError(f"there is no entry '{prefix}{name}'; {hint}Possible: {', '.join(known)}")


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value from JSON is of the annotated type; choices (Literal) are left to the class itself."""
    if get_origin(hint) in (Union, types.UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if get_origin(hint) is Literal:
        return isinstance(value, str)
    if dataclasses.is_dataclass(hint):
        return isinstance(value, dict)
    if hint is float:
        return type(value) in (int, float)
    return type(value) is hint


def _words(hint: Any) -> str:
    names = {int: "a whole number", float: "a number", str: "a string", bool: "true or false", type(None): "null"}
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_words(part) for part in get_args(hint))
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    return names.get(hint, "an object")
