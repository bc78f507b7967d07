"""From a prompt to text: in pieces as it is written, or whole texts for many prompts."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from llmbook.inference.generate import LOGPROBS_ELSEWHERE, Writing, completions
from llmbook.inference.sampling import Sampling
from llmbook.text import Tokenizer


def stream(
    model: nn.Module,
    tokenizer: Tokenizer,
    prompt: str,
    sampling: Sampling | None = None,
    *,
    generator: torch.Generator | None = None,
    use_cache: bool = True,
    **options: Any,
) -> Iterator[str]:
    """Continue ``prompt`` and yield the new text piece by piece, each as soon as it is final.

    Ends before the first stop string in the new text, before an end token, or after ``max_new_tokens``. The options
    are those of ``Sampling``. Raises ValueError naming what is out of range, before anything is written.
    """
    sampling = Sampling.of(sampling, options)
    sampling.refuse("stream yields one text; take complete for several", "n")
    sampling.refuse(LOGPROBS_ELSEWHERE, "logprobs", "prompt_logprobs")
    ids = torch.tensor([tokenizer.encode(prompt)], dtype=torch.long, device=next(model.parameters()).device)  # [1, T]
    writing = Writing(model, ids, sampling, tokenizer=tokenizer, generator=generator, use_cache=use_cache)
    return (piece for _ in writing.one_by_one() if (piece := writing.sampler.pieces[0]))


def complete(
    model: nn.Module,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    sampling: Sampling | None = None,
    *,
    generator: torch.Generator | None = None,
    use_cache: bool = True,
    **options: Any,
) -> list[str]:
    """What ``stream`` writes after each prompt, as whole texts and in one batch; with ``n``, n for each prompt.

    Raises ValueError where ``stream`` does, for an empty prompt, and for a string in place of a list.
    """
    if isinstance(prompts, str):
        raise ValueError(f"prompts={prompts!r}: give a list of prompts, or take stream for a single one")
    sampling = Sampling.of(sampling, options)
    sampling.refuse(LOGPROBS_ELSEWHERE, "logprobs", "prompt_logprobs")
    rows = [tokenizer.encode(prompt) for prompt in prompts]
    if not all(rows):
        raise ValueError(f"prompt {rows.index([])} is empty, which predicts nothing; start with a line break at least")
    written = completions(model, rows, sampling, tokenizer=tokenizer, generator=generator, use_cache=use_cache)
    return [completion.text for completion in written]
