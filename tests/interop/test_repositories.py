"""Much used repositories of the Hub, as their settings and their lists of tensors describe them, without the weights.

``repositories.json`` has for each its ``config.json``, the names of its tensors (``{i}`` for every layer) and the
number of its files. Every one must load with the outputs and gradients of transformers at random weights, or be
refused by name with the part that is missing. Sizes are shrunk here, by ``shrunk``; everything else is as it is
published.
"""

import json
import re
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn

from llmbook.interop import from_huggingface, load_pretrained
from llmbook.interop.huggingface import family_of
from tests.model.helpers import random_ids, shake

REPOSITORIES = json.loads(Path(__file__).with_name("repositories.json").read_text(encoding="utf-8"))
READ = [name for name, about in REPOSITORIES.items() if "refused" not in about]
REFUSED = [name for name, about in REPOSITORIES.items() if "refused" in about]
VOCABULARY = 61
LISTS_OF_LAYERS = ("layer_types", "no_rope_layers")


def shrunk(config: dict) -> dict:
    """The same kind of model a thousandth as large: ratios of heads, widths that differ and patterns of layers stay."""
    small = {**config, "vocab_size": VOCABULARY}
    pattern = config.get("sliding_window") or any(name in config for name in LISTS_OF_LAYERS)
    for name in ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers"):
        if name in config:
            small[name] = min(config[name], 7 if pattern else 2)
    for name in LISTS_OF_LAYERS:
        if name in config:
            small[name] = config[name][: small["num_hidden_layers"]]
    heads = next(n for n in ("num_attention_heads", "n_head", "n_heads", "num_heads") if n in config)
    width = next(n for n in ("hidden_size", "n_embd", "dim", "d_model") if n in config)
    kv = min(config.get("num_key_value_heads", 2), 2)
    small[heads] = kv * min(config[heads] // config.get("num_key_value_heads", config[heads]), 3)
    if small[heads] == kv and "num_key_value_heads" not in config:
        small[heads] = 3
    head = next((n for n in ("head_dim", "d_kv") if n in config), None)
    plain = head is None or config[head] * config[heads] == config[width]
    small[width] = small[heads] * 8 if plain else small[heads] * 16
    changes = {
        "num_key_value_heads": kv, "head_dim": 8, "d_kv": 8, "intermediate_size": 40, "hidden_dim": 40, "d_ff": 40,
        "n_ctx": 64, "n_positions": 64, "sliding_window": 5, "max_window_layers": 3,
        "original_max_position_embeddings": 16,
    }  # fmt: skip
    small |= {name: value for name, value in changes.items() if config.get(name) is not None}
    if "max_position_embeddings" in config:
        small["max_position_embeddings"] = 64 + config["max_position_embeddings"] % 8  # RoBERTa's 514 is 512 + 2
    if "query_pre_attn_scalar" in config:
        small["query_pre_attn_scalar"] = 8 * config["query_pre_attn_scalar"] // config["head_dim"]
    if small.get("rope_scaling"):
        small["rope_scaling"] = {**config["rope_scaling"], "original_max_position_embeddings": 16}
    tokens = [name for name in config if name.endswith("_token_id") and isinstance(config[name], int)]
    return small | {name: min(config[name], VOCABULARY - 1) for name in tokens}


def theirs_of(config: dict) -> nn.Module:
    """transformers' model of these settings, with random weights."""
    settings = transformers.AutoConfig.for_model(**config)
    settings._attn_implementation = "eager"  # the other has no bound on scores
    model = getattr(transformers, config["architectures"][0])(settings)
    if config.get("tie_word_embeddings") is False and hasattr(model, "lm_head"):
        model.lm_head.weight = nn.Parameter(torch.empty_like(model.lm_head.weight))  # T5's they tie all the same
    return shake(model, 0.5)


def as_published(weights: dict[str, torch.Tensor], names: list[str], n_layers: int) -> dict[str, torch.Tensor]:
    """The tensors under the repository's names; what theirs does not have, and computes nothing, is noise."""
    prefixes = ("transformer.", "bert.", "roberta.")
    found, used = {}, set()
    for name in dict.fromkeys(name.replace("{i}", str(i)) for name in names for i in range(n_layers)):
        plain = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        forms = [plain, *(p + plain for p in prefixes), *(plain.removeprefix(p) for p in prefixes)]
        there = next((form for form in forms if form in weights), None)
        used.add(there)
        found[name] = (torch.randn(3, 3) if there is None else weights[there]).contiguous().clone()
    pointers = {weights[name].data_ptr() for name in used if name is not None}
    left = [n for n, tensor in weights.items() if n not in used and tensor.data_ptr() not in pointers]
    assert all("pooler" in name for name in left), left  # the list of tensors is whole
    return found


def write_folder(folder: Path, config: dict, weights: dict[str, torch.Tensor], shards: int = 1) -> Path:
    """A folder as the Hub has it, its weights in one file or in several with an index."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "w1", "chat_template": "{{ bos_token }}"}))
    if shards == 1:
        save_file(weights, folder / "model.safetensors")
        return folder
    names, places = list(weights), {}
    for i in range(shards):
        file, part = f"model-{i + 1:05d}-of-{shards:05d}.safetensors", names[i::shards]
        save_file({name: weights[name] for name in part}, folder / file)
        places |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


def outputs(model: nn.Module, ids: torch.Tensor) -> torch.Tensor:
    extra = {"decoder_input_ids": ids.flip(1)[:, :7]} if hasattr(model, "decoder") else {}
    out = model(ids, **extra)
    return out.last_hidden_state if getattr(out, "logits", None) is None else out.logits


@pytest.mark.parametrize("repository", READ)
def test_it_loads_and_computes_what_transformers_does(repository, tmp_path):
    """A name, a setting or a part misread, in a forward or a backward pass; a tensor that a file may leave out."""
    about = REPOSITORIES[repository]
    config = shrunk(about["config"])
    theirs = theirs_of(config)
    n_layers = next(config[n] for n in ("num_hidden_layers", "n_layer", "n_layers", "num_layers") if n in config)
    weights = as_published(theirs.state_dict(), about["tensors"], n_layers)
    ours, tokenizer = load_pretrained(write_folder(tmp_path, config, weights, about.get("shards", 1)))
    assert tokenizer.encode("w3 w5") == [3, 5]
    assert (tokenizer.chat_template, tokenizer.special_tokens_map) == ("{{ bos_token }}", {"bos_token": "w1"})
    ids = random_ids(2, 24, VOCABULARY - 4) + 3  # no token that stands for padding
    a, b = outputs(ours, ids), outputs(theirs, ids)
    torch.testing.assert_close(a, b, atol=1e-4, rtol=0)
    assert b.std() > 0.1  # the tolerance means something
    ours, theirs = ours.double(), theirs.double()
    weight = torch.randn_like(b).double()
    (outputs(ours, ids) * weight).sum().backward()
    (outputs(theirs, ids) * weight).sum().backward()
    gradients = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in theirs.named_parameters()}
    expected = from_huggingface(gradients, family_of(config), n_layers=n_layers, config=ours.config)
    for name, parameter in ours.named_parameters():
        largest = max(expected[name].abs().max().item(), 1e-6)
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-4 * largest, rtol=0, msg=name)


@pytest.mark.parametrize("repository", REFUSED)
def test_it_is_refused_with_the_part_that_is_missing(repository, tmp_path):
    """A model that would be built without a part of it, or an error that does not say what is missing."""
    about = REPOSITORIES[repository]
    (tmp_path / "config.json").write_text(json.dumps(about["config"]))
    with pytest.raises(ValueError, match=re.escape(about["refused"])) as error:
        load_pretrained(tmp_path)
    assert "config.json" in str(error.value)


def test_there_are_enough():
    """A list that shrinks."""
    assert len(READ) >= 20
