"""The one thread that has the engine: it takes requests in, steps while there is work, and hands text out.

An engine can be used by one thread alone. Others leave commands in an inbox, which is emptied between steps, and are
handed events by a function of their own.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llmbook.inference.batching import Engine, Task
from llmbook.inference.log_probs import TokenLogProb
from llmbook.inference.request import Request
from llmbook.inference.server.errors import ApiError
from llmbook.inference.server.metrics import Metrics

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Event:
    """More of one text.

    Attributes:
        index: which text of the job.
        text: what is final of it now.
        tokens: the tokens drawn since the last event.
        logprobs: theirs, if asked for.
        prompt_logprobs: of the prompt's tokens, with the first event, if asked for.
        reason: why the text ended, with the last event: "stop" or "length".
    """

    index: int
    text: str
    tokens: list[int]
    logprobs: list[TokenLogProb]
    prompt_logprobs: list[TokenLogProb | None] | None = None
    reason: str | None = None


@dataclass(eq=False)
class Job:
    """Requests that belong together. ``hand`` is given their events, in the worker's thread; an ``ApiError`` is the
    last of them all."""

    requests: list[Request]
    hand: Callable[[Event | ApiError], None]

    @property
    def n_texts(self) -> int:
        return sum(request.sampling.n for request in self.requests)


@dataclass(eq=False)
class _Text:
    """One text of a job while it is written."""

    job: Job
    index: int
    task: Task
    n_handed: int = 0  # tokens
    events: int = 0


class Worker:
    """Runs ``engine`` in a thread of its own; at most ``max_open`` texts are written or wait at a time."""

    def __init__(self, engine: Engine, *, max_open: int, metrics: Metrics):
        self.engine, self.max_open, self.metrics = engine, max_open, metrics
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._texts: dict[Task, _Text] = {}
        self._lock = threading.Lock()  # guards the two below
        self._n_open = 0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def n_open(self) -> int:
        """Texts that are written or wait."""
        return self._n_open

    def submit(self, requests: Sequence[Request], hand: Callable[[Event | ApiError], None]) -> Job:
        """Let requests wait for their turn: all of them or none.

        Raises:
            ApiError: 400 for more than could ever wait, 429 when too many wait already, 503 when the server is
                shutting down.
            ValueError: a request could never be written.
        """
        for request in requests:
            self.engine.check(request)  # reads what never changes
        job = Job(list(requests), hand)
        if job.n_texts > self.max_open:
            raise ApiError(
                400,
                f"{job.n_texts} texts are asked for at once; at most {self.max_open} may be written or wait: send "
                "fewer at a time",
                code="too_many_texts",
            )
        with self._lock:
            if self._closing:
                raise ApiError(503, "the server is shutting down", code="shutting_down")
            if self._n_open + job.n_texts > self.max_open:
                raise ApiError(
                    429,
                    f"{self._n_open} texts are written or wait, and {self.max_open} are allowed: {job.n_texts} more "
                    "do not fit; try again later",
                    code="queue_full",
                    headers={"Retry-After": "1"},
                )
            self._n_open += job.n_texts
            self._inbox.put(lambda: self._begin(job))  # still under the lock: never behind what ``close`` puts in
        return job

    def cancel(self, job: Job) -> None:
        """End what is left of a job, if anything."""
        self._inbox.put(lambda: self._cancel(job))

    def close(self, grace: float) -> None:
        """Take nothing new in, let what is open finish for up to ``grace`` seconds, end the rest, end the thread."""
        with self._lock:
            self._closing = True
        deadline = time.monotonic() + grace
        while self._n_open and self.alive and time.monotonic() < deadline:
            time.sleep(0.01)
        self._inbox.put(lambda: self._fail_all(ApiError(503, "the server is shutting down", code="shutting_down")))
        self._inbox.put(None)
        self._thread.join()

    def _run(self) -> None:
        going_on = True
        while going_on:
            try:
                going_on = self._obey() and self._step()
            except Exception:
                log.exception("a step failed; every open request is ended")
                self._fail_all(ApiError(500, "the model failed on this batch; see the server's log"))

    def _obey(self) -> bool:
        """Carry out what the inbox says, waiting for it if there is nothing to write; False when told to end."""
        while not self._texts or not self._inbox.empty():
            command = self._inbox.get()
            if command is None:
                return False
            command()
        return True

    def _step(self) -> bool:
        step = self.engine.step()
        self.metrics.step(step)
        for task in step.drew:
            if task in self._texts:  # the failure of one text ends those of its job
                self._hand_out(self._texts[task])
        return True

    def _begin(self, job: Job) -> None:
        tasks = [task for request in job.requests for task in self.engine.submit(request)]
        for i, task in enumerate(tasks):
            self._texts[task] = _Text(job, i, task)

    def _hand_out(self, text: _Text) -> None:
        """Pass on what the last step added to a text: a token, or its end."""
        task = text.task
        if task.error is not None:
            self._end(text)
            text.job.hand(ApiError(400, str(task.error), code="grammar_dead_end"))
            self._cancel(text.job)
            return
        if not task.piece and task.finish_reason is None and text.events:
            return  # a character has begun: with its next token
        new = slice(text.n_handed, None)
        event = Event(
            index=text.index,
            text=task.piece,
            tokens=task.tokens[new],
            logprobs=task.logprobs[new],
            prompt_logprobs=None if text.events else task.prompt_logprobs,
            reason=task.finish_reason,
        )
        text.n_handed, text.events = len(task.tokens), text.events + 1
        if task.finish_reason is not None:
            self._end(text)
        text.job.hand(event)

    def _end(self, text: _Text) -> None:
        self.engine.finish(text.task)  # of what has ended by itself the reason stays
        del self._texts[text.task]
        with self._lock:
            self._n_open -= 1

    def _cancel(self, job: Job) -> None:
        for text in [text for text in self._texts.values() if text.job is job]:
            self._end(text)

    def _fail_all(self, error: ApiError) -> None:
        for text in list(self._texts.values()):
            self._end(text)
            text.job.hand(error)
