"""Classic mistakes of looking into a model, made on purpose: for each, a named test of this folder must notice.

As in ``tests/model/test_mutations.py``, each case patches one mistake into the library, runs the test that is meant
to catch it, and demands that the test fails.
"""

from collections.abc import Callable
from contextlib import ExitStack
from importlib import import_module

import pytest

from tests.interpret import test_capture
from tests.mutations import must_be_noticed

capture = import_module("llmbook.interpret.capture")  # the folder has given its name to the function
real = dict(at=capture._at, on_output=capture._on_output)


class LeavesHooks(ExitStack):
    """Forgets what it should undo."""

    def callback(self, *args, **keywords):
        return None


def changes_the_rest(name, action):
    hook = real["on_output"](name, action)

    def changed(module, inputs, output):
        new = hook(module, inputs, output)
        return tuple(v if v is None else v * 0 for v in new) if isinstance(new, tuple) else new

    return changed


def grid() -> None:
    test_capture.test_patching_grid_finds_the_position_that_differs()


MUTATIONS: dict[str, tuple[str, object, Callable[[], None]]] = {
    "the position beside it patched": (
        "_at", lambda position, value: real["at"]((position + 1) % value.shape[1], value), grid,
    ),
    "all positions patched": ("_at", lambda position, value: lambda now: value, grid),
    "the corrupted value put back": ("_at", lambda position, value: lambda now: now, grid),
    "hooks left behind": ("ExitStack", LeavesHooks, test_capture.test_nothing_is_left_behind),
    "attention weights patched with the mixture beside them": (
        "_on_output", changes_the_rest, test_capture.test_a_patch_keeps_the_weights_beside_it,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_mistake_is_noticed(name, monkeypatch):
    """A test that would pass whatever the library computes."""
    must_be_noticed(capture, *MUTATIONS[name], monkeypatch)
