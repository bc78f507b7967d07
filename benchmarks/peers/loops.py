"""How the contenders train: the usual loop around a peer's model, transformers' Trainer, and the book's own.

Every loop clips gradients at norm 1 and follows nanoGPT's recipe for a CPU, random windows included, unless it names a
recipe of its own; a peer that publishes none for this size gets nanoGPT's.
"""

import tempfile
import time
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.peers.models import Logits, Size
from llmbook.model import DecoderLM, TransformerConfig
from llmbook.text import LMBatches
from llmbook.training import Callback, RunState, Runtime, TrainConfig, Trainer, cosine_schedule, parameter_groups

# config/train_shakespeare_char.py of nanoGPT with the changes its README makes for a CPU
RECIPE = dict(lr=1e-3, warmup_steps=100, min_lr_ratio=0.1, weight_decay=0.1, beta1=0.9, beta2=0.99, clip_norm=1.0)


class PeerLoop:
    """Forward, cross-entropy, backward, clip, fused AdamW (matrices and tables decay), warm-up and cosine."""

    replacement = True  # windows are drawn as nanoGPT draws them

    def __init__(self, model: nn.Module, logits: Logits, steps: int, bf16: bool):
        self.model, self.logits, self.steps, self.step, self.bf16 = model, logits, steps, 0, bf16
        groups = parameter_groups(model, weight_decay=RECIPE["weight_decay"])
        betas = (RECIPE["beta1"], RECIPE["beta2"])
        self.optimizer = torch.optim.AdamW(groups, lr=RECIPE["lr"], betas=betas, fused=True)

    def run(self, batches: LMBatches, n_steps: int) -> None:
        schedule = {name: RECIPE[name] for name in ("lr", "warmup_steps", "min_lr_ratio")}
        for _ in range(n_steps):
            self.step += 1
            for group in self.optimizer.param_groups:
                group["lr"] = cosine_schedule(self.step, steps=self.steps, **schedule)
            ids = next(batches)["input_ids"]
            with torch.autocast("cpu", dtype=torch.bfloat16) if self.bf16 else nullcontext():
                loss = F.cross_entropy(self.logits(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), RECIPE["clip_norm"])
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)


class OurLoop:
    """The book's model in the book's Trainer, which is stopped after every n steps and goes on.

    Without a ``runtime`` the Trainer measures precisions and kernels before its first step and takes the fastest.
    """

    def __init__(
        self, config: TransformerConfig, runtime: Runtime | None, steps: int, replacement: bool = True, **recipe
    ):
        self.model, self.replacement = DecoderLM(config), replacement
        # log_every=1 makes it stoppable at any step; reading a loss on the CPU costs nothing
        recipe = {**RECIPE, **recipe, "warmup_steps": min(RECIPE["warmup_steps"], steps)}
        self.config = TrainConfig(steps=steps, log_every=1, **recipe)
        self.runtime, self.trainer, self.pause = runtime, None, _StopAt()

    def logits(self, ids: Tensor) -> Tensor:
        return self.model(ids).logits

    def run(self, batches: LMBatches, n_steps: int) -> dict[str, str]:
        if self.trainer is None:
            self.trainer = Trainer(self.model, batches, self.config, callbacks=[self.pause], runtime=self.runtime)
        self.pause.last = self.trainer.step + n_steps
        self.trainer.run()
        return {"note": str(self.trainer.runtime)}


class _StopAt(Callback):
    last = 0

    def on_log(self, run: RunState, step: int) -> None:
        if step >= self.last:
            run.stop()


class TransformersTrainerLoop:
    """transformers' Trainer; timed from the first step it begins to the last it ends, its start and end left out."""

    def __init__(self, model: nn.Module, size: Size, bf16: bool):
        self.model, self.size, self.bf16 = model, size, bf16

    def run(self, batches: LMBatches, n_steps: int) -> dict[str, float]:
        from transformers import Trainer, TrainerCallback, TrainingArguments

        clocks = []

        class Clock(TrainerCallback):
            def on_step_begin(self, *_, **__):
                if not clocks:
                    clocks.append((time.perf_counter(), time.process_time()))

            def on_step_end(self, *_, **__):
                clocks[1:] = [(time.perf_counter(), time.process_time())]

        windows = torch.cat([next(batches)["input_ids"] for _ in range(n_steps)])[:, :-1]
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                folder, max_steps=n_steps, per_device_train_batch_size=self.size.batch_size, use_cpu=True,
                bf16=self.bf16, optim="adamw_torch_fused", learning_rate=RECIPE["lr"], lr_scheduler_type="cosine",
                weight_decay=RECIPE["weight_decay"], max_grad_norm=RECIPE["clip_norm"], save_strategy="no",
                logging_strategy="no", report_to=[], disable_tqdm=True, dataloader_pin_memory=False,
            )  # fmt: skip
            rows = [{"input_ids": row, "labels": row} for row in windows]
            Trainer(self.model, arguments, train_dataset=rows, callbacks=[Clock()]).train()
        (wall, cpu), (wall_end, cpu_end) = clocks
        return {"seconds": wall_end - wall, "cpu_seconds": cpu_end - cpu}
