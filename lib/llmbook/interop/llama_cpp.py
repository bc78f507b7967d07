"""What llama.cpp writes into a GGUF file of a Llama-type model: our settings, our weights, a tokenizer.

Read are the architectures "llama", "qwen2" and "qwen3". Tensors have names of their own. In files of "llama" the rows
of W^Q and W^K are in the order of the RoPE paper, which turns neighbours (2i, 2i + 1) together, where ours turns
(i, i + D/2); that is undone here. The others keep Hugging Face's order, which is ours.
"""

import torch
from jaxtyping import Float
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as RustTokenizer
from torch import Tensor

from llmbook.interop.gguf import GGUF
from llmbook.interop.names import Family, pairs, translate
from llmbook.model import RopeScaling, TransformerConfig, rope_frequencies
from llmbook.text import HFTokenizer

_SIZES = (
    "context_length", "embedding_length", "block_count", "attention.head_count", "feed_forward_length",
    "attention.layer_norm_rms_epsilon",
)  # fmt: skip
CONTROL = 3  # the type of a token that never comes from text: <|im_start|>, <|endoftext|>
USER_DEFINED = 4  # the type of a token that is found in text as it is written, before anything is merged
_TEMPLATE_TOKENS = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}


def _names(architecture: str, *, qkv_bias: bool = False, qk_norm: bool = False) -> Family:
    attention, feed_forward = "backbone.blocks.{i}.attention", "backbone.blocks.{i}.feed_forward"
    layer = pairs(
        *((f"blk.{{i}}.attn_{p}", f"{attention}.{p}_proj") for p in "qkv"),
        ("blk.{i}.attn_output", f"{attention}.o_proj"),
        *((f"blk.{{i}}.ffn_{p}", f"{feed_forward}.{p}_proj") for p in ("gate", "up", "down")),
        ("blk.{i}.attn_norm", "backbone.blocks.{i}.attention_norm"),
        ("blk.{i}.ffn_norm", "backbone.blocks.{i}.feed_forward_norm"),
        *((f"blk.{{i}}.attn_{p}_norm", f"{attention}.{p}_norm") for p in "qk" if qk_norm),
        parameters=("weight",),
    )
    if qkv_bias:
        layer += pairs(*((f"blk.{{i}}.attn_{p}", f"{attention}.{p}_proj") for p in "qkv"), parameters=("bias",))
    return Family(
        architecture=f"GGUF {architecture}",
        outside=pairs(
            ("token_embd", "backbone.embeddings.tokens"),
            ("output_norm", "backbone.final_norm"),
            ("output", "lm_head"),
            parameters=("weight",),
        ),
        layer=layer,
        copies={"output.weight": "token_embd.weight"},
        unused=("rope_freqs.weight",),  # read with the settings
    )


# Of each architecture the choices that set it apart from Llama, and its table.
_CHOICES = {"llama": {}, "qwen2": {"qkv_bias": True}, "qwen3": {"qk_norm": True}}
_NAMES = {architecture: _names(architecture, **choices) for architecture, choices in _CHOICES.items()}


def config_from_gguf(file: GGUF) -> TransformerConfig:
    """The sizes of a Llama-type model.

    Raises:
        ValueError: the architecture is another one, its positions are stretched in a way that is not read, or a size
            is missing.
    """
    values = file.values
    architecture = values.get("general.architecture")
    if not isinstance(architecture, str) or architecture not in _NAMES:
        raise ValueError(
            f"{file.path.name} holds a {architecture!r} model; tables of names are there for {', '.join(_NAMES)}"
        )
    needed = ("tokenizer.ggml.tokens", *(f"{architecture}.{name}" for name in _SIZES))
    if missing := [name for name in needed if name not in values]:
        raise ValueError(f"{file.path.name} does not say {', '.join(missing)}")
    try:
        return _config(file, architecture)
    except (TypeError, AttributeError, OverflowError, RuntimeError) as error:
        raise ValueError(f"{file.path.name} has a damaged setting: {str(error).splitlines()[0]}") from None


def _config(file: GGUF, architecture: str) -> TransformerConfig:
    values = file.values

    def said(name: str, otherwise=None):
        return values.get(f"{architecture}.{name}", otherwise)

    plain = TransformerConfig.llama(
        vocab_size=len(values["tokenizer.ggml.tokens"]),
        max_seq_len=said("context_length"),
        d_model=said("embedding_length"),
        n_layers=said("block_count"),
        n_heads=said("attention.head_count"),
        n_kv_heads=said("attention.head_count_kv"),  # left out: as many as heads
        d_head=said("attention.key_length"),
        d_ff=said("feed_forward_length"),
        rope_theta=said("rope.freq_base", 10_000.0),
        norm_eps=said("attention.layer_norm_rms_epsilon"),
        tie_embeddings="output.weight" not in file.tensors,
        **_CHOICES[architecture],
    )
    scaling = _rope_scaling(file, plain, f"{architecture}.")
    return plain if scaling is None else plain.replace(rope_scaling=scaling)


def _rope_scaling(file: GGUF, plain: TransformerConfig, prefix: str) -> RopeScaling | None:
    """Read are "linear", whose key was once ``rope.scale_linear``, and Llama 3's, which is kept as its effect."""
    values, name = file.values, f"{prefix}rope.scaling."
    kind = values.get(f"{name}type", "linear" if f"{name}factor" in values else "none")
    factor = values.get(f"{name}factor", values.get(f"{prefix}rope.scale_linear", 1.0))
    if kind not in ("none", "linear"):
        raise ValueError(f"{file.path.name} stretches its rotary positions by {kind!r}, which is not read")
    if "rope_freqs.weight" in file.tensors:
        return _llama3(file, plain)
    if f"{name}type" not in values and f"{prefix}rope.scale_linear" in values:
        kind = "linear"
    if kind == "none" or factor in (0, 1):  # llama.cpp takes 0 for "not said"
        return None
    length = values.get(f"{name}original_context_length") or plain.max_seq_len
    return RopeScaling(kind="linear", factor=factor, original_max_seq_len=length)


def _llama3(file: GGUF, plain: TransformerConfig) -> RopeScaling:
    """The settings that divide the angles as ``rope_freqs.weight`` does: those of Llama 3.1 and later, or none."""
    divisors = file.tensors["rope_freqs.weight"].dequantise().flatten()
    if not bool((divisors >= 1).all()) or not bool(divisors.isfinite().all()):
        raise ValueError(f"{file.path.name} stretches its rotary positions by rope_freqs.weight below 1")
    scaling = RopeScaling(
        kind="llama3", factor=divisors.max().item(), original_max_seq_len=8192, low_freq_factor=1.0,
        high_freq_factor=4.0,
    )  # fmt: skip
    angles = rope_frequencies(plain.d_rotary, base=plain.rope_theta)
    expected = rope_frequencies(plain.d_rotary, base=plain.rope_theta, scaling=scaling)
    if divisors.shape != angles.shape or not torch.allclose(angles / divisors, expected, rtol=1e-4, atol=0):
        raise ValueError(
            f"{file.path.name} stretches its rotary positions by 'rope_freqs.weight', and not as Llama 3 does"
        )
    return scaling


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
    architecture = file.values["general.architecture"]
    weights = translate(stored, _NAMES[architecture], n_layers=config.n_layers)
    for name, weight in weights.items():
        if architecture == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
            n_heads = config.n_heads if "q_proj" in name else config.n_kv_heads
            weights[name] = half_split(weight, n_heads=n_heads)
    return weights


def half_split(weight: Float[Tensor, "HD C"], *, n_heads: int) -> Float[Tensor, "HD C"]:
    """Rows of a projection from the order 0, 1, 2, … (pairs are neighbours) to 0, 2, 4, … 1, 3, 5, … in each head.

    Queries and keys move alike, so no score changes: only which two numbers ``rotate`` turns together does.
    """
    by_pair = weight.unflatten(0, (n_heads, -1, 2))  # [H, D/2, 2, C]
    return by_pair.transpose(1, 2).reshape(weight.shape)


def _by_pattern(digits: str) -> pre_tokenizers.PreTokenizer:
    """GPT-4's pattern, with its own rule for digits (https://github.com/openai/tiktoken, cl100k_base)."""
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
        + digits
        + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


_GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
_CUTS = {
    "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _GPT2]),
    "gpt-2": _GPT2,
    "llama-bpe": _by_pattern(r"\p{N}{1,3}"),
    "qwen2": _by_pattern(r"\p{N}"),
}


def tokenizer_from_gguf(file: GGUF) -> HFTokenizer:
    """The byte-level BPE tokenizer of the file, with what chats need: its template and its special tokens.

    Text is cut before the merges by a rule that the file names; known are those of ``_CUTS``.

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
    kind, rule = values.get("tokenizer.ggml.model"), values.get("tokenizer.ggml.pre")
    if kind != "gpt2" or rule not in _CUTS:
        known = ", ".join(f"('gpt2', {name!r})" for name in _CUTS)
        raise ValueError(f"{file.path.name} has a tokenizer of kind {(kind, rule)}; read are {known}")
    tokens = values["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in values["tokenizer.ggml.merges"]]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    # Llama 3's takes a whole piece that is a token as that token, whatever the merges would make of it.
    backend = RustTokenizer(models.BPE(vocabulary, merges, ignore_merges=rule == "llama-bpe"))
    backend.pre_tokenizer = _CUTS[rule]
    if rule == "qwen2":
        backend.normalizer = normalizers.NFC()
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
