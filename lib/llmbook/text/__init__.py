"""Text: tokenizers, corpora and batches, and what is hidden, cut or paired before a model sees them.

Start with ``batches.py`` and ``numbered.py``, which says why a batch has a number; ``mapped.py`` says how a batch is
changed on its way, ``masking.py`` is an example.
"""

from llmbook.text.batches import LMBatches, as_tokens, eval_windows, load_tokens, save_tokens
from llmbook.text.corpus import Corpus, corpora, load_corpus
from llmbook.text.diffusion import HideShare
from llmbook.text.labelled import Labelled, load_labelled
from llmbook.text.labels import IGNORE
from llmbook.text.mapped import MappedBatches
from llmbook.text.masking import MaskTokens
from llmbook.text.middle import MoveMiddle
from llmbook.text.mixing import MixedBatches, mixing_proportions
from llmbook.text.numbered import NumberedBatches
from llmbook.text.pairs import PairBatches, draw_next_sentence, draw_sentence_order, join_pair
from llmbook.text.permutation import PermuteOrder, choose_prefix
from llmbook.text.pronunciation import (
    LettersAndSounds,
    load_pronunciations,
    pronunciation_batches,
    split_at_random,
)
from llmbook.text.spans import CorruptSpans, cut_spans, draw_spans, restore_spans
from llmbook.text.tokenizers import (
    BPETokenizer,
    ByteTokenizer,
    CharTokenizer,
    HFTokenizer,
    Tokenizer,
    load_tokenizer,
)
from llmbook.text.words import WordVocabulary, split_words

__all__ = [
    "IGNORE",
    "BPETokenizer",
    "ByteTokenizer",
    "CharTokenizer",
    "Corpus",
    "CorruptSpans",
    "HFTokenizer",
    "HideShare",
    "LMBatches",
    "Labelled",
    "LettersAndSounds",
    "MappedBatches",
    "MaskTokens",
    "MixedBatches",
    "MoveMiddle",
    "NumberedBatches",
    "PairBatches",
    "PermuteOrder",
    "Tokenizer",
    "WordVocabulary",
    "as_tokens",
    "choose_prefix",
    "corpora",
    "cut_spans",
    "draw_next_sentence",
    "draw_sentence_order",
    "draw_spans",
    "eval_windows",
    "join_pair",
    "load_corpus",
    "load_labelled",
    "load_pronunciations",
    "load_tokenizer",
    "load_tokens",
    "mixing_proportions",
    "pronunciation_batches",
    "restore_spans",
    "save_tokens",
    "split_at_random",
    "split_words",
]
