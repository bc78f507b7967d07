r"""All-reduce in a ring: every process ends with the sum, and none sends more than twice its data.

The plain way sends everything to one process, which then sends the sum to everyone: that one carries n times the load.
The ring (Patarasu and Yuan, 2009, https://doi.org/10.1016/j.jpdc.2008.09.002) cuts the tensor into n chunks, and
everyone talks to the next neighbour only. For four processes, chunk by chunk:

    reduce-scatter, n - 1 rounds: pass on a chunk, add what arrives      all-gather, n - 1 rounds: pass on whole sums

    rank r sends chunk r, then r - 1, r - 2, …                           rank r sends chunk r + 1, then r, r - 1, …
    and ends with the whole sum of chunk r + 1                           and ends with all of them

In each of the 2 (n - 1) rounds a process sends one chunk, N / n bytes of N. Together

$$\text{bytes sent by a process} = 2\,\frac{n-1}{n}\,N$$

which hardly depends on n: this is why data parallelism scales. DDP does the all-reduce; FSDP does its two halves apart.
"""

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor


def ring_all_reduce(x: Float[Tensor, "..."]) -> tuple[Float[Tensor, "..."], int]:
    """The sum of ``x`` over all processes, and how many bytes this one has sent.

    ``x`` has the same shape everywhere and is not changed. Where its length is not a multiple of n, chunks differ by
    one number.
    """
    total = x.clone().flatten()
    chunks = total.tensor_split(dist.get_world_size())  # views: filling them fills ``total``
    sent = reduce_scatter(chunks) + all_gather(chunks)
    return total.view(x.shape), sent


def reduce_scatter(chunks: tuple[Tensor, ...]) -> int:
    """Afterwards chunk r + 1 of process r is summed over all processes. In place; returns bytes sent."""
    rank, n = dist.get_rank(), dist.get_world_size()
    sent = 0
    for round_ in range(n - 1):
        arrived, n_bytes = _pass_on(chunks[(rank - round_) % n], like=chunks[(rank - round_ - 1) % n])
        chunks[(rank - round_ - 1) % n].add_(arrived)
        sent += n_bytes
    return sent


def all_gather(chunks: tuple[Tensor, ...]) -> int:
    """From chunk r + 1 being right on process r to all being right everywhere. In place; returns bytes sent."""
    rank, n = dist.get_rank(), dist.get_world_size()
    sent = 0
    for round_ in range(n - 1):
        arrived, n_bytes = _pass_on(chunks[(rank + 1 - round_) % n], like=chunks[(rank - round_) % n])
        chunks[(rank - round_) % n].copy_(arrived)
        sent += n_bytes
    return sent


def bytes_per_process(n_bytes: int, world_size: int) -> float:
    """What a process sends to all-reduce ``n_bytes``, on average over the processes: 2 (n − 1)/n of it."""
    return 2 * (world_size - 1) / world_size * n_bytes


def _pass_on(chunk: Tensor, *, like: Tensor) -> tuple[Tensor, int]:
    """Send ``chunk`` to the next process, and return what the one before has sent, shaped ``like``."""
    rank, n = dist.get_rank(), dist.get_world_size()
    arrived = torch.empty_like(like)
    # Sending must not block: if every process waited for its receiver first, none would receive.
    sending = dist.isend(chunk, (rank + 1) % n) if len(chunk) else None  # fewer numbers than processes: nothing to say
    if len(like):
        dist.recv(arrived, (rank - 1) % n)
    if sending is not None:
        sending.wait()
    return arrived, chunk.numel() * chunk.element_size()
