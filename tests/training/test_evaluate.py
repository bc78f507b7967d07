"""Evaluation: exact means, the right positions, and no trace left behind."""

import math

import pytest
import torch

from llmbook.training import causal_lm_loss, evaluate, mean_loss
from tests.training.helpers import tiny_model


def windows(tokens, seq_len, batch_size):
    """Every token but the first predicted once, in windows of seq_len targets; the last one is padded with −100."""
    rows = []
    for start in range(0, len(tokens) - 1, seq_len):
        row = tokens[start : start + seq_len + 1]
        n = seq_len + 1 - len(row)
        rows.append((torch.cat([row, row.new_zeros(n)]), torch.cat([row, row.new_full((n,), -100)])))
    for i in range(0, len(rows), batch_size):
        ids, labels = zip(*rows[i : i + batch_size], strict=True)
        yield {"input_ids": torch.stack(ids), "labels": torch.stack(labels)}


@pytest.fixture
def model():
    return tiny_model()


def test_every_token_is_predicted_once_and_weighs_the_same(model):
    """Catches a mean of batch means: the last batch is shorter, yet each token must count alike."""
    tokens = torch.randint(11, (54,))
    result = evaluate(model, windows(tokens, seq_len=8, batch_size=3))
    assert result.n_tokens == 53
    model.eval()
    nats, by_position = 0.0, [[] for _ in range(8)]
    for start in range(0, 53, 8):
        window = tokens[start : start + 9]
        log_p = model(window[None, :-1]).logits[0].log_softmax(-1).detach()
        for t in range(len(window) - 1):
            loss = -float(log_p[t, window[t + 1]])
            nats += loss
            by_position[t].append(loss)
    assert result.loss == pytest.approx(nats / 53, rel=1e-5)
    assert [len(losses) for losses in by_position] == [7] * 5 + [6] * 3
    expected = torch.tensor([sum(losses) / len(losses) for losses in by_position])
    torch.testing.assert_close(result.per_position, expected, atol=1e-5, rtol=1e-5)


def test_windows_of_different_length_may_be_mixed(model):
    """Catches a table of positions sized by the first batch; a position without a target is NaN, not 0."""
    ids = torch.randint(11, (2, 9))
    labels = ids.clone()
    labels[:, 2] = -100
    result = evaluate(model, [{"input_ids": ids[:, :4], "labels": labels[:, :4]}, {"input_ids": ids, "labels": labels}])
    assert result.n_tokens == 2 * 2 + 2 * 7
    assert result.per_position.shape == (8,)
    assert result.per_position.isnan().nonzero().tolist() == [[1]]


def test_perplexity_and_bits_per_byte_of_a_uniform_model(model):
    """Catches nats mixed with bits: a model that knows nothing has perplexity V and log₂ V bits a token."""
    model.lm_head.weight.data.zero_()
    result = evaluate(model, [{"input_ids": torch.randint(11, (4, 9))}])
    assert result.loss == pytest.approx(math.log(11), rel=1e-6)
    assert result.perplexity == pytest.approx(11, rel=1e-5)
    assert result.bits_per_byte(64) == pytest.approx(math.log2(11) * 32 / 64, rel=1e-6)
    with pytest.raises(ValueError, match="n_bytes=0"):
        result.bits_per_byte(0)


def test_mean_loss_agrees_and_the_mode_comes_back(model):
    """Catches evaluation with dropout on, gradients kept, or a model left in evaluation mode."""
    batches = list(windows(torch.randint(11, (54,)), seq_len=8, batch_size=3))
    model.train()
    result = evaluate(model, batches)
    assert mean_loss(model, batches, objective=causal_lm_loss) == pytest.approx(result.loss, rel=1e-6)
    assert evaluate(model, batches).loss == result.loss  # no dropout
    assert model.training
    assert all(p.grad is None for p in model.parameters())


def test_nothing_to_evaluate_is_refused(model):
    """Catches 0 / 0, a NaN that would be plotted as a gap."""
    ids = torch.zeros(1, 5, dtype=torch.long)
    for batches in ([], [{"input_ids": ids, "labels": torch.full_like(ids, -100)}]):
        for function in (evaluate, mean_loss):
            with pytest.raises(ValueError, match="nothing to evaluate"):
                function(model, batches)
