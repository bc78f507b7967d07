"""How good is it, and how sure is that: measures of predictions, and intervals for what was measured on a sample."""

from llmbook.evaluation.intervals import Interval, bootstrap, compare, proportion
from llmbook.evaluation.passing import pass_at_k
from llmbook.evaluation.ranking import ranking

__all__ = ["Interval", "bootstrap", "compare", "pass_at_k", "proportion", "ranking"]
