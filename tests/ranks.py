"""``run_ranks`` for tests: a process that dies below Python is started once more.

It happened once, in torch's own threads, in a run that neither some hundreds of repetitions under load nor memcheck
made fail again. A mistake of ours fails twice; whatever fails in Python fails at once.
"""

import re
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmbook.parallel.ranks import RankError, run_ranks


def run_ranks_once_more(fn: Callable, world_size: int, *args: Any, folder: Path | None = None, **options: Any) -> list:
    """What ``run_ranks`` returns; before the second attempt ``folder`` is made as it was before the first."""
    with tempfile.TemporaryDirectory() as kept:
        if folder is not None:
            shutil.copytree(folder, kept, dirs_exist_ok=True)
        try:
            return run_ranks(fn, world_size, *args, **options)
        except RankError as error:
            if not re.search(r"exit code -(6|7|11)\)", str(error)):
                raise
            warnings.warn(f"started once more: {error}", stacklevel=2)
        if folder is not None:
            shutil.rmtree(folder)
            shutil.copytree(kept, folder)
        return run_ranks(fn, world_size, *args, **options)
