"""What the spawned processes compute; the asserts stand in the test files."""

import os
import signal
import time

import torch
import torch.distributed as dist
import torch.nn.functional as F

from llmbook.model import DecoderLM, TransformerConfig
from llmbook.parallel import Stage, TensorParallel, pipeline_step, ring_all_reduce, tensor_parallel

LENGTHS = (1, 2, 7, 12, 13)
SHAPES = {
    "gpt2": dict(feed_forward="gelu_tanh"),
    "llama": dict(
        positions="rope",
        norm="rmsnorm",
        feed_forward="swiglu",
        bias=False,
        n_kv_heads=3,
        logit_scale=0.5,
        sliding_window=4,
        full_layers=(1,),
        window_rope_theta=100.0,
        nope_layers=(2,),
        norm_position="sandwich",
        zero_centred_norm=True,
        qkv_bias=True,
        attention_cap=1.0,
        logit_cap=2.0,
    ),
    "conv": dict(positions="rope", norm="rmsnorm", feed_forward="relu2", bias=False, conv_width=4),
}


def model(name: str, **overrides) -> DecoderLM:
    """Three blocks, six heads: everything divides by three processes. Biases, gains, convolutions are random."""
    torch.manual_seed(0)
    values = dict(vocab_size=11, max_seq_len=8, d_model=24, n_layers=3, n_heads=6, d_ff=48, init_std=0.2)
    built = DecoderLM(TransformerConfig(**{**values, **SHAPES[name], **overrides}))
    with torch.no_grad():
        for key, p in built.named_parameters():
            p.add_(0.2 * torch.randn_like(p)) if p.ndim == 1 or "conv" in key else None
    return built


def micro_batches() -> list[torch.Tensor]:
    """Four, of different sizes: a mean of their means is not the mean."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(11, (rows, 8), generator=generator) for rows in (2, 1, 3, 2)]


def numbers(rank: int, length: int) -> torch.Tensor:
    return torch.randn(length, generator=torch.Generator().manual_seed(10 * rank + length))


def loss_of(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="sum")


def gradients(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in module.named_parameters()}


def error_of(call) -> str:
    try:
        call()
    except ValueError as error:
        return str(error)
    return "no error"


def everything() -> dict:
    return {"ring": ring(), "tensor": {name: tensor(name) for name in SHAPES}, "pipeline": pipeline(), **refusals()}


def ring() -> dict:
    found = {}
    for length in LENGTHS:
        x = numbers(dist.get_rank(), length)
        library = x.clone()
        dist.all_reduce(library)
        total, sent = ring_all_reduce(x)
        unchanged = torch.equal(x, numbers(dist.get_rank(), length))
        found[length] = (total, library, sent, unchanged)
    grid = numbers(0, 12).view(3, 4)
    return {**found, "grid": ring_all_reduce(grid)[0]}


def tensor(name: str) -> dict:
    """Logits, gradients, and how often the processes had to talk."""
    ids = micro_batches()[2]
    talks, all_reduce = [0], dist.all_reduce

    def counted(*args, **kwargs):
        talks[0] += 1
        return all_reduce(*args, **kwargs)

    dist.all_reduce = counted
    try:
        shared = tensor_parallel(model(name))
        logits = shared(ids[:, :-1]).logits
        forward = talks[0]
        loss_of(logits, ids).backward()
    finally:
        dist.all_reduce = all_reduce
    return {"logits": logits.detach(), "gradients": gradients(shared), "talks": (forward, talks[0] - forward)}


def pipeline() -> dict:
    found = {}
    for name in SHAPES:
        for kind in ("gpipe", "1f1b"):
            stage = Stage(model(name, tie_embeddings=False))
            loss = pipeline_step(stage, micro_batches(), kind=kind)
            found[name, kind] = (loss, gradients(stage), stage.blocks_of_model)
    return found


def refusals() -> dict:
    plain = model("gpt2")
    return {
        "heads": error_of(lambda: TensorParallel(model("gpt2", n_heads=4).backbone.blocks[0].attention)),
        "width": error_of(lambda: TensorParallel(model("gpt2", d_ff=50).backbone.blocks[0].feed_forward)),
        "qk_norm": error_of(lambda: tensor_parallel(model("gpt2", qk_norm=True))),
        "dropout": error_of(lambda: tensor_parallel(model("gpt2", dropout=0.1))),
        "alibi": error_of(lambda: tensor_parallel(model("gpt2", positions="alibi"))),
        "tied": error_of(lambda: Stage(plain)),
        "t5": error_of(lambda: Stage(model("gpt2", positions="t5", tie_embeddings=False))),
        "blocks": error_of(lambda: Stage(model("gpt2", n_layers=2, tie_embeddings=False))),
    }


def fail() -> None:
    raise ArithmeticError("rank 0 cannot count")


def crash() -> None:
    """Rank 1 dies below Python, while rank 0 waits for it and fails with an error of its own."""
    if dist.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGSEGV)
    dist.barrier()


def crash_once(folder: str) -> list[str]:
    """The names in the folder; the first time, rank 1 leaves another one there and one beside it, and dies."""
    names, mark = sorted(os.listdir(folder)), folder + " was here"
    if not os.path.exists(mark):
        dist.barrier()
        if dist.get_rank() == 1:
            for path in (mark, folder + "/half"):
                open(path, "w").close()
        crash()
    return names


def draw() -> tuple[int, float]:
    print("drawn")
    return os.getpid(), torch.rand(()).item()


def sleep() -> None:
    time.sleep(600)
