"""Check every annotated shape of the library while the tests run, and keep them deterministic."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("LLMBOOK_STATIC", "1")

from jaxtyping import install_import_hook

install_import_hook("llmbook", "beartype.beartype")

import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded():
    """Every test starts from the same random state, whatever ran before it."""
    torch.manual_seed(0)
