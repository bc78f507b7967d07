"""How good is it, and how sure is that: measures of predictions, and intervals for what was measured on a sample."""

from llmbook.evaluation.intervals import Interval, bootstrap, compare, proportion
from llmbook.evaluation.ranking import ranking

__all__ = ["Interval", "bootstrap", "compare", "proportion", "ranking"]
