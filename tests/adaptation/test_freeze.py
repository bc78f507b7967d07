"""Freezing by name: exactly what was meant, and nothing by accident."""

import pytest
import torch

from llmbook.adaptation import freeze, trainable_report, unfreeze
from llmbook.training import adamw, parameter_groups
from tests.adaptation.helpers import backward, lm

FIRST_TWO = {f"backbone.blocks.{i}.attention.{p}_proj.bias" for i in range(2) for p in "qkvo"}


def trainable(model) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("backbone.blocks.1", lambda name: name.startswith("backbone.blocks.1.")),
        ("blocks.1", lambda name: name.startswith("backbone.blocks.1.")),
        ("q_proj", lambda name: ".q_proj." in name),
        ("*_norm", lambda name: "_norm." in name),
        ("backbone.blocks.[0-1].attention.?_proj.bias", lambda name: name in FIRST_TWO),
        ("*.embeddings", lambda name: "embeddings." in name),
    ],
)
def test_a_pattern_means_modules_and_parameters(pattern, expected):
    """Catches a pattern that matches a part of a name: block 1 is not block 10."""
    model = lm(n_layers=12, d_model=8, n_heads=2)
    freeze(model)
    unfreeze(model, pattern)
    names = {name for name, _ in model.named_parameters()}
    assert trainable(model) == {name for name in names if expected(name)} != set()
    unfreeze(model)
    freeze(model, pattern)
    assert trainable(model) == {name for name in names if not expected(name)}


def test_a_tied_tensor_goes_by_both_names():
    """Catches an output projection that cannot be frozen because torch lists it under the embeddings."""
    model = lm(tie_embeddings=True)
    freeze(model, "lm_head")
    assert "backbone.embeddings.tokens.weight" not in trainable(model)


def test_a_pattern_without_a_match_changes_nothing_and_lists_the_names():
    """Catches a misspelt name that silently trains everything, and a half-done change."""
    model = lm()
    with pytest.raises(ValueError, match=r"matches '\*.query'.*backbone\.blocks\.\*\.attention\.q_proj\.weight"):
        freeze(model, "lm_head", "*.query")
    assert all(p.requires_grad for p in model.parameters())


def test_an_old_gradient_does_not_move_a_frozen_weight():
    """Catches a weight that still moves because its gradient from before was kept."""
    model = lm()
    optimizer = adamw(model, lr=0.1)
    backward(model)
    before = model.backbone.final_norm.weight.clone()
    freeze(model, "backbone.final_norm")
    optimizer.step()
    assert torch.equal(model.backbone.final_norm.weight, before)


def test_the_report_counts_what_the_optimiser_gets():
    """Catches frozen parameters that are counted, or a tied table that counts twice."""
    model = lm(tie_embeddings=True)
    freeze(model)
    unfreeze(model, "backbone.final_norm", "lm_head")
    report = trainable_report(model)
    in_groups = sum(p.numel() for group in parameter_groups(model, weight_decay=0.1) for p in group["params"])
    assert report.n_trainable == in_groups == 2 * 16 + 31 * 16
    assert report.n_total == model.num_parameters()
    share = (2 * 16 + 31 * 16) / model.num_parameters()
    assert str(report) == f"528 of {model.num_parameters():,} parameters train ({share:.2%})"
