"""Text as it comes: whole characters, no stop string and not its beginning, and in the end all of it."""

from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import decoders, models, normalizers
from torch import nn

from llmbook.inference import StopStrings, TextStream, complete, generate, stream
from llmbook.model import DecoderLM, TransformerConfig
from llmbook.text import BPETokenizer, ByteTokenizer, CharTokenizer, HFTokenizer
from tests.inference.helpers import fill

TEXT = "Löwen, 狮子 und 🦁: ein Löwe 🦁 frisst kein 草。 Löwen 👩‍👩‍👧 schlafen.\n"
BEFORE_LION = TEXT[: TEXT.index("🦁 f")]


def llama_like(text: str) -> HFTokenizer:
    """A tokenizer of Llama 2's and Mistral's kind: words begin with ▁, and what it has no token for is spelled in
    bytes, which are decoded a whole run at a time."""
    tokens = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *sorted(set("▁" + text.replace(" ", "▁")))]
    backend = RustTokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, [], unk_token="<unk>", byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return HFTokenizer(backend)


FALLBACK = llama_like("Lwen und frisst kein schlafen:,\n.")
TOKENIZERS = {
    "byte": ByteTokenizer(),
    "char": CharTokenizer.train(TEXT),
    "bpe": BPETokenizer.train(TEXT * 3, vocab_size=280),
    "hf": HFTokenizer.train(TEXT * 3, vocab_size=280),
}


class Recites(nn.Module):
    """A language model that knows one list of tokens by heart and says each after the one before."""

    def __init__(self, tokens: list[int], vocab_size: int):
        super().__init__()
        self.tokens, self.anchor = tokens, nn.Parameter(torch.zeros(1))
        self.config = TransformerConfig(vocab_size=vocab_size, max_seq_len=512, d_model=2, n_layers=1, n_heads=1)

    def forward(self, input_ids, *, attention_mask=None, cache=None):
        length = input_ids.shape[1] + (0 if cache is None else cache.length)
        logits = torch.zeros(len(input_ids), input_ids.shape[1], self.config.vocab_size)
        logits[:, -1, self.tokens[length]] = 50.0
        if cache is not None:
            cache.advance(input_ids.shape[1])
        return SimpleNamespace(logits=logits)


def recite(kind: str, text: str = TEXT, **options) -> list[str]:
    """The pieces streamed by a model that writes ``text``, the first token being the prompt."""
    tokenizer = TOKENIZERS[kind]
    tokens = tokenizer.encode("L" + text)
    model = Recites(tokens, tokenizer.vocab_size)
    return list(stream(model, tokenizer, "L", **{"max_new_tokens": len(tokens) - 1, "temperature": 0, **options}))


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_pieces_make_the_whole_text(kind):
    """Catches half a character given out as U+FFFD, a piece repeated or lost where a character ends inside a token."""
    pieces = recite(kind)
    assert "".join(pieces) == TEXT
    assert all(pieces)
    assert len(pieces) > len(TEXT) / 4  # as they come, not at the end
    if kind in ("byte", "char"):
        assert pieces == list(TEXT)  # every character alone, as soon as it is whole


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        ("子", "Löwen, 狮"),
        ("🦁 f", BEFORE_LION),  # the first lion looks like the beginning and is not
        (["schlafen", "wen 👩‍👩"], TEXT[: TEXT.index("wen 👩‍👩")]),
        ("öwen 👩‍👩‍👦", TEXT),  # differs in the last character only: held back, then given out
        (["nirgends"], TEXT),
        (".\n\n", TEXT),  # the text ends in the middle of it
        ("Löwen, 狮子 und", ""),
    ],
)
def test_text_ends_before_the_stop_string(kind, stop, expected):
    """Catches a stop string missed because it spans tokens or ends inside one, or given out in part."""
    assert "".join(recite(kind, stop=stop)) == expected


def test_nothing_is_drawn_after_a_stop_string():
    """Catches a stop string that trims the text but lets the model write on."""
    tokenizer = TOKENIZERS["byte"]
    tokens = tokenizer.encode("ab.STOP")  # reciting further would be an IndexError
    assert "".join(stream(Recites(tokens, 256), tokenizer, "a", max_new_tokens=99, temperature=0, stop="STOP")) == "b."


def all_ends(text: str, stops: list[str]):
    return [(i + len(s), i) for s in stops for i in range(len(text)) if text.startswith(s, i)]


def test_stop_strings_do_not_depend_on_the_pieces():
    """Catches a rule that changes with the pieces: 600 texts of a and b, cut at random, overlapping stop strings,
    against the definition (the first to be complete, of two the longer)."""
    generator = torch.Generator().manual_seed(0)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    outcomes = set()
    for _ in range(600):
        text = "".join("ab"[draw(0, 1)] for _ in range(draw(0, 14)))
        stops = ["".join("ab"[draw(0, 1)] for _ in range(draw(2, 5))) for _ in range(draw(1, 3))]
        watcher, out, rest = StopStrings(stops), "", text
        while rest:
            n = draw(1, 4)
            out += watcher.push(rest[:n])
            assert not any(out.endswith(s) for s in stops)
            rest = rest[n:]
        ends = all_ends(text, stops)
        assert out + watcher.finish() == (text[: min(ends)[1]] if ends else text), (text, stops)
        assert (watcher.found is not None) == bool(ends)
        outcomes.add(bool(ends))
    assert outcomes == {True, False}


def test_only_what_may_become_a_stop_string_is_held():
    """Catches text held back longer than needed, and a shorter beginning overlooked inside a longer one."""
    watcher = StopStrings(["aab"])
    assert [watcher.push(c) for c in "xaaaac"] == ["x", "", "", "a", "a", "aac"]
    assert StopStrings(()).push("abc") == "abc"


@pytest.mark.parametrize("seed", range(5))
def test_bytes_that_are_no_text_come_out_as_the_tokenizer_says(seed):
    """Catches replacement characters held for ever, doubled or swallowed: random bytes, many of them incomplete."""
    generator = torch.Generator().manual_seed(seed)
    likely = [*"中🦁é".encode(), 65, 255, 0xF4]
    ids = [likely[int(torch.randint(len(likely), (), generator=generator))] for _ in range(200)]
    text, out = TextStream(ByteTokenizer()), ""
    for n, token in enumerate(ids, 1):
        out += text.push(token)
        whole = ByteTokenizer().decode(ids[:n])
        assert whole.startswith(out)
        assert len(whole) - len(out) <= 3
    assert out + text.finish() == ByteTokenizer().decode(ids)


@pytest.mark.parametrize("text", ["ab中", "ab🦁"])
def test_an_unfinished_last_character_is_given_out_at_the_end(text):
    """Catches a text that loses its end when the last token is half a character."""
    tokens = [*text.encode()][:-1]
    pieces = list(stream(Recites(tokens, 256), ByteTokenizer(), "a", max_new_tokens=len(tokens) - 1, temperature=0))
    assert pieces == ["b", "\ufffd"]


def test_a_tokenizer_that_writes_the_first_token_otherwise():
    """Catches a new text decoded as if it stood alone: this kind of tokenizer drops the space of the first word."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    backend = Tokenizer(models.WordLevel({"▁Once": 0, "▁upon": 1, "▁a": 2}, unk_token="▁a"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    text = TextStream(HFTokenizer(backend), [0])
    assert [text.push(1), text.push(2), text.finish()] == [" upon", " a", ""]


def test_an_end_token_is_not_text():
    """Catches an end token decoded into the text, or one of several that does not end it."""
    for eos in (ord("w"), [ord("~"), ord("w")]):
        assert "".join(recite("byte", eos_token_id=eos)) == "Lö"
    assert "".join(recite("byte", eos_token_id=ord("w"), stop="L")) == ""


def byte_model() -> DecoderLM:
    config = TransformerConfig(
        vocab_size=256, max_seq_len=64, d_model=16, n_layers=1, n_heads=2, positions="rope", tie_embeddings=False
    )
    model = fill(DecoderLM(config), 0.5)
    model.lm_head.weight.data[128:] = 0  # writes ASCII when greedy
    return model


def test_stream_is_generate_as_text():
    """Catches dials, generator or prompt that do not arrive at the model."""
    model, tokenizer = byte_model(), ByteTokenizer()
    options = dict(max_new_tokens=30, temperature=1.3, top_k=50, repetition_penalty=1.2, min_p=0.001)
    text = "".join(stream(model, tokenizer, "狮子", generator=torch.Generator().manual_seed(1), **options))
    prompt = torch.tensor([tokenizer.encode("狮子")])
    ids = generate(model, prompt, generator=torch.Generator().manual_seed(1), **options)
    assert text == tokenizer.decode(ids[0, 6:])


def test_a_batch_of_texts_is_each_text_alone():
    """Catches rows stopped by another's stop string, or whose end token ends the batch."""
    model, tokenizer = byte_model(), ByteTokenizer()
    prompts = ["狮子", "a", "Löwen\n", "zz"]
    options = dict(max_new_tokens=25, temperature=0)
    free = complete(model, tokenizer, prompts, **options)
    assert free == ["".join(stream(model, tokenizer, p, **options)) for p in prompts]
    options |= dict(stop=[free[3][2:5], free[2][9:12]], eos_token_id=ord(free[0][3]))
    found = complete(model, tokenizer, prompts, **options)
    assert found == ["".join(stream(model, tokenizer, p, **options)) for p in prompts]
    assert len({len(text) for text in found}) >= 3  # they end at different places


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, t: stream(m, t, "a", max_new_tokens=3, stop=""), "stop=''"),
        (lambda m, t: stream(m, t, "a", max_new_tokens=3, stop=["x", 5]), "stop=5"),
        (lambda m, t: stream(m, t, "", max_new_tokens=3), "empty prompt"),
        (lambda m, t: stream(m, t, "a", max_new_tokens=-1), "max_new_tokens=-1"),
        (lambda m, t: stream(m, t, "a", max_new_tokens=1, top_p=2.0), "top_p=2.0"),
        (lambda m, t: complete(m, t, "abc", max_new_tokens=1), "prompts='abc': give a list"),
        (lambda m, t: complete(m, t, [], max_new_tokens=1), r"shape \(0, 0\)"),
        (lambda m, t: complete(m, t, ["a", ""], max_new_tokens=1), "prompt 1 is empty"),
    ],
)
def test_bad_arguments_are_named_at_once(call, message):
    """Catches an error that comes only when the first piece is asked for, after a server has said 200."""
    with pytest.raises(ValueError, match=message):
        call(byte_model(), ByteTokenizer())


def pieces_of(tokenizer, ids: list[int], prompt: list[int] = ()) -> list[str]:
    text = TextStream(tokenizer, prompt)
    return [*(text.push(token) for token in ids), text.finish()]


@pytest.mark.parametrize("text", ["🙂🙂", "中文", "é中🙂", "Löwe 🙂🙂 und 中文中文 ende", "中" * 40])
def test_neighbouring_unknown_characters_survive(text):
    """One unfinished character makes a byte-fallback decoder call the whole run of bytes before it unreadable:
    '🙂🙂' was streamed as '🙂����'."""
    tokenizer = FALLBACK
    ids = tokenizer.encode(text)
    assert "".join(pieces_of(tokenizer, ids)) == text
    reference = decoders.DecodeStream(skip_special_tokens=False)
    theirs = [reference.step(tokenizer.backend, token) or "" for token in ids]
    assert pieces_of(tokenizer, ids)[:-1] == theirs
    for cut in range(1, len(ids)):  # also behind a prompt that ends within the run
        if "\N{REPLACEMENT CHARACTER}" not in (before := tokenizer.decode(ids[:cut])):
            assert "".join(pieces_of(tokenizer, ids[cut:], ids[:cut])) == text[len(before) :]


def test_bytes_that_are_no_text_are_shown_once():
    """A stray byte between characters: it is neither lost nor held back for ever, and its neighbours survive."""
    tokenizer = FALLBACK
    smile, stray = tokenizer.encode("🙂")[1:], tokenizer.backend.token_to_id("<0x80>")
    end = tokenizer.encode("e")[-1:]
    pieces = pieces_of(tokenizer, [*smile, stray, *end])
    assert "".join(pieces) == "🙂\N{REPLACEMENT CHARACTER}e"
    assert "".join(pieces_of(tokenizer, [stray] * 9)) == "\N{REPLACEMENT CHARACTER}" * 9


def test_a_stop_string_of_unknown_characters_is_found():
    """A stop string that came out as U+FFFD and so never matched."""
    tokenizer = FALLBACK
    text = TextStream(tokenizer, stop="🙂🙂")
    written = "".join(text.push(token) for token in tokenizer.encode("ein 🙂🙂 ende"))
    assert (written, text.stopped) == ("ein ", "🙂🙂")
