"""Writing text one token at a time: read the context, choose the next token, append it, repeat.

``DecodingState`` knows how the context is read, ``Sampler`` how a token is chosen. Here is the loop of the two, and the
forms in which its texts are wanted: all tokens at once, token by token, or with everything known about them.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmbook.inference.decoding_state import TokenMask, check_prompt, pad_left
from llmbook.inference.guidance import make_reader
from llmbook.inference.log_probs import prompt_log_probs
from llmbook.inference.request import Completion
from llmbook.inference.sampler import Sampler
from llmbook.inference.sampling import Sampling
from llmbook.model import Cache, evaluating
from llmbook.text import Tokenizer

LOGPROBS_ELSEWHERE = "completions gives log-probabilities; here they would be lost"


def generate(
    model: nn.Module,
    input_ids: Int[Tensor, "B T"],
    sampling: Sampling | None = None,
    *,
    attention_mask: TokenMask | None = None,
    generator: torch.Generator | None = None,
    use_cache: bool = True,
    cache: Cache | None = None,
    tokenizer: Tokenizer | None = None,
    **options: Any,
) -> Int[Tensor, "B_n T_out"]:
    """Continue every row of ``input_ids`` by up to ``max_new_tokens`` tokens; the prompt is part of the result.

    Args:
        model: a ``DecoderLM``, or a ``ConditionedDecoder`` encoder–decoder.
        input_ids: the prompts. Rows of different length are padded on the left.
        sampling: what is to be written, and how; its fields may be given as keywords (``options``) as well. With
            ``n``, each prompt has n rows in the result. A row that is finished is filled up with the first end token
            (with 0, if there is none); when all rows are, writing ends early.
        attention_mask: 1 or True on real tokens, 0 on padding.
        generator: makes the draws repeatable, one for all rows; on the model's device. ``seed`` has one for each row.
        use_cache, cache: as ``DecodingState`` takes them; they change the speed, not the text.
        tokenizer: for stop strings.

    Raises:
        ValueError: an option is out of range; the message names it.
    """
    sampling = Sampling.of(sampling, options)
    sampling.refuse(LOGPROBS_ELSEWHERE, "logprobs", "prompt_logprobs")
    writing = Writing(
        model, input_ids, sampling, attention_mask=attention_mask, generator=generator, use_cache=use_cache,
        cache=cache, tokenizer=tokenizer,
    )  # fmt: skip
    with evaluating(model):
        for _ in writing.steps():
            pass
    return writing.reader.ids


def stream_tokens(
    model: nn.Module,
    input_ids: Int[Tensor, "B T"],
    sampling: Sampling | None = None,
    *,
    attention_mask: TokenMask | None = None,
    generator: torch.Generator | None = None,
    use_cache: bool = True,
    cache: Cache | None = None,
    tokenizer: Tokenizer | None = None,
    **options: Any,
) -> Iterator[Int[Tensor, "B_n 1"]]:
    """The tokens ``generate`` appends, as they are drawn, one for each row at a time; the arguments are the same.

    What is out of range is refused at once, before the first token is asked for.
    """
    sampling = Sampling.of(sampling, options)
    sampling.refuse(LOGPROBS_ELSEWHERE, "logprobs", "prompt_logprobs")
    writing = Writing(
        model, input_ids, sampling, attention_mask=attention_mask, generator=generator, use_cache=use_cache,
        cache=cache, tokenizer=tokenizer,
    )  # fmt: skip
    return writing.one_by_one()


def completions(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling | None = None,
    *,
    tokenizer: Tokenizer | None = None,
    generator: torch.Generator | None = None,
    use_cache: bool = True,
    **options: Any,
) -> list[Completion]:
    """The texts ``generate`` writes after each prompt (a row of token numbers), with all that is known about them:
    tokens, why each text ended, its log-probabilities if ``logprobs`` asks for them, and with a tokenizer its text.

    With ``n``, the n texts of a prompt follow each other. Raises ValueError where ``generate`` does, and for a prompt
    without a token.
    """
    if not all(map(len, prompts)):
        raise ValueError(f"prompt {[len(row) for row in prompts].index(0)} is empty, which predicts nothing")
    sampling = Sampling.of(sampling, options)
    ids, mask = pad_left(prompts, device=next(model.parameters()).device)
    mask = None if mask.all() else mask  # where nothing is padded none is needed, and not every model takes one
    writing = Writing(
        model, ids, sampling, attention_mask=mask, generator=generator, use_cache=use_cache, tokenizer=tokenizer
    )
    found = [Completion(prompt_ids=list(row)) for row in prompts for _ in range(sampling.n)]
    with evaluating(model):
        if sampling.prompt_logprobs:
            for completion, row in zip(found, writing.prompt_logits(), strict=True):
                completion.prompt_logprobs = prompt_log_probs(row, completion.prompt_ids, sampling.logprobs)
        for tokens, logits in writing.steps():
            for i, completion in enumerate(found):
                if completion.finish_reason is None:
                    completion.push(int(tokens[i]), writing.sampler, logits[i], row=i)
    for completion in found:
        completion.finish_reason = completion.finish_reason or "length"  # of nothing, where nothing was to be written
    return found


def next_token_distribution(
    model: nn.Module,
    input_ids: Int[Tensor, "B T"],
    sampling: Sampling | None = None,
    *,
    attention_mask: TokenMask | None = None,
    **options: Any,
) -> Float[Tensor, "B V"]:
    """The probabilities ``generate`` would draw the next token of each row from, with the same options."""
    sampling = Sampling.of(sampling, {"max_new_tokens": 1, **options})
    writing = Writing(model, input_ids, sampling, attention_mask=attention_mask, use_cache=False)
    with evaluating(model):
        scores = writing.sampler.scores(writing.reader.logits()[:, -1], writing.reader.ids, writing.reader.mask)
    return sampling.probabilities(scores)


class Writing:
    """Texts while they are written: a reader, a sampler, and the steps that take both on. All is checked at the start.

    The arguments are those of ``generate``.
    """

    def __init__(
        self,
        model: nn.Module,
        input_ids: Tensor,
        sampling: Sampling,
        *,
        attention_mask: TokenMask | None = None,
        generator: torch.Generator | None = None,
        use_cache: bool = True,
        cache: Cache | None = None,
        tokenizer: Tokenizer | None = None,
    ):
        check_prompt(model, input_ids, attention_mask)
        if sampling.n > 1:
            input_ids = input_ids.repeat_interleave(sampling.n, dim=0)
            attention_mask = None if attention_mask is None else attention_mask.repeat_interleave(sampling.n, dim=0)
        n_prompt = input_ids.shape[1]
        room = sampling.room(n_prompt, model.config.max_seq_len)
        self.model = model
        self.reader = make_reader(
            model, input_ids, sampling.guidance, max_len=n_prompt + room, attention_mask=attention_mask,
            use_cache=use_cache, cache=cache,
        )  # fmt: skip
        self.sampler = Sampler(
            sampling, _rows(input_ids, attention_mask), n_prompt=n_prompt, vocab_size=model.config.vocab_size,
            device=input_ids.device, max_new_tokens=room, generator=generator, tokenizer=tokenizer,
        )  # fmt: skip
        self._known: Tensor | None = None  # logits that have been read and not used

    def steps(self) -> Iterator[tuple[Int[Tensor, "B 1"], Float[Tensor, "B V"]]]:
        """The next token of each text, and the model's logits it was chosen by, until all texts are finished; to be
        used under ``evaluating(model)``."""
        reader, sampler = self.reader, self.sampler
        while not sampler.finished:
            logits = reader.logits()[:, -1] if self._known is None else self._known  # [B, V]
            tokens, self._known = sampler.draw(logits, reader.ids, reader.mask), None
            reader.append(tokens)
            sampler.push(tokens)
            yield tokens, logits

    def one_by_one(self) -> Iterator[Int[Tensor, "B 1"]]:
        """The tokens of ``steps``. Between two of them the model and the gradients are as they were: the caller may
        be training."""
        modules, steps = list(self.model.modules()), self.steps()
        while True:
            with evaluating(modules):
                tokens, _ = next(steps, (None, None))
            if tokens is None:
                return
            yield tokens

    def prompt_logits(self) -> list[Float[Tensor, "T V"]]:
        """What the model expected after each token of each prompt, padding left out."""
        logits = self.reader.logits(self.sampler.n_prompt)
        self._known = logits[:, -1]
        masks = [None] * len(logits) if self.reader.mask is None else self.reader.mask.bool()
        return [row if real is None else row[real] for row, real in zip(logits, masks, strict=True)]


def _rows(input_ids: Tensor, attention_mask: Tensor | None) -> list[Tensor]:
    if attention_mask is None:
        return list(input_ids)
    return [row[real] for row, real in zip(input_ids, attention_mask.bool(), strict=True)]
