"""A model small enough to train in a test, whose text has a known difficulty."""

import torch

from llmbook.model import DecoderLM, TransformerConfig
from llmbook.training import causal_lm_loss


def tiny_lm(**overrides) -> DecoderLM:
    """Grouped queries and gates, widths that divide into groups of 32, weights large enough to expose mistakes."""
    sizes = dict(vocab_size=48, max_seq_len=32, d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, d_head=16, d_ff=64)
    model = DecoderLM(TransformerConfig.llama(**{**sizes, **overrides}))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2, generator=generator)
    return model.eval()


def noisy_counting(n_batches: int, seed: int = 0) -> list[dict[str, torch.Tensor]]:
    """0, 1, …, 47, 0, 1, … with one token in four replaced by any other: something to learn, never to be sure of."""
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for _ in range(n_batches):
        start = torch.randint(48, (16, 1), generator=generator)
        noise = torch.randint(48, (16, 17), generator=generator)
        replaced = torch.rand(16, 17, generator=generator) < 0.25
        batches.append({"input_ids": torch.where(replaced, noise, (start + torch.arange(17)) % 48)})
    return batches


def trained_lm(steps: int = 60, **overrides) -> DecoderLM:
    """``tiny_lm`` from a usual initialisation, after some steps on ``noisy_counting``."""
    torch.manual_seed(0)
    model = tiny_lm(**overrides)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(1.0) if "norm" in name else parameter.mul_(0.5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    for batch in noisy_counting(steps):
        loss = causal_lm_loss(model, batch)
        (loss.total / loss.n_targets).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()
