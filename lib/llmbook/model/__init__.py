"""The Transformer: what readers import. Everything else is found in the module its name says."""

from llmbook.model.attention import MultiHeadAttention, attend
from llmbook.model.baselines import LSTMLM, ConvLM
from llmbook.model.cache import KVCache
from llmbook.model.config import RopeScaling, TransformerConfig
from llmbook.model.layers import Block, FeedForward
from llmbook.model.masks import causal_mask, padding_mask, prefix_mask, sliding_window_mask
from llmbook.model.modes import evaluating
from llmbook.model.position_bias import AlibiBias, T5Bias, alibi_slopes, relative_positions, t5_bucket
from llmbook.model.position_embeddings import (
    LearnedPositions,
    SinusoidalPositions,
    sinusoidal_encoding,
    sinusoidal_table,
)
from llmbook.model.rotary import Rotary, rope_frequencies, rotate
from llmbook.model.transformer import DecoderLM, Encoder, Output

__all__ = [
    "LSTMLM",
    "AlibiBias",
    "Block",
    "ConvLM",
    "DecoderLM",
    "Encoder",
    "FeedForward",
    "KVCache",
    "LearnedPositions",
    "MultiHeadAttention",
    "Output",
    "RopeScaling",
    "Rotary",
    "SinusoidalPositions",
    "T5Bias",
    "TransformerConfig",
    "alibi_slopes",
    "attend",
    "causal_mask",
    "evaluating",
    "padding_mask",
    "prefix_mask",
    "relative_positions",
    "rope_frequencies",
    "rotate",
    "sinusoidal_encoding",
    "sinusoidal_table",
    "sliding_window_mask",
    "t5_bucket",
]
