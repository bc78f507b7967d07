"""Rollout is a sum over paths."""

import itertools

import pytest
import torch

from llmbook.interpret import attention_rollout
from llmbook.model import KVCache
from tests.model.helpers import random_ids, small_lm


def random_attentions(n_layers, batch, heads, n, causal=True):
    scores = torch.randn(n_layers, batch, heads, n, n)
    if causal:
        scores = scores.masked_fill(torch.ones(n, n).triu(1).bool(), -torch.inf)
    return list(scores.softmax(-1))


def test_equals_a_sum_over_all_paths():
    """Layers multiplied in the wrong order, heads summed instead of averaged, the residual path or its half missing."""
    attentions, n = random_attentions(3, 2, 4, 4), 4
    found = attention_rollout(attentions)
    assert found.shape == (3, 2, n, n)
    mean = [a.mean(1) for a in attentions]
    for row in range(2):
        expected = torch.zeros(n, n)
        for start, *between, end in itertools.product(range(n), repeat=4):  # down from layer 2 to the input
            weight = 1.0
            for layer, (to, source) in zip((2, 1, 0), itertools.pairwise((start, *between, end)), strict=True):
                weight = weight * (0.5 * mean[layer][row, to, source] + 0.5 * (to == source))
            expected[start, end] += weight
        torch.testing.assert_close(found[2, row], expected)


def test_rows_sum_to_one():
    """A rollout that shrinks with depth; a causal model that is told of its future; a padded row that vanishes."""
    model, ids = small_lm(), random_ids(2, 6)
    mask = torch.ones(2, 6, dtype=torch.long)
    mask[0, :2] = 0
    rollout = attention_rollout(model(ids, attention_mask=mask, need_weights=True).attentions)
    torch.testing.assert_close(rollout.sum(-1), torch.ones(2, 2, 6))
    assert (rollout >= 0).all()
    assert rollout.triu(1).abs().max() == 0
    assert rollout[:, 0, 2:, :2].abs().max() == 0  # nothing comes from padding


def test_one_layer_of_heads_that_look_at_the_first_token():
    """By hand: half stays, half comes from token 0."""
    weights = torch.zeros(1, 2, 3, 3)
    weights[..., 0] = 1
    expected = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5]])
    assert torch.equal(attention_rollout([weights])[0, 0], expected)
    two = attention_rollout([weights, weights])[1, 0]
    assert torch.equal(two[1], torch.tensor([0.75, 0.25, 0]))


@torch.no_grad()
def test_a_run_with_a_cache_is_refused():
    """Queries and keys that are not the same positions multiplied as if they were."""
    model = small_lm()
    cache = KVCache(model.config, batch_size=1)
    model(random_ids(1, 4), cache=cache)
    out = model(random_ids(1, 2), cache=cache, need_weights=True)
    with pytest.raises(
        ValueError, match="2 queries read 6 keys: run the model without a cache, and without a learned prefix"
    ):
        attention_rollout(out.attentions)
