"""The Transformer: what readers import. Everything else is found in the module its name says."""

from llmbook.model.attention import attend
from llmbook.model.backbone import Backbone, Output
from llmbook.model.baselines import LSTMLM, BengioLM, ConvLM, NGramLM
from llmbook.model.cache import Cache, KVCache, LayerCache
from llmbook.model.config import TransformerConfig
from llmbook.model.delta_rule import DeltaRule, delta_rule
from llmbook.model.encoder_decoder import EncoderDecoderLM
from llmbook.model.experts import (
    ExpertFeedForward,
    Experts,
    Routing,
    balance_by_bias,
    balance_loss,
    watch_routing,
)
from llmbook.model.heads import MaskedLM, SequenceClassifier, TokenClassifier, pool
from llmbook.model.kernels import use_kernels
from llmbook.model.latent_attention import LatentAttention
from llmbook.model.layers import Block, FeedForward
from llmbook.model.linear import Linear
from llmbook.model.linear_attention import LinearAttention, linear_attention
from llmbook.model.masks import causal_mask, padding_mask, prefix_mask, relative_positions, sliding_window_mask
from llmbook.model.mixers import DeltaMixer, LatentMixer, LinearMixer
from llmbook.model.modes import evaluating
from llmbook.model.multi_head import MultiHeadAttention
from llmbook.model.multi_token import MultiTokenLM
from llmbook.model.page_pool import OutOfPages, PagedSequence, PagePool, PoolUse
from llmbook.model.paged_cache import PagedCache
from llmbook.model.position_bias import AlibiBias, T5Bias, alibi_slopes, t5_bucket
from llmbook.model.position_embeddings import (
    LearnedPositions,
    SinusoidalPositions,
    sinusoidal_encoding,
    sinusoidal_table,
)
from llmbook.model.rotary import RopeScaling, Rotary, rope_frequencies, rotate
from llmbook.model.sliding_cache import SlidingKVCache
from llmbook.model.transformer import DecoderLM, Encoder
from llmbook.model.two_stream import TwoStreamLM, two_stream_mask

__all__ = [
    "LSTMLM",
    "AlibiBias",
    "Backbone",
    "BengioLM",
    "Block",
    "Cache",
    "ConvLM",
    "DecoderLM",
    "DeltaMixer",
    "DeltaRule",
    "Encoder",
    "EncoderDecoderLM",
    "ExpertFeedForward",
    "Experts",
    "FeedForward",
    "KVCache",
    "LatentAttention",
    "LatentMixer",
    "LayerCache",
    "LearnedPositions",
    "Linear",
    "LinearAttention",
    "LinearMixer",
    "MaskedLM",
    "MultiHeadAttention",
    "MultiTokenLM",
    "NGramLM",
    "OutOfPages",
    "Output",
    "PagePool",
    "PagedCache",
    "PagedSequence",
    "PoolUse",
    "RopeScaling",
    "Rotary",
    "Routing",
    "SequenceClassifier",
    "SinusoidalPositions",
    "SlidingKVCache",
    "T5Bias",
    "TokenClassifier",
    "TransformerConfig",
    "TwoStreamLM",
    "alibi_slopes",
    "attend",
    "balance_by_bias",
    "balance_loss",
    "causal_mask",
    "delta_rule",
    "evaluating",
    "linear_attention",
    "padding_mask",
    "pool",
    "prefix_mask",
    "relative_positions",
    "rope_frequencies",
    "rotate",
    "sinusoidal_encoding",
    "sinusoidal_table",
    "sliding_window_mask",
    "t5_bucket",
    "two_stream_mask",
    "use_kernels",
    "watch_routing",
]
