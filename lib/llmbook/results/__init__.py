"""Recorded runs, and the reader's own run beside them.

Three parts. ``recorded``: what a chapter measured when it had more time or a better machine than its reader has,
kept by ``record`` and shown by ``load``. ``reference``: the numbers every chapter prints, with the range other seeds
give. ``compare``: yours beside ours, with a verdict for each number. Begin with ``comparison.py``.
"""

from llmbook.results.recorded import Recorded, commit, load, processor, record
from llmbook.results.shown import compare

__all__ = ["Recorded", "commit", "compare", "load", "processor", "record"]
