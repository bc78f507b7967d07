"""Three processes: sequence parallelism and shards against the plain computation, and bytes against a formula."""

import pytest
import torch

from tests.parallel import sharing, worker
from tests.ranks import run_ranks_once_more

pytestmark = pytest.mark.xdist_group("parallel")

N = 3
CLOSE = dict(rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def ranks():
    return run_ranks_once_more(sharing.everything, N)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_text_cut_in_three_is_read_as_the_whole(ranks, name):
    """Catches pieces in the wrong order, an all-gather whose backward pass keeps one process's part alone, a norm's or
    an output bias's gradient of a third of the tokens, and a joined end that sends its gradient n times."""
    model, ids = worker.model(name), sharing.batch()
    logits = model(ids[:, :-1]).logits
    worker.loss_of(logits, ids).backward()
    whole = worker.gradients(model)
    for number, rank in enumerate(ranks):
        seen = rank["sequence"][name]
        torch.testing.assert_close(seen["logits"], logits.detach(), **CLOSE)
        assert {key.replace(".part", "") for key in seen["gradients"]} == set(whole)
        for key, part in seen["gradients"].items():
            expected = whole[key.replace(".part", "")]
            cut = [dim for dim in range(expected.ndim) if part.shape[dim] != expected.shape[dim]]
            expected = expected.chunk(N, cut[0])[number] if cut else expected
            torch.testing.assert_close(part, expected, **CLOSE, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_the_stream_is_cut_and_the_traffic_is_that_of_tensor_parallelism(ranks, name):
    """Catches a text that is never cut, and a gather of what a scatter has sent already; the two ends send a little
    more: the joined output, and the gradient of the embeddings."""
    seen = ranks[0]["sequence"][name]
    assert seen["length"] == [sharing.N_TOKENS // N]
    ends = 2 * (N - 1) / N * 4 * sharing.N_TOKENS * 24 * 4  # forward and backward, [4, 6, 24] numbers of 4 bytes
    sent, beside = seen["sent"]
    assert sent == pytest.approx(beside + ends)
    assert any("norm" in name for name in seen["added"])


def test_updates_of_shards_are_those_of_the_whole(ranks):
    """Catches shards put back in another order, gradients averaged and not summed, moments of the whole, and whole
    gradients that stay."""
    for rank in ranks:
        seen = rank["shard"]
        for part, whole in seen["pairs"]:
            torch.testing.assert_close(part, whole, **CLOSE)
        assert abs(seen["moments"] - seen["n"] / N) <= 1
        assert seen["dropped"]
    sent = sum(rank["shard"]["sent"] for rank in ranks) / N
    assert sent == pytest.approx(3 * 2 * (N - 1) / N * 4 * ranks[0]["shard"]["n"])  # three steps, both halves


def test_bytes_are_counted_as_a_ring_sends_them(ranks):
    """Catches a call that is not seen, and the size of the small tensor taken for that of the whole."""
    seen = ranks[0]["sizes"]
    assert seen["all_reduce"] == (2 * 2 / 3 * 48, {"allreduce": 1})
    assert seen["ring"][0] == 4 * 16
    assert seen["ring"][1]["send"] == 4
    assert seen["all_gather"][0] == pytest.approx(2 / 3 * 144)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("uneven", "5 tokens cannot be shared by 3 processes"),
        ("conv", "conv_width=4: a token at the cut would not see"),
        ("dtypes", "parameters of ['torch.float16', 'torch.float32']: one vector holds them"),
    ],
)
def test_what_cannot_be_cut_is_refused(ranks, what, message):
    """Catches a cut that is silently wrong."""
    assert ranks[0][what].startswith(message)
