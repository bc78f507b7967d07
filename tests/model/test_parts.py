"""Names of parts: exactly those meant."""

import pytest
from torch import nn

from llmbook.model.parts import lies_in, matches, replace_part

NAMES = ["body", "body.blocks.1", "body.blocks.11", "body.blocks.1.attention", "body.blocks.1.cross_attention", "1"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("blocks.1", ["body.blocks.1"]),
        ("body.blocks.1", ["body.blocks.1"]),
        ("attention", ["body.blocks.1.attention"]),
        ("*attention", ["body.blocks.1.attention", "body.blocks.1.cross_attention"]),
        ("blocks.*", ["body.blocks.1", "body.blocks.11"]),
        ("blocks.?", ["body.blocks.1"]),
        ("blocks.[2-9]", []),
        ("1", ["body.blocks.1", "1"]),
        ("body.*", []),
        ("ATTENTION", []),
        ("x.body", []),
    ],
)
def test_a_name_means_what_ends_with_it(pattern, expected):
    """Catches the end of a word taken for its name, a star that reaches over a dot, block 1 taken for block 11."""
    assert [name for name in NAMES if matches(name, pattern)] == expected


def test_what_lies_in_a_part():
    """Catches neighbours whose names begin alike, and a part that does not lie in itself."""
    inside = [name for name in NAMES if lies_in(name, "blocks.1")]
    assert inside == ["body.blocks.1", "body.blocks.1.attention", "body.blocks.1.cross_attention"]


def test_a_part_is_replaced_in_place_and_mode():
    """Catches dropout left on in a model that has been told to evaluate."""
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.ReLU())).eval()
    new = nn.Dropout()
    replace_part(model, "0.1", new)
    assert model[0][1] is new
    assert not new.training
    replace_part(model, "0", nn.Identity())
    assert isinstance(model[0], nn.Identity)
