"""Texts side by side."""

import pytest

from llmbook.figures import FigureError, text_columns


def test_texts_are_shown_literally_and_in_order():
    """Catches a model's "<b>" becoming markup, and columns in another order than given."""
    columns = text_columns({"before": "<b>\n  x", "after": "y & z"}, title="1 < 2", caption="c")
    assert "<b>" not in columns.markup
    for escaped in ("&lt;b&gt;\n  x", "y &amp; z", "1 &lt; 2"):
        assert escaped in columns.markup
    assert columns.markup.index("before") < columns.markup.index("after")
    assert columns._repr_mimebundle_()["text/plain"] == "--- before ---\n<b>\n  x\n\n--- after ---\ny & z"


def test_no_text_is_refused():
    """Catches an empty figure in place of a message."""
    with pytest.raises(FigureError, match="no texts"):
        text_columns({})
