"""What processes say to each other, written by hand: begin with ``ranks.py``, which starts them from a notebook."""

from llmbook.parallel.ranks import RankError, run_ranks

__all__ = ["RankError", "run_ranks"]
