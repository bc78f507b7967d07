"""Making a trained model do something else at a small price: freeze most, learn little, prefer what people prefer.

Start with ``lora.py``. What is learned is, from the inside out, a correction to matrices (``lora.py``), small
networks between them (``adapters.py``), keys and values before the text (``prefix.py``), vectors before it
(``prompts.py``). What it is learned from: conversations (``chat.py``, ``conversations.py``) and preferences
(``preferences.py``).
"""

from llmbook.adaptation.adapters import add_adapters, remove_adapters
from llmbook.adaptation.freeze import TrainableReport, freeze, trainable_parameters, unfreeze
from llmbook.adaptation.lora import LoRALinear, add_lora, merge, remove_lora, unmerge, without_lora
from llmbook.adaptation.lora_files import load_lora, lora_state_dict, save_lora
from llmbook.adaptation.prefix import PrefixTuned
from llmbook.adaptation.prompts import PromptTuned

__all__ = [
    "LoRALinear",
    "PrefixTuned",
    "PromptTuned",
    "TrainableReport",
    "add_adapters",
    "add_lora",
    "freeze",
    "load_lora",
    "lora_state_dict",
    "merge",
    "remove_adapters",
    "remove_lora",
    "save_lora",
    "trainable_parameters",
    "unfreeze",
    "unmerge",
    "without_lora",
]
