"""Batches that a model writes itself and that are judged: several answers to each prompt, compared with each other.

The choice this file makes: writing and judging are functions that the caller gives. The loop, its checkpoints and its
objectives stay as they are for texts that were written before.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmbook.text.labels import IGNORE
from llmbook.training.objectives.policy import group_advantages

Write = Callable[[nn.Module, Int[Tensor, "N P"], torch.Generator], Int[Tensor, "N T"]]
Judge = Callable[[Int[Tensor, "N T"]], Float[Tensor, "N"]]


class GroupRollouts:
    """Endless batches of ``group_size`` answers to each of ``n_prompts`` prompts, with their advantages.

    Args:
        model: writes; the one that is trained, so that the texts are its own of this moment.
        prompts: the pool [N, P] that each batch draws from, with replacement.
        write: (model, prompts [n, P], generator) -> texts [n, T] that begin with their prompts.
        judge: texts [n, T] -> the reward of each [n].
        scale: divide advantages by the spread of their group, as GRPO does.
        seed: of the draws of prompts and of what ``write`` draws.

    ``rewards`` and ``dead`` hold, for each batch so far, the mean reward and the share of groups in which all rewards
    are equal. Targets are the written tokens alone. Raises ValueError for an empty pool and for groups of fewer than
    two, which have nothing to be compared with.
    """

    def __init__(
        self,
        model: nn.Module,
        prompts: Int[Tensor, "N P"],
        *,
        write: Write,
        judge: Judge,
        n_prompts: int = 16,
        group_size: int = 8,
        scale: bool = True,
        seed: int = 0,
    ):
        if not len(prompts):
            raise ValueError("the pool of prompts is empty: give at least one")
        if n_prompts < 1 or group_size < 2:
            raise ValueError(
                f"n_prompts={n_prompts}, group_size={group_size}: a batch needs a prompt, and a group two answers"
            )
        self.model, self.prompts, self.write, self.judge = model, prompts, write, judge
        self.n_prompts, self.group_size, self.scale = n_prompts, group_size, scale
        self.generator = torch.Generator(prompts.device).manual_seed(seed)
        self.rewards: list[float] = []
        self.dead: list[float] = []

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return self

    def __next__(self) -> dict[str, Tensor]:
        device = self.prompts.device
        drawn = torch.randint(len(self.prompts), (self.n_prompts,), generator=self.generator, device=device)
        asked = self.prompts[drawn].repeat_interleave(self.group_size, 0)  # [N G, P]
        with torch.no_grad():
            texts = self.write(self.model, asked, self.generator)  # [N G, T]
            rewards = self.judge(texts).float().view(self.n_prompts, self.group_size)
        self.rewards.append(rewards.mean().item())
        self.dead.append((rewards.amin(1) == rewards.amax(1)).float().mean().item())
        labels = texts.clone()
        labels[:, : asked.shape[1]] = IGNORE
        advantages = group_advantages(rewards, scale=self.scale).flatten()
        return {"input_ids": texts, "labels": labels, "advantages": advantages}

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self.generator.get_state(), "rewards": self.rewards, "dead": self.dead}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.generator.set_state(state["generator"])
        self.rewards, self.dead = list(state["rewards"]), list(state["dead"])
