"""Check every annotated shape of the library while the tests run, and keep them deterministic."""

import os

import pytest
import torch
from jaxtyping import install_import_hook

import tests.shapes  # noqa: F401  the hook looks the checker up by this name

os.environ.setdefault("LLMBOOK_STATIC", "1")
torch.set_num_threads(1)  # two workers on two cores: a second thread each would only spin
install_import_hook("llmbook", "tests.shapes.check_shapes")


@pytest.fixture(autouse=True)
def _seeded():
    """Every test starts from the same random state, whatever ran before it."""
    torch.manual_seed(0)
