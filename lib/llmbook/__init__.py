"""The library of *LLMs by Experiment*: one Transformer, its training, its inference and its figures.

Dependencies point one way: ``storage`` is the ground; ``model``, ``text`` and ``figures`` know nothing else of the
library; ``training`` stands on the first two, and ``adaptation``, ``compression``, ``interop`` and ``inference`` on
those. A test holds the table.
Import from the folders (``from llmbook.model import MultiHeadAttention``); this file imports nothing.

Shapes have one legend throughout: B batch, T query length, S key length, H query heads, Hk key/value
heads, D head width, C model width, F feed-forward width, V vocabulary size, L layers.
"""
