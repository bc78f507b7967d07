"""Live runs are for what a change reaches, and in CI for a share of the rest that moves on."""

import subprocess

import pytest

from publishing import live

NAMES = ["chapters/one/attention.ipynb", "chapters/two/attention.ipynb"]


def git(book, *arguments, date="2026-11-20T12:00:00+0000"):
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    env = {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date, "PATH": "/usr/bin:/bin:/usr/local/bin"}
    subprocess.run(["git", *who, *arguments], cwd=book.root, env=env, check=True, capture_output=True)


@pytest.fixture
def history(book, monkeypatch):
    """The small book with a first commit, outside CI."""
    for name in ("CI", "LLMBOOK_BASE"):
        monkeypatch.delenv(name, raising=False)
    (book.root / ".gitignore").write_text("_build/\n")
    git(book, "init", "-q", "-b", "main")
    git(book, "add", ".")
    git(book, "commit", "-qm", "The book")
    return book


def commit(book, date="2026-11-20T12:00:00+0000"):
    git(book, "commit", "-qam", "A change", "--allow-empty", date=date)


def chosen(book):
    return [book.name(path) for path in live.due(book)[0]]


def test_without_an_earlier_commit_all_count_as_changed(history):
    """Would catch a shallow clone in which nothing is proven live."""
    assert chosen(history) == NAMES
    assert "no earlier commit is at hand" in live.due(history)[1]


def test_a_change_in_one_chapter_chooses_it(history, author):
    """Would catch the whole book run live for a line in one chapter, and an edit not yet committed left out."""
    commit(history)
    assert chosen(history) == []
    author.edit(history.notebooks[1], "c4", source="Other words.")
    assert chosen(history) == []
    author.edit(history.notebooks[1], "c6", source="assert value != 41")
    assert chosen(history) == NAMES[1:]
    commit(history)
    assert chosen(history) == NAMES[1:]
    commit(history)
    assert chosen(history) == []


def test_a_change_in_the_library_chooses_what_it_reaches(history):
    """Would catch a changed library that only static pages are made with."""
    commit(history)
    (history.root / "lib/llmbook/__init__.py").write_text('"""Said."""\nFACTOR = 2\n')
    assert chosen(history) == []
    (history.root / "lib/llmbook/__init__.py").write_text("FACTOR = 2.0\n")
    assert chosen(history) == NAMES


def test_what_passed_is_not_run_again(history, monkeypatch, tmp_path):
    """Would catch a pass that is forgotten, one that outlives its code, and a forged one that is believed."""
    live.keep(history, history.notebooks[:1])
    assert chosen(history) == NAMES[1:]
    (place,) = (history.build / "live").rglob("*.json")
    place.unlink()
    assert chosen(history) == NAMES[1:]  # it is in the user's folder as well
    place.write_text(place.read_text().replace('"cells"', '"sells"'))
    assert chosen(history) == NAMES
    live.keep(history, history.notebooks[:1])
    (history.root / "lib/llmbook/__init__.py").write_text("FACTOR = 2.0\n")
    assert chosen(history) == NAMES


def test_the_weekly_run_takes_all(history, monkeypatch):
    """Would catch a weekly run that believes the passes it should repeat."""
    commit(history)
    live.keep(history, history.notebooks)
    monkeypatch.setenv("LLMBOOK_FRESH", "1")
    assert chosen(history) == NAMES


def test_in_ci_every_chapter_has_its_turn(history, monkeypatch):
    """Would catch a rotation that stands still, or leaves a chapter out for ever; outside CI there is none."""
    seen = []
    monkeypatch.setenv("CI", "true")
    for day in range(10, 10 + live.SHARE):
        commit(history, date=f"2026-11-{day}T12:00:00+0000")
        seen += chosen(history)
    assert sorted(seen) == NAMES


def test_a_branch_counts_from_where_it_left(history, author):
    """Would catch a branch of several commits of which only the last counts."""
    git(history, "switch", "-qc", "branch")
    author.edit(history.notebooks[0], "c6", source="assert value != 41")
    commit(history)
    commit(history)
    assert chosen(history) == NAMES[:1]


def test_a_base_can_be_named(history, author, monkeypatch):
    """Would catch a push of several commits of which only the last counts."""
    author.edit(history.notebooks[0], "c6", source="assert value != 41")
    commit(history)
    commit(history)
    assert chosen(history) == []
    monkeypatch.setenv("LLMBOOK_BASE", "HEAD~2")
    assert chosen(history) == NAMES[:1]
