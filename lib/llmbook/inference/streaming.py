"""Text while it is written: every piece that comes out is final, and the pieces together are the whole text.

Tokens are not characters. A token may be a third of a Chinese character or a quarter of an emoji, and its text may
be the beginning of a stop string. Both are held back until it is clear what they become.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from llmbook.inference.decoding_state import pad_left
from llmbook.inference.generate import stream_tokens
from llmbook.inference.stopping import StopStrings, end_tokens
from llmbook.text import Tokenizer

UNREADABLE = "\N{REPLACEMENT CHARACTER}"  # what tokenizers decode bytes to that are not UTF-8, or not yet
LONGEST = 3  # a character has at most four bytes, so an unfinished one shows as at most three of these
PROMPT_END = 16  # tokens of a prompt that can matter for how the text goes on


def _settled(tokenizer: Tokenizer, ids: Sequence[int]) -> list[int]:
    """The last tokens of a text that are needed to decode what follows: the shortest end of ``ids`` that is readable
    by itself, or all of them. One token is not always enough, since a character may be spelled by several."""
    for n in range(1, min(len(ids), LONGEST + 1) + 1):
        if UNREADABLE not in tokenizer.decode(ids[-n:]):
            return list(ids[-n:])
    return list(ids)


class TextStream:
    """Tokens in, final text out: whole characters only, and nothing from a stop string on.

    Args:
        tokenizer: decodes the tokens.
        prompt_ids: what stands before. Some tokenizers write a token otherwise at the beginning of a text.
        stop: the strings that end the text and do not belong to it.
    """

    def __init__(self, tokenizer: Tokenizer, prompt_ids: Sequence[int] = (), *, stop: str | Sequence[str] = ()):
        self.tokenizer, self._stops = tokenizer, StopStrings(stop)
        self._known = _settled(tokenizer, prompt_ids[-PROMPT_END:])  # the last tokens whose text is settled
        self._new: list[int] = []  # the tokens after it
        self._given = 0  # characters of their text given out

    @property
    def stopped(self) -> str | None:
        """The stop string that has ended the text."""
        return self._stops.found

    def push(self, token: int) -> str:
        """Take a token and give back the text that is final now, possibly none."""
        self._new.append(token)
        text = self._decode()
        unfinished = min(len(text) - len(text.rstrip(UNREADABLE)), LONGEST)
        piece = text[self._given : len(text) - unfinished]
        self._given += len(piece)
        if not unfinished:  # a character ends with this token: no need to decode it again
            self._known, self._new, self._given = _settled(self.tokenizer, self._known + self._new), [], 0
        return self._stops.push(piece)

    def finish(self) -> str:
        """What was held back, when no more tokens will come."""
        rest = self._decode()[self._given :]
        self._new, self._given = [], 0
        return self._stops.push(rest) + self._stops.finish()

    def _decode(self) -> str:
        before = self.tokenizer.decode(self._known)
        text = self.tokenizer.decode(self._known + self._new)
        if text.startswith(before):
            return text[len(before) :]
        # Byte-fallback decoders make all neighbouring bytes unreadable as long as one character of them is unfinished.
        return self.tokenizer.decode(self._new)


def stream(
    model: nn.Module,
    tokenizer: Tokenizer,
    prompt: str,
    *,
    max_new_tokens: int,
    stop: str | Sequence[str] = (),
    eos_token_id: int | Sequence[int] | None = None,
    **options: Any,
) -> Iterator[str]:
    """Continue ``prompt`` and yield the new text piece by piece, each as soon as it is final.

    Ends before the first stop string in the new text, before an end token, or after ``max_new_tokens``. The other
    options are those of ``stream_tokens``. Raises ValueError naming what is out of range, before anything is written.
    """
    ids = tokenizer.encode(prompt)
    text = TextStream(tokenizer, ids, stop=stop)
    ends = end_tokens(eos_token_id, model.config.vocab_size)
    input_ids = torch.tensor([ids], dtype=torch.long, device=_device(model))  # [1, T]
    tokens = stream_tokens(model, input_ids, max_new_tokens=max_new_tokens, eos_token_id=ends, **options)
    return _pieces((int(token) for token in tokens), text, ends)


def complete(
    model: nn.Module,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    stop: str | Sequence[str] = (),
    eos_token_id: int | Sequence[int] | None = None,
    **options: Any,
) -> list[str]:
    """What ``stream`` writes after each prompt, as whole texts and in one batch; the options are the same.

    Raises ValueError where ``stream`` does, for an empty prompt, and for a string in place of a list.
    """
    if isinstance(prompts, str):
        raise ValueError(f"prompts={prompts!r}: give a list of prompts, or take stream for a single one")
    rows = [tokenizer.encode(prompt) for prompt in prompts]
    if not all(rows):
        raise ValueError(f"prompt {rows.index([])} is empty, which predicts nothing; start with a line break at least")
    ends = end_tokens(eos_token_id, model.config.vocab_size)
    texts = [TextStream(tokenizer, row, stop=stop) for row in rows]
    input_ids, attention_mask = pad_left(rows, device=_device(model))
    written = [""] * len(rows)
    running = set(range(len(rows)))
    if attention_mask.all():
        attention_mask = None  # nothing is padded, and not every model takes a mask
    tokens = stream_tokens(
        model, input_ids, attention_mask=attention_mask, max_new_tokens=max_new_tokens, eos_token_id=ends, **options
    )
    for column in tokens:
        for i in sorted(running):
            token = int(column[i])
            if token not in ends:
                written[i] += texts[i].push(token)
            if token in ends or texts[i].stopped is not None:
                running.remove(i)
        if not running:
            break
    return [done + text.finish() for done, text in zip(written, texts, strict=True)]


def _pieces(tokens: Iterable[int], text: TextStream, ends: Sequence[int]) -> Iterator[str]:
    for token in tokens:
        if token in ends:
            break
        if piece := text.push(token):
            yield piece
        if text.stopped is not None:
            return
    if piece := text.finish():
        yield piece


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
