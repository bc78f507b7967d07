"""Masked diffusion and several tokens at once, each against its formula."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from llmbook.model import DecoderLM, MaskedLM, MultiTokenLM, Output, TransformerConfig
from llmbook.text import IGNORE
from llmbook.training import causal_lm_loss, masked_diffusion_loss, masked_lm_loss, multi_token_loss
from tests.model.helpers import shake
from tests.mutations import must_be_noticed

SIZES = dict(vocab_size=31, max_seq_len=16, d_model=16, n_layers=1, n_heads=2, init_std=0.3)


def encoder():
    torch.manual_seed(0)
    return MaskedLM(TransformerConfig.bert(**SIZES, n_segments=0)).eval()


def decoder():
    torch.manual_seed(0)
    return DecoderLM(TransformerConfig.gpt2(**SIZES)).eval()


def hidden_batch():
    torch.manual_seed(1)
    ids = torch.randint(30, (4, 9))
    chosen = torch.rand(4, 9) < 0.5
    share = torch.tensor([0.2, 0.5, 0.9, 1.0])
    return {"input_ids": ids.masked_fill(chosen, 30), "labels": ids.masked_fill(~chosen, IGNORE), "share": share}


def test_the_diffusion_loss_is_its_formula():
    """Catches the weight left out, a mean over hidden tokens, and the weight of another row; value and gradients."""
    model, batch = encoder(), hidden_batch()
    log_p = model(batch["input_ids"]).logits.log_softmax(-1)
    expected = torch.zeros(())
    for row in range(4):
        for place in range(9):
            if (label := batch["labels"][row, place]) != IGNORE:
                expected = expected - log_p[row, place, label] / batch["share"][row]
    loss = masked_diffusion_loss(model, batch)
    torch.testing.assert_close(loss.total, expected, atol=1e-4, rtol=1e-5)
    assert loss.n_targets == 4 * 9
    parameters = list(model.parameters())
    for one, other in zip(
        torch.autograd.grad(loss.total, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_with_a_fixed_share_it_is_the_masked_loss():
    """Catches a sum that is not that of BERT's objective times one over the share."""
    model, batch = encoder(), hidden_batch()
    batch["share"] = torch.full((4,), 0.25)
    torch.testing.assert_close(masked_diffusion_loss(model, batch).total, 4 * masked_lm_loss(model, batch).total)


class Unigram(nn.Module):
    """The same distribution at every place."""

    def forward(self, ids, **_):
        return Output(logits=torch.tensor([0.5, 0.2, 0.3]).log().expand(*ids.shape, 3), last_hidden_state=ids)


def test_it_estimates_the_likelihood_of_the_text():
    """Catches any bias: for a model that ignores its context the bound is tight, whatever the share."""
    ids = torch.tensor([0, 1, 2, 2]).repeat(40_000, 1)
    share = torch.rand(40_000) * 0.9 + 0.1
    chosen = torch.rand(ids.shape) < share[:, None]
    batch = {"input_ids": ids, "labels": ids.masked_fill(~chosen, IGNORE), "share": share}
    total, n = masked_diffusion_loss(Unigram(), batch)
    exact = -torch.tensor([0.5, 0.2, 0.3, 0.3]).log().mean()
    assert abs(total / n - exact) < 0.02


def test_padding_counts_for_nothing():
    """Catches padding among the targets' number."""
    batch = hidden_batch()
    real = torch.ones(4, 9).long()
    real[2, 5:], batch["labels"][2, 5:] = 0, IGNORE
    assert masked_diffusion_loss(encoder(), {**batch, "attention_mask": real}).n_targets == 4 * 9 - 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"share": torch.zeros(4)}, "must lie above 0"),
        ({"share": torch.ones(3)}, "one number a row"),
        ({"labels": torch.ones(4, 3).long()}, "same shape"),
    ],
)
def test_what_the_diffusion_loss_refuses(change, message):
    """Catches an infinite weight and broadcast shapes."""
    with pytest.raises(ValueError, match=message):
        masked_diffusion_loss(encoder(), {**hidden_batch(), **change})


def test_a_batch_without_shares_names_what_adds_them():
    """Catches a KeyError in place of advice."""
    batch = hidden_batch()
    del batch["share"]
    with pytest.raises(ValueError, match="no share, which HideShare adds"):
        masked_diffusion_loss(encoder(), batch)


def shaken(n_future=3):
    model = MultiTokenLM(decoder(), n_future=n_future)
    shake(model)
    return model


def test_several_tokens_are_their_formula():
    """Catches heads shifted by one too few, one too many, or scored beyond the end; value and gradients."""
    model, ids = shaken(), torch.randint(31, (2, 8))
    state = model.decoder(ids).last_hidden_state
    expected, n = torch.zeros(()), 0
    for k in (1, 2, 3):
        for t in range(8 - k):
            at = state[:, t] if k == 1 else state[:, t] + F.linear(state[:, t], model.ahead[k - 2].weight)
            log_p = model.decoder.lm_head(at).log_softmax(-1)
            expected = expected - log_p.gather(1, ids[:, t + k, None]).sum()
            n += 2
    loss = multi_token_loss(model, {"input_ids": ids})
    torch.testing.assert_close(loss.total, expected, atol=1e-4, rtol=1e-5)
    assert loss.n_targets == n
    parameters = list(model.parameters())
    for one, other in zip(
        torch.autograd.grad(loss.total, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_one_head_is_the_causal_loss():
    """Catches a first head that is not the decoder's own."""
    model, ids = shaken(1), torch.randint(31, (2, 8))
    torch.testing.assert_close(multi_token_loss(model, {"input_ids": ids}), causal_lm_loss(model, {"input_ids": ids}))


def test_labels_that_are_ignored_are_no_targets():
    """Catches labels of the first head used for all."""
    ids = torch.randint(31, (2, 8))
    labels = ids.clone()
    labels[:, 5] = IGNORE
    assert multi_token_loss(shaken(), {"input_ids": ids, "labels": labels}).n_targets == 2 * (7 + 6 + 5 - 3)


def test_heads_without_room_are_refused():
    """Catches a head without a target, and a model without heads."""
    with pytest.raises(ValueError, match="3 tokens a row: 3 heads"):
        multi_token_loss(shaken(), {"input_ids": torch.ones(1, 3).long()})
    with pytest.raises(ValueError, match="n_future=0"):
        MultiTokenLM(decoder(), n_future=0)


def test_a_head_one_step_off_is_noticed(monkeypatch):
    """Catches a formula test that would pass with the heads in another order."""
    real = MultiTokenLM.futures
    turned = lambda self, *inputs, **keywords: real(self, *inputs, **keywords)[::-1]  # noqa: E731
    must_be_noticed(MultiTokenLM, "futures", turned, test_several_tokens_are_their_formula, monkeypatch)
