"""Three processes: the hand-written all-reduce, tensor parallelism and pipeline against the plain computation."""

import pytest
import torch

from llmbook.parallel import bytes_per_process
from tests.parallel import worker
from tests.ranks import run_ranks_once_more

pytestmark = pytest.mark.xdist_group("parallel")  # what a fixture of the module makes is dear: one worker

N = 3
CLOSE = dict(rtol=1e-5, atol=1e-5)  # gradients of sums go into the tens


@pytest.fixture(scope="module")
def ranks():
    return run_ranks_once_more(worker.everything, N)


@pytest.fixture(scope="module", params=list(worker.SHAPES))
def plain(request):
    """A model's name, its logits and gradients of the third micro-batch, summed over targets."""
    model, ids = worker.model(request.param), worker.micro_batches()[2]
    logits = model(ids[:, :-1]).logits
    worker.loss_of(logits, ids).backward()
    return request.param, logits.detach(), worker.gradients(model)


@pytest.mark.parametrize("length", worker.LENGTHS)
def test_the_ring_sums_as_the_library_does(ranks, length):
    """Catches chunks shifted by one, a chunk added twice or never, and lengths that three does not divide (or that
    leave a process without a chunk)."""
    expected = sum(worker.numbers(rank, length) for rank in range(N))
    for total, library, _, unchanged in (rank["ring"][length] for rank in ranks):
        torch.testing.assert_close(total, expected, **CLOSE)
        torch.testing.assert_close(total, library, **CLOSE)
        assert unchanged


def test_the_ring_keeps_the_shape(ranks):
    """Catches a sum returned flat."""
    torch.testing.assert_close(ranks[1]["ring"]["grid"], 3 * worker.numbers(0, 12).view(3, 4), **CLOSE)


def test_the_ring_sends_what_the_formula_says(ranks):
    """Catches a ring that passes whole tensors round, and a formula without its factor 2 or with n for n - 1."""
    assert [rank["ring"][12][2] for rank in ranks] == [2 * 2 * 4 * 4] * N  # 2 · 2 rounds of 4 numbers of 4 bytes
    assert bytes_per_process(48, N) == 64
    for length in worker.LENGTHS:
        sent = sum(rank["ring"][length][2] for rank in ranks)
        assert sent / N == pytest.approx(bytes_per_process(4 * length, N))


def test_tensor_parallel_logits_and_gradients_are_the_plain_model_s(ranks, plain):
    """Catches a bias added n times, a matrix cut the wrong way, a missing f (gradients before the layer are partial)
    and an all-reduce in g's backward (gradients n times too large); of a short convolution, which every process
    computes whole, a gradient from its own heads alone."""
    name, logits, gradients = plain
    for number, rank in enumerate(ranks):
        seen = rank["tensor"][name]
        torch.testing.assert_close(seen["logits"], logits, **CLOSE)
        assert {key.replace(".part", "") for key in seen["gradients"]} == set(gradients)
        for key, part in seen["gradients"].items():
            whole = gradients[key.replace(".part", "")]
            cut = [dim for dim in range(whole.ndim) if part.shape[dim] != whole.shape[dim]]
            expected = whole.chunk(N, cut[0])[number] if cut else whole
            torch.testing.assert_close(part, expected, **CLOSE, msg=lambda text, key=key: f"{key}: {text}")


def test_tensor_parallel_talks_once_each_way(ranks, plain):
    """Catches an f in front of each of Q, K and V, and matrices that were not cut at all."""
    name, _, gradients = plain
    seen = ranks[0]["tensor"][name]
    assert seen["talks"] == (6, 6)  # three blocks of two parts
    slices = [key for key, part in seen["gradients"].items() if part.shape != gradients[key.replace(".part", "")].shape]
    matrices = {key.split(".")[-2] if "part.weight" not in key else key.split(".")[-3] for key in slices}
    assert matrices >= {"q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"}


@pytest.mark.parametrize("kind", ["gpipe", "1f1b"])
@pytest.mark.parametrize("name", list(worker.SHAPES))
def test_the_pipeline_is_the_plain_model(ranks, name, kind):
    """Catches micro-batches mixed up on their way, gradients of the last one alone, a mean of unequal means, and ends
    (embeddings, last norm, logit scale) computed twice or never; short convolutions left behind by their blocks."""
    model = worker.model(name, tie_embeddings=False)
    batches = worker.micro_batches()
    n_targets = sum(ids[:, 1:].numel() for ids in batches)
    loss = sum(worker.loss_of(model(ids[:, :-1]).logits, ids) for ids in batches) / n_targets
    loss.backward()
    expected, seen = worker.gradients(model), {}
    for number, rank in enumerate(ranks):
        its_loss, gradients, blocks = rank["pipeline"][name, kind]
        assert blocks == [number]
        for key, gradient in gradients.items():
            seen[key.replace("backbone.blocks.0.", f"backbone.blocks.{number}.")] = gradient
        if number < N - 1:
            assert its_loss is None
    torch.testing.assert_close(its_loss, loss.detach(), **CLOSE)
    torch.testing.assert_close(seen, expected, **CLOSE)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("heads", "4 heads with 4 heads of keys cannot be shared by 3 processes"),
        ("width", "50 outputs cannot be shared by 3 processes"),
        ("qk_norm", "qk_norm=True has gains that all heads share"),
        ("dropout", "dropout=0.1: processes would draw different masks"),
        ("alibi", "positions='alibi' has a bias for every head, and a process has only some"),
        ("tied", "tie_embeddings=True: first and last stage would share one table"),
        ("t5", "positions='t5': all stages would share one table"),
        ("blocks", "2 blocks cannot be dealt out to 3 stages"),
    ],
)
def test_what_cannot_be_shared_is_refused(ranks, what, message):
    """Catches slices of unequal size and parameters with two owners, both silently wrong."""
    assert ranks[0][what].startswith(message)
