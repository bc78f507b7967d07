"""Using a trained model: the next token's distribution, and text drawn from it.

Begin with ``sampling`` (from logits to a token) and ``generate`` (the loop). ``reader`` is how both read a text that
grows; ``beam`` and ``speculative`` are other loops on the same reader; ``streaming`` turns tokens into text as they
come; ``exact`` finds the likeliest text of all; ``batching`` writes many texts at once, and ``server`` does so over
HTTP; ``fused`` is a decoder in fewer operations, ``packed`` lays out matrices for single rows, ``compiled`` makes one
program of a step; ``choices`` asks which of a few tokens comes next, in one pass.
"""

from llmbook.inference.batching import Engine, Step, Task
from llmbook.inference.beam import Beams, beam_search
from llmbook.inference.choices import choice_log_probs, last_states
from llmbook.inference.compiled import CompiledDecoder
from llmbook.inference.decoding_state import ConditionedDecoder, DecodingState, pad_left
from llmbook.inference.exact import Mode, likeliest_text
from llmbook.inference.fused import FusedDecoder, fuse
from llmbook.inference.generate import completions, generate, next_token_distribution, stream_tokens
from llmbook.inference.grammar import Grammar, GrammarProcessor, Matcher
from llmbook.inference.log_probs import TokenLogProb
from llmbook.inference.packed import PackedLinear, pack_linears
from llmbook.inference.processors import (
    add_bias,
    apply_temperature,
    count_tokens,
    guide,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalise_counts,
    penalise_repetition,
    sample,
    tokens_seen,
)
from llmbook.inference.request import Completion, Request
from llmbook.inference.sampler import Sampler
from llmbook.inference.sampling import Guidance, History, Sampling, to_distribution
from llmbook.inference.speculative import (
    Draft,
    ModelDraft,
    PromptLookup,
    Speculation,
    acceptance,
    residual,
    speculative_generate,
    verify,
)
from llmbook.inference.stopping import StopStrings
from llmbook.inference.streaming import complete, stream
from llmbook.inference.text_stream import TextStream

__all__ = [
    "Beams",
    "CompiledDecoder",
    "Completion",
    "ConditionedDecoder",
    "DecodingState",
    "Draft",
    "Engine",
    "FusedDecoder",
    "Grammar",
    "GrammarProcessor",
    "Guidance",
    "History",
    "Matcher",
    "Mode",
    "ModelDraft",
    "PackedLinear",
    "PromptLookup",
    "Request",
    "Sampler",
    "Sampling",
    "Speculation",
    "Step",
    "StopStrings",
    "Task",
    "TextStream",
    "TokenLogProb",
    "acceptance",
    "add_bias",
    "apply_temperature",
    "beam_search",
    "choice_log_probs",
    "complete",
    "completions",
    "count_tokens",
    "fuse",
    "generate",
    "guide",
    "keep_min_p",
    "keep_top_k",
    "keep_top_p",
    "last_states",
    "likeliest_text",
    "next_token_distribution",
    "pack_linears",
    "pad_left",
    "penalise_counts",
    "penalise_repetition",
    "residual",
    "sample",
    "speculative_generate",
    "stream",
    "stream_tokens",
    "to_distribution",
    "tokens_seen",
    "verify",
]
