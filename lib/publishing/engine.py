"""A JavaScript engine for the build: what a library of the page can do once, it does here, and no reader's page waits.

V8 comes as a wheel (mini-racer), so that a build needs nothing beyond Python.
"""

import functools
from pathlib import Path

from .book import BookError


@functools.cache
def engine(*scripts: Path):
    """An engine that has read `scripts`, in their order; the same one for the same scripts."""
    try:
        from py_mini_racer import MiniRacer
    except ImportError as error:
        raise BookError(f"{error}: formulas and the search index need it. `pip install -r requirements.txt`.") from None
    made = MiniRacer()
    for script in scripts:
        made.eval(script.read_text(encoding="utf-8"))
    return made
