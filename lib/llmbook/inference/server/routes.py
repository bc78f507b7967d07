"""The routes of the server: bodies in, answers out, whole or as server-sent events.

Requests must come as ``application/json``, which a page of another site cannot send unless this server allows it. A
client that leaves is noticed, and its texts are cancelled.
"""

import asyncio
import base64
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from anyio import to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from llmbook.inference.server.answers import Answer
from llmbook.inference.server.errors import ApiError
from llmbook.inference.server.messages import Json, drain, event_bytes, left, read_bytes, refusal
from llmbook.inference.server.metrics import CONTENT_TYPE
from llmbook.inference.server.reading import read_body
from llmbook.inference.server.schema import ChatRequest, CompletionRequest, EmbeddingRequest
from llmbook.inference.server.worker import Event, Job

if TYPE_CHECKING:
    from llmbook.inference.server.app import ModelServer

log = logging.getLogger(__name__)
Handler = Callable[[Request], Awaitable[Response]]


class Routes:
    """What is served at which path, for one ``ModelServer``."""

    def __init__(self, server: "ModelServer"):
        self.server = server
        self.table: dict[str, tuple[str, Handler]] = {
            "/health": ("GET", self.health),
            "/metrics": ("GET", self.metrics),
            "/v1/models": ("GET", self.models),
            "/v1/models/{model:path}": ("GET", self.model),
            "/v1/completions": ("POST", self.completions),
            "/v1/chat/completions": ("POST", self.chat),
            "/v1/embeddings": ("POST", self.embeddings),
        }
        self.app = Starlette(
            routes=[Route(path, self._answering(path, serve), methods=[m]) for path, (m, serve) in self.table.items()],
            exception_handlers={HTTPException: self._no_route},
        )

    def _answering(self, path: str, serve: Handler) -> Handler:
        """``serve`` with refusals as answers, and counted."""
        metrics = self.server.counters

        async def answer(request: Request) -> Response:
            began = time.perf_counter()
            try:
                response = await serve(request)
            except ApiError as error:
                response = refusal(error)
            except ClientDisconnect:
                response = Response(status_code=499)  # nobody is there to read it
            except Exception:
                log.exception("a request failed")
                response = refusal(ApiError(500, "the server failed on this request; see its log"))
            metrics.requests.labels(path, str(response.status_code)).inc()
            if not isinstance(response, StreamingResponse):
                metrics.seconds.labels(path).observe(time.perf_counter() - began)
            return response

        return answer

    async def _no_route(self, request: Request, error: Exception) -> Response:
        """What the router refuses: paths and methods it does not know."""
        assert isinstance(error, HTTPException)
        path = request.url.path
        if error.status_code == 404:
            refused = ApiError(404, f"nothing at {path}; there is {', '.join(sorted(self.table))}", code="unknown_url")
        else:
            allowed = dict(error.headers or {}).get("Allow", "")
            takes = ", ".join(sorted(set(allowed.split(", ")) - {"HEAD"}))
            refused = ApiError(
                error.status_code, f"{path} takes {takes}, not {request.method}", headers={"Allow": allowed}
            )
        await drain(request, self.server.limits)
        self.server.counters.requests.labels("other", str(refused.status)).inc()
        return refusal(refused)

    async def health(self, request: Request) -> Response:
        """Whether the server can answer."""
        server = self.server
        state = {"status": "ok" if server.healthy else "failed", "model": server.name, "open": server.n_open}
        return Json(state, status_code=200 if server.healthy else 503)

    async def metrics(self, request: Request) -> Response:
        """What was counted."""
        return Response(self.server.counters.text(), media_type=CONTENT_TYPE)

    async def models(self, request: Request) -> Response:
        """The one model there is."""
        return Json({"object": "list", "data": [self._about]})

    async def model(self, request: Request) -> Response:
        """The one model, by its name."""
        self._check_model(request.path_params["model"])
        return Json(self._about)

    async def completions(self, request: Request) -> Response:
        """Text after a prompt."""
        return await self._write(request, CompletionRequest)

    async def chat(self, request: Request) -> Response:
        """The next message of a conversation."""
        return await self._write(request, ChatRequest)

    async def embeddings(self, request: Request) -> Response:
        """A vector for each text."""
        asked = read_body(await read_bytes(request, self.server.limits), EmbeddingRequest)
        self._check_model(asked.model)
        vectors, n_tokens = await to_thread.run_sync(self.server.embed, asked.texts)
        data = []
        for i, vector in enumerate(vectors):
            packed = base64.b64encode(vector.numpy().astype("<f4").tobytes()).decode()
            given = packed if asked.encoding_format == "base64" else vector.tolist()
            data.append({"object": "embedding", "index": i, "embedding": given})
        usage = {"prompt_tokens": n_tokens, "total_tokens": n_tokens}
        return Json({"object": "list", "data": data, "model": self.server.name, "usage": usage})

    async def _write(self, request: Request, kind: type[CompletionRequest] | type[ChatRequest]) -> Response:
        asked = read_body(await read_bytes(request, self.server.limits), kind)
        self._check_model(asked.model)
        if self.server.service is None or self.server.worker is None:
            raise ApiError(400, f"{self.server.name!r} writes no text; use /v1/embeddings", code="no_text")
        requests, answer = await to_thread.run_sync(self.server.service.requests, asked)
        events: asyncio.Queue[Event | ApiError] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        job = self.server.worker.submit(requests, lambda event: loop.call_soon_threadsafe(events.put_nowait, event))
        following = self._events(job, events)
        if asked.stream:
            return StreamingResponse(
                self._stream(asked, job, following, answer),
                media_type="text/event-stream",
                headers={"Cache-Control": "no-cache"},
            )
        return await self._whole(request, asked, job, following, answer)

    async def _whole(
        self, request: Request, asked: CompletionRequest | ChatRequest, job: Job, events: AsyncIterator[Event],
        answer: Answer,
    ) -> Response:  # fmt: skip
        async def follow() -> None:
            async for event in events:
                answer.take(event)

        writing, leaving = asyncio.ensure_future(follow()), asyncio.ensure_future(left(request))
        try:
            await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not writing.done():
                raise ClientDisconnect
            await writing
        finally:
            writing.cancel()
            leaving.cancel()
            self._cancel(job)
        chosen = []
        for start in range(0, len(answer.choices), asked.n_written):
            rows = range(start, start + asked.n_written)
            if asked.n_written > asked.n:  # best_of: the likeliest, in order
                rows = sorted(rows, key=lambda i: -answer.choices[i].mean)[: asked.n]
            chosen += rows
        return Json(answer.whole(chosen))

    async def _stream(
        self, asked: CompletionRequest | ChatRequest, job: Job, events: AsyncIterator[Event], answer: Answer
    ) -> AsyncIterator[bytes]:
        try:
            if answer.chat:
                for i in range(len(answer.choices)):
                    yield event_bytes(answer.chunk(i, "", None, None, first=True))
            async for event in events:
                text, scored = answer.take(event)
                if text or scored is not None or event.reason is not None:
                    yield event_bytes(answer.chunk(event.index, text, scored, event.reason))
            if asked.include_usage:
                yield event_bytes(answer.last_chunk())
            yield b"data: [DONE]\n\n"
        except ApiError as error:  # the status has been sent long ago
            yield event_bytes(error.body())
        finally:
            self._cancel(job)

    async def _events(self, job: Job, events: "asyncio.Queue[Event | ApiError]") -> AsyncIterator[Event]:
        """The events of a job up to its last. Raises ApiError: the worker failed, or it takes too long (504)."""
        unfinished, limit, began = job.n_texts, self.server.limits.answer_timeout, time.perf_counter()
        started = False
        while unfinished:
            left = began + limit - time.perf_counter()
            try:
                event = await asyncio.wait_for(events.get(), max(left, 0))
            except TimeoutError:
                raise ApiError(504, f"not finished within {limit:g} seconds", code="timeout") from None
            if isinstance(event, ApiError):
                raise event
            if not started:
                started = True
                self.server.counters.first.observe(time.perf_counter() - began)
            unfinished -= event.reason is not None
            yield event

    def _cancel(self, job: Job) -> None:
        if self.server.worker is not None:
            self.server.worker.cancel(job)  # after the last event there is nothing left

    @property
    def _about(self) -> dict[str, Any]:
        server = self.server
        return {"id": server.name, "object": "model", "created": server.created, "owned_by": "llmbook"}

    def _check_model(self, asked: str | None) -> None:
        if asked is not None and asked != self.server.name:
            message = f"no model {asked!r}; this server has {self.server.name!r}"
            raise ApiError(404, message, param="model", code="model_not_found")
