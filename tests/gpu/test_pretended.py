"""What a GPU allows and what it refuses: the self-test of the pretended GPU.

Each case is a statement about CUDA. On the pretended GPU it shows that the pretence holds; on a real one, that it was
right. Cases that leave a real GPU unusable run on the pretended one alone.
"""

import copy
import io
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.gpu.conftest import PRETENDED, needs_cuda

pytestmark = [pytest.mark.gpu, needs_cuda]
SAME = "Expected all tensors to be on the same device"
here = torch.randn


def there(*shape: int) -> Tensor:
    return torch.randn(*shape, device="cuda")


def ids(*values: int, device: str = "cuda") -> Tensor:
    return torch.tensor(values, device=device)


def put(x: Tensor, where: object, value: object) -> Tensor:
    x[where] = value
    return x


def in_context() -> Tensor:
    with torch.device("cuda"):
        return torch.zeros(2) + nn.Linear(2, 2)(torch.ones(1, 2))


def attention(k: Tensor, mask: Tensor | None = None) -> Tensor:
    q = there(1, 1, 2, 4)
    return F.scaled_dot_product_attention(q, k, q, attn_mask=mask, is_causal=mask is None)


ON_THE_GPU = {
    "to": lambda: here(2).to("cuda"),
    "cuda()": lambda: here(2).cuda(),
    "without waiting": lambda: here(2).to("cuda", non_blocking=True),
    "another precision": lambda: there(2).to(torch.float16),
    "tensor": lambda: torch.tensor([1, 2], device="cuda"),
    "from numpy": lambda: torch.as_tensor(np.arange(3), device="cuda"),
    "zeros": lambda: torch.zeros(2, device="cuda"),
    "full": lambda: torch.full((2,), 3, device="cuda"),
    "linspace": lambda: torch.linspace(0, 1, 3, device="cuda"),
    "eye": lambda: torch.eye(3, device="cuda"),
    "tril_indices": lambda: torch.tril_indices(3, 3, device="cuda"),
    "new": lambda: there(2).new_zeros(3),
    "like": lambda: torch.zeros_like(there(2)),
    "a device context": in_context,
    "plus a number": lambda: there(2) + torch.tensor(2.0),
    "a number plus": lambda: torch.tensor(2.0) + there(2),
    "where with a number": lambda: torch.where(there(2) > 0, there(2), torch.tensor(0.0)),
    "masked by a number": lambda: there(2).masked_fill(there(2) > 0, torch.tensor(0.0)),
    "rows by ids of the CPU": lambda: there(2)[ids(0, 1, device="cpu")],
    "rows by ids": lambda: there(2)[ids(0, 1)],
    "rows by a mask of the CPU": lambda: there(2)[torch.tensor([True, False])],
    "rows by a list": lambda: there(3)[[0, 2]],
    "rows by an array": lambda: there(3)[np.array([0, 1])],
    "put a number": lambda: put(there(2), ids(0, 1, device="cpu"), torch.tensor(1.0)),
    "a slice from the CPU": lambda: put(there(2), slice(0, 2), here(2)),
    "copy from the CPU": lambda: there(2).copy_(here(2)),
    "attention": lambda: attention(there(1, 1, 2, 4)),
    "a product in float16": lambda: there(4, 4).half() @ there(4, 4).half(),
    "singular values": lambda: torch.linalg.svdvals(there(3, 3)),
    "solve": lambda: torch.linalg.solve(there(3, 3), there(3)),
    "multinomial": lambda: torch.multinomial(torch.ones(5, device="cuda"), 2),
    "bincount": lambda: torch.bincount(ids(0, 1)),
    "nonzero": lambda: there(3).nonzero(),
    "unfold": lambda: there(6).unfold(0, 3, 1),
    "convolution": lambda: F.conv1d(there(1, 2, 5), there(3, 2, 2)),
    "argsort": lambda: there(3).argsort(descending=True),
    "repeat_interleave": lambda: ids(0, 1).repeat_interleave(ids(2, 1)),
    "complex": lambda: torch.view_as_complex(there(3, 2)) * 1j,
    "fft": lambda: torch.fft.rfft(there(8)),
    "lstm": lambda: nn.LSTM(2, 3).to("cuda")(there(4, 1, 2))[0],
    "its own generator": lambda: torch.randint(9, (3,), device="cuda", generator=torch.Generator("cuda")),
    "a permutation": lambda: torch.randperm(3, device="cuda", generator=torch.Generator("cuda")),
    "inference": lambda: torch.inference_mode()(lambda: nn.Linear(3, 4).cuda()(there(2, 3)).T[0])(),
    "func.grad": lambda: torch.func.grad(lambda x: (x**2).sum())(there(2)),
    "deepcopy": lambda: copy.deepcopy(there(2)),
    "pickle": lambda: pickle.loads(pickle.dumps(there(2))),
}

REFUSED = {
    "numpy": (lambda: there(2).numpy(), TypeError, "can't convert cuda:0"),
    "asarray": (lambda: np.asarray(there(2)), TypeError, "can't convert cuda:0"),
    "a mean by numpy": (lambda: np.mean([there(1)[0], there(1)[0]]), TypeError, ""),
    "a sum": (lambda: there(2) + here(2), RuntimeError, SAME),
    "a number of the GPU": (lambda: torch.tensor(2.0, device="cuda") + here(2), RuntimeError, SAME),
    "a sum in place": (lambda: there(2).add_(here(2)), RuntimeError, SAME),
    "into the CPU": (lambda: here(2).add_(there(2)), RuntimeError, SAME),
    "a comparison": (lambda: there(2) > here(2), RuntimeError, SAME),
    "a product": (lambda: there(2, 2) @ here(2, 2), RuntimeError, SAME),
    "a product from the CPU": (lambda: here(2, 2) @ there(2, 2), RuntimeError, SAME),
    "a linear layer": (lambda: F.linear(here(2, 2), there(2, 2)), RuntimeError, SAME),
    "products of batches": (lambda: there(2, 2, 2) @ here(2, 2, 2), RuntimeError, SAME),
    "a dot product": (lambda: there(2).dot(here(2)), RuntimeError, ""),
    "cat": (lambda: torch.cat([there(2), here(2)]), RuntimeError, SAME),
    "stack": (lambda: torch.stack([here(2), there(2)]), RuntimeError, SAME),
    "stack numbers": (lambda: torch.stack([there(2).sum(), here(2).sum()]), RuntimeError, SAME),
    "where": (lambda: torch.where(here(2) > 0, there(2), there(2)), RuntimeError, SAME),
    "masked_fill": (lambda: there(2).masked_fill(here(2) > 0, 0.0), RuntimeError, ""),
    "rows of the CPU": (lambda: here(2)[ids(0, 1)], RuntimeError, "indices should be either on cpu"),
    "put values of the CPU": (lambda: put(there(2), ids(0, 1, device="cpu"), here(2)), RuntimeError, ""),
    "put into the CPU": (lambda: put(here(2), ids(0, 1, device="cpu"), there(2)), RuntimeError, ""),
    "gather": (lambda: there(2).gather(0, ids(0, 1, device="cpu")), RuntimeError, SAME),
    "index_select": (lambda: there(2).index_select(0, ids(0, 1, device="cpu")), RuntimeError, SAME),
    "embedding of ids of the CPU": (lambda: F.embedding(ids(0, 1, device="cpu"), there(3, 2)), RuntimeError, SAME),
    "embedding in the CPU": (lambda: nn.Embedding(3, 2)(ids(0, 1)), RuntimeError, SAME),
    "scatter": (lambda: there(2).scatter(0, ids(0, 1), here(2)), RuntimeError, SAME),
    "cross_entropy": (lambda: F.cross_entropy(there(2, 3), ids(0, 1, device="cpu")), RuntimeError, SAME),
    "layer_norm": (lambda: F.layer_norm(there(2, 2), (2,), here(2), here(2)), RuntimeError, SAME),
    "isin": (lambda: torch.isin(ids(0, 1), ids(0, 1, device="cpu")), RuntimeError, ""),
    "bucketize": (lambda: torch.bucketize(there(2), here(2)), RuntimeError, ""),
    "allclose": (lambda: torch.allclose(there(2), here(2)), RuntimeError, SAME),
    "equal": (lambda: torch.equal(there(2), here(2)), RuntimeError, SAME),
    "attention": (lambda: attention(here(1, 1, 2, 4)), RuntimeError, ""),
    "a mask of the CPU": (lambda: attention(there(1, 1, 2, 4), torch.ones(2, 2) > 0), RuntimeError, ""),
    "a product of whole numbers": (
        lambda: ids(1, 2)[None] @ ids(1, 2)[:, None],
        RuntimeError,
        "implemented for 'Long'",
    ),
    "whole numbers times a vector": (lambda: ids(1, 2)[None] @ ids(1, 2), RuntimeError, "implemented for 'Long'"),
    "a CPU generator": (
        lambda: torch.randn(2, device="cuda", generator=torch.Generator()),
        RuntimeError,
        "Expected a 'cuda' device type for generator but found 'cpu'",
    ),
    "its generator on the CPU": (
        lambda: torch.randn(2, generator=torch.Generator("cuda")),
        RuntimeError,
        "Expected a 'cpu' device type for generator but found 'cuda'",
    ),
    "multinomial by a CPU generator": (
        lambda: torch.multinomial(torch.ones(5, device="cuda"), 2, generator=torch.Generator()),
        RuntimeError,
        "generator",
    ),
    "too much memory": (lambda: torch.empty(2**50, device="cuda"), torch.cuda.OutOfMemoryError, "out of memory"),
    "a row that is not there": (lambda: there(3)[7], IndexError, ""),
    "an axis that is not there": (lambda: there(3).sum(4), IndexError, ""),
}

FATAL = {  # the context of a real GPU is lost after them
    "a token that is not there": lambda: F.embedding(ids(7), there(3, 2)),
    "a row by a number that is not there": lambda: there(3)[ids(7)],
    "a target that is not there": lambda: there(1, 3).gather(1, ids(7)[None]),
}


@pytest.mark.parametrize("make", ON_THE_GPU.values(), ids=ON_THE_GPU)
def test_it_computes(make):
    """An operator that the pretended GPU lacks and a real one has, or a result that lies somewhere else."""
    assert make().device == torch.device("cuda:0")


@pytest.mark.parametrize(("make", "error", "words"), REFUSED.values(), ids=REFUSED)
def test_it_refuses(make, error, words):
    """A mistake that the pretended GPU lets pass, so that a reader with a real one is the first to meet it."""
    with pytest.raises(error) as caught:
        make()
    assert words in str(caught.value)


@pytest.mark.skipif(not PRETENDED, reason="the context of a real GPU is lost after such an error")
@pytest.mark.parametrize("make", FATAL.values(), ids=FATAL)
def test_an_assertion_on_the_device(make):
    """A number outside its table that ends in the CPU's helpful error, which no GPU gives."""
    with pytest.raises(RuntimeError, match="device-side assert"):
        make()


def test_numbers_come_back():
    """A GPU tensor that cannot be printed, read or counted through."""
    x = torch.tensor([3.0, 4.0], device="cuda")
    assert x.tolist() == [3, 4]
    assert x[0].item() == 3
    assert f"{x[0]:.1f}" == "3.0"
    assert "cuda:0" in repr(x)
    assert [part.device.type for part in x] == ["cuda", "cuda"]
    assert ["a", "b"][ids(1)[0]] == "b"
    assert x.cpu().numpy().sum() == 7
    assert here(2).copy_(x).tolist() == [3, 4]
    assert torch.randperm(9, device="cuda").sort().values.tolist() == list(range(9))


def test_views_share_memory():
    """A view that is a copy: what is written into a cache is then lost."""
    whole = torch.zeros(4, device="cuda")
    whole[1:3].add_(1)
    whole.view(2, 2)[0] = 5
    assert whole.tolist() == [5, 5, 1, 0]


def test_each_device_has_its_own_random_numbers():
    """One stream for both devices: draws on the GPU that move the CPU's, and states that do not come back."""
    torch.manual_seed(3)
    first, cpu = there(2), here(2)
    torch.manual_seed(3)
    again = there(2)
    there(5)
    assert torch.equal(first, again)
    assert torch.equal(cpu, here(2))
    states, ones = torch.cuda.get_rng_state_all(), torch.ones(50, device="cuda")
    dropped = F.dropout(ones)
    torch.cuda.set_rng_state_all(states)
    assert torch.equal(dropped, F.dropout(ones))


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2))


def test_modules_move_and_learn():
    """Parameters that are replaced when they move (an optimiser then trains the old ones), gradients left behind."""
    model = network()
    weight = model[0].weight
    assert model.to("cuda")[0].weight is weight
    model(there(5, 3)).sum().backward()
    assert {p.grad.device.type for p in model.parameters()} == {"cuda"}
    assert copy.deepcopy(model)[0].weight.device.type == "cuda"
    with pytest.raises(RuntimeError, match=SAME):
        model(here(5, 3))


@pytest.mark.parametrize("where", [None, "cpu"])
def test_files_keep_the_device(where):
    """A checkpoint that opens on the device it was saved from, whatever was asked."""
    file = io.BytesIO()
    torch.save(network().to("cuda").state_dict(), file)
    file.seek(0)
    assert torch.load(file, map_location=where)["0.weight"].device.type == (where or "cuda")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_mixed_precision(dtype):
    """Autocast that leaves products in float32, a loss in 16 bits, a scaler that does not find what overflowed."""
    model = network().to("cuda")
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    scaler = torch.amp.GradScaler("cuda", enabled=dtype == torch.float16, init_scale=2.0**40)
    before = model[0].weight.detach().clone()
    with torch.autocast("cuda", dtype=dtype):
        logits = model(there(5, 3))
        loss = F.cross_entropy(logits, ids(0, 1, 0, 1, 0))
    assert (logits.dtype, loss.dtype) == (dtype, torch.float32)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    assert torch.equal(model[0].weight, before) == (dtype == torch.float16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(there(2, 3)).dtype == torch.float32  # the CPU's autocast is not the GPU's


def test_memory_is_counted():
    """A peak that is not one: chapters and the status page print it."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    block = torch.empty(2**20, device="cuda")
    assert torch.cuda.memory_allocated() >= before + 2**22
    del block
    assert torch.cuda.memory_allocated() < before + 2**22
    assert torch.cuda.max_memory_allocated() >= before + 2**22


@pytest.mark.skipif(not PRETENDED, reason="says what the pretended GPU says of itself")
def test_it_says_what_it_is():
    """A rehearsal that could be taken for a measurement; a T4 that says it multiplies bfloat16."""
    from pretended_gpu import chosen

    assert torch.cuda.get_device_name(0) == chosen().name
    assert torch.cuda.get_device_capability() == chosen().capability
    assert torch.cuda.is_bf16_supported(including_emulation=False) == (chosen().capability >= (8, 0))
    assert torch.cuda.get_device_properties(0).total_memory == chosen().n_bytes


@pytest.mark.skipif(not PRETENDED, reason="a real GPU has a kernel for whatever torch says")
def test_an_operator_without_a_kernel():
    """An operator of the CPU alone that the pretended GPU computes all the same."""
    with pytest.raises(NotImplementedError, match="names no kernel of it for CUDA"):
        torch.ops.aten.mkldnn_rnn_layer(*[there(1, 1, 1)] * 7, False, [], 2, 1, 1, True, False, False, False)
