"""The one thread that has the engine: it takes requests in, steps while there is work, and hands text out.

An engine is no meeting place for threads, so nobody else touches it. Others leave commands in an inbox, which is
emptied between steps, and read events from a queue of their own. Stop strings are watched here, so that a text ends
with the token that completes one.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from llmbook.inference.batching import Engine
from llmbook.inference.request import Completion, Request
from llmbook.inference.server.dialect import ApiError
from llmbook.inference.streaming import TextStream
from llmbook.text import Tokenizer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Event:
    """More of one text. ``reason`` is given with the last piece: "stop" or "length"."""

    index: int
    text: str
    reason: str | None = None


@dataclass(eq=False)
class Ticket:
    """Requests that belong together. Their events come in ``events``; an ``ApiError`` there ends them all."""

    requests: list[Request]
    stop: list[str]
    events: "queue.SimpleQueue[Event | ApiError]" = field(default_factory=queue.SimpleQueue)
    n_tokens: int = 0  # written so far, in all texts


@dataclass(eq=False)
class _Job:
    """One text of a ticket while it is written."""

    ticket: Ticket
    index: int
    completion: Completion
    text: TextStream


class Worker:
    """Runs ``engine`` in a thread of its own; at most ``max_open`` texts are written or wait at a time."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer, *, max_open: int):
        self.engine, self.tokenizer, self.max_open = engine, tokenizer, max_open
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._jobs: dict[Completion, _Job] = {}
        self._lock = threading.Lock()  # guards the two below
        self._n_open = 0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def n_open(self) -> int:
        return self._n_open

    def submit(self, requests: Sequence[Request], stop: Sequence[str] = ()) -> Ticket:
        """Let requests wait for their turn: all of them or none.

        Raises:
            ApiError: 400 for more than could ever wait, 429 when too many wait already, 503 when the server is
                shutting down.
            ValueError: a request could never be written.
        """
        for request in requests:
            self.engine.check(request)  # reads what never changes
        if len(requests) > self.max_open:
            raise ApiError(
                400,
                f"{len(requests)} texts are asked for at once; at most {self.max_open} may be written or wait: send "
                "fewer at a time",
                code="too_many_texts",
            )
        with self._lock:
            if self._closing:
                raise ApiError(503, "the server is shutting down", code="shutting_down")
            if self._n_open + len(requests) > self.max_open:
                raise ApiError(
                    429,
                    f"{self._n_open} texts are written or wait, and {self.max_open} are allowed: {len(requests)} more "
                    "do not fit; try again later",
                    code="queue_full",
                    headers={"Retry-After": "1"},
                )
            self._n_open += len(requests)
            ticket = Ticket(list(requests), list(stop))
            self._inbox.put(lambda: self._begin(ticket))  # still under the lock: never behind what ``close`` puts in
        return ticket

    def give_up(self, ticket: Ticket) -> None:
        """End what is left of a ticket, if anything; nobody waits for it any more."""
        self._inbox.put(lambda: self._give_up(ticket))

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
                log.exception("a step failed; every open request is given up")
                self._fail_all(ApiError(500, "the model failed on this batch; see the server's log"))

    def _obey(self) -> bool:
        """Carry out what the inbox says, waiting for it if there is nothing to write; False when told to end."""
        while not self._jobs or not self._inbox.empty():
            command = self._inbox.get()
            if command is None:
                return False
            command()
        return True

    def _step(self) -> bool:
        for completion in self.engine.step().drew:
            self._hand_out(self._jobs[completion])
        return True

    def _begin(self, ticket: Ticket) -> None:
        for i, request in enumerate(ticket.requests):
            text = TextStream(self.tokenizer, request.prompt_ids, stop=ticket.stop)
            job = _Job(ticket, i, self.engine.submit(request), text)
            self._jobs[job.completion] = job

    def _hand_out(self, job: _Job) -> None:
        """Pass on the text of the token just drawn."""
        completion, text = job.completion, job.text
        token = completion.tokens[-1]
        job.ticket.n_tokens += 1
        piece = "" if token in completion.ends else text.push(token)
        if text.stopped is not None or completion.finish_reason is not None:
            piece += text.finish()
            self._end(job)
            reason = "stop" if text.stopped is not None else completion.finish_reason
            job.ticket.events.put(Event(job.index, piece, reason))
        elif piece:
            job.ticket.events.put(Event(job.index, piece))

    def _end(self, job: _Job) -> None:
        self.engine.finish(job.completion, "stop")  # of what has ended by itself the reason stays
        del self._jobs[job.completion]
        with self._lock:
            self._n_open -= 1

    def _give_up(self, ticket: Ticket) -> None:
        for job in [job for job in self._jobs.values() if job.ticket is ticket]:
            self._end(job)

    def _fail_all(self, error: ApiError) -> None:
        for job in list(self._jobs.values()):
            self._end(job)
            job.ticket.events.put(error)
