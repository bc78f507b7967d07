"""Many texts at once: a batch whose rows change from token to token.

A batch that is put together once must wait for its longest text, while the places of finished ones stand empty. Here
the batch is put together anew at every step (Orca, https://www.usenix.org/conference/osdi22/presentation/yu): whoever
is done leaves, whoever waits joins, in the order of arrival. Keys and values live in pages
(https://arxiv.org/abs/2309.06180), so that texts of any length share one memory. Should it run out, the request that
came last gives its pages back, waits in front of the others, and is read again later (vLLM's recomputation): it loses
time, not text.

    step            1  2  3  4  5  6        step            1  2  3  4  5  6
    place 1         a  a  a  a  a  a        place 1         a  a  a  a  a  a
    place 2         b  b  ·  ·  ·  ·        place 2         b  b  c  c  c  d
    one batch after another: c and d wait   continuous: nobody waits for a

The text of a request does not depend on its company: it is what ``generate`` writes for it alone.
"""

from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llmbook.inference.decoding_state import ConditionedDecoder, check_prompt, pad_left
from llmbook.inference.request import Completion, FinishReason, Request
from llmbook.inference.sampling import tokens_seen
from llmbook.inference.stopping import check_lengths, end_tokens
from llmbook.model import EncoderDecoderLM, PagedCache, PagePool, evaluating


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one step did: the rows that drew a token each, and numbers for a figure."""

    drew: list[Completion]
    n_joined: int
    n_read: int  # tokens the model has read, prompts included
    n_preempted: int
    n_waiting: int
    pages_held: int

    @property
    def n_running(self) -> int:
        return len(self.drew)


class Engine:
    """Writes the texts of many requests, ``max_batch`` at a time, in ``n_pages`` pages of keys and values.

    Call ``submit`` at any time and ``step`` as long as ``busy``; each step draws one token for every running request.
    One thread at a time may use it. With ``continuous=False`` nobody joins a batch that has begun: the classical way,
    for comparison. Raises ValueError for a ``max_batch`` below 1, and for an encoder–decoder.
    """

    def __init__(
        self, model: nn.Module, *, n_pages: int, page_size: int = 16, max_batch: int = 8, continuous: bool = True
    ):
        if max_batch < 1:
            raise ValueError(f"max_batch={max_batch}: at least one text must be allowed at a time")
        if isinstance(model, (ConditionedDecoder, EncoderDecoderLM)):
            raise ValueError("an encoder–decoder has a source for each text: use generate, for a batch of sources")
        weight = next(model.parameters())
        self.model, self.max_batch, self.continuous = model, max_batch, continuous
        self.device = weight.device
        self.pool = PagePool(
            model.config, n_pages=n_pages, page_size=page_size, device=weight.device, dtype=weight.dtype
        )
        self.waiting: deque[Completion] = deque()
        self.running: list[Completion] = []  # in order of arrival, as in the queue

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.running)

    @property
    def longest(self) -> int:
        """How many tokens a prompt and its continuation may have together."""
        return min(self.model.config.max_seq_len, self.pool.n_pages * self.pool.page_size)

    def check(self, request: Request) -> None:
        """Raise ValueError, naming the numbers, if this request could never be written."""
        n_prompt, n_new = len(request.prompt_ids), request.max_new_tokens
        check_prompt(self.model, torch.tensor([list(request.prompt_ids)], dtype=torch.long))
        check_lengths(n_new)
        end_tokens(request.eos_token_id, self.model.config.vocab_size)
        if n_new == 0:
            raise ValueError("max_new_tokens=0: there is nothing to write")
        limit = self.model.config.max_seq_len
        if n_prompt + n_new > limit:
            raise ValueError(
                f"a prompt of {n_prompt} tokens and max_new_tokens={n_new} make {n_prompt + n_new}, more than the "
                f"{limit} this model reads at once (max_seq_len)"
            )
        needed = self.pool.pages_for(n_prompt + n_new)
        if needed > self.pool.n_pages:
            raise ValueError(
                f"a prompt of {n_prompt} tokens and max_new_tokens={n_new} take up to {needed} pages, and the pool has "
                f"{self.pool.n_pages}; shorten them or make it with more pages"
            )

    def submit(self, request: Request) -> Completion:
        """Let a request wait for its turn. Raises ValueError if its turn could never come."""
        self.check(request)
        generator = torch.Generator(self.device)
        if request.seed is None:
            generator.seed()
        else:
            generator.manual_seed(request.seed)
        completion = Completion(request, generator, end_tokens(request.eos_token_id, self.model.config.vocab_size))
        self.waiting.append(completion)
        return completion

    def finish(self, completion: Completion, reason: FinishReason = "cancelled") -> None:
        """End a request now, waiting or running; its place and its pages are free for others."""
        if completion.finish_reason is not None:
            return
        completion.finish_reason = reason
        if completion in self.waiting:
            self.waiting.remove(completion)
        else:
            self._leave(completion)

    def step(self) -> Step:
        """Draw one token for every running request, those who join now included; the finished leave."""
        n_preempted = self._make_room()
        rows = list(self.running)
        joined = self._admit()
        with evaluating(self.model):
            # Two passes: one pass is as wide as its longest row, and newcomers bring whole prompts.
            n_read = self._read_and_draw(rows) + self._read_and_draw(joined)
        held = self.pool.n_pages - self.pool.n_free
        for completion in rows + joined:
            self._finish_if_done(completion)
        return Step(
            drew=rows + joined,
            n_joined=len(joined),
            n_read=n_read,
            n_preempted=n_preempted,
            n_waiting=len(self.waiting),
            pages_held=held,
        )

    def run(self) -> list[Step]:
        """Step until every request is finished."""
        steps = []
        while self.busy:
            steps.append(self.step())
        return steps

    def _make_room(self) -> int:
        """Take pages from the latest comers until every other row has room for its next token."""
        n_preempted = 0
        while self.pool.pages_missing([c.sequence for c in self.running], [1] * len(self.running)) > self.pool.n_free:
            latest = self.running[-1]
            self._leave(latest)
            latest.n_preempted += 1
            self.waiting.appendleft(latest)  # it came before all who wait
            n_preempted += 1
        return n_preempted

    def _admit(self) -> list[Completion]:
        """Those who may join, first come first served: nobody overtakes one whose prompt does not fit yet."""
        if self.running and not self.continuous:
            return []
        joined: list[Completion] = []
        spare = self.pool.n_free - len(self.running)  # every row already there may need a page for its next token
        while self.waiting and len(self.running) < self.max_batch:
            needed = self.pool.pages_for(len(self.waiting[0].ids) + 1)
            if needed > spare and self.running:
                break
            spare -= needed
            completion = self.waiting.popleft()
            completion.sequence = self.pool.new_sequence()
            joined.append(completion)
            self.running.append(completion)
        return joined

    def _read_and_draw(self, rows: list[Completion]) -> int:
        """One forward pass over what these rows have not read, and a token drawn for each."""
        if not rows:
            return 0
        unread = [completion.unread for completion in rows]
        ids, _ = pad_left(unread, device=self.device)  # [B, T]
        cache = PagedCache(self.pool, [completion.sequence for completion in rows])
        mask = cache.reserve([len(new) for new in unread])  # [B, S]
        logits = self.model(ids, attention_mask=mask, cache=cache).logits[:, -1]  # [B, V]
        for completion, row in zip(rows, logits.split(1), strict=True):
            completion.tokens.append(self._draw(completion, row))
        return sum(map(len, unread))

    def _draw(self, completion: Completion, logits: Tensor) -> int:
        sampling, seen = completion.request.sampling, None
        if sampling.needs_seen:
            seen = tokens_seen(torch.tensor([completion.ids], device=self.device), vocab_size=logits.shape[-1])
        return int(sampling.draw(logits, seen, completion.generator))

    def _finish_if_done(self, completion: Completion) -> None:
        if completion.tokens[-1] in completion.ends:
            self.finish(completion, "stop")
        elif len(completion.tokens) == completion.request.max_new_tokens:
            self.finish(completion, "length")

    def _leave(self, completion: Completion) -> None:
        self.running.remove(completion)
        self.pool.free(completion.sequence)
        completion.sequence = None
