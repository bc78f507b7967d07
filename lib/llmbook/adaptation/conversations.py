"""Conversations as training examples: only what the assistant says is learned.

The model reads the whole conversation; the labels are −100 everywhere but on the assistant's turns, their end mark
included, for a model that never learned to stop talks on for ever. Where a turn's tokens are is found by rendering the
conversation up to its start, with the marks that invite an answer, and up to its end. That is exact only if those
tokens begin the tokens of the whole, which is checked: at use the model will see just that beginning.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from llmbook.adaptation.chat import CHATML, Message, render
from llmbook.text.labels import IGNORE
from llmbook.text.numbered import NumberedBatches, require_at_least
from llmbook.text.tokenizers import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Example:
    """One conversation: its tokens, and the same again where they are learned, −100 where only read."""

    input_ids: list[int]
    labels: list[int]


@dataclass(frozen=True, kw_only=True)
class Preference:
    """Two answers to one conversation, of which people preferred the first."""

    chosen: Example
    rejected: Example


def encode_chat(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    *,
    template: str | None = None,
    learn: Literal["all", "last"] = "all",
    max_len: int | None = None,
    **variables: Any,
) -> Example:
    """The tokens of a conversation, with the assistant's turns as labels.

    Of a turn, all is learned that the template writes behind the invitation to answer: the answer and its end mark,
    with the line break behind it in ChatML.

    Args:
        messages: as ``render`` takes them.
        template: the tokenizer's own (``tokenizer.chat_template``) unless given, or ChatML if it has none.
        learn: all turns of the assistant, or only the last.
        max_len: what lies beyond is cut off at the end; the beginning is what will be read at use.
        variables: what else the template uses; the tokenizer's special tokens are there.

    Raises:
        ValueError: an option is out of range; nothing is left to learn; the conversation's beginning gets other tokens
            when read alone.
    """
    if learn not in ("all", "last"):
        raise ValueError(f"learn={learn!r} is not one of 'all', 'last'")
    if max_len is not None and max_len < 2:
        raise ValueError(f"max_len={max_len}: one token to read and one to learn are the least")
    template = template or getattr(tokenizer, "chat_template", None) or CHATML
    variables = getattr(tokenizer, "special_tokens_map", {}) | variables
    ids = tokenizer.encode(render(messages, template, **variables))
    labels = [IGNORE] * len(ids)
    turns = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    if not turns:
        raise ValueError("the conversation has no assistant turn: nothing to learn")
    for i in turns if learn == "all" else turns[-1:]:
        before = render(messages[:i], template, add_generation_prompt=True, **variables)
        after = render(messages[: i + 1], template, **variables)
        start, end = (_length_in(ids, tokenizer.encode(text), turn=i) for text in (before, after))
        labels[start:end] = ids[start:end]
    example = Example(input_ids=ids[:max_len], labels=labels[:max_len])
    if all(label == IGNORE for label in example.labels[1:]):  # the first token is predicted from nothing
        raise ValueError(
            f"the conversation has {len(ids)} tokens, and none to be learned lies within max_len={max_len}: "
            "raise max_len or leave the conversation out"
        )
    return example


def encode_preference(
    messages: Sequence[Message], chosen: str, rejected: str, tokenizer: Tokenizer, **options: Any
) -> Preference:
    """Two answers to ``messages``, each as an ``Example`` in which the answer alone is learned.

    ``options`` and errors are those of ``encode_chat``.
    """
    answers = (
        encode_chat([*messages, {"role": "assistant", "content": answer}], tokenizer, **options, learn="last")
        for answer in (chosen, rejected)
    )
    return Preference(chosen=next(answers), rejected=next(answers))


def pad_examples(examples: Sequence[Example], *, pad_token_id: int = 0) -> dict[str, Int[Tensor, "B T"]]:
    """A batch for ``causal_lm_loss``: {"input_ids", "labels", "attention_mask"}, padded on the right."""
    length = max(len(example.input_ids) for example in examples)

    def padded(rows: list[list[int]], value: int) -> Int[Tensor, "B T"]:
        return torch.tensor([row + [value] * (length - len(row)) for row in rows])

    return {
        "input_ids": padded([example.input_ids for example in examples], pad_token_id),
        "labels": padded([example.labels for example in examples], IGNORE),
        "attention_mask": padded([[1] * len(example.input_ids) for example in examples], 0),
    }


def pad_preferences(pairs: Sequence[Preference], *, pad_token_id: int = 0) -> dict[str, Int[Tensor, "B T"]]:
    """A batch for ``preferences``: {"chosen_ids", "chosen_labels", "chosen_mask"} and the same for "rejected"."""
    sides = {
        side: pad_examples([getattr(pair, side) for pair in pairs], pad_token_id=pad_token_id)
        for side in ("chosen", "rejected")
    }
    names = {"ids": "input_ids", "labels": "labels", "mask": "attention_mask"}
    return {f"{side}_{short}": batch[name] for side, batch in sides.items() for short, name in names.items()}


class ExampleBatches(NumberedBatches):
    """An endless iterator of batches: every example once an epoch, in an order that seed and epoch decide.

    ``collate`` makes a batch of a list of examples (``pad_examples``, ``pad_preferences``). The state is one number,
    so a resumed run sees what an uninterrupted one would. Raises ValueError without examples, for a ``batch_size``
    below 1 and a negative ``seed``.
    """

    def __init__(
        self,
        examples: Sequence[Any],
        *,
        batch_size: int,
        collate: Callable[[list[Any]], dict[str, Tensor]] = pad_examples,
        seed: int = 0,
    ):
        if not len(examples):
            raise ValueError("there are no examples to make batches of")
        require_at_least(1, batch_size=batch_size)
        require_at_least(0, seed=seed)
        self.examples, self.batch_size, self.collate, self.seed = examples, batch_size, collate, seed
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0))  # of the epoch last asked for

    def batch(self, step: int) -> dict[str, Tensor]:
        """Batch number ``step``: the examples behind those of the batches before it."""
        first = step * self.batch_size
        return self.collate([self._example(first + i) for i in range(self.batch_size)])

    def _example(self, number: int) -> Any:
        epoch, place = divmod(number, len(self.examples))
        if self._order[0] != epoch:
            self._order = epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self.examples))
        return self.examples[self._order[1][place]]

    def identity(self) -> dict[str, int]:
        return {"seed": self.seed, "batch_size": self.batch_size, "n_examples": len(self.examples)}


def _length_in(ids: list[int], beginning: list[int], *, turn: int) -> int:
    """How many tokens of ``ids`` are ``beginning``."""
    if ids[: len(beginning)] == beginning:
        return len(beginning)
    place = next((i for i, (a, b) in enumerate(zip(ids, beginning, strict=False)) if a != b), len(ids))
    raise ValueError(
        f"turn {turn}: the conversation up to it, read alone, has other tokens from number {place} on "
        f"({beginning[place : place + 3]}, in the whole {ids[place : place + 3]}). Either the template changes earlier "
        "turns when more follow, or the tokenizer joins characters across the border of the turn; what is learned "
        "would not be what is seen at use"
    )
