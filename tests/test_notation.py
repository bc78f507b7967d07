"""Every name in the back matter's tables exists in the code it is said to belong to."""

import dataclasses
import inspect
import re
from pathlib import Path

import pytest

from llmbook.adaptation import add_lora
from llmbook.inference import Sampling, beam_search, generate
from llmbook.interop.huggingface import FAMILIES
from llmbook.model import DecoderLM, TransformerConfig

ROOT = Path(__file__).parents[1]
# The fields of the two configurations that no package installs: github.com/karpathy/nanoGPT and meta-llama/llama3.
NANOGPT = {"block_size", "vocab_size", "n_layer", "n_head", "n_embd", "dropout", "bias"}
META = {"dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "multiple_of", "ffn_dim_multiplier", "norm_eps"}
META |= {"rope_theta", "max_batch_size", "max_seq_len"}


def table(heading):
    """The rows of the table under a heading of notation.md, as lists of cells, without the head."""
    section = (ROOT / "notation.md").read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines[2:]]


def names(heading, column):
    return [name for row in table(heading) if column < len(row) for name in re.findall(r"`([^`]+)`", row[column])]


def test_the_tables_are_read():
    """Catches a test that passes because it finds no table."""
    assert len(names("Sizes", 1)) > 10
    assert len(names("Weights", 1)) > 10
    assert len(names("Inputs and dials", 1)) > 10


def test_our_sizes_are_fields_of_the_configuration():
    """Catches a dial that was renamed."""
    assert set(names("Sizes", 1)) <= {field.name for field in dataclasses.fields(TransformerConfig)}


@pytest.mark.parametrize(("column", "config"), [(2, "LlamaConfig"), (3, "GPT2Config")])
def test_hugging_faces_sizes_are_theirs(column, config):
    """Catches a name that their configuration does not have."""
    made = getattr(__import__("transformers"), config)()
    missing = [name for name in names("Sizes", column) if not hasattr(made, name)]
    assert not missing


def test_other_sizes_are_theirs():
    """Catches a name given to the wrong column."""
    assert set(names("Sizes", 4)) <= NANOGPT
    assert set(names("Sizes", 5)) <= META


@pytest.mark.parametrize(("column", "family", "preset"), [(2, "llama", "llama"), (3, "gpt2", "gpt2")])
def test_weights_have_the_names_that_interop_translates(column, family, preset):
    """Catches a part of the model that was renamed, and a name put beside the wrong part."""
    sizes = dict(vocab_size=8, d_model=8, n_layers=1, n_heads=2, max_seq_len=8)
    model = DecoderLM(getattr(TransformerConfig, preset)(**sizes))
    ours = {name.removesuffix(".weight") for name in model.state_dict()} | {"lm_head"}
    entries = [*FAMILIES[family].outside, *FAMILIES[family].layer]
    pairs = {(one, entry.theirs) for entry in entries for one in entry.ours}
    pairs |= {(copy, copy) for copy in ("lm_head.weight",)}
    for row in table("Weights"):
        (mine,), (theirs,) = (re.findall(r"`([^`]+)`", row[c]) for c in (1, column))
        assert mine.replace("{i}", "0") in ours
        assert any(f"{mine}.weight" == a and f"{theirs}.weight" in (b, f"transformer.{b}") for a, b in pairs), mine


def test_dials_are_arguments():
    """Catches an argument that was renamed."""
    known = set(inspect.signature(generate).parameters) | {field.name for field in dataclasses.fields(Sampling)}
    known |= set(inspect.signature(beam_search).parameters) | set(inspect.signature(add_lora).parameters)
    known |= {"labels", "attention_mask", "eos_token_id"}
    assert set(names("Inputs and dials", 1)) <= known
