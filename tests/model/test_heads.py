"""What encoders are read out for."""

import pytest
import torch

from llmbook.model import Encoder, MaskedLM, SequenceClassifier, TokenClassifier, pool
from tests.model.helpers import random_ids, shake, small_config

HIDDEN = torch.tensor([[[1.0, 9], [2, 8], [6, 1], [7, 7]]])
REAL = torch.tensor([[0, 1, 1, 0]])


@pytest.mark.parametrize(
    ("pooling", "wanted"), [("cls", [2.0, 8]), ("last", [6.0, 1]), ("mean", [4.0, 4.5]), ("max", [6.0, 8])]
)
def test_pooling_counts_real_tokens_only(pooling, wanted):
    """Padding averaged in, or taken for the first or last token."""
    assert pool(HIDDEN, REAL, pooling=pooling).tolist() == [wanted]
    if pooling == "mean":
        assert pool(HIDDEN, pooling=pooling).tolist() == [[4.0, 6.25]]


def test_pooling_refuses_nothing_and_nonsense():
    """A division by zero, or a misspelt way that falls through to another."""
    with pytest.raises(ValueError, match="row 0 has no real token"):
        pool(HIDDEN, torch.zeros_like(REAL))
    with pytest.raises(ValueError, match="pooling='average'"):
        pool(HIDDEN, pooling="average")


def test_a_classifier_ignores_padding_and_hears_segments():
    """A head that pools padding, or drops the segments of a pair on the way."""
    encoder = Encoder(small_config(norm_position="post", n_segments=2))
    for pooling in ("cls", "mean", "max"):
        model = shake(SequenceClassifier(encoder, n_labels=3, pooling=pooling))
        ids = random_ids(2, 6)
        padded = torch.cat([ids, torch.zeros(2, 2, dtype=torch.long)], 1)
        real = torch.tensor([[1] * 6 + [0] * 2] * 2)
        alone, beside = model(ids).logits, model(padded, attention_mask=real).logits
        torch.testing.assert_close(alone, beside, atol=1e-4, rtol=1e-4)
        segments = torch.tensor([[0, 0, 0, 1, 1, 1]] * 2)
        assert (model(ids, segment_ids=segments).logits - alone).abs().max() > 1e-3
        assert alone.shape == (2, 3)


def test_a_token_classifier_reads_both_sides():
    """Labels from the token alone: changing the last token must change the label of the first."""
    model, ids = shake(TokenClassifier(Encoder(small_config()), n_labels=5)), random_ids(1, 6)
    other = ids.clone()
    other[0, -1] = (other[0, -1] + 1) % 31
    assert model(ids).logits.shape == (1, 6, 5)
    assert (model(ids).logits - model(other).logits)[0, 0].abs().max() > 1e-4


def test_a_masked_model_shares_its_table():
    """A head that trains a second token table, or a vocabulary of another size."""
    model = MaskedLM(small_config(norm_position="post"))
    assert model.lm_head.weight is model.encoder.embeddings.tokens.weight
    free = MaskedLM(small_config(norm_position="post", tie_embeddings=False))
    assert free.num_parameters() - model.num_parameters() == 31 * 24
    logits = model(random_ids(2, 5)).logits
    assert logits.shape == (2, 5, 31)
    quieter = MaskedLM(model.config.replace(logit_scale=0.5))
    quieter.load_state_dict(model.state_dict())
    torch.testing.assert_close(quieter(random_ids(2, 5)).logits, logits / 2)  # lm_head's bias is 0


def test_a_masked_model_answers_where_it_is_asked():
    """Places taken in another order than row by row, or hidden from the encoder as well."""
    model = shake(MaskedLM(small_config(norm_position="post")))
    ids, at = random_ids(2, 5), torch.tensor([[0, 1, 0, 0, 1], [1, 0, 0, 1, 1]]).bool()
    every, some = model(ids).logits, model(ids, at=at).logits
    assert some.shape == (5, 31)
    torch.testing.assert_close(some, torch.stack([every[b, t] for b, t in at.nonzero().tolist()]))


def test_no_labels_are_refused():
    """A classifier of nothing."""
    with pytest.raises(ValueError, match="n_labels=0"):
        TokenClassifier(Encoder(small_config()), n_labels=0)
