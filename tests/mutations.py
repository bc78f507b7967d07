"""Mistakes made on purpose: a test that stays green under one proves nothing about it."""

from collections.abc import Callable
from typing import Any

import pytest


def must_be_noticed(
    owner: object, attribute: str, mistake: Any, test: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``test`` holds with the library as it is, and fails once ``owner.attribute`` is the mistake.

    It must fail by what it asserts: a mistake that stops the computation would be found without any test.
    """
    test()
    monkeypatch.setattr(owner, attribute, mistake)
    with pytest.raises(AssertionError):
        test()
