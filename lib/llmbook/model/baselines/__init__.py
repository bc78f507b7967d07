"""Language models from before attention, with the same interface: counts, a window, recurrence and convolution.

They take token numbers and return logits like ``DecoderLM``, so every loss, loop and evaluation serves all of them.
None has a cache, attention weights or a way to skip padding; ``generate`` takes them with ``use_cache=False``.
Begin with ``ngram.py``, the ladder's lowest rung, or ``bengio.py``, the first that learned vectors.
"""

from llmbook.model.baselines.bengio import BengioLM
from llmbook.model.baselines.conv import CausalConv, ConvLM
from llmbook.model.baselines.lstm import LSTMLM
from llmbook.model.baselines.ngram import NGramLM, estimate_discounts

__all__ = ["LSTMLM", "BengioLM", "CausalConv", "ConvLM", "NGramLM", "estimate_discounts"]
