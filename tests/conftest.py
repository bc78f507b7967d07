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


def pytest_collection_finish(session):
    """Refuse to run where pytest-xdist loses its groups in silence, as 3.8 does beside pytest 9.2.

    What a group shares (a page that was visited, a book that was built) would be made again for nearly every test.
    """
    grouped = [item for item in session.items if item.get_closest_marker("xdist_group")]
    if getattr(session.config.option, "loadgroup", False) and any("@" not in item.nodeid for item in grouped):
        told = f"pytest-xdist keeps no group together beside pytest {pytest.__version__}"
        raise pytest.UsageError(f"{told}: install the versions of requirements.txt.")
