"""Names of parts: exactly those meant."""

import pytest
from torch import nn

from llmbook.model.parts import lies_in, matches, replace_part

NAMES = [
    "backbone",
    "backbone.blocks.1",
    "backbone.blocks.11",
    "backbone.blocks.1.attention",
    "backbone.blocks.1.cross_attention",
    "1",
]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("blocks.1", ["backbone.blocks.1"]),
        ("backbone.blocks.1", ["backbone.blocks.1"]),
        ("attention", ["backbone.blocks.1.attention"]),
        ("*attention", ["backbone.blocks.1.attention", "backbone.blocks.1.cross_attention"]),
        ("blocks.*", ["backbone.blocks.1", "backbone.blocks.11"]),
        ("blocks.?", ["backbone.blocks.1"]),
        ("blocks.[2-9]", []),
        ("1", ["backbone.blocks.1", "1"]),
        ("backbone.*", []),
        ("ATTENTION", []),
        ("x.backbone", []),
    ],
)
def test_a_name_means_what_ends_with_it(pattern, expected):
    """Catches the end of a word taken for its name, a star that reaches over a dot, block 1 taken for block 11."""
    assert [name for name in NAMES if matches(name, pattern)] == expected


def test_what_lies_in_a_part():
    """Catches neighbours whose names begin alike, and a part that does not lie in itself."""
    inside = [name for name in NAMES if lies_in(name, "blocks.1")]
    assert inside == ["backbone.blocks.1", "backbone.blocks.1.attention", "backbone.blocks.1.cross_attention"]


def test_a_part_is_replaced_in_place_and_mode():
    """Catches dropout left on in a model that has been told to evaluate."""
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.ReLU())).eval()
    new = nn.Dropout()
    replace_part(model, "0.1", new)
    assert model[0][1] is new
    assert not new.training
    replace_part(model, "0", nn.Identity())
    assert isinstance(model[0], nn.Identity)
