"""What the processes of ``test_sharing.py`` compute; the asserts stand there."""

import torch
import torch.distributed as dist

from llmbook.parallel import (
    Shard,
    Traffic,
    add_partial_gradients,
    ring_all_reduce,
    sequence_parallel,
    tensor_parallel,
)
from tests.parallel import worker

SGD = dict(lr=0.01, momentum=0.9)  # not Adam: it makes a step of the rounding where a gradient is zero
N_TOKENS = 6  # of rows of eight: two a process


def batch() -> torch.Tensor:
    return torch.randint(11, (4, N_TOKENS + 1), generator=torch.Generator().manual_seed(5))


def everything() -> dict:
    return {
        "sequence": {name: sequence(name) for name in ("gpt2", "llama")},
        "shard": shard(),
        "sizes": sizes(),
        "uneven": worker.error_of(lambda: sequence_parallel(worker.model("gpt2"))(batch()[:, :5])),
        "conv": worker.error_of(lambda: sequence_parallel(worker.model("conv"))),
        "dtypes": worker.error_of(
            lambda: Shard(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2).half()))
        ),
    }


def sequence(name: str) -> dict:
    """Logits, gradients, how long the stream is between the parts, and what is sent beside tensor parallelism."""
    net, widths = sequence_parallel(worker.model(name)), []
    net.backbone.blocks[1].register_forward_pre_hook(lambda _, args: widths.append(args[0].shape[1]))
    ids = batch()
    with Traffic() as seen:
        logits = net(ids[:, :-1]).logits
        worker.loss_of(logits, ids).backward()
    added = add_partial_gradients(net)
    with Traffic() as beside:
        worker.loss_of(tensor_parallel(worker.model(name))(ids[:, :-1]).logits, ids).backward()
    return {
        "logits": logits.detach(), "gradients": worker.gradients(net), "length": widths, "added": added,
        "sent": (seen.sent, beside.sent),
    }  # fmt: skip


def shard() -> dict:
    """Three steps with momentum on shards, each process with its rows, beside the whole model and the whole batch."""
    rank, ids = dist.get_rank(), torch.randint(11, (6, 8), generator=torch.Generator().manual_seed(6))
    net, whole = worker.model("gpt2"), worker.model("gpt2")
    mine = Shard(net)
    steps = torch.optim.SGD([mine.mine], **SGD), torch.optim.SGD(whole.parameters(), **SGD)
    for _ in range(3):
        rows = ids.chunk(3)[rank]
        worker.loss_of(net(rows[:, :-1]).logits, rows).backward()
        mine.reduce()
        dropped = all(p.grad is None for p in net.parameters())
        steps[0].step()
        mine.gather()
        steps[1].zero_grad()
        worker.loss_of(whole(ids[:, :-1]).logits, ids).backward()
        steps[1].step()
    pairs = [(p.detach(), q.detach()) for p, q in zip(net.parameters(), whole.parameters(), strict=True)]
    moments = sum(s.numel() for s in steps[0].state[mine.mine].values() if s.ndim)
    return {"pairs": pairs, "sent": mine.sent, "n": whole.num_parameters(), "moments": moments, "dropped": dropped}


def sizes() -> dict:
    """Bytes counted of one call each, of 12 numbers."""
    found = {}
    with Traffic() as seen:
        dist.all_reduce(torch.ones(12))
    found["all_reduce"] = seen.sent, dict(seen.calls)
    with Traffic() as seen:
        ring_all_reduce(torch.ones(12))
    found["ring"] = seen.sent, dict(seen.calls)
    with Traffic() as seen:
        dist.all_gather_into_tensor(torch.empty(36), torch.ones(12))
    found["all_gather"] = seen.sent, dict(seen.calls)
    return found
