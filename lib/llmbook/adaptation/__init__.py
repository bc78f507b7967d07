"""Making a trained model do something else at a small price: freeze most, learn little, prefer what people prefer.

Start with ``lora.py``. What is learned is, from the inside out, a correction to matrices (``lora.py``), small
networks between them (``adapters.py``), keys and values before the text (``prefix.py``), vectors before it
(``prompts.py``). What it is learned from: conversations (``chat.py``, ``conversations.py``), preferences
(``preferences.py``) and rewards for what the model wrote itself (``group_relative.py``).
"""

from llmbook.adaptation.adapters import add_adapters, remove_adapters
from llmbook.adaptation.chat import CHATML, render
from llmbook.adaptation.conversations import (
    Example,
    ExampleBatches,
    Preference,
    encode_chat,
    encode_preference,
    pad_examples,
    pad_preferences,
)
from llmbook.adaptation.freeze import TrainableReport, freeze, trainable_report, unfreeze
from llmbook.adaptation.group_relative import GRPOLoss
from llmbook.adaptation.lora import LoRALinear, add_lora, merge, remove_lora, unmerge, without_lora
from llmbook.adaptation.lora_files import load_lora, lora_state_dict, save_lora
from llmbook.adaptation.preferences import DPOLoss, Rewards, model_rewards, response_log_probs, reward_model_loss
from llmbook.adaptation.prefix import PrefixTuned
from llmbook.adaptation.prompts import PromptTuned

__all__ = [
    "CHATML",
    "DPOLoss",
    "Example",
    "ExampleBatches",
    "GRPOLoss",
    "LoRALinear",
    "Preference",
    "PrefixTuned",
    "PromptTuned",
    "Rewards",
    "TrainableReport",
    "add_adapters",
    "add_lora",
    "encode_chat",
    "encode_preference",
    "freeze",
    "load_lora",
    "lora_state_dict",
    "merge",
    "model_rewards",
    "pad_examples",
    "pad_preferences",
    "remove_adapters",
    "remove_lora",
    "render",
    "response_log_probs",
    "reward_model_loss",
    "save_lora",
    "trainable_report",
    "unfreeze",
    "unmerge",
    "without_lora",
]
