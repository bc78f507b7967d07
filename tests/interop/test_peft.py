"""Adapters of PEFT in our models and back: what the library PEFT itself computes, with its own files."""

import json
import re

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from llmbook.adaptation import LoRALinear, add_lora, save_lora, unfreeze
from llmbook.interop import load_peft, save_peft
from tests.interop.test_huggingface import pair, run
from tests.model.helpers import random_ids

IDS = random_ids(2, 9)
KINDS = {
    "names of layers": ("llama", dict(target_modules=["q_proj", "down_proj"])),
    "a rank and a scale of its own": (
        "llama",
        dict(
            target_modules=["q_proj", "v_proj"], rank_pattern={"layers.1.self_attn.q_proj": 3, r".*\.v_proj": 5},
            alpha_pattern={"v_proj": 2}, use_rslora=True,
        ),
    ),
    "a regular expression": ("qwen2", dict(target_modules=r".*\.[01]\.(self_attn|mlp)\.(k|up)_proj")),
    "all linear layers": ("smollm3", dict(target_modules="all-linear")),
    "but some": ("llama", dict(target_modules=["k_proj", "o_proj"], exclude_modules=["layers.1.self_attn.o_proj"])),
    "of one layer": ("gemma2", dict(target_modules=["q_proj"], layers_to_transform=[1], layers_pattern="layers")),
    "the head trained whole": ("llama", dict(target_modules=["v_proj"], modules_to_save=["lm_head", "embed_tokens"])),
    "a norm trained whole": ("qwen3", dict(target_modules=["v_proj"], modules_to_save=["norm", "input_layernorm"])),
    "stacked layers": ("gpt2", dict(target_modules=["c_attn", "c_proj"], fan_in_fan_out=True)),
    "stacked layers of unequal height": ("phi3", dict(target_modules=["qkv_proj", "gate_up_proj"])),
    "an encoder": ("bert-masked-lm", dict(target_modules=["query", "value"])),
    "a classifier": ("bert-classifier", dict(target_modules=["query"], modules_to_save=["classifier"])),
    "an encoder and a decoder": ("t5-gated", dict(target_modules=["q", "wi_0"])),
}  # fmt: skip


def adapted(family: str, settings: dict, folder):
    """Their model with a trained adapter, saved by PEFT; and ours without it."""
    ours, theirs = pair(family)
    theirs = peft.get_peft_model(theirs, peft.LoraConfig(**{"r": 4, "lora_alpha": 8, **settings}))
    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.3)
    theirs.save_pretrained(folder)
    return ours, theirs.eval()


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_their_adapter_computes_the_same_here_and_goes_back(kind, tmp_path):
    """A scale by r in place of √r, a rank of another layer, a B that is not cut into queries, keys and values, a head
    trained and lost; a folder of ours that PEFT reads otherwise."""
    family, settings = KINDS[kind]
    ours, theirs = adapted(family, settings, tmp_path / "theirs")
    plain = run(ours, family, IDS)
    load_peft(ours, tmp_path / "theirs", family=family)
    expected = run(theirs, family, IDS)
    torch.testing.assert_close(run(ours.eval(), family, IDS), expected, atol=1e-4, rtol=1e-4)
    assert (expected - plain).abs().max() > 1e-2
    trains = {name for name, parameter in ours.named_parameters() if parameter.requires_grad}
    assert trains
    assert all("lora" in name for name in trains) == ("modules_to_save" not in settings)
    save_peft(ours, tmp_path / "ours", family=family)
    again = peft.PeftModel.from_pretrained(pair(family)[1], tmp_path / "ours").eval()
    torch.testing.assert_close(run(again, family, IDS), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_a_head_trained_whole_is_no_longer_the_table(tmp_path):
    """A trained head written into the token table that it was tied to."""
    ours, theirs = adapted("smollm3", dict(target_modules=["v_proj"], modules_to_save=["lm_head"]), tmp_path)
    assert ours.config.tie_embeddings
    load_peft(ours, tmp_path, family="smollm3")
    assert not ours.config.tie_embeddings
    torch.testing.assert_close(run(ours, "smollm3", IDS), run(theirs, "smollm3", IDS), atol=1e-4, rtol=1e-4)


@pytest.fixture
def good(tmp_path):
    """A folder with an adapter, and how to change it."""
    ours, _ = pair("llama")
    add_lora(ours, r=2, target_modules=["q_proj"])
    save_peft(ours, tmp_path, family="llama", base_model="org/name")

    def change(drop: str | None = None, tensors: dict | None = None, **settings):
        path = tmp_path / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
        weights = load_file(tmp_path / "adapter_model.safetensors")
        kept = {name: tensor for name, tensor in weights.items() if drop is None or drop not in name}
        save_file({**kept, **(tensors or {})}, tmp_path / "adapter_model.safetensors")
        return tmp_path

    return change


NAME = "base_model.model.model.layers.0.self_attn"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(peft_type="IA3"), "peft_type='IA3': only 'LORA'"),
        (dict(use_dora=True), "use_dora=True is not read"),
        (dict(bias="all"), "bias='all'"),
        (dict(trainable_token_indices=[1]), r"trainable_token_indices=\[1\] is not read"),
        (dict(layer_replication=[[0, 2]]), "layer_replication"),
        (dict(something_new=3), "something_new=3 is not read"),
        (dict(init_lora_weights="pissa"), "init_lora_weights='pissa' changes the weights of the model"),
        (dict(r="2"), "must be numbers"),
        (dict(r=3), r"corrections of \(2, 24\).*they are of \(3, 24\)"),
        (dict(target_modules="["), "is damaged"),
        (dict(target_modules=["k_proj"]), "is not adapted, though named by target_modules|is adapted and not named by"),
        (dict(drop="layers.0"), r"blocks\.0\.attention\.q_proj is not adapted, though named by"),
        (dict(drop="layers.0.self_attn.q_proj.lora_B"), "lacks lora_B"),
        (dict(tensors={f"{NAME}.q_proj.lora_B.weight": torch.ones(3, 2)}), r"\(3, 2\)"),
        (dict(tensors={f"{NAME}.k_proj.lora_C.weight": torch.ones(1)}), "belongs to no layer"),
        (
            dict(tensors={"base_model.model.x.lora_A.weight": torch.ones(1)}),
            "x.weight is no part of a Llama",
        ),
        (dict(modules_to_save=["lm_head"]), "modules_to_save names lm_head, of which there is no tensor"),
    ],
)
def test_what_is_not_read_is_refused_and_the_model_left_alone(change, message, good):
    """An adapter applied in part, or a setting ignored; a model half adapted after an error."""
    folder = good(**change)
    ours, _ = pair("llama")
    before = {name: parameter.clone() for name, parameter in ours.named_parameters()}
    with pytest.raises(ValueError, match=message) as error:
        load_peft(ours, folder, family="llama")
    assert str(folder) in str(error.value)
    after = dict(ours.named_parameters())
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) and after[name].requires_grad for name in before)


def test_models_that_cannot_take_or_give_one_are_refused_by_name(good, tmp_path):
    """A second adapter in silence; queries, keys and values adapted apart, of which PEFT would keep one A."""
    ours, _ = pair("llama")
    load_peft(ours, good(), family="llama")
    with pytest.raises(ValueError, match="has LoRA already"):
        load_peft(ours, good(), family="llama")
    with pytest.raises(ValueError, match="no names for the architecture 'lama'"):
        save_peft(ours, tmp_path / "x", family="lama")
    part = ours.backbone
    part.blocks[0].attention.q_proj.lora_alpha = 99.0
    with pytest.raises(ValueError, match="use save_peft"):
        save_lora(ours, tmp_path / "one.safetensors")
    gpt, _ = pair("gpt2")
    add_lora(gpt, target_modules=["q_proj"])
    with pytest.raises(ValueError, match=r"k_proj cannot be kept as PEFT does"):
        save_peft(gpt, tmp_path / "x", family="gpt2")
    gpt, _ = pair("gpt2")
    add_lora(gpt, target_modules=["q_proj", "k_proj", "v_proj"])
    with pytest.raises(ValueError, match=r"PEFT keeps one lora_A for transformer\.h\.0\.attn\.c_attn"):
        save_peft(gpt, tmp_path / "x", family="gpt2")
    tied, _ = pair("smollm3")
    add_lora(tied, target_modules=["q_proj"])
    unfreeze(tied, "lm_head")
    with pytest.raises(ValueError, match="tied to another"):
        save_peft(tied, tmp_path / "x", family="smollm3")
    assert not (tmp_path / "x").exists()


def test_a_pickle_is_not_opened(tmp_path):
    """Code run by opening somebody's adapter."""
    ours, _ = pair("llama")
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"]})
    )
    (tmp_path / "adapter_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(FileNotFoundError, match=re.escape("adapter_model.bin is a pickle, which is not read")):
        load_peft(ours, tmp_path, family="llama")
    assert not any(isinstance(part, LoRALinear) for part in ours.modules())
