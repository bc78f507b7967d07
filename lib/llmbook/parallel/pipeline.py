"""A pipeline: the blocks of a language model dealt out to processes, activations sent on, gradients sent back.

    rank 0: embeddings, first blocks ── x ──▶ rank 1: further blocks ── x ──▶ last rank: last blocks, norm, logits, loss
                                     ◀─ dx ─                         ◀─ dx ─

A stage is the model's own backbone with fewer blocks; what other stages own is replaced by parts that do nothing. The
order of the passes comes from ``schedules.py``; here is what a pass does.
"""

import copy
from collections.abc import Sequence

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmbook.model import DecoderLM
from llmbook.model.backbone import vocab_logits
from llmbook.parallel.schedules import Kind, order


class PassThrough(nn.Module):
    """In the place of the embeddings on every stage but the first: what arrives is embedded already."""

    def forward(self, input_ids, positions, *, segment_ids=None, inputs_embeds=None):
        return inputs_embeds


class Stage(nn.Module):
    """The part of ``model`` that this process computes: its blocks, and what lies at the ends if it is one.

    Blocks are dealt out evenly, earlier stages taking one more where they do not divide. Raises ValueError for models
    of which two stages would own one parameter, or if there are more processes than blocks.
    """

    def __init__(self, model: DecoderLM):
        super().__init__()
        self.rank, self.n_stages = dist.get_rank(), dist.get_world_size()
        self.first, self.last = self.rank == 0, self.rank == self.n_stages - 1
        config = model.config
        if config.tie_embeddings and self.n_stages > 1:
            raise ValueError(
                "tie_embeddings=True: first and last stage would share one table, and its gradients would have to be "
                "added between them; use tie_embeddings=False"
            )
        if config.positions == "t5":
            raise ValueError("positions='t5': all stages would share one table of biases; use another scheme")
        if config.n_layers < self.n_stages:
            raise ValueError(f"{config.n_layers} blocks cannot be dealt out to {self.n_stages} stages")
        backbone = copy.deepcopy(model.backbone)
        mine = torch.arange(config.n_layers).tensor_split(self.n_stages)[self.rank].tolist()
        backbone.blocks = nn.ModuleList(backbone.blocks[i] for i in mine)
        if not self.first:
            backbone.embeddings = PassThrough()
        if not self.last:
            backbone.final_norm = nn.Identity()
        self.backbone = backbone
        self.lm_head = copy.deepcopy(model.lm_head) if self.last else None
        self.config, self.blocks_of_model = config, mine

    def forward(
        self, input_ids: Int[Tensor, "B T"], arrived: Float[Tensor, "B T C"] | None = None
    ) -> Float[Tensor, "B T CorV"]:
        """Logits on the last stage, elsewhere the stream after this stage's blocks. The first stage reads
        ``input_ids``, the others what has ``arrived``."""
        source = {"input_ids": input_ids} if self.first else {"inputs_embeds": arrived}
        x = self.backbone(**source).last_hidden_state
        return vocab_logits(self, x) if self.last else x


def pipeline_step(stage: Stage, micro_batches: Sequence[Tensor], *, kind: Kind = "gpipe") -> Float[Tensor, ""] | None:
    """Forward and backward of one step: gradients end up in ``stage``'s parameters, to be used by any optimiser.

    Every process calls this with the same ``micro_batches`` of tokens [B, T+1]; the first reads inputs from them, the
    last targets, the others only their shape. Returns the mean loss over all targets on the last stage, None elsewhere.
    """
    n_targets = sum(ids[:, 1:].numel() for ids in micro_batches)
    inputs: dict[int, Tensor | None] = {}  # what a forward pass leaves for its backward pass
    outputs: dict[int, Tensor] = {}
    sending = []  # sends go on while we work; a tensor must live until it has left
    loss = torch.zeros(())
    for direction, i in order(stage.rank, stage.n_stages, len(micro_batches), kind=kind):
        ids = micro_batches[i]
        if direction == "F":
            inputs[i] = None if stage.first else _receive(ids, stage, stage.rank - 1, tag=i).requires_grad_()
            outputs[i] = stage(ids[:, :-1], inputs[i])
            if stage.last:
                targets = ids[:, 1:].flatten()
                outputs[i] = F.cross_entropy(outputs[i].flatten(0, 1), targets, reduction="sum") / n_targets
                loss += outputs[i].detach()
            else:
                sending.append(_send(outputs[i].detach(), stage.rank + 1, tag=i))
        else:
            gradient = None if stage.last else _receive(ids, stage, stage.rank + 1, tag=i)
            x = inputs.pop(i)
            outputs.pop(i).backward(gradient)
            if not stage.first:
                sending.append(_send(x.grad, stage.rank - 1, tag=i))
    for work, _ in sending:
        work.wait()
    return loss if stage.last else None


def _receive(ids: Tensor, stage: Stage, source: int, *, tag: int) -> Float[Tensor, "B T C"]:
    arrived = torch.empty(ids.shape[0], ids.shape[1] - 1, stage.config.d_model)
    dist.recv(arrived, source, tag=tag)
    return arrived


def _send(x: Tensor, to: int, *, tag: int):
    x = x.contiguous()
    return dist.isend(x, to, tag=tag), x
