"""Labelled texts: cleaned, drawn evenly, and refused with a reason."""

import csv

import pytest

from llmbook.storage import SourceError
from llmbook.text import Labelled, load_labelled
from llmbook.text.labelled import LABELLED, clean_review, read_movie_reviews


def toy(n=20):
    return Labelled(
        name="toy",
        texts=[f"text {i}" for i in range(n)],
        labels=[i % 2 for i in range(n)],
        label_names=("no", "yes"),
        licence="none",
        citation="us",
        source="here",
    )


def test_reviews_are_cleaned():
    """Catches web line breaks and Windows' dashes and quotes reaching the model as control characters."""
    assert clean_review("Bad.<br /><br />Very  bad \x96 \x93so\x94 bad") == "Bad. Very bad – “so” bad"


def test_the_table_is_read_by_source_and_without_copies(tmp_path):
    """Catches reviews of the other source, a text that is there twice (it might be on both sides of a split)."""
    path = tmp_path / "table.csv"
    path.write_text(
        'text,label,source\n"a, b",0,imdb\nc,1,imdb\n"a, b",0,imdb\nd,1,rotten_tomatoes\n', encoding="utf-8"
    )
    assert read_movie_reviews("imdb")({"t": path}) == [("a, b", 0), ("c", 1)]
    assert read_movie_reviews("rotten_tomatoes")({"t": path}) == [("d", 1)]


def test_draws_are_disjoint_even_and_repeatable():
    """Catches test texts among the training texts, and a draw of eight with seven of one label."""
    data = toy()
    train, test = data.draw(8, 10, seed=3)
    assert not set(train.texts) & set(test.texts)
    assert sum(train.labels) == 4
    assert sum(test.labels) == 5
    assert all(label == int(text.split()[1]) % 2 for text, label in zip(train.texts, train.labels, strict=True))
    again, _ = data.draw(8, 10, seed=3)
    other, _ = data.draw(8, 10, seed=4)
    assert train.texts == again.texts != other.texts


def test_a_draw_that_is_too_large_is_named():
    """Catches a part silently smaller than asked for."""
    with pytest.raises(ValueError, match="toy has 20 texts"):
        toy().draw(16, 8)


def test_unequal_texts_and_labels_are_refused():
    """Catches labels that belong to other texts."""
    with pytest.raises(ValueError, match="1 texts but 0 labels"):
        Labelled(name="t", texts=["a"], labels=[], label_names=("a",), licence="", citation="", source="")


def test_an_unknown_name_gets_the_near_one():
    """Catches a name that is misspelt ending in a KeyError."""
    with pytest.raises(ValueError, match="did you mean 'movie-reviews'"):
        load_labelled("movie-review")


def test_every_entry_states_its_licence_and_paper():
    """Catches an entry whose texts nobody knows the terms of."""
    for entry in LABELLED.values():
        assert entry.licence
        assert "https://" in entry.citation
        assert len(entry.package.sha256) == 64


def test_the_sentences_are_those_of_the_paper():
    """Catches a changed file, labels turned round, and texts that come sorted by label."""
    try:
        data = load_labelled("movie-sentences")
    except SourceError as error:
        pytest.skip(str(error).splitlines()[0])
    assert len(data) == 8530
    assert sum(data.labels) == 4265
    assert 80 < sum(data.labels[:200]) < 120
    assert data.labels[data.texts.index("interminably bleak , to say nothing of boring .")] == 0
    assert not any("<br" in text or "\x96" in text for text in data.texts)


def test_a_long_review_is_read_where_a_long_has_32_bits(tmp_path, monkeypatch):
    """Catches a limit larger than Windows' csv module takes, and one smaller than the longest review."""
    real = csv.field_size_limit

    def as_on_windows(limit):
        if limit > 2**31 - 1:
            raise OverflowError("Python int too large to convert to C long")
        return real(limit)

    monkeypatch.setattr(csv, "field_size_limit", as_on_windows)
    path, text = tmp_path / "table.csv", "x" * 200_000
    path.write_text(f"text,label,source\n{text},1,imdb\n", encoding="utf-8")
    assert read_movie_reviews("imdb")({"t": path}) == [(text, 1)]
