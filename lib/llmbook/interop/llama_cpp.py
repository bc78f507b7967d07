"""What llama.cpp writes into a GGUF file of a Llama-type model: our settings, our weights, a tokenizer.

Two things differ from Hugging Face's files of the same model, and are undone here: tensors have names of their own,
and the rows of W^Q and W^K are in the order of the RoPE paper, which turns neighbours (2i, 2i + 1) together, where
ours turns (i, i + D/2).
"""

from jaxtyping import Float
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as RustTokenizer
from torch import Tensor

from llmbook.interop.gguf import GGUF
from llmbook.interop.names import Family, pairs, translate
from llmbook.model import RopeScaling, TransformerConfig
from llmbook.text import HFTokenizer

_SIZES = (
    "tokenizer.ggml.tokens", "llama.context_length", "llama.embedding_length", "llama.block_count",
    "llama.attention.head_count", "llama.feed_forward_length", "llama.attention.layer_norm_rms_epsilon",
)  # fmt: skip
CONTROL = 3  # the type of a token that never comes from text: <|im_start|>, <|endoftext|>
USER_DEFINED = 4  # the type of a token that is found in text as it is written, before anything is merged
_TEMPLATE_TOKENS = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}

_NAMES = Family(
    architecture="GGUF llama",
    outside=pairs(
        ("token_embd", "backbone.embeddings.tokens"),
        ("output_norm", "backbone.final_norm"),
        ("output", "lm_head"),
        parameters=("weight",),
    ),
    layer=pairs(
        ("blk.{i}.attn_q", "backbone.blocks.{i}.attention.q_proj"),
        ("blk.{i}.attn_k", "backbone.blocks.{i}.attention.k_proj"),
        ("blk.{i}.attn_v", "backbone.blocks.{i}.attention.v_proj"),
        ("blk.{i}.attn_output", "backbone.blocks.{i}.attention.o_proj"),
        ("blk.{i}.ffn_gate", "backbone.blocks.{i}.feed_forward.gate_proj"),
        ("blk.{i}.ffn_up", "backbone.blocks.{i}.feed_forward.up_proj"),
        ("blk.{i}.ffn_down", "backbone.blocks.{i}.feed_forward.down_proj"),
        ("blk.{i}.attn_norm", "backbone.blocks.{i}.attention_norm"),
        ("blk.{i}.ffn_norm", "backbone.blocks.{i}.feed_forward_norm"),
        parameters=("weight",),
    ),
    copies={"output.weight": "token_embd.weight"},
)


def config_from_gguf(file: GGUF) -> TransformerConfig:
    """The sizes of a Llama-type model.

    Raises:
        ValueError: the architecture is another one, its positions are stretched, or a size is missing.
    """
    values = file.values
    if (architecture := values.get("general.architecture")) != "llama":
        raise ValueError(f"{file.path.name} holds a {architecture!r} model; only 'llama' has a table of names")
    if missing := [name for name in _SIZES if name not in values]:
        raise ValueError(f"{file.path.name} does not say {', '.join(missing)}")
    try:
        return _config(file)
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{file.path.name} has a damaged setting: {error}") from None


def _config(file: GGUF) -> TransformerConfig:
    values = file.values
    return TransformerConfig.llama(
        vocab_size=len(values["tokenizer.ggml.tokens"]),
        max_seq_len=values["llama.context_length"],
        d_model=values["llama.embedding_length"],
        n_layers=values["llama.block_count"],
        n_heads=values["llama.attention.head_count"],
        n_kv_heads=values.get("llama.attention.head_count_kv"),  # left out: as many as heads
        d_head=values.get("llama.attention.key_length"),
        d_ff=values["llama.feed_forward_length"],
        rope_theta=values.get("llama.rope.freq_base", 10_000.0),
        rope_scaling=_rope_scaling(file),
        norm_eps=values["llama.attention.layer_norm_rms_epsilon"],
        tie_embeddings="output.weight" not in file.tensors,
    )


def _rope_scaling(file: GGUF) -> RopeScaling | None:
    """Only "linear" is read; the key was once ``llama.rope.scale_linear``."""
    values, name = file.values, "llama.rope.scaling."
    kind = values.get(f"{name}type", "linear" if f"{name}factor" in values else "none")
    factor = values.get(f"{name}factor", values.get("llama.rope.scale_linear", 1.0))
    if kind not in ("none", "linear") or "rope_freqs.weight" in file.tensors:
        what = kind if kind not in ("none", "linear") else "rope_freqs.weight"
        raise ValueError(f"{file.path.name} stretches its rotary positions by {what!r}, which is not read")
    if f"{name}type" not in values and "llama.rope.scale_linear" in values:
        kind = "linear"
    if kind == "none" or factor in (0, 1):  # llama.cpp takes 0 for "not said"
        return None
    length = values.get(f"{name}original_context_length") or values["llama.context_length"]
    return RopeScaling(kind="linear", factor=factor, original_max_seq_len=length)


def from_gguf(file: GGUF, config: TransformerConfig) -> dict[str, Tensor]:
    """The weights as float32 under our names, ready for ``DecoderLM(config).load_state_dict``.

    Raises:
        ValueError: a tensor is missing, unknown, or of another size than ``config`` says.
    """
    try:
        return _weights(file, config)
    except RuntimeError as error:  # a matrix whose rows are no heads
        raise ValueError(f"{file.path.name} holds tensors that are not of the sizes it says: {error}") from None


def _weights(file: GGUF, config: TransformerConfig) -> dict[str, Tensor]:
    stored = {name: tensor.dequantise() for name, tensor in file.tensors.items()}
    weights = translate(stored, _NAMES, n_layers=config.n_layers)
    for name, weight in weights.items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            n_heads = config.n_heads if "q_proj" in name else config.n_kv_heads
            weights[name] = half_split(weight, n_heads=n_heads)
    return weights


def half_split(weight: Float[Tensor, "HD C"], *, n_heads: int) -> Float[Tensor, "HD C"]:
    """Rows of a projection from the order 0, 1, 2, … (pairs are neighbours) to 0, 2, 4, … 1, 3, 5, … in each head.

    Queries and keys move alike, so no score changes: only which two numbers ``rotate`` turns together does.
    """
    by_pair = weight.unflatten(0, (n_heads, -1, 2))  # [H, D/2, 2, C]
    return by_pair.transpose(1, 2).reshape(weight.shape)


def tokenizer_from_gguf(file: GGUF) -> HFTokenizer:
    """The byte-level BPE tokenizer of the file, with what chats need: its template and its special tokens.

    Only the rule "smollm" for cutting text before the merges is known here: every digit alone, then GPT-2's pattern.

    Raises:
        ValueError: the file's tokenizer is of another kind, or a part of it is missing or damaged.
    """
    try:
        return _tokenizer(file)
    except ValueError:
        raise
    except Exception as error:  # the Rust side raises bare Exception
        raise ValueError(f"{file.path.name} has a damaged tokenizer: {type(error).__name__} at {error}") from None


def _tokenizer(file: GGUF) -> HFTokenizer:
    values = file.values
    kind = values.get("tokenizer.ggml.model"), values.get("tokenizer.ggml.pre")
    if kind != ("gpt2", "smollm"):
        raise ValueError(f"{file.path.name} has a tokenizer of kind {kind}; only ('gpt2', 'smollm') is read")
    tokens = values["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in values["tokenizer.ggml.merges"]]
    backend = RustTokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    kinds = list(zip(tokens, values["tokenizer.ggml.token_type"], strict=True))
    control = [AddedToken(token, special=True, normalized=False) for token, kind in kinds if kind == CONTROL]
    plain = [AddedToken(token, special=False, normalized=False) for token, kind in kinds if kind == USER_DEFINED]
    backend.add_special_tokens(control)
    backend.add_tokens(plain)
    tokenizer = HFTokenizer(backend)
    tokenizer.chat_template = values.get("tokenizer.chat_template")
    for name, theirs in _TEMPLATE_TOKENS.items():
        if (index := values.get(f"tokenizer.ggml.{theirs}_token_id")) is not None:
            tokenizer.special_tokens_map[name] = tokens[index]
    return tokenizer
