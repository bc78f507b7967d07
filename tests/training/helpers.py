"""A tiny real model, batches that remember their position, and a run that can be built twice the same."""

import torch

from llmbook.model import DecoderLM, TransformerConfig
from llmbook.training import TrainConfig, Trainer, causal_lm_loss, choose_runtime

CPU = choose_runtime("cpu")


def tiny_model(seed: int = 0, **overrides) -> DecoderLM:
    """One layer with dropout, so that a lost random state shows."""
    torch.manual_seed(seed)
    values = dict(vocab_size=11, max_seq_len=16, d_model=16, n_layers=1, n_heads=2, dropout=0.1)
    return DecoderLM(TransformerConfig(**{**values, **overrides}))


class CountingBatches:
    """Random windows of 0, 1, …, 10, 0, 1, …: the next token is certain. Endless and resumable."""

    def __init__(self, batch_size: int = 4, seq_len: int = 8):
        self.shape = (batch_size, seq_len + 1)
        self.generator = torch.Generator().manual_seed(1)

    def __iter__(self):
        return self

    def __next__(self):
        start = torch.randint(11, (self.shape[0], 1), generator=self.generator)
        return {"input_ids": (start + torch.arange(self.shape[1])) % 11}

    def state_dict(self):
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state):
        self.generator.set_state(state["generator"])


def valid_batches() -> list[dict[str, torch.Tensor]]:
    batches = CountingBatches()
    return [next(batches) for _ in range(2)]


def tiny_trainer(folder=None, *, callbacks=(), objective=None, batches=None, runtime=CPU, **overrides) -> Trainer:
    """Twelve steps of two micro-batches, logged, evaluated and saved at different cadences."""
    values = dict(steps=12, lr=1e-2, warmup_steps=3, accumulation_steps=2, log_every=3, eval_every=4)
    extra = {} if objective is None else {"objective": objective}
    return Trainer(
        tiny_model(),
        batches or CountingBatches(),
        TrainConfig(**{**values, "checkpoint_every": 5, **overrides}),
        valid_batches=valid_batches(),
        callbacks=callbacks,
        runtime=runtime,
        folder=folder,
        **extra,
    )


class Disturbed:
    """The usual objective, whose loss goes through ``change`` in the second micro-batch of some training steps."""

    def __init__(self, steps, change):
        self.steps, self.change, self.calls = steps, change, 0

    def __call__(self, model, batch):
        loss = causal_lm_loss(model, batch)
        self.calls += model.training
        second = model.training and self.calls % 2 == 0
        return self.change(loss) if second and self.calls // 2 in self.steps else loss


def same_parameters(a, b) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
