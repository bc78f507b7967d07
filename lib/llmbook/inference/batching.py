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
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from llmbook.inference.decoding_state import ConditionedDecoder, check_prompt, pad_left
from llmbook.inference.log_probs import prompt_log_probs
from llmbook.inference.request import Completion, Request
from llmbook.inference.sampler import FinishReason, Sampler
from llmbook.inference.sampling import Sampling
from llmbook.model import EncoderDecoderLM, PagedCache, PagedSequence, PagePool, evaluating
from llmbook.text import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one step did: the rows that drew a token each, and numbers for a figure."""

    drew: "list[Task]"
    n_joined: int
    n_read: int  # tokens the model has read, prompts included
    n_preempted: int
    n_waiting: int
    pages_held: int

    @property
    def n_running(self) -> int:
        return len(self.drew)


@dataclass(eq=False, kw_only=True)
class Task(Completion):
    """A text of a request while the engine writes it.

    Attributes:
        piece: what the last token added to its text.
        error: why no token could be drawn, if it has "failed".
        n_preempted: how often it had to give its pages back and be read again.
    """

    sampling: Sampling
    sampler: Sampler
    n_preempted: int = 0
    piece: str = ""
    error: ValueError | None = None
    sequence: PagedSequence | None = field(default=None, repr=False)  # its pages while it is in the batch

    @property
    def unread(self) -> list[int]:
        """What the model has not read yet: at first everything (again, if it had to give way), then the last token."""
        return self.ids[0 if self.sequence is None else self.sequence.length :]


class Engine:
    """Writes the texts of many requests, ``max_batch`` at a time, in ``n_pages`` pages of keys and values.

    Call ``submit`` at any time and ``step`` as long as ``busy``; each step draws one token for every running request.
    One thread at a time may use it. With ``continuous=False`` nobody joins a batch that has begun: the classical way,
    for comparison. With a ``tokenizer`` its texts have their text, and may be ended by stop strings. Raises ValueError
    for a ``max_batch`` below 1, and for an encoder–decoder.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        n_pages: int,
        page_size: int = 16,
        max_batch: int = 8,
        continuous: bool = True,
        tokenizer: Tokenizer | None = None,
    ):
        if max_batch < 1:
            raise ValueError(f"max_batch={max_batch}: at least one text must be allowed at a time")
        if isinstance(model, (ConditionedDecoder, EncoderDecoderLM)):
            raise ValueError("an encoder–decoder has a source for each text: use generate, for a batch of sources")
        weight = next(model.parameters())
        self.model, self.max_batch, self.continuous, self.tokenizer = model, max_batch, continuous, tokenizer
        self.device = weight.device
        self.pool = PagePool(
            model.config, n_pages=n_pages, page_size=page_size, device=weight.device, dtype=weight.dtype
        )
        self.waiting: deque[Task] = deque()
        self.running: list[Task] = []  # in order of arrival, as in the queue

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.running)

    @property
    def longest(self) -> int:
        """How many tokens a prompt and its continuation may have together."""
        return min(self.model.config.max_seq_len, self.pool.n_pages * self.pool.page_size)

    def check(self, request: Request) -> None:
        """Raise ValueError, naming the numbers, if this request could never be written."""
        sampling, n_prompt, limit = request.sampling, len(request.prompt_ids), self.model.config.max_seq_len
        check_prompt(self.model, torch.tensor([list(request.prompt_ids)], dtype=torch.long))
        sampling.refuse("guidance reads two texts for each that is written; take generate", "guidance")
        n_new = sampling.room(n_prompt, self.longest)
        if n_new == 0 and not sampling.prompt_logprobs:
            raise ValueError("max_new_tokens=0: there is nothing to write")
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
        self._sampler(request, sampling)

    def submit(self, request: Request) -> list[Task]:
        """Let a request wait for its turn; the ``n`` texts that it asks for. Text i draws with seed + i, if there is a
        seed: it is what ``generate`` writes. Raises ValueError if its turn could never come."""
        self.check(request)
        tasks = []
        for i in range(request.sampling.n):
            sampling = request.sampling.row(i)
            sampler = self._sampler(request, sampling)
            tasks.append(Task(prompt_ids=list(request.prompt_ids), sampling=sampling, sampler=sampler))
        self.waiting += tasks
        return tasks

    def _sampler(self, request: Request, sampling: Sampling) -> Sampler:
        n_prompt, vocab_size = len(request.prompt_ids), self.model.config.vocab_size
        room = sampling.room(n_prompt, self.longest)
        return Sampler(
            sampling, [request.prompt_ids], n_prompt=n_prompt, vocab_size=vocab_size, device=self.device,
            max_new_tokens=room, tokenizer=self.tokenizer,
        )  # fmt: skip

    def finish(self, task: Task, reason: FinishReason = "cancelled") -> None:
        """End a request now, waiting or running; its place and its pages are free for others."""
        if task.finish_reason is not None:
            return
        task.finish_reason = reason
        if task in self.waiting:
            self.waiting.remove(task)
        else:
            self._leave(task)

    def step(self) -> Step:
        """Draw one token for every running request, those who join now included; the finished leave."""
        n_preempted = self._make_room()
        rows = list(self.running)
        joined = self._admit()
        with evaluating(self.model):
            # Two passes: one pass is as wide as its longest row, and newcomers bring whole prompts.
            n_read = self._read_and_draw(rows) + self._read_and_draw(joined)
        held = self.pool.n_pages - self.pool.n_free
        for task in rows + joined:
            if task.finish_reason is not None:
                self._leave(task)
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

    def _admit(self) -> list[Task]:
        """Those who may join, first come first served: nobody overtakes one whose prompt does not fit yet."""
        if self.running and not self.continuous:
            return []
        joined: list[Task] = []
        spare = self.pool.n_free - len(self.running)  # every row already there may need a page for its next token
        while self.waiting and len(self.running) < self.max_batch:
            needed = self.pool.pages_for(len(self.waiting[0].ids) + 1)
            if needed > spare and self.running:
                break
            spare -= needed
            task = self.waiting.popleft()
            task.sequence = self.pool.new_sequence()
            joined.append(task)
            self.running.append(task)
        return joined

    def _read_and_draw(self, rows: list[Task]) -> int:
        """One forward pass over what these rows have not read, and a token drawn for each."""
        if not rows:
            return 0
        unread = [task.unread for task in rows]
        ids, _ = pad_left(unread, device=self.device)  # [B, T]
        cache = PagedCache(self.pool, [task.sequence for task in rows])
        mask = cache.reserve([len(new) for new in unread])  # [B, S]
        logits = self.model(ids, attention_mask=mask, cache=cache).logits  # [B, T, V]
        for task, new, row in zip(rows, unread, logits, strict=True):
            self._draw(task, row[len(row) - len(new) :])
        return sum(map(len, unread))

    def _draw(self, task: Task, logits: Tensor) -> None:
        """Give a text its next token, by the ``logits`` [T, V] behind what was read."""
        sampling, sampler = task.sampling, task.sampler
        if sampling.prompt_logprobs and task.prompt_logprobs is None:
            task.prompt_logprobs = prompt_log_probs(logits, task.prompt_ids, sampling.logprobs)
        if sampler.finished:  # only the prompt was to be read
            task.finish_reason, task.piece = "length", ""
            return
        try:
            token = sampler.draw(logits[-1:], torch.tensor([task.ids], device=self.device))
        except ValueError as error:  # a grammar at a dead end: the others go on
            task.finish_reason, task.piece, task.error = "failed", "", error
            return
        sampler.push(token)
        task.push(int(token), sampler, logits[-1])
        task.piece = sampler.pieces[0]

    def _leave(self, task: Task) -> None:
        self.running.remove(task)
        self.pool.free(task.sequence)
        task.sequence = None
