"""GGUF files written and read by its own project's package, against ours, on a file made on the spot."""

import unicodedata

import gguf
import numpy as np
import pytest
import torch
import transformers
from tokenizers import Regex, pre_tokenizers
from transformers.convert_slow_tokenizer import TikTokenConverter

from llmbook.interop import StoredTensor, read_gguf
from llmbook.interop.llama_cpp import config_from_gguf, from_gguf, half_split, tokenizer_from_gguf
from llmbook.model import DecoderLM, RopeScaling, TransformerConfig
from llmbook.model.rotary import Rotary, rotate
from tests.model.helpers import random_ids, shake

TYPES = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q8_0")


def write(path, tensors, architecture="llama", **values):
    """A GGUF file; ``tensors`` maps a name to (numbers, type)."""
    writer = gguf.GGUFWriter(path, architecture)
    for name, value in values.items():
        key = name.replace("__", ".")
        if isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, (list, tuple)):
            writer.add_array(key, value)
        else:
            (writer.add_float32 if isinstance(value, float) else writer.add_uint32)(key, value)
    for name, (numbers, kind) in tensors.items():
        kind = gguf.GGMLQuantizationType[kind]
        writer.add_tensor(name, gguf.quantize(numbers, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def every_type(tmp_path_factory):
    """A tensor of each type, of a length that leaves the next one at an odd place."""
    numbers = np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)
    path = tmp_path_factory.mktemp("gguf") / "all.gguf"
    return write(
        path,
        {f"t.{kind}": (numbers, kind) for kind in TYPES},
        a__text="naïve 你好",
        a__number=7,
        a__real=0.5,
        a__texts=["one", "", "три"],
        a__numbers=[3, -1, 4],
    )


def test_values_and_tensors_as_the_reference_reads_them(every_type):
    """A field of the head skipped or misread; halves of a byte swapped; a scale for an offset; rows for columns."""
    ours, reference = read_gguf(every_type), gguf.GGUFReader(every_type)
    for name, field in reference.fields.items():
        if not name.startswith("GGUF."):
            assert ours.values[name] == field.contents(), name
    assert ours.values["a.texts"] == ["one", "", "три"]
    assert list(ours.tensors) == [tensor.name for tensor in reference.tensors]
    for tensor in reference.tensors:
        expected = gguf.dequantize(tensor.data, tensor.tensor_type)
        found = ours.tensors[tensor.name]
        assert found.shape == (3, 64)
        torch.testing.assert_close(found.dequantise(), torch.from_numpy(expected.copy()), atol=0, rtol=0)


def test_a_damaged_file_is_refused(every_type, tmp_path):
    """A download that broke off, read as a model with zeros at its end; another kind of file."""
    whole = every_type.read_bytes()
    for keep, message in ((len(whole) - 200, "cut short: t.Q8_0"), (100, "not all of a GGUF file")):
        (tmp_path / "part.gguf").write_bytes(whole[:keep])
        with pytest.raises(ValueError, match=message):
            read_gguf(tmp_path / "part.gguf")
    (tmp_path / "other.gguf").write_bytes(b"PK\x03\x04" + whole[4:])
    with pytest.raises(ValueError, match=r"not a GGUF file of version 2 or 3.*PK"):
        read_gguf(tmp_path / "other.gguf")
    with pytest.raises(FileNotFoundError):
        read_gguf(tmp_path / "none.gguf")


def test_an_unknown_block_is_refused_by_name(tmp_path):
    """Blocks of another layout decoded into noise."""
    numbers = np.ones((2, 256), dtype=np.float32)
    path = write(tmp_path / "x.gguf", {"plain": (numbers, "F32"), "odd": (numbers, "Q5_0")})
    with pytest.raises(ValueError, match=r"odd in .*x.gguf is of type 6; read are F32, .*Q8_0"):
        read_gguf(path)


CONFIG = TransformerConfig.llama(
    vocab_size=31, max_seq_len=32, d_model=24, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=32, tie_embeddings=False
)


def neighbours(weight, n_heads):
    """The order of rows that llama.cpp writes, from ours: pairs (i, i + D/2) become neighbours."""
    rows = torch.arange(weight.shape[0]).view(n_heads, 2, -1).transpose(1, 2).flatten()
    return weight[rows]


def small_file(path, config=CONFIG, **changes):
    """A random model of ours under llama.cpp's names; returns the model and the file."""
    model = shake(DecoderLM(config))
    tensors = {"token_embd": "backbone.embeddings.tokens", "output_norm": "backbone.final_norm"}
    if not config.tie_embeddings:
        tensors["output"] = "lm_head"
    for i in range(config.n_layers):
        for theirs, ours in {
            "attn_q": "attention.q_proj", "attn_k": "attention.k_proj", "attn_v": "attention.v_proj",
            "attn_output": "attention.o_proj", "ffn_gate": "feed_forward.gate_proj", "ffn_up": "feed_forward.up_proj",
            "ffn_down": "feed_forward.down_proj", "attn_norm": "attention_norm", "ffn_norm": "feed_forward_norm",
        }.items():  # fmt: skip
            tensors[f"blk.{i}.{theirs}"] = f"backbone.blocks.{i}.{ours}"
    weights = model.state_dict()
    stored = {}
    for theirs, ours in tensors.items():
        weight = weights[f"{ours}.weight"]
        if theirs.endswith(("attn_q", "attn_k")):
            weight = neighbours(weight, config.n_heads if theirs.endswith("q") else config.n_kv_heads)
        stored[f"{theirs}.weight"] = (weight.numpy(), "F32")
    values = dict(
        llama__context_length=32, llama__embedding_length=24, llama__block_count=2, llama__feed_forward_length=32,
        llama__attention__head_count=4, llama__attention__head_count_kv=2, llama__rope__freq_base=100_000.0,
        llama__attention__layer_norm_rms_epsilon=1e-5, tokenizer__ggml__tokens=[str(i) for i in range(31)],
        tokenizer__ggml__model="llama",
    )  # fmt: skip
    return model, read_gguf(write(path, stored, **{**values, **changes}))


@pytest.mark.parametrize("tied", [False, True])
def test_a_model_from_a_file_is_the_model(tmp_path, tied):
    """Rotary pairs left as neighbours, key heads counted as query heads, a tied head missing, an epsilon lost."""
    model, file = small_file(tmp_path / "m.gguf", CONFIG.replace(tie_embeddings=tied))
    config = config_from_gguf(file)
    assert config == model.config.replace(norm_eps=config.norm_eps)
    assert config.norm_eps == pytest.approx(1e-5)
    again = DecoderLM(config).eval()
    again.load_state_dict(from_gguf(file, config))
    ids = random_ids(2, 9)
    torch.testing.assert_close(again(ids).logits, model(ids).logits, atol=1e-5, rtol=1e-5)


def test_what_a_file_may_leave_out(tmp_path):
    """A file of plain multi-head attention, which says neither its key heads nor the usual base, refused."""
    _, file = small_file(tmp_path / "m.gguf")
    for name in ("llama.attention.head_count_kv", "llama.rope.freq_base"):
        del file.values[name]
    config = config_from_gguf(file)
    assert (config.n_kv_heads, config.rope_theta) == (4, 10_000)


def test_half_split_turns_the_pairs_the_paper_turns():
    """A permutation that is the inverse of the right one: rotating neighbours before must be rotating halves after."""
    x = torch.randn(1, 2, 3, 8)  # [B, H, T, D]
    cos, sin = Rotary(d_head=8)(torch.arange(3)[None])
    a, b = x[..., 0::2], x[..., 1::2]
    paper = torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)

    def reorder(y):  # rows of a projection are the dimensions of its output
        return half_split(y.transpose(2, 3).reshape(-1, 3), n_heads=2).view(1, 2, 8, 3).transpose(2, 3)

    torch.testing.assert_close(rotate(reorder(x), cos, sin), reorder(paper))


ARCHITECTURES = {
    "qwen2": (transformers.Qwen2Config, gguf.MODEL_ARCH.QWEN2, {}),
    "qwen3": (transformers.Qwen3Config, gguf.MODEL_ARCH.QWEN3, {"head_dim": 10}),
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_other_architectures_are_those_of_transformers(architecture, tmp_path):
    """Rows of queries put in another order where the file has ours already; a bias or a norm of heads left out. Names
    are those of the package gguf, weights and logits those of transformers."""
    make, number, extra = ARCHITECTURES[architecture]
    config = make(
        vocab_size=31, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=40, max_position_embeddings=32, pad_token_id=None, bos_token_id=None, eos_token_id=None,
        **extra,
    )  # fmt: skip
    theirs = shake(transformers.AutoModelForCausalLM.from_config(config), 0.5)
    names = gguf.get_tensor_name_map(number, 2)
    stored = {
        names.get_name(name, try_suffixes=(".weight", ".bias")): (tensor.numpy(), "F32")
        for name, tensor in theirs.state_dict().items()
    }
    values = {
        "context_length": 32, "embedding_length": 24, "block_count": 2, "feed_forward_length": 40,
        "attention__head_count": 4, "attention__head_count_kv": 2, "rope__freq_base": 10_000.0,
        "attention__layer_norm_rms_epsilon": 1e-6, "attention__key_length": extra.get("head_dim", 6),
    }  # fmt: skip
    said = {f"{architecture}__{name}": value for name, value in values.items()}
    file = read_gguf(
        write(tmp_path / "q.gguf", stored, architecture, tokenizer__ggml__tokens=[str(i) for i in range(31)], **said)
    )
    ours = DecoderLM(config_from_gguf(file)).eval()
    ours.load_state_dict(from_gguf(file, ours.config))
    ids = random_ids(2, 20)
    torch.testing.assert_close(ours(ids).logits, theirs(ids).logits, atol=1e-4, rtol=0)


def llama3_divisors(d_head: int, base: float, factor: float) -> np.ndarray:
    """By what llama.cpp's converter says that angles are divided (``rope_freqs.weight``), by wavelength."""
    found = []
    for i in range(0, d_head, 2):
        wavelength = 2 * np.pi * base ** (i / d_head)
        smooth = (8192 / wavelength - 1.0) / (4.0 - 1.0)
        found.append(1 / ((1 - smooth) / factor + smooth) if 0 <= smooth <= 1 else 1.0 if smooth > 1 else factor)
    return np.array(found, dtype=np.float32)


def test_llama_3_s_stretching_is_read_from_its_effect(tmp_path):
    """A model of Llama 3.1 or later refused, or read as if its positions were not stretched."""
    config = TransformerConfig.llama(
        vocab_size=31, max_seq_len=32, d_model=96, n_layers=2, n_heads=2, n_kv_heads=2, d_ff=32, rope_theta=500_000.0
    )
    _, file = small_file(
        tmp_path / "l.gguf", config, llama__rope__freq_base=500_000.0, llama__embedding_length=96,
        llama__attention__head_count=2,
    )  # fmt: skip
    for factor in (8.0, 32.0):
        divisors = torch.from_numpy(llama3_divisors(48, 500_000.0, factor))
        assert 1 < divisors.unique().numel() < 24  # kept, between and stretched
        file.tensors["rope_freqs.weight"] = StoredTensor("F32", (24,), divisors.view(torch.uint8))
        assert config_from_gguf(file).rope_scaling == RopeScaling(
            kind="llama3", factor=factor, original_max_seq_len=8192, low_freq_factor=1.0, high_freq_factor=4.0
        )
        from_gguf(file, config_from_gguf(file))
    file.tensors["rope_freqs.weight"] = StoredTensor("F32", (24,), divisors.flip(0).contiguous().view(torch.uint8))
    with pytest.raises(ValueError, match=r"by 'rope_freqs\.weight', and not as Llama 3 does"):
        config_from_gguf(file)


@pytest.mark.parametrize("rule", ["llama-bpe", "qwen2", "gpt-2"])
def test_text_is_cut_by_the_rule_the_file_names(rule, tmp_path):
    """Digits, contractions or line ends cut by another model's rule: pieces as transformers' tokenizers cut them."""
    from tokenizers.pre_tokenizers import ByteLevel

    tokens = [*sorted(ByteLevel.alphabet()), "12", "<s>"]
    file = small_file(
        tmp_path / "t.gguf", tokenizer__ggml__tokens=tokens, tokenizer__ggml__merges=["1 2"],
        tokenizer__ggml__token_type=[1] * 257 + [3], tokenizer__ggml__model="gpt2", tokenizer__ggml__pre=rule,
    )[1]  # fmt: skip
    ours = tokenizer_from_gguf(file).backend
    vocab = {token: i for i, token in enumerate(tokens)}
    if rule == "llama-bpe":
        split = pre_tokenizers.Split(Regex(TikTokenConverter().pattern), "isolated")
        cut = pre_tokenizers.Sequence([split, ByteLevel(add_prefix_space=False, use_regex=False)])
    else:
        make = transformers.Qwen2Tokenizer if rule == "qwen2" else transformers.GPT2Tokenizer
        cut = make(vocab=vocab, merges=[("1", "2")]).backend_tokenizer.pre_tokenizer
    for text in ("I'll DON'T  go\n\n  12345, naïve\t你好！ x1y22 \r\n", " ½ ٣12 a\n", "e\u0301'S"):
        assert ours.pre_tokenizer.pre_tokenize_str(text) == cut.pre_tokenize_str(text)
        composed = unicodedata.normalize("NFC", text) if rule == "qwen2" else text
        assert ours.decode(ours.encode(text).ids) == composed
    assert (256 in ours.encode("12").ids) == (rule != "qwen2")  # where each digit is a piece of its own


def test_what_is_not_read_is_named(tmp_path):
    """A model of another kind, positions stretched or a foreign tokenizer taken for ours."""
    _, file = small_file(tmp_path / "a.gguf", llama__rope__scaling__type="yarn")
    with pytest.raises(ValueError, match="stretches its rotary positions"):
        config_from_gguf(file)
    size = file.values.pop("llama.embedding_length")
    with pytest.raises(ValueError, match=r"a\.gguf does not say llama\.embedding_length"):
        config_from_gguf(file)
    file.values["llama.embedding_length"] = size
    file.values["general.architecture"] = "mamba"
    with pytest.raises(ValueError, match=r"a.gguf holds a 'mamba' model"):
        config_from_gguf(file)
    with pytest.raises(ValueError, match=r"tokenizer of kind \('llama', None\)"):
        tokenizer_from_gguf(file)


def test_tokens_of_users_and_templates_are_kept(tmp_path):
    """Tokens that are found as they are written cut into pieces; a chat template without the tokens it writes."""
    from tokenizers.pre_tokenizers import ByteLevel

    tokens = [*sorted(ByteLevel.alphabet()), "<s>", "</s>", "two words", "狮子"]
    file = small_file(
        tmp_path / "t.gguf", tokenizer__ggml__tokens=tokens, tokenizer__ggml__merges=["\u0120 a"],
        tokenizer__ggml__token_type=[1] * 256 + [3, 3, 4, 4], tokenizer__ggml__model="gpt2",
        tokenizer__ggml__pre="smollm", tokenizer__ggml__bos_token_id=256, tokenizer__ggml__eos_token_id=257,
        tokenizer__chat_template="{{ bos_token }}",
    )[1]  # fmt: skip
    file.values["tokenizer.ggml.merges"] = []
    tokenizer = tokenizer_from_gguf(file)
    assert tokenizer.encode("two words狮子</s>") == [258, 259, 257]
    assert tokenizer.special_tokens_map == {"bos_token": "<s>", "eos_token": "</s>"}
    del file.values["tokenizer.ggml.merges"]
    with pytest.raises(ValueError, match=r"t\.gguf has a damaged tokenizer: KeyError at 'tokenizer\.ggml\.merges'"):
        tokenizer_from_gguf(file)


@pytest.mark.parametrize("alignment", [0, "x", "an array", 0.5])
def test_an_alignment_that_is_none_is_refused(alignment, tmp_path):
    """A division by zero, or a type nobody expects, in place of a word about the file."""
    path = write(tmp_path / "d.gguf", {}, a__number=1)
    content = path.read_bytes().replace(b"a.number", b"general.alignment")
    name = len(b"general.alignment").to_bytes(8, "little")
    kinds = {0: (4, (0).to_bytes(4, "little")), "x": (8, (1).to_bytes(8, "little") + b"x"), 0.5: (6, b"\0\0\0?")}
    kind, value = kinds.get(alignment, (9, (4).to_bytes(4, "little") + (0).to_bytes(8, "little")))
    head = content[:8] + (0).to_bytes(8, "little") + (1).to_bytes(8, "little")
    path.write_bytes(head + name + b"general.alignment" + kind.to_bytes(4, "little") + value)
    with pytest.raises(ValueError, match=r"d\.gguf has general\.alignment"):
        read_gguf(path)


def test_arrays_in_arrays_end(tmp_path):
    """A few kilobytes of nested arrays that end in Python's own limit of recursion."""
    head = b"GGUF" + (3).to_bytes(4, "little") + (0).to_bytes(8, "little") + (1).to_bytes(8, "little")
    nested = ((9).to_bytes(4, "little") + (1).to_bytes(8, "little")) * 5000
    path = tmp_path / "n.gguf"
    path.write_bytes(head + (1).to_bytes(8, "little") + b"a" + (9).to_bytes(4, "little") + nested)
    with pytest.raises(ValueError, match=r"n\.gguf is not all of a GGUF file: an array lies in 8 others"):
        read_gguf(path)


def test_what_is_said_twice_is_refused(tmp_path):
    """Two tensors of one name, of which the last was taken."""
    numbers = np.ones((1, 32), np.float32)
    path = write(tmp_path / "two.gguf", {"t.a": (numbers, "F32"), "t.b": (numbers, "F32")}, a__a=1, a__b=2)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"t.b", b"t.a"))
    with pytest.raises(ValueError, match=r"holds t\.a twice"):
        read_gguf(path)
    path.write_bytes(content.replace(b"a.b", b"a.a"))
    with pytest.raises(ValueError, match=r"says a\.a twice"):
        read_gguf(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="is empty"):
        read_gguf(path)
