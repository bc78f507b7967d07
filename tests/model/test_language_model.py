"""Tied or not is what the tensors are, whatever the setting says."""

import copy

import pytest
import torch
from torch import nn

from llmbook.adaptation import add_lora, merge, remove_lora
from llmbook.adaptation.lora import lora_layers
from llmbook.inference import FusedDecoder, fuse
from llmbook.interop import (
    config_from_huggingface,
    config_to_huggingface,
    from_huggingface,
    load_model,
    save_model,
    save_trained,
    to_huggingface,
)
from llmbook.interop.exported import load_exported
from llmbook.model import DecoderLM, EncoderDecoderLM, MaskedLM, TransformerConfig, TwoStreamLM
from llmbook.playground import export_model
from llmbook.text import ByteTokenizer

SIZES = dict(vocab_size=256, d_model=32, n_layers=2, n_heads=2, d_ff=48, max_seq_len=32, init_std=0.2)


def config(preset: str = "llama", **changes) -> TransformerConfig:
    return getattr(TransformerConfig, preset)(**SIZES | {"tie_embeddings": True} | changes)


def by_merging(model: nn.Module) -> None:
    add_lora(model, target_modules="lm_head")
    nn.init.normal_(lora_layers(model)["lm_head"].lora_B, std=0.2)
    merge(model)
    remove_lora(model)


def by_a_new_layer(model: nn.Module) -> None:
    old = model.lm_head
    model.lm_head = nn.Linear(old.in_features, old.out_features, bias=old.bias is not None)


def by_a_new_weight(model: nn.Module) -> None:
    model.lm_head.weight = nn.Parameter(torch.randn_like(model.lm_head.weight))


def by_a_new_table(model: nn.Module) -> None:
    model.backbone.embeddings.tokens = nn.Embedding(model.config.vocab_size, model.config.d_model)


UNTIED = pytest.mark.parametrize("untie", [by_merging, by_a_new_layer, by_a_new_weight, by_a_new_table])


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(0, 256, (2, 9), generator=torch.Generator().manual_seed(0))


def untied(untie, preset: str = "llama") -> DecoderLM:
    torch.manual_seed(0)
    model = DecoderLM(config(preset)).eval()
    untie(model)
    return model.eval().requires_grad_(False)


@UNTIED
def test_the_configuration_says_what_the_tensors_are(untie):
    """A setting that was true when the model was made and is not any more."""
    assert DecoderLM(config()).config.tie_embeddings
    assert not untied(untie).config.tie_embeddings
    assert untied(untie).config == config(tie_embeddings=False)


def test_tying_by_hand_is_noticed_as_well():
    """The other direction: one tensor under both names of a model that was made with two."""
    model = DecoderLM(config(tie_embeddings=False))
    model.lm_head.weight = model.backbone.embeddings.tokens.weight
    assert model.config.tie_embeddings


def test_copies_and_moves_keep_it():
    """Identity of tensors that is lost by deepcopy, by a new dtype or on the meta device would untie every model."""
    model = DecoderLM(config())
    with torch.device("meta"):
        empty = DecoderLM(config())
    for one in (copy.deepcopy(model), model.to(torch.float64), empty):
        assert one.config.tie_embeddings


@UNTIED
def test_saved_and_loaded_it_keeps_its_head(untie, ids, tmp_path):
    """A saved model whose head came back as the token table."""
    model = untied(untie)
    save_model(tmp_path / "saved", model, ByteTokenizer())
    loaded, _ = load_model(tmp_path / "saved")
    assert torch.equal(loaded(ids).logits, model(ids).logits)


def test_a_folder_written_before_this_was_checked_keeps_its_head(ids, tmp_path):
    """Files are there that call themselves tied and hold two tensors."""
    model = untied(by_a_new_weight)
    save_model(tmp_path / "saved", model, ByteTokenizer())
    settings = tmp_path / "saved" / "config.json"
    settings.write_text(settings.read_text().replace('"tie_embeddings": false', '"tie_embeddings": true'))
    assert '"tie_embeddings": true' in settings.read_text()
    loaded, _ = load_model(tmp_path / "saved")
    assert torch.equal(loaded(ids).logits, model(ids).logits)


@UNTIED
def test_a_tied_model_refuses_what_it_could_not_keep(untie):
    """``load_state_dict`` copies both tensors into the one there is, and the later wins in silence."""
    fresh = DecoderLM(config())
    before = copy.deepcopy(fresh.state_dict())
    with pytest.raises(ValueError, match=r"backbone\.embeddings\.tokens\.weight and lm_head\.weight differ.*=False"):
        fresh.load_state_dict(untied(untie).state_dict())
    assert all(torch.equal(value, before[name]) for name, value in fresh.state_dict().items())


@pytest.mark.parametrize("model_class", [DecoderLM, EncoderDecoderLM, MaskedLM, TwoStreamLM])
def test_every_model_with_a_head_refuses(model_class):
    """A class that was forgotten."""
    made = config("t5") if model_class is EncoderDecoderLM else config("bert", n_segments=0)
    state = model_class(made).state_dict()
    model_class(made).load_state_dict(state)
    state["lm_head.weight"] = state["lm_head.weight"] + 1
    with pytest.raises(ValueError, match="differ"):
        model_class(made).load_state_dict(state)


def test_nan_weights_are_equal_to_themselves():
    """A diverged, tied model that is refused as untied."""
    state = {name: value.clone().fill_(torch.nan) for name, value in DecoderLM(config()).state_dict().items()}
    DecoderLM(config()).load_state_dict(state)


@UNTIED
def test_a_training_checkpoint_exports_its_head(untie, ids, tmp_path):
    """The road from the trainer's file to a model: its settings come from the model, its weights from the file."""
    from llmbook.training.checkpoint import Checkpoint, save_checkpoint

    model = untied(untie)
    empty = {part: {} for part in ("optimizer", "scaler", "rng", "data", "history", "train_config")}
    for settings in (model.config, config()):  # as the trainer writes it today, and before this was checked
        save_checkpoint(
            tmp_path / "last.pt", Checkpoint(step=1, model=model.state_dict(), model_config=settings.to_dict(), **empty)
        )
        exported = save_trained(tmp_path / "last.pt", tmp_path / "model", ByteTokenizer())
        assert torch.equal(exported(ids).logits, model(ids).logits)


@UNTIED
def test_huggingface_gets_both(untie, ids):
    """A config.json that tells transformers to tie, beside a head that differs."""
    transformers = pytest.importorskip("transformers")
    model = untied(untie)
    values = config_to_huggingface(model.config, "llama")
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**values)).eval()
    theirs.load_state_dict(to_huggingface(model.state_dict(), "llama", n_layers=2))
    assert not values["tie_word_embeddings"]
    torch.testing.assert_close(theirs(ids).logits, model(ids).logits, atol=1e-4, rtol=0)


def test_from_huggingface_a_second_tensor_is_not_lost():
    """A file whose config.json ties and whose weights do not: transformers keeps both, so nothing may be dropped."""
    model = untied(by_a_new_weight)
    stored = to_huggingface(model.state_dict(), "llama", n_layers=2)
    settings = config_from_huggingface(config_to_huggingface(model.config, "llama") | {"tie_word_embeddings": True})
    with pytest.raises(ValueError, match="differ"):
        DecoderLM(settings).load_state_dict(from_huggingface(stored, "llama", n_layers=2))


@UNTIED
def test_a_fused_state_finds_its_head(untie, ids):
    """``FusedDecoder(config)`` made from the settings of an untied model, and the state it should hold."""
    model = untied(untie)
    fused = fuse(model)
    loaded = FusedDecoder(fused.config)
    loaded.load_state_dict(fused.state_dict())
    torch.testing.assert_close(loaded(ids).logits, model(ids).logits, atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match=r"tokens\.weight and lm_head\.weight differ"):
        FusedDecoder(config()).load_state_dict(fused.state_dict())


@UNTIED
def test_the_page_gets_its_head(untie, ids, tmp_path):
    """The file of a page that leaves out a head it believes to be the token table."""
    model = untied(untie)
    model.half().float()
    opened, _ = load_exported(export_model(model, ByteTokenizer(), tmp_path / "model.bin"))
    assert torch.equal(opened(ids).logits, model(ids).logits)


def test_the_state_of_a_merged_lora_can_be_loaded(ids):
    """A merged weight saved beside its correction, which is then added a second time."""
    torch.manual_seed(0)
    model = DecoderLM(config()).eval()
    plain = copy.deepcopy(model.state_dict())
    add_lora(model, target_modules=("q_proj", "lm_head"))
    for layer in lora_layers(model).values():
        nn.init.normal_(layer.lora_B, std=0.2)
    expected = model(ids).logits
    merge(model)
    torch.testing.assert_close(model(ids).logits, expected, atol=1e-4, rtol=0)
    state = model.state_dict()
    assert torch.equal(state["lm_head.base.weight"], plain["lm_head.weight"])
    fresh = DecoderLM(config()).eval()
    add_lora(fresh, target_modules=("q_proj", "lm_head"))
    fresh.load_state_dict(state)
    torch.testing.assert_close(fresh(ids).logits, expected, atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match=r"q_proj is merged: unmerge"):
        model.load_state_dict(state)
