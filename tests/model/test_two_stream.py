"""Two streams: a place is predicted from exactly the tokens earlier in the order, through the parts of ``Block``."""

import pytest
import torch

from llmbook.model import DecoderLM, TwoStreamLM, causal_mask, two_stream_mask
from tests.model.helpers import POSITIONS, random_ids, shake, small_config

ORDER = torch.tensor([[2, 5, 0, 3, 1, 4]])


def small_two_stream(**overrides) -> TwoStreamLM:
    return shake(TwoStreamLM(small_config(**overrides)))


def test_the_mask_by_hand():
    """Catches ranks and order mistaken for each other, and a query that reads its own token."""
    content, query = two_stream_mask(torch.tensor([[2, 0, 1]]))[0, 0].int().chunk(2)
    assert content.tolist() == [[1, 0, 1, 0, 0, 0], [1, 1, 1, 0, 0, 0], [0, 0, 1, 0, 0, 0]]
    assert query.tolist() == [[0, 0, 1, 0, 0, 0], [1, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]]


@torch.no_grad()
@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("norm_position", ["pre", "post", "sandwich", "output"])
def test_a_prediction_depends_on_exactly_the_tokens_earlier_in_the_order(positions, norm_position):
    """Catches a place that sees its own token or a later one, in any layer, and one that misses an earlier one."""
    model = small_two_stream(positions=positions, norm_position=norm_position)
    ids = random_ids(1, 6)
    logits = model(ids, order=ORDER).logits[0]
    rank = {int(place): i for i, place in enumerate(ORDER[0])}
    for changed in range(6):
        other = ids.clone()
        other[0, changed] = (ids[0, changed] + 1) % 31
        moved = (model(other, order=ORDER).logits[0] - logits).abs().amax(-1)
        for place in range(6):
            assert (moved[place] > 1e-4) == (rank[changed] < rank[place]), (changed, place)


@torch.no_grad()
@pytest.mark.parametrize("positions", ["none", "sinusoidal", "learned", "alibi", "rope"])
def test_in_reading_order_the_content_stream_is_a_causal_model(positions):
    """Catches positions counted through both streams, and a content vector that does not read itself."""
    model = small_two_stream(positions=positions)
    causal = DecoderLM(model.config)
    causal.backbone.load_state_dict(model.backbone.state_dict())
    ids = random_ids(2, 7)
    content, _ = model.streams(ids, order=torch.arange(7).expand(2, 7))
    torch.testing.assert_close(content, causal.backbone(ids).last_hidden_state, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("positions", ["sinusoidal", "learned", "alibi", "rope"])
def test_in_reading_order_the_query_stream_is_a_causal_step_without_its_token(positions):
    """Catches a query stream with blocks, norms or positions of its own.

    Place t by the causal model's own forward pass: tokens 0 … t−1 and, in the place of token t, the query vector, which
    every place but its own may read in vain: nobody but itself reads it, and itself it must not.
    """
    model = small_two_stream(positions=positions)
    causal = DecoderLM(model.config)
    causal.backbone.load_state_dict(model.backbone.state_dict())
    ids = random_ids(1, 6)
    logits = model(ids, order=torch.arange(6)[None]).logits
    for t in range(6):
        vectors = model.backbone.embeddings.tokens(ids[:, : t + 1]).clone()
        vectors[:, t] = model.query
        mask = causal_mask(t + 1)
        mask[t, t] = False
        out = causal.backbone(inputs_embeds=vectors, mask=mask).last_hidden_state
        torch.testing.assert_close(logits[:, t], model.lm_head(out[:, t]), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_rows_have_their_own_order():
    """Catches the first row's order used for the whole batch."""
    model = small_two_stream()
    ids, order = random_ids(2, 6), torch.cat((ORDER, ORDER.flip(1)))
    together = model(ids, order=order).logits
    for row in range(2):
        torch.testing.assert_close(together[row], model(ids[row : row + 1], order=order[row : row + 1]).logits[0])


@torch.no_grad()
@pytest.mark.parametrize("positions", ["learned", "rope"])
def test_padding_changes_nothing(positions):
    """Catches padding that is read by either stream, or counted as a position."""
    model = small_two_stream(positions=positions)
    ids = random_ids(1, 6)
    padded = torch.cat((torch.tensor([[7, 7]]), ids), dim=1)
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 1]])
    order = torch.cat((torch.tensor([[1, 0]]), ORDER + 2), dim=1)
    logits = model(padded, order=order, attention_mask=mask).logits
    torch.testing.assert_close(logits[:, 2:], model(ids, order=ORDER).logits, atol=1e-5, rtol=1e-5)


def test_gradients_reach_every_parameter():
    """Catches a query vector, or a block, that training would leave as it was born."""
    model = small_two_stream(positions="learned", n_segments=0)
    model(random_ids(2, 6), order=ORDER.expand(2, 6)).logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_an_order_that_is_none_is_refused():
    """Catches a place read twice and another never."""
    model = small_two_stream()
    with pytest.raises(ValueError, match="every place from 0 to 5 once"):
        model(random_ids(1, 6), order=torch.tensor([[0, 1, 2, 3, 4, 4]]))
    with pytest.raises(ValueError, match="sliding_window=3"):
        TwoStreamLM(small_config(sliding_window=3))
