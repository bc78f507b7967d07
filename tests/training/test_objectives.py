"""The loss: the right tokens, in the right units, summed and not averaged."""

import pytest
import torch
import torch.nn.functional as F

from llmbook.training import causal_lm_loss
from tests.training.helpers import tiny_model


@pytest.fixture
def model():
    return tiny_model().eval()


def test_equals_cross_entropy_of_the_next_token(model):
    """Catches a shift in the wrong direction or a mean in place of the sum."""
    ids = torch.randint(11, (3, 9))
    loss = causal_lm_loss(model, {"input_ids": ids})
    expected = F.cross_entropy(model(ids[:, :-1]).logits.transpose(1, 2), ids[:, 1:], reduction="sum")
    torch.testing.assert_close(loss.total, expected)
    assert int(loss.n_targets) == 3 * 8


def test_ignored_labels_neither_count_nor_pull(model):
    """Catches −100 counted in the denominator, and labels shifted twice."""
    ids = torch.randint(11, (2, 9))
    labels = ids.clone()
    labels[0, :4] = -100  # targets 1, 2, 3 of row 0 fall away; label 0 is never a target
    labels[1, 6:] = -100
    loss = causal_lm_loss(model, {"input_ids": ids, "labels": labels})
    log_p = model(ids[:, :-1]).logits.log_softmax(-1)
    scored = [(0, t) for t in range(4, 9)] + [(1, t) for t in range(1, 6)]
    expected = -sum(log_p[b, t - 1, ids[b, t]] for b, t in scored)
    torch.testing.assert_close(loss.total, expected)
    assert int(loss.n_targets) == len(scored) == 10


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("positions", ["learned", "rope", "alibi"])
def test_padding_changes_nothing(side, positions):
    """Catches padding that is scored or read; on the left, a first token "predicted" from padding."""
    model = tiny_model(positions=positions).eval()
    short, long = torch.randint(11, (1, 6)), torch.randint(11, (1, 9))
    padded, mask = torch.full((2, 9), 7), torch.zeros(2, 9, dtype=torch.long)
    columns = slice(3, None) if side == "left" else slice(0, 6)
    padded[0, columns], mask[0, columns] = short, 1
    padded[1], mask[1] = long, 1
    together = causal_lm_loss(model, {"input_ids": padded, "attention_mask": mask})
    alone = [causal_lm_loss(model, {"input_ids": ids}) for ids in (short, long)]
    torch.testing.assert_close(together.total, alone[0].total + alone[1].total)
    assert int(together.n_targets) == 5 + 8


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"input_ids": torch.zeros(2, 1, dtype=torch.long)}, r"\(2, 1\).*at least 2 tokens"),
        (
            {"input_ids": torch.zeros(2, 5, dtype=torch.long), "labels": torch.zeros(2, 4, dtype=torch.long)},
            r"labels has shape \(2, 4\) but input_ids \(2, 5\)",
        ),
    ],
)
def test_wrong_shapes_are_named(model, batch, message):
    """Catches labels that were shifted by the caller: the objective would shift them again, silently."""
    with pytest.raises(ValueError, match=message):
        causal_lm_loss(model, batch)
