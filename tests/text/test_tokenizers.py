"""The one interface, kept by all four tokenizers."""

import json
import random

import numpy as np
import pytest
import torch
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as RustTokenizer

from llmbook.text import BPETokenizer, ByteTokenizer, CharTokenizer, HFTokenizer, load_tokenizer
from llmbook.text.tokenizers.protocol import printable
from tests.text.samples import EVERYTHING, TEXTS

SPECIAL = ["<|endoftext|>", "<|end|>"]
MAKERS = {
    "char": lambda: CharTokenizer.train(EVERYTHING),
    "byte": ByteTokenizer,
    "bpe": lambda: BPETokenizer.train(EVERYTHING, vocab_size=330),
    "bpe-special": lambda: BPETokenizer.train(EVERYTHING, vocab_size=330, special_tokens=SPECIAL),
    "hf": lambda: HFTokenizer.train(EVERYTHING, vocab_size=330),
    "hf-special": lambda: HFTokenizer.train(EVERYTHING, vocab_size=330, special_tokens=SPECIAL),
}


@pytest.fixture(scope="module", params=MAKERS)
def tokenizer(request):
    return MAKERS[request.param]()


@pytest.mark.parametrize("name", TEXTS)
def test_round_trip(tokenizer, name):
    """Catches a pattern that drops characters, a wrong byte table, and a broken empty string."""
    ids = tokenizer.encode(TEXTS[name])
    assert tokenizer.decode(ids) == TEXTS[name]
    assert (ids == []) == (TEXTS[name] == "")
    assert all(0 <= index < tokenizer.vocab_size for index in ids)


def test_round_trip_on_random_unicode(tokenizer):
    """Catches characters nobody thought of: every byte-based tokenizer must spell any text at all."""
    if isinstance(tokenizer, CharTokenizer):
        alphabet = tokenizer.characters
    else:
        alphabet = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000][::37]
    draw = random.Random(1)
    for _ in range(100):
        text = "".join(draw.choices(alphabet, k=draw.randrange(60)))
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_any_ids_decode_and_print(tokenizer):
    """Catches a decoder that fails on half a character, which is what a model writes early in training."""
    draw = random.Random(2)
    for _ in range(100):
        assert isinstance(tokenizer.decode(draw.choices(range(tokenizer.vocab_size), k=9)), str)
    shown = [tokenizer.token(index) for index in range(tokenizer.vocab_size)]
    assert all(mark and mark.isprintable() and not mark.isspace() for mark in shown)


@pytest.mark.parametrize("make", [list, np.array, torch.tensor, tuple, iter], ids=lambda make: make.__name__)
def test_decode_accepts_what_models_return(tokenizer, make):
    """Catches a decoder that compares a tensor's elements as tensors."""
    assert tokenizer.decode(make(tokenizer.encode("the times"))) == "the times"


@pytest.mark.parametrize("wrong", [-1, 10**6])
def test_foreign_id_is_named(tokenizer, wrong):
    """Catches Python's negative indices passing as ids, and ids of another tokenizer decoding to nonsense."""
    with pytest.raises(ValueError, match=rf"id {wrong} at position 1 is outside the vocabulary"):
        tokenizer.decode([0, wrong])
    with pytest.raises(ValueError, match=f"id {wrong}"):
        tokenizer.token(wrong)


def test_batch_of_ids_is_refused(tokenizer):
    """Catches decoding a [B, T] tensor as if it were one sequence."""
    with pytest.raises(ValueError, match="one by one"):
        tokenizer.decode(torch.zeros(2, 3, dtype=torch.long))


def test_save_and_load(tokenizer, tmp_path):
    """Catches anything the file forgets: the loaded tokenizer must be the same function."""
    path = tmp_path / "deep" / "tokenizer.json"
    tokenizer.save(path)
    again = load_tokenizer(path)
    assert type(again) is type(tokenizer)
    assert again.vocab_size == tokenizer.vocab_size
    assert again.encode(EVERYTHING) == tokenizer.encode(EVERYTHING)
    assert again.to_dict() == tokenizer.to_dict()
    assert [p.name for p in path.parent.iterdir()] == ["tokenizer.json"]


def test_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    """Catches writing in place: a save that dies halfway must not destroy what was there."""
    path = tmp_path / "t.json"
    CharTokenizer("ab").save(path)
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        CharTokenizer("abc").save(path)
    assert load_tokenizer(path).characters == "ab"
    assert len(list(tmp_path.iterdir())) == 1


def test_load_opens_a_bare_hugging_face_file(tmp_path):
    """Catches refusing the tokenizer.json that comes with weights."""
    trained = HFTokenizer.train(EVERYTHING, vocab_size=300)
    (tmp_path / "tokenizer.json").write_text(trained.backend.to_str(), encoding="utf-8")
    assert load_tokenizer(tmp_path / "tokenizer.json").encode(EVERYTHING) == trained.encode(EVERYTHING)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{not json", "is not JSON"),
        ("[1, 2]", "not a tokenizer"),
        ('{"format": "other"}', "not a tokenizer"),
        ('{"format": "llmbook-tokenizer", "kind": "morse"}', "unknown kind 'morse'"),
        ('{"format": "llmbook-tokenizer", "kind": "char"}', "lacks 'characters'"),
        (json.dumps({"format": "llmbook-tokenizer", "kind": "hf", "tokenizer": {}}), "not a tokenizer.json"),
    ],
)
def test_load_refuses_other_files(tmp_path, content, says):
    """Catches a traceback from the depths where one line would do."""
    path = tmp_path / "t.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=says):
        load_tokenizer(path)


def test_lone_surrogate_is_named():
    """Catches a UnicodeEncodeError, or a Rust one, for text read with the wrong error handler."""
    for make in (ByteTokenizer, MAKERS["bpe"], MAKERS["hf"]):
        with pytest.raises(ValueError, match="at position 2 is half of a surrogate pair"):
            make().encode("ab\ud800")


def test_unknown_character_is_named():
    """Catches a bare KeyError, and a position counted wrongly when the character comes twice."""
    with pytest.raises(ValueError, match=r"'é' \(U\+00E9\) at position 3 .* 3 characters"):
        CharTokenizer.train("cab").encode("cabébé")


def test_character_vocabulary_is_sound():
    """Catches an order that depends on the hash seed, an empty vocabulary and a repeated character."""
    assert CharTokenizer.train("hello").characters == "ehlo"
    with pytest.raises(ValueError, match="at least one character"):
        CharTokenizer.train("")
    with pytest.raises(ValueError, match="'a' appears more than once"):
        CharTokenizer("aba")


def test_tokens_are_made_visible():
    """Catches labels of figures that are blank, or that break the line."""
    assert ByteTokenizer().tokens("a \n\t一") == ["a", "␣", "↵", "⇥", "⟨E4⟩", "⟨B8⟩", "⟨80⟩"]
    bpe = BPETokenizer.train(" the the the", vocab_size=260, special_tokens=["<|end|>"])
    assert bpe.tokens(" the<|end|>\x00") == ["␣the", "<|end|>", "⟨U+0000⟩"]
    hf = HFTokenizer.train(" the the the", vocab_size=260, special_tokens=["<|end|>"])
    assert [hf.token(i) for i in range(260)] == [bpe.token(i) for i in range(260)]


def test_truncation_and_padding_of_the_file_are_off():
    """Catches silently losing everything after 128 tokens, as sentence encoders' files ask for."""
    trained = HFTokenizer.train(EVERYTHING, vocab_size=300)
    trained.backend.enable_truncation(4)
    trained.backend.enable_padding(length=50)
    ids = HFTokenizer.from_json(trained.backend.to_str()).encode("the best of times, the worst")
    assert 4 < len(ids) < 50


def test_end_tokens_are_found_by_their_usual_names():
    """A chat that never ends because its end mark is taken for text, or ordinary characters taken for an end."""
    special = BPETokenizer.train("a b", vocab_size=259, special_tokens=["<s>", "<|im_end|>", "<|endoftext|>"])
    assert special.end_tokens == (1, 2)
    assert ByteTokenizer().end_tokens == ()
    assert CharTokenizer("abc").end_tokens == ()


def holed(**tokens: int) -> HFTokenizer:
    """A byte-level tokenizer whose last id is higher than the number of its tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = RustTokenizer(models.BPE({token: i for i, token in enumerate(alphabet)} | tokens, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return HFTokenizer(backend)


def test_a_vocabulary_with_holes_reaches_to_its_highest_id():
    """Entries counted in place of ids: a model made of that size has no row for the last token."""
    tokenizer = holed(Ġend=300)
    assert (len(tokenizer.backend.get_vocab()), tokenizer.vocab_size) == (257, 301)
    assert tokenizer.decode([300]) == " end"
    assert (tokenizer.token(300), tokenizer.token(299), tokenizer.decode([299])) == ("␣end", "⟨unused 299⟩", "")
    with pytest.raises(ValueError, match=r"id 301 at position 0 .*\(0 to 300\)"):
        tokenizer.decode([301])


@pytest.mark.parametrize("text", ["two words", "狮子", "<|x|>", "\n\n"])
@pytest.mark.parametrize("special", [True, False])
def test_added_tokens_stand_as_they_are_written(text, special):
    """An added token is no sequence of byte characters: `two words` was a KeyError where a figure wrote it."""
    tokenizer = holed()
    tokenizer.backend.add_tokens([AddedToken(text, special=special, normalized=False)])
    tokenizer = HFTokenizer(tokenizer.backend)
    (index,) = tokenizer.encode(text)
    assert tokenizer.decode([index]) == text
    assert tokenizer.token(index) == printable(text.encode())


def test_the_size_is_not_counted_at_every_id():
    """A backend that counts its vocabulary when asked (12 ms in some versions) and is asked for every token."""

    class Counting:
        def __init__(self, backend):
            self.backend, self.asked = backend, 0

        def __getattr__(self, name):
            self.asked += "vocab" in name
            return getattr(self.backend, name)

    tokenizer = holed()
    tokenizer.backend = Counting(tokenizer.backend)
    for _ in range(20):
        tokenizer.decode(list(range(200)))
        tokenizer.token(5)
    assert tokenizer.backend.asked == 0


def gpt2_files(folder, ids: dict[str, int], merges: list[str]) -> BPETokenizer:
    (folder / "vocab.json").write_text(json.dumps(ids))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    return BPETokenizer.from_gpt2(folder / "vocab.json", folder / "merges.txt")


def test_gpt2_files_with_holes_keep_their_ids(tmp_path):
    """Ids that move together because one in the middle is missing: every later token is read as its neighbour."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ids = {token: i for i, token in enumerate(alphabet)} | {"th": 300, "the": 302, "<|endoftext|>": 305}
    merges = ["t h", "th e"]
    ours = gpt2_files(tmp_path, ids, merges)
    reference = RustTokenizer(models.BPE(ids, [tuple(m.split()) for m in merges]))
    reference.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert ours.encode("the thorn") == reference.encode("the thorn").ids
    assert (ours.vocab_size, ours.encode("<|endoftext|>"), ours.token(301)) == (306, [305], "⟨unused 301⟩")
    again = BPETokenizer.from_dict(json.loads(json.dumps(ours.to_dict())))
    assert again.encode("the thorn<|endoftext|>") == ours.encode("the thorn<|endoftext|>")


@pytest.mark.parametrize(
    ("change", "says"), [({"th": 0}, "vocab.json"), ({"th": -1}, "vocab.json"), ({"th": 1.5}, "vocab.json")]
)
def test_gpt2_files_with_strange_ids_are_refused(tmp_path, change, says):
    """Two tokens with one id, and ids that are no place in a table."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    with pytest.raises(ValueError, match=says):
        gpt2_files(tmp_path, {token: i for i, token in enumerate(alphabet)} | change, ["t h"])
    with pytest.raises(ValueError, match=r"merges\.txt holds 't h e'"):
        gpt2_files(tmp_path, {token: i for i, token in enumerate(alphabet)}, ["t h e"])


def test_a_folder_brings_what_chats_need(tmp_path):
    """A template without the special tokens it writes, or the other way round."""
    holed().backend.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "special_tokens_map.json").write_text('{"pad_token": "<p>", "eos_token": "</old>"}')
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({
            "bos_token": {"content": "<s>", "special": True}, "eos_token": "</s>", "unk_token": None,
            "add_bos_token": True,
            "chat_template": [{"name": "tool", "template": "x"}, {"name": "default", "template": "y"}],
        })
    )  # fmt: skip
    tokenizer = HFTokenizer.from_folder(tmp_path)
    assert tokenizer.special_tokens_map == {"pad_token": "<p>", "eos_token": "</s>", "bos_token": "<s>"}
    assert tokenizer.chat_template == "y"
    tokenizer.save(tmp_path / "ours.json")
    assert load_tokenizer(tmp_path / "ours.json").special_tokens_map == tokenizer.special_tokens_map
    (tmp_path / "chat_template.jinja").write_text("z")
    assert HFTokenizer.from_folder(tmp_path).chat_template == "z"
    for damaged in ("[]", "{", '{"chat_template": [1]}'):
        (tmp_path / "tokenizer_config.json").write_text(damaged)
        with pytest.raises(ValueError, match=r"tokenizer_config\.json is damaged"):
            HFTokenizer.from_folder(tmp_path)
