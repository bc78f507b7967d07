"""The page's model is the book's model: logits, attention, tokens and draws of gpt.js beside those of Python."""

import base64
import html
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import normalizers

import llmbook
from llmbook.inference.sampling import Sampling
from llmbook.model import DecoderLM, Encoder, RopeScaling, TransformerConfig
from llmbook.playground import PageError, export_model, live, round_to_half, save_playground
from llmbook.playground import page as own_page
from llmbook.playground.page import SCRIPTS, STYLE
from llmbook.playground.writing import exported_bytes, weight_shapes
from llmbook.text import BPETokenizer, ByteTokenizer, CharTokenizer, HFTokenizer

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="there is no node to run the page's JavaScript")
LIB = Path(llmbook.__file__).parents[1]
ASSETS = LIB / "llmbook" / "playground" / "assets" / "playground"
GPT = ASSETS / "gpt.js"

TEXT = (
    "To be, or not to be, that is the question: 滚滚长江东逝水, 浪花淘尽英雄. "
    "It's 42 o'clock — café 🙂!\n\n\tNot to be.\r\n"
) * 3
PROMPTS = ["To be, or", "滚滚长江", "🙂🚀 naïve — “quotes”", "\n", "  two  spaces \t\n\n and 12 ½ Ⅳ's", "x" * 64]
S = 48  # short, so that a text soon fills it
SIZES = dict(max_seq_len=S, d_model=24, n_layers=2, n_heads=4)
MODERN = dict(positions="rope", norm="rmsnorm", bias=False)
FAMILIES = {
    "gpt2": TransformerConfig.gpt2(vocab_size=300, **SIZES),
    "modern": TransformerConfig.modern(vocab_size=300, **SIZES, conv_width=None),
    "llama": TransformerConfig.llama(vocab_size=300, **{**SIZES, "n_kv_heads": 2, "tie_embeddings": False}),
    "odd sizes": TransformerConfig.llama(
        vocab_size=300, max_seq_len=S, d_model=23, n_layers=1, n_heads=3, n_kv_heads=1, d_head=6, d_ff=13, norm_eps=0.1
    ),
    "post-norm": TransformerConfig(
        vocab_size=300, **SIZES, positions="sinusoidal", norm_position="post", feed_forward="relu",
        scale_embeddings=True, embedding_norm=True, n_segments=2,
    ),
    "alibi": TransformerConfig(vocab_size=300, **SIZES, positions="alibi", feed_forward="geglu", sliding_window=5),
    "t5": TransformerConfig(
        vocab_size=300, **SIZES, positions="t5", norm="rmsnorm", bias=False, feed_forward="geglu_tanh",
        attention_scale=1.0, logit_scale=0.5, t5_buckets=8, t5_max_distance=20,
    ),
    "yarn": TransformerConfig(
        vocab_size=300, **SIZES, **MODERN, feed_forward="gelu",
        rope_scaling=RopeScaling(kind="yarn", factor=4.0, original_max_seq_len=12),
    ),
    "no positions": TransformerConfig(vocab_size=300, **SIZES, positions="none", qk_norm=True),
}  # fmt: skip


def random_model(config):
    """A model whose every part matters: gains and biases too are away from their first values."""
    model = DecoderLM(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
        if parameter.ndim == 1:
            parameter.data += 0.5
    return round_to_half(model)


def bpe():
    return BPETokenizer.train(TEXT, vocab_size=300, special_tokens=["<|end|>"])


def run(path, *jobs):
    """Results of the jobs of run_gpt.js, in order: {"value": result}, or {"error": words} where one was refused."""
    job = {"gpt": str(GPT), "model": str(path), "jobs": jobs}
    command = [NODE, str(Path(__file__).parent / "run_gpt.js")]
    done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_node
@pytest.mark.parametrize("name", FAMILIES)
def test_logits_and_attention_are_those_of_pytorch(name, tmp_path):
    """Catches any part of the model that the page computes otherwise: a norm, an activation, positions, shared keys,
    a missing bias, the scale of scores; at every position, up to a full context."""
    model, tokenizer = random_model(FAMILIES[name]), bpe()
    path = export_model(model, tokenizer, tmp_path / "model.bin")
    texts = [tokenizer.encode(prompt)[:S] for prompt in PROMPTS] + [[i * 7 % 300 for i in range(S)]]
    for ids, got in zip(texts, run(path, *(["read", {"ids": ids}] for ids in texts)), strict=True):
        with torch.no_grad():
            out = model(torch.tensor([ids]), need_weights=True)
        assert "error" not in got, got
        np.testing.assert_allclose(got["value"]["logits"], out.logits[0].numpy(), atol=1e-4)
        np.testing.assert_allclose(got["value"]["weights"], torch.stack(out.attentions)[:, 0, :, -1], atol=1e-4)
    assert len(texts[-1]) == S


@needs_node
def test_what_was_read_before_is_kept_rightly(tmp_path):
    """Catches keys of a deleted ending that stay in the cache, and a text read without logits on the way that
    ends elsewhere."""
    model = random_model(FAMILIES["modern"])
    path = export_model(model, bpe(), tmp_path / "model.bin")
    first, second = list(range(30, 50)), [*range(30, 40), *range(100, 120)]
    jobs = ["read", {"ids": second}], ["read", {"ids": first}], ["read", {"ids": second, "keep": 10}], ["skip", second]
    whole, other, changed, skipped = (result["value"] for result in run(path, *jobs))
    assert other["logits"][9:12] != whole["logits"][9:12]
    assert changed["logits"] == whole["logits"][10:]
    assert changed["weights"] == whole["weights"]
    assert skipped == whole["logits"][-1]


@needs_node
def test_a_text_read_in_pieces_is_the_same(tmp_path):
    """Catches attention or logits that are lost where the page breathes, and a piece that is read twice."""
    path = export_model(random_model(FAMILIES["modern"]), bpe(), tmp_path / "model.bin")
    ids = list(range(30, 60))
    jobs = [["slices", {"ids": ids, "patience": patience}] for patience in (0, 1e9)]
    one, many, whole = (result["value"] for result in run(path, *jobs, ["read", {"ids": ids}]))
    assert (one["pieces"], many["pieces"]) == (len(ids), 1)
    assert one["rows"] == many["rows"]
    assert one["logits"] == many["logits"] == whole["logits"][-1]
    heads = np.array(one["rows"][-1]).reshape(np.shape(whole["weights"]))
    np.testing.assert_array_equal(heads, whole["weights"])


@needs_node
def test_a_worker_reads_as_the_page_does(tmp_path):
    """Catches code that uses what a worker does not have, since it is made from its own text, and a model that stays
    silent when it is asked what it cannot do."""
    path = export_model(random_model(FAMILIES["modern"]), bpe(), tmp_path / "model.bin")
    asked = {"keep": 0, "ids": [40, 41, 42], "last": True, "patience": 1e9}
    size = path.stat().st_size
    questions = [{"whole": size - 1}, {"whole": size}, asked, {**asked, "keep": 3, "ids": [9999]}]
    answers, read = (result["value"] for result in run(path, ["worker", questions], ["read", {"ids": asked["ids"]}]))
    assert answers[0]["ready"]
    assert "cut short" in answers[1]["error"]
    assert answers[2]["layers"] == SIZES["n_layers"]
    assert (answers[3]["read"], answers[3]["logits"]) == (3, read["logits"][-1])
    assert "Token 9999" in answers[4]["error"]


@needs_node
def test_a_link_brings_back_what_it_was_made_of(tmp_path):
    """Catches a prompt that an address cannot carry, a dial that gets lost, and numbers out of range let in."""
    path = export_model(random_model(FAMILIES["modern"]), bpe(), tmp_path / "model.bin")
    state = {
        "model": "a b",
        "prompt": "滚 & 🙂#=\n%",
        "seed": 7,
        "n": 40,
        "t": 0,
        "p": 0.95,
        "m": 0.05,
        "layer": 1,
        "head": 0,
    }
    by_hand = {"prompt": "", "w": [0, 35, 36, 70000]}
    fragments = [run(path, ["pack", {**one, "k": None}])[0]["value"] for one in (state, by_hand)]
    assert not any(set(fragment) & set(" #&\n🙂") - {"&"} for fragment in fragments)
    back = run(path, *(["unpack", text] for text in [f"#{fragments[0]}", fragments[1], ""]))
    assert [result["value"] for result in back] == [state, by_hand, {}]


@needs_node
def test_a_link_is_not_guessed_at(tmp_path):
    """Catches a fraction of a token, a seed that two browsers read differently, and a value out of range: each is
    named, and none is used."""
    path = export_model(random_model(FAMILIES["modern"]), bpe(), tmp_path / "model.bin")
    wrong = {"seed": ["-1", "1.5", "0x10", "1e3", " 7"], "n": ["x", "2.5"], "k": ["0", "2.5"], "layer": ["0.5"]}
    wrong |= {"t": ["9", "1e-1", "-0.5"], "p": ["", "NaN", "0"], "m": ["0.6"], "w": ["1..2", "1.5,3"]}
    texts = [(name, value) for name, values in wrong.items() for value in values]
    for (name, value), got in zip(texts, run(path, *(["unpack", f"#{n}={v}"] for n, v in texts)), strict=True):
        told = name if name == "w" else f"{name}={value.strip() if value == ' 7' else value}"
        assert got["value"].keys() == {"refused"}, (name, value)
        assert got["value"]["refused"][0].replace(" ", "") == told.replace(" ", "")
    right = run(path, ["unpack", "#seed=7&n=3&t=0.7&p=.5&evil=1"])[0]["value"]
    assert right == {"seed": 7, "n": 3, "t": 0.7, "p": 0.5}


@needs_node
def test_a_full_context_is_said(tmp_path):
    """Catches a page that goes on beyond the last position it has, with numbers from outside the table."""
    path = export_model(random_model(FAMILIES["gpt2"]), bpe(), tmp_path / "model.bin")
    full, more = run(path, ["read", {"ids": [5] * S}], ["read", {"ids": [5] * (S + 1)}])
    assert len(full["value"]["logits"]) == S
    assert more["error"] == f"The context is full: this model reads at most {S} tokens."


@needs_node
def test_a_broken_file_is_said(tmp_path):
    """Catches half a download taken for a model, and another file taken for one."""
    path = export_model(random_model(FAMILIES["gpt2"]), bpe(), tmp_path / "model.bin")
    size = path.stat().st_size
    for result in run(path, *(["cut", n] for n in (9, 11, 200, size // 2, size - 1))):
        assert "cut short" in result["error"]
    assert "missing" in run(path, ["cut", 0])[0]["error"]
    (tmp_path / "other.bin").write_bytes(b"<!doctype html><title>404</title>")
    assert "not a model" in run(tmp_path / "other.bin", ["start", None])[0]["error"]
    (tmp_path / "longer.bin").write_bytes(path.read_bytes() + b"1234")
    assert "4 bytes too many" in run(tmp_path / "longer.bin", ["start", None])[0]["error"]


TOKENIZERS = {
    "char": lambda: CharTokenizer.train(TEXT + "".join(PROMPTS)),
    "byte": ByteTokenizer,
    "bpe": bpe,
    "bpe, no special tokens": lambda: BPETokenizer.train(TEXT, vocab_size=290),
    "hf": lambda: HFTokenizer.train(TEXT, vocab_size=300, special_tokens=["<|end|>", "<|end|>+"]),
}


@needs_node
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_tokens_are_those_of_python(kind, tmp_path):
    """Catches another cut into words, merges in another order, bytes and marks that are shown otherwise."""
    tokenizer = TOKENIZERS[kind]()
    model = DecoderLM(FAMILIES["modern"].replace(vocab_size=tokenizer.vocab_size))
    path = export_model(model, tokenizer, tmp_path / "model.bin")
    texts = ["", TEXT, *PROMPTS]
    if kind != "char":
        texts += [
            "<|end|>be<|end|>+ 漢字かな交じり文 и ещё",
            "\u0085a\u00a0\u2009b\ufeffc \x1c d\u3000",
            "e\u0301 ٣٤ 2²",
        ]
    jobs = [["encode", text] for text in texts]
    ids = [result["value"] for result in run(path, *jobs)]
    assert ids == [tokenizer.encode(text) for text in texts]
    broken = [[5, tokenizer.vocab_size - 3, 7], list(range(tokenizer.vocab_size))]
    *decoded, tokens = run(path, *(["decode", row] for row in ids + broken), ["tokens", None])
    assert [result["value"] for result in decoded] == [tokenizer.decode(row) for row in ids + broken]
    assert tokens["value"] == [tokenizer.token(index) for index in range(tokenizer.vocab_size)]


@needs_node
def test_an_unknown_character_is_named(tmp_path):
    """Catches a character that silently becomes another, and a place counted in UTF-16 halves."""
    tokenizer = CharTokenizer.train("ab🙂")
    model = DecoderLM(FAMILIES["modern"].replace(vocab_size=3))
    path = export_model(model, tokenizer, tmp_path / "model.bin")
    assert "“é” (U+00E9), character 3 of the prompt" in run(path, ["encode", "a🙂é"])[0]["error"]


@needs_node
def test_an_empty_prompt_has_a_beginning(tmp_path):
    """Catches a model that is given nothing to read."""
    made = {"bpe": bpe(), "char": CharTokenizer.train("\nab"), "no line end": CharTokenizer.train("ab")}
    starts = {}
    for name, tokenizer in made.items():
        model = DecoderLM(FAMILIES["modern"].replace(vocab_size=tokenizer.vocab_size))
        starts[name] = run(export_model(model, tokenizer, tmp_path / "m.bin"), ["start", None])[0]["value"]
    assert starts == {"bpe": [0], "char": [0], "no line end": [0]}


@needs_node
@pytest.mark.parametrize(
    "dials",
    [
        dict(temperature=1.0),
        dict(temperature=0.0),
        dict(temperature=0.3, top_k=5),
        dict(temperature=2.0, top_p=0.5),
        dict(temperature=0.7, top_k=20, top_p=0.9),
        dict(top_k=500, top_p=1e-6),
        dict(min_p=0.1),
        dict(temperature=1.5, top_k=40, top_p=0.9, min_p=0.2),
        dict(temperature=0.0, min_p=0.5),
        dict(min_p=1.0),
    ],
    ids=str,
)
def test_the_dials_cut_as_in_python(dials, tmp_path):
    """Catches dials applied in another order, a border counted to the other side, ties broken."""
    path = export_model(random_model(FAMILIES["modern"]), bpe(), tmp_path / "model.bin")
    logits = torch.randn(1, 60) * 3
    logits[0, 10:13] = logits[0].topk(5).values[-1]  # three that are as likely as the fifth
    page = {"temperature": dials.get("temperature", 1.0), "topK": dials.get("top_k"), "topP": dials.get("top_p", 1)}
    page["minP"] = dials.get("min_p", 0)
    got = run(path, ["distribution", {"logits": logits[0].tolist(), "dials": page}])[0]["value"]
    expected = Sampling(**dials).distribution(logits)[0].numpy()
    np.testing.assert_allclose(got["chance"], expected, atol=1e-6)
    assert [cut == 0 for cut in got["cutBy"]] == (expected > 0).tolist() or dials["temperature"] == 0
    left = [sum(cut == 0 or cut > by for cut in got["cutBy"]) for by in (1, 2, 3)]
    assert [got["keptByK"], got["keptByP"], got["kept"]] == left
    np.testing.assert_allclose(got["own"], logits.softmax(-1)[0].numpy(), atol=1e-6)


@needs_node
def test_ties_and_borders_fall_to_the_same_side_as_in_python(tmp_path):
    """Catches equals of which the page keeps others than Python does, and a border that double precision puts on the
    other side of a token: ten equals and top-p 0.9 are one of them too many in the one and not in the other."""
    path = export_model(random_model(FAMILIES["modern"]), bpe(), tmp_path / "model.bin")
    torch.manual_seed(3)
    ties = [
        [0.0] * 10,
        [0.0] * 4,
        [1.0, 3.0, 3.0, 1.0, 3.0, -0.0, 0.0],
        [0.0] * 60,
        torch.randint(0, 4, (300,)).tolist(),
    ]
    options = [dict(top_p=p) for p in (0.9, 0.7, 0.5, 0.3, 0.25, 1 / 3, 0.1)]
    options += [dict(min_p=m) for m in (0.1, 1.0)] + [
        dict(top_k=3, top_p=0.6, temperature=0.7),
        dict(temperature=0.0, top_p=0.5),
    ]
    cases = [(logits, chosen) for logits in ties for chosen in options]
    jobs = []
    for logits, chosen in cases:
        page = {
            "temperature": chosen.get("temperature", 1),
            "topK": chosen.get("top_k"),
            "topP": chosen.get("top_p", 1),
        }
        jobs.append(["distribution", {"logits": logits, "dials": {**page, "minP": chosen.get("min_p", 0)}}])
    for (logits, chosen), got in zip(cases, run(path, *jobs), strict=True):
        expected = Sampling(**chosen).distribution(torch.tensor([logits]).float())[0] > 0
        assert [chance > 0 for chance in got["value"]["chance"]] == expected.tolist(), (logits[:10], chosen)


def stir(h):
    """MurmurHash3's finaliser, written from its description."""
    h = (h ^ h >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    h = (h ^ h >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return h ^ h >> 16


@needs_node
def test_the_random_numbers_are_the_documented_ones_and_even(tmp_path):
    """Catches numbers that differ between browsers or from what is documented, leave a part of [0, 1) out, or
    follow each other or the seed."""
    path = export_model(random_model(FAMILIES["modern"]), bpe(), tmp_path / "model.bin")
    n = 20_000
    one, two = (np.array(r["value"]) for r in run(path, *(["uniform", {"seed": s, "n": n}] for s in (1, 2))))
    assert one[:5].tolist() == [stir((stir(1) + (i + 1) * 0x9E3779B9) & 0xFFFFFFFF) / 2**32 for i in range(5)]
    counts = np.histogram(one, bins=20, range=(0, 1))[0]
    assert abs(counts - n / 20).max() < 5 * (n / 20) ** 0.5
    for a, b in ((one[1:], one[:-1]), (one, two)):
        assert abs(np.corrcoef(a, b)[0, 1]) < 5 / n**0.5
    chance = [0.0, 0.25, 0.0, 0.75, 0.0]
    draws = run(path, *(["draw", {"chance": chance, "u": u}] for u in (0.0, 0.2499, 0.25, 0.9999, 1.0)))
    assert [result["value"] for result in draws] == [1, 1, 3, 3, 3]


@needs_node
def test_the_same_seed_writes_the_same_text(tmp_path):
    """Catches a draw that depends on more than prompt, dials and seed; temperature 0 is the likeliest token."""
    model = random_model(FAMILIES["gpt2"])
    path = export_model(model, bpe(), tmp_path / "model.bin")
    ids, dials = [40, 41, 42], {"temperature": 1, "topK": 50, "topP": 0.95}
    jobs = [["write", {"ids": ids, "n": 20, "dials": dials, "seed": seed}] for seed in (7, 8, 7)]
    jobs.append(["write", {"ids": ids, "n": 20, "dials": {"temperature": 0}, "seed": 7}])
    first, other, again, greedy = (result["value"] for result in run(path, *jobs))
    assert first == again != other
    with torch.no_grad():
        for token in greedy:
            assert int(model(torch.tensor([ids])).logits[0, -1].argmax()) == token
            ids = [*ids, token]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_names_are_those_of_the_model(name):
    """Catches a part of the model that the file forgets."""
    config = FAMILIES[name]
    shapes = {key: tuple(value.shape) for key, value in DecoderLM(config).state_dict().items()}
    shapes.pop("backbone.position_bias.table.weight", None)
    if config.tie_embeddings:
        del shapes["lm_head.weight"]
    assert weight_shapes(config) == shapes


def test_what_cannot_be_exported_is_refused(tmp_path):
    """Catches a file that would speak nonsense, and a file left behind by a refusal."""
    tokenizer, config = bpe(), FAMILIES["modern"]
    model, path = DecoderLM(config), tmp_path / "model.bin"
    with pytest.raises(PageError, match="256 tokens and the model 300"):
        export_model(model, ByteTokenizer(), path)
    cased = HFTokenizer.train(TEXT, vocab_size=300)
    cased.backend.normalizer = normalizers.Lowercase()
    with pytest.raises(PageError, match="cannot run HFTokenizer"):
        export_model(model, cased, path)
    with pytest.raises(PageError, match="cannot run a Linear: give a DecoderLM"):
        export_model(torch.nn.Linear(2, 2), tokenizer, path)
    with pytest.raises(PageError, match="conv_width=4: a page has no short convolutions"):
        export_model(DecoderLM(config.replace(conv_width=4)), tokenizer, path)
    for choice, what in {
        "zero_centred_norm": True, "rotary_fraction": 0.7, "nope_layers": (0,), "attention_cap": 5.0, "logit_cap": 5.0,
        "qk_norm_width": "all", "norm_position": "sandwich", "qkv_bias": True,
    }.items():  # fmt: skip
        with pytest.raises(PageError, match=re.escape(f"{choice}={what!r}: a page has")):
            export_model(DecoderLM(config.replace(**{choice: what})), tokenizer, path)
    windows = config.replace(sliding_window=4, full_layers=(0,), n_layers=2, window_rope_theta=10.0)
    with pytest.raises(PageError, match=r"full_layers=\(0,\): a page has no layers of different kinds"):
        export_model(DecoderLM(windows), tokenizer, path)
    with pytest.raises(PageError, match="Encoder cannot be exported"):
        export_model(Encoder(config), tokenizer, path)
    model.extra = torch.nn.Linear(2, 2)
    with pytest.raises(PageError, match=r"it has 'extra\.bias'"):
        export_model(model, tokenizer, path)
    model = DecoderLM(config)
    model.backbone.final_norm.weight.data[3] = 70_000
    with pytest.raises(PageError, match=r"final_norm\.weight holds 70000"):
        export_model(model, tokenizer, path)
    model.backbone.final_norm.weight.data[3] = torch.nan
    with pytest.raises(PageError, match=r"final_norm\.weight holds nan"):
        export_model(model, tokenizer, path)
    assert list(tmp_path.iterdir()) == []


def test_the_model_itself_keeps_its_weights():
    """Catches an export that rounds the model it was given."""
    torch.manual_seed(1)
    model = DecoderLM(FAMILIES["gpt2"])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    exported_bytes(model, bpe())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    rounded = round_to_half(model).state_dict()
    assert all(value.dtype == torch.float32 and torch.equal(value, value.half().float()) for value in rounded.values())
    assert not torch.equal(rounded["lm_head.weight"], before["lm_head.weight"])


def test_the_page_holds_all_it_needs(tmp_path):
    """Catches a page that fetches a script, a style or the model from elsewhere, or holds another model."""
    model, tokenizer = random_model(FAMILIES["modern"]), bpe()
    saved = save_playground(
        model, tokenizer, tmp_path / "mine.html", title="1 < 2", prompt="</script> & 滚", about="<b>"
    )
    page = saved.path.read_text(encoding="utf-8")
    assert re.findall(r"<(?:script|link|img|iframe)[^>]* (?:src|href)=(.[^\"']*)", page) == ['"data:,']
    assert "@import" not in page
    assert "url(" not in page
    packed = re.search(r'id="pg-model">([^<]*)</script>', page)[1]
    assert base64.b64decode(packed, validate=True) == exported_bytes(model, tokenizer)
    settings = json.loads(re.search(r'<script type="application/json">(.*?)</script>', page)[1])
    assert settings["models"] == [{"name": "1 < 2", "about": "<b>", "prompt": "</script> & 滚", "data": "pg-model"}]
    assert "<h1>1 &lt; 2</h1>" in page
    assert page.count("</script>") == 3  # the settings, the model and the script, none cut short by its contents
    for asset in (*SCRIPTS, STYLE):
        assert (ASSETS / asset).read_text(encoding="utf-8") in page


def test_a_notebook_shows_the_page_and_a_build_carries_it_along(tmp_path, monkeypatch):
    """Catches an iframe whose page ends at its first quotation mark, a chapter that shows a page of its own in a frame
    on the site, and a page too heavy for the place it is shown in."""
    saved = save_playground(random_model(FAMILIES["gpt2"]), bpe(), tmp_path / "mine.html")
    page, html_of = saved.path.read_text(encoding="utf-8"), lambda: saved._repr_mimebundle_()["text/html"]
    along = r'<p>.*mine.html: 0\.\d MB.*</p><script type="text/plain" data-page="mine.html">(.*)</script>'
    carried = re.fullmatch(along, html_of())
    assert base64.b64decode(carried[1]).decode() == page
    monkeypatch.setattr(own_page, "ON_THE_SITE", 1000)
    assert re.fullmatch("<p>[^<]*</p>", html_of())
    monkeypatch.setenv("LLMBOOK_STATIC", "0")
    assert html.unescape(re.search(r'srcdoc="([^"]*)"></iframe>$', html_of())[1]) == page
    monkeypatch.setattr(own_page, "IN_PLACE", 1000)
    assert re.fullmatch("<p>[^<]*</p>", html_of())


def test_a_page_that_could_not_begin_is_refused(tmp_path):
    """Catches a page that opens with an error, or that no browser would open."""
    model, tokenizer = DecoderLM(FAMILIES["modern"]), bpe()
    with pytest.raises(PageError, match=r"'.*mine.bin' does not end in .html"):
        save_playground(model, tokenizer, tmp_path / "mine.bin")
    with pytest.raises(PageError, match=f"first prompt has 100 tokens; the model reads at most {S}"):
        save_playground(model, tokenizer, tmp_path / "mine.html", prompt="=" * 100)
    letters = CharTokenizer.train("ab")
    with pytest.raises(PageError, match="the first prompt: character 'c'"):
        save_playground(DecoderLM(model.config.replace(vocab_size=2)), letters, tmp_path / "mine.html", prompt="abc")
    assert list(tmp_path.iterdir()) == []


def test_the_script_and_the_style_travel_with_the_library():
    """Catches an installed library that lacks the files its page is made of."""
    setup = tomllib.loads((LIB / "pyproject.toml").read_text(encoding="utf-8"))
    carried = {
        path
        for pattern in setup["tool"]["setuptools"]["package-data"]["llmbook"]
        for path in (LIB / "llmbook").glob(pattern)
    }
    pages = {*SCRIPTS, STYLE, *live.SCRIPTS, live.STYLE}
    assert {ASSETS / name for name in pages} == set(ASSETS.iterdir()) <= carried
