"""What the inference tests share: models whose texts vary, prompts, and GPT-2 under both names."""

from functools import cache
from types import SimpleNamespace

import torch
from torch import nn

from llmbook.model import DecoderLM, EncoderDecoderLM, TransformerConfig

VOCAB_SIZE = 29


def fill(model: nn.Module, std: float, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        if p.ndim >= 2:
            nn.init.normal_(p, std=std, generator=generator)
    return model


def make_model(positions: str = "rope", *, seed: int = 0, std: float = 0.5, **overrides) -> DecoderLM:
    """Two layers with matrices of std 0.5, untied: with small weights the text repeats one token, mistakes hide."""
    values = dict(vocab_size=VOCAB_SIZE, max_seq_len=24, d_model=24, n_layers=2, n_heads=4, tie_embeddings=False)
    values["positions"] = positions
    return fill(DecoderLM(TransformerConfig(**{**values, **overrides})), std, seed)


class Bigrams(nn.Module):
    """The smallest language model, and a quick one: a row of logits for what may follow each token."""

    def __init__(self, logits: torch.Tensor):
        super().__init__()
        self.logits = nn.Parameter(logits)
        self.config = TransformerConfig(vocab_size=len(logits), max_seq_len=16, d_model=2, n_layers=1, n_heads=1)

    def forward(self, input_ids, *, attention_mask=None, cache=None):
        if cache is not None:
            cache.advance(input_ids.shape[1])
        return SimpleNamespace(logits=self.logits[input_ids])


def make_encoder_decoder(seed: int = 0) -> EncoderDecoderLM:
    config = TransformerConfig.t5(
        vocab_size=VOCAB_SIZE, max_seq_len=24, d_model=24, n_layers=2, n_decoder_layers=1, n_heads=4,
        tie_embeddings=False, n_kv_heads=None, d_head=None, d_ff=None, dropout=0.3,
    )  # fmt: skip
    return fill(EncoderDecoderLM(config), 0.5, seed)


def prompts(batch: int = 2, length: int = 5, *, seed: int = 1) -> torch.Tensor:
    return torch.randint(VOCAB_SIZE, (batch, length), generator=torch.Generator().manual_seed(seed))


def padded(lengths: tuple[int, ...] = (2, 6, 4)) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """Rows of unequal length, the same padded on the left with a real token's number, and the mask."""
    rows = [prompts(1, n, seed=n) for n in lengths]
    ids = torch.full((len(rows), max(lengths)), 11)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, max(lengths) - row.shape[1] :] = row[0]
        mask[i, max(lengths) - row.shape[1] :] = 1
    return rows, ids, mask


@cache
def gpt2_pair(seed: int = 0, std: float = 0.2):
    """Our GPT-2 and transformers', with the same random weights."""
    import transformers

    from llmbook.interop import config_from_huggingface, from_huggingface

    config = transformers.GPT2Config(
        vocab_size=VOCAB_SIZE, n_positions=24, n_embd=24, n_layer=2, n_head=4, bos_token_id=None, eos_token_id=None,
        tie_word_embeddings=False,
    )  # fmt: skip
    theirs = fill(transformers.GPT2LMHeadModel(config), std, seed).eval()
    ours = DecoderLM(config_from_huggingface(config.to_dict()))
    ours.load_state_dict(from_huggingface(theirs.state_dict(), "gpt2", n_layers=2))
    return ours, theirs
