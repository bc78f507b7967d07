"""Grammars: every text conforms, everything that conforms can be written, and what cannot be promised is refused."""

import json
import random
import re

import jsonschema
import pytest
import regex
import torch
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as RustTokenizer

from llmbook.inference import (
    Grammar,
    PromptLookup,
    Sampling,
    beam_search,
    completions,
    generate,
    next_token_distribution,
    speculative_generate,
    stream,
)
from llmbook.text import BPETokenizer, ByteTokenizer, CharTokenizer, HFTokenizer
from tests.inference.helpers import make_model

TEXT = 'a name, a number: {"name": "Ada", "born": 1815, "of": ["x", "y", 中文]} 你好 🙂 -12.5 true false null' * 2
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 4},
        "born": {"type": "integer", "minimum": -20, "maximum": 120},
        "of": {"type": "array", "items": {"enum": ["x", "中", None]}, "maxItems": 2},
    },
    "required": ["name", "born"],
    "additionalProperties": False,
}


def byte_fallback() -> HFTokenizer:
    """Like Llama 2's: words with a mark for the space, and a token for each byte of what has none."""
    words = ["<unk>", "</s>", "\u2581", *'abcdexyz0123456789{}[]":,-.', "\u2581a", '":', "12", "中", '{"', "nul"]
    vocab = {token: i for i, token in enumerate([*words, *(f"<0x{byte:02X}>" for byte in range(256))])}
    backend = RustTokenizer(models.BPE(vocab, [], unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    backend.add_special_tokens([AddedToken("<unk>", special=True), AddedToken("</s>", special=True)])
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    replace, strip = decoders.Replace("\u2581", " "), decoders.Strip(" ", 1, 0)
    backend.decoder = decoders.Sequence([replace, decoders.ByteFallback(), decoders.Fuse(), strip])
    return HFTokenizer(backend)


TOKENIZERS = {
    "byte": ByteTokenizer,
    "char": lambda: CharTokenizer("".join(sorted(set(TEXT + "0123456789-xyz")))),
    "bpe": lambda: BPETokenizer.train(TEXT, vocab_size=300, special_tokens=["<|endoftext|>"]),
    "hf": lambda: HFTokenizer.train(TEXT, vocab_size=300, special_tokens=["<|endoftext|>"]),
    "byte-fallback": byte_fallback,
}


def model_for(tokenizer, *, extra: int = 0, **overrides):
    """A model of its vocabulary; ``extra`` numbers more, as padded vocabularies have."""
    return make_model(vocab_size=tokenizer.vocab_size + extra, max_seq_len=96, **overrides)


def spell(tokenizer, tokens) -> bytes:
    return b"".join(tokenizer.token_bytes(int(token)) for token in tokens)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_token_bytes_make_the_text(kind):
    """Tokens spelled with the marks of their files (Ġ, ▁, <0xE4>) in place of what they stand for."""
    tokenizer = TOKENIZERS[kind]()
    ids = tokenizer.encode("a 你 12 {")
    assert spell(tokenizer, ids).decode().strip() == "a 你 12 {"
    for end in tokenizer.end_tokens:
        assert tokenizer.token_bytes(end) == b""


def test_pieces_of_words_have_no_bytes():
    """A WordPiece vocabulary, whose pieces do not say where spaces are, taken for text."""
    backend = RustTokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]"))
    backend.decoder = decoders.WordPiece()
    with pytest.raises(ValueError, match="pieces of words"):
        Grammar.regex("a", HFTokenizer(backend))


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_texts_are_what_the_schema_describes(kind):
    """Text that a mask of another tokenizer, of the wrong bytes or one step late has let through; numbers of a padded
    vocabulary, which no token has, drawn."""
    tokenizer = TOKENIZERS[kind]()
    model, grammar = model_for(tokenizer, extra=3), Grammar.json_schema(SCHEMA, tokenizer)
    prompt = tokenizer.encode("a")
    written = completions(
        model, [prompt, prompt], tokenizer=tokenizer, grammar=grammar, n=4, seed=1, temperature=1.5,
        eos_token_id=tokenizer.end_tokens, max_new_tokens=90,
    )  # fmt: skip
    texts = set()
    for completion in written:
        if completion.finish_reason == "length":
            continue
        jsonschema.validate(json.loads(completion.text), SCHEMA)
        texts.add(completion.text)
    assert len(texts) > 2  # not one text that happens to conform


PATTERNS = [r"a[bc]*d?", r"(x|yz){2,3}", r"[a-c]+-\d{1,2}", r"", r"中[中a]?", r"[^a]b*c", r"\d+(\.\d+)?"]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_exactly_the_tokens_that_can_go_on(pattern):
    """A token forbidden though the text could go on with it, or allowed though it could not: compared, for random
    texts, with the partial matches of the package ``regex``."""
    vocab = [*"abcdxyz中-.01", "ab", "bc", "yz", "xx", "a-", "d0", "1.", "中a", "中中", "bb", "yzx"]
    end, draw, lengths = len(vocab), random.Random(1), set()
    start = Grammar.regex(pattern, Pieces(vocab)).matcher()
    for _ in range(30):
        text, matcher = "", start.fork()
        while len(text) < 9:
            allowed = set(matcher.allowed(len(vocab) + 1, ends=[end]).nonzero().flatten().tolist())
            expected = {i for i, piece in enumerate(vocab) if regex.fullmatch(pattern, text + piece, partial=True)}
            expected |= {end} if regex.fullmatch(pattern, text) else set()
            assert allowed == expected, (text, allowed ^ expected)
            token = draw.choice(sorted(allowed))
            if token == end:
                break
            matcher.push(token)
            text += vocab[token]
        lengths.add(len(text))
    assert len(lengths) > 1 or pattern == ""


class Pieces(CharTokenizer):
    """Any strings as tokens."""

    def __init__(self, pieces):
        super().__init__("".join(chr(0x4E00 + i) for i in range(len(pieces))))
        self.pieces = pieces

    def token_bytes(self, index):
        return self.pieces[index].encode()

    def decode(self, ids):
        return "".join(self.pieces[i] for i in ids)


def test_a_token_may_end_inside_a_character():
    """A mask over characters, which has no place for a half of one."""
    tokenizer = ByteTokenizer()
    matcher = Grammar.regex("[你好]!", tokenizer).matcher()
    for text in ("你!", "好!"):
        state = matcher.fork()
        for byte in text.encode():
            assert state.allowed(256)[byte]
            assert not state.allowed(256)[ord("a")]
            state.push(byte)
        assert state.complete
        assert state.at_its_end


def test_a_state_can_be_taken_back_and_copied():
    """A refused token that ruins the state, tokens taken back one too few, copies that go on together."""
    tokenizer = ByteTokenizer()
    matcher = Grammar.regex("ab|ac|d", tokenizer).matcher()
    start = matcher.allowed(256)
    with pytest.raises(ValueError, match=r"Grammar\('ab\|ac\|d'\): token 120 cannot come after ''"):
        matcher.push(ord("x"))
    matcher.push(ord("a"))
    other = matcher.fork()
    matcher.push(ord("b"))
    assert matcher.at_its_end
    assert other.allowed(256).nonzero().flatten().tolist() == [ord("b"), ord("c")]
    matcher.pop(2)
    assert torch.equal(matcher.allowed(256), start)


def test_an_end_is_allowed_exactly_where_the_text_is_complete():
    """An end in the middle, or none where one may stand: the text then never ends. Without an end token the text ends
    by itself where nothing can follow."""
    tokenizer = TOKENIZERS["hf"]()
    (end,) = tokenizer.end_tokens
    matcher = Grammar.regex("a+b?", tokenizer).matcher()
    assert not matcher.allowed(300, [end])[end]
    matcher.push(*tokenizer.encode("a"))
    assert matcher.allowed(300, [end])[end]
    model = model_for(tokenizer)
    grammar = Grammar.regex("(a|x)y?", tokenizer)
    for ends in ((), (end,)):
        (found,) = completions(
            model, [tokenizer.encode("a")], tokenizer=tokenizer, grammar=grammar, eos_token_id=ends, max_new_tokens=9,
            seed=3,
        )  # fmt: skip
        assert found.finish_reason == "stop"
        assert found.text in ("a", "x", "ay", "xy") if ends else found.text in ("ay", "xy")


def test_a_dead_end_is_told():
    """Text that stops without a word, or goes on with what does not conform, because no token spells what must come."""
    tokenizer = CharTokenizer("abcdefghijklmnopqrstuvwxyz ")
    model = make_model(vocab_size=27)
    with pytest.raises(ValueError, match="dead end after 'year ': the text is not complete, and no token"):
        generate(model, torch.tensor([[0]]), max_new_tokens=12, grammar=Grammar.regex("year [0-9]+", tokenizer))
    grammar = Grammar.regex("a", tokenizer)
    with pytest.raises(ValueError, match="together forbid every token"):
        generate(model, torch.tensor([[0]]), max_new_tokens=2, grammar=grammar, logit_bias={0: float("-inf")})


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "colour"}, "Invalid type: colour"),
        ({"not": {"type": "string"}}, 'Unimplemented keys: ["not"]'),
        ({"type": "array", "uniqueItems": True}, 'Unimplemented keys: ["uniqueItems"]'),
        ({"type": "string", "format": "postcode"}, "Unknown format: postcode"),
        ({"$ref": "#/none"}, "Pointer '/none' does not exist"),
        ({"type": "string", "pattern": "(?=a)b"}, "look-around"),
        ({"enum": []}, "Unsatisfiable schema"),
        ({"type": "array", "minItems": 3, "maxItems": 2}, r"minItems \(3\) is greater than maxItems \(2\)"),
    ],
)  # fmt: skip
def test_a_schema_that_cannot_be_kept_is_refused(schema, words):
    """A keyword passed over: the text would conform to another schema than was given."""
    with pytest.raises(
        ValueError, match=f"is not supported as a grammar: .*{re.escape(words) if '[' in words else words}"
    ):
        Grammar.json_schema(schema, ByteTokenizer())


@pytest.mark.parametrize(
    ("pattern", "words"),
    [("(", "unclosed group"), ("a(?=b)", "look-around"), (r"(a)\1", "backreferences"), ("[^", "unclosed character")],
)
def test_a_pattern_that_cannot_be_kept_is_refused(pattern, words):
    """A pattern that is taken for another, or an error about rules that the caller has never written."""
    with pytest.raises(ValueError, match=f"^{re.escape(repr(pattern))} is not supported as a grammar: .*{words}"):
        Grammar.regex(pattern, ByteTokenizer())


def test_slashes_and_line_breaks_are_parts_of_a_pattern():
    """Characters that end the pattern in the rules it is put into."""
    matcher = Grammar.regex("a/b\nc", ByteTokenizer()).matcher()
    for byte in b"a/b\nc":
        matcher.push(byte)
    assert matcher.at_its_end


def test_every_road_keeps_to_it():
    """A road that takes a grammar and writes what it likes: beams, speculation, streams, and the distribution shown."""
    tokenizer = TOKENIZERS["hf"]()
    model, (end,) = model_for(tokenizer), tokenizer.end_tokens
    grammar = Grammar.regex(r"(xx|yy|x1y){2,4}!", tokenizer)
    ids = torch.tensor([tokenizer.encode("a b")])
    options = dict(grammar=grammar, eos_token_id=end, max_new_tokens=24)
    greedy = generate(model, ids, temperature=0, **options)[0, ids.shape[1] :]
    text = spell(tokenizer, greedy).decode()
    assert re.fullmatch(grammar.source, text)
    guessed = speculative_generate(
        model, ids, draft=PromptLookup(model.config.vocab_size, max_ngram=1), k=3, temperature=0, **options
    )
    assert guessed.sequences[0, ids.shape[1] :].tolist() == greedy.tolist()
    assert guessed.n_accepted > 0
    assert "".join(stream(model, tokenizer, "a b", temperature=0, **options)) == text
    beams = beam_search(model, ids, num_beams=3, n=3, **options)
    for row, score in zip(beams.sequences[:, ids.shape[1] :], beams.scores, strict=True):
        assert re.fullmatch(grammar.source, spell(tokenizer, row).decode()), score
    assert len(beams.sequences.unique(dim=0)) == 3
    shown = next_token_distribution(model, ids, grammar=grammar, eos_token_id=end)[0]
    allowed = grammar.matcher().allowed(model.config.vocab_size, [end])
    assert torch.equal(shown > 0, allowed)


def test_without_the_package_the_extra_is_named(monkeypatch):
    """ModuleNotFoundError about a package the reader has never heard of."""
    monkeypatch.setitem(__import__("sys").modules, "llguidance", None)
    with pytest.raises(ImportError, match=r"pip install 'llmbook\[grammar\]'"):
        Grammar.regex("a", ByteTokenizer())


def test_the_same_grammar_is_an_equal_option():
    """A ``Sampling`` with a grammar that cannot be compared, copied with a change, or hashed."""
    grammar = Grammar.regex("a", ByteTokenizer())
    sampling = Sampling(grammar=grammar, temperature=0.5)
    assert sampling == Sampling.of(Sampling(temperature=0.5), {"grammar": grammar})
    assert len({sampling, Sampling(grammar=grammar, temperature=0.5)}) == 1
