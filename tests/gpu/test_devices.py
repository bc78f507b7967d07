"""Things on two devices: what the library moves by itself, and what it names where it does not."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from llmbook.compression import importance_by_gradient
from llmbook.inference import Engine, Request, Sampling, fuse, generate, speculative_generate
from llmbook.inference.speculative import ModelDraft
from llmbook.interpret import control_labels, head_scores, probe, split_groups
from llmbook.interpret.heads import repeated_tokens
from llmbook.model import (
    LSTMLM,
    BengioLM,
    ConvLM,
    DecoderLM,
    Encoder,
    EncoderDecoderLM,
    KVCache,
    NGramLM,
    PagedCache,
    PagePool,
    SlidingKVCache,
    TransformerConfig,
)
from llmbook.training import evaluate, orthogonalise

SIZES = dict(vocab_size=61, max_seq_len=32, d_model=32, n_layers=2, n_heads=4)


@pytest.fixture
def elsewhere(device) -> torch.device:
    """Another device than the model's: for a GPU the CPU, for the CPU one without memory."""
    return torch.device("cpu" if device.type == "cuda" else "meta")


def decoder(device: torch.device, **overrides) -> DecoderLM:
    return DecoderLM(TransformerConfig.llama(**SIZES, **overrides)).to(device).eval()


def ids(device: torch.device, *shape: int) -> torch.Tensor:
    return torch.randint(61, shape or (2, 9)).to(device)


def test_batches_are_moved(device):
    """Batches of the CPU, as every iterator here makes them, refused by one measure and taken by the next."""
    model, batches = decoder(device), [{"input_ids": ids(torch.device("cpu"))}]
    assert evaluate(model, batches).n_tokens == 16
    assert importance_by_gradient(model, batches).heads.device.type == device.type


@pytest.mark.parametrize("name", ["input_ids", "attention_mask", "mask", "inputs_embeds"])
def test_what_a_decoder_is_given_is_named(device, elsewhere, name):
    """torch's "Expected all tensors to be on the same device" from the fourth module down, which names no argument."""
    given = {
        "input_ids": ids(device),
        "attention_mask": torch.ones(2, 9, dtype=torch.long, device=device),
        "mask": torch.ones(9, 9, dtype=torch.bool, device=device),
    }
    if name == "inputs_embeds":
        del given["input_ids"]
        given[name] = torch.zeros(2, 9, 32)
    given[name] = given[name].to(elsewhere)
    with pytest.raises(ValueError, match=rf"^{name} is on {elsewhere.type} and the model on {device.type}"):
        decoder(device)(**given)


def test_other_models_name_it_too(device, elsewhere):
    """The same in a model that is not a decoder: encoders, what cross-attention reads, the baselines, counts."""
    bert = Encoder(TransformerConfig.bert(**SIZES)).to(device)
    t5 = EncoderDecoderLM(TransformerConfig.t5(**SIZES)).to(device)
    small = dict(vocab_size=61, d_model=8)
    baselines = [LSTMLM(**small), BengioLM(**small), ConvLM(**small)]
    counted = NGramLM.count(ids(device, 50), order=2, vocab_size=61)
    for model in (bert, fuse(decoder(device)), *(model.to(device) for model in baselines), counted):
        with pytest.raises(ValueError, match=r"^input_ids is on"):
            model(ids(elsewhere))
    with pytest.raises(ValueError, match=r"^input_ids is on"):
        t5(input_ids=ids(elsewhere), decoder_input_ids=ids(device))
    with pytest.raises(ValueError, match=r"^memory is on"):
        t5.decoder(ids(device), memory=torch.zeros(2, 3, 32, device=elsewhere))


@pytest.mark.parametrize("kind", ["full", "sliding", "paged"])
def test_a_cache_elsewhere_is_named(device, elsewhere, kind):
    """A cache made without device= beside a model on the GPU, which fails deep in attention in torch's words."""
    model = decoder(device, sliding_window=5)
    if kind == "paged":
        pool = PagePool(model.config, n_pages=8, page_size=4, device=elsewhere)
        cache = PagedCache(pool, [pool.new_sequence()])
        cache.reserve([3])
    else:
        cache = (KVCache if kind == "full" else SlidingKVCache)(model.config, device=elsewhere)
    with torch.no_grad(), pytest.raises(ValueError, match=rf"computes on {device}.* and the cache is on {elsewhere}"):
        model(ids(device, 1, 3), cache=cache)


def test_texts_are_counted_where_they_are(device):
    """A table of counts that is made on the CPU whatever it is given, or that differs there."""
    text = ids(device, 400)
    there, here = (NGramLM.count(t, order=3, vocab_size=61) for t in (text, text.cpu()))
    assert there.token_nll(text).device.type == device.type
    torch.testing.assert_close(there.token_nll(text).cpu(), here.token_nll(text.cpu()))


@pytest.mark.gpu
def test_a_generator_elsewhere_is_named(device):
    """torch's "Expected a 'cuda' device type for generator", from whichever line happens to draw first."""
    if device.type == "cpu":
        pytest.skip("there is no generator elsewhere than on the CPU")
    model, random = decoder(device), torch.Generator()
    wanted = r"the generator is on cpu and the model on cuda.*torch\.Generator\('cuda'\)"
    with pytest.raises(ValueError, match=wanted):
        generate(model, ids(device), max_new_tokens=2, generator=random)
    with pytest.raises(ValueError, match=wanted):
        speculative_generate(model, ids(device, 1, 4), draft=ModelDraft(model), max_new_tokens=3, generator=random)


def test_draws_take_a_generator_of_the_device(device):
    """A function that draws on the CPU for a model on the GPU, and refuses the generator that ``generate`` wants."""

    def seeded() -> torch.Generator:
        return torch.Generator(device).manual_seed(1)

    rows = repeated_tokens(61, period=5, batch_size=3, generator=seeded())
    assert rows.device.type == device.type
    assert torch.equal(rows, repeated_tokens(61, period=5, batch_size=3, generator=seeded()))
    scores = [head_scores(decoder(device), period=4, generator=g) for g in (seeded(), torch.Generator())]
    assert all(found.induction.isfinite().all() for found in scores)
    groups = torch.arange(12, device=device) // 2
    assert split_groups(groups, generator=seeded()).sum() == 4  # two of the six groups
    assert control_labels(groups, groups % 3, generator=seeded()).device.type == device.type
    states = torch.randn(12, 4, device=device)
    cpu = groups.cpu()  # labels are made of texts, so mostly on the CPU
    assert 0 <= probe(states, cpu % 2, types=cpu, groups=cpu, generator=seeded()).accuracy <= 1


def test_continuous_batching_draws(device):
    """A request whose generator is made on the CPU: greedy requests never ask it."""
    request = Request(prompt_ids=[1, 2, 3], sampling=Sampling(max_new_tokens=6, seed=5))
    model, texts = decoder(device), []
    for _ in range(2):
        engine = Engine(model, n_pages=24, page_size=4, max_batch=2)
        (done,) = engine.submit(request)
        engine.run()
        texts.append(list(done.tokens))
    assert len(texts[0]) == 6
    assert texts[0] == texts[1]


class Products(TorchDispatchMode):
    """Notes the precision of every product of matrices."""

    def __init__(self):
        super().__init__()
        self.dtypes = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.bmm, torch.ops.aten.baddbmm):
            self.dtypes.add(args[0].dtype)
        return func(*args, **(kwargs or {}))


def test_muon_multiplies_what_the_device_can(device, sixteen_bits):
    """bfloat16 on a T4, which emulates it; float32 on a card that multiplies 16 bits eight times faster."""
    with Products() as seen:
        orthogonalise(torch.randn(3, 8, 4, device=device))
    assert seen.dtypes == {sixteen_bits if device.type == "cuda" else torch.float32}


@pytest.mark.parametrize("size", [1e-8, 1e-7, 1.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_muon_takes_gradients_of_any_size(device, dtype, size):
    """A gradient rounded to 16 bits before it is normalised: float16 makes zeros of 1e-8, and infinities of 1e4²."""
    x = torch.randn(3, 24, 16) @ torch.diag(0.7 ** torch.arange(16.0))  # sizes as unequal as a gradient's
    wanted = orthogonalise(x.double(), dtype=torch.float64).flatten(1).float()
    got = orthogonalise((size * x).to(device), dtype=dtype).cpu().flatten(1)
    assert torch.cosine_similarity(got, wanted).min() > 0.98
