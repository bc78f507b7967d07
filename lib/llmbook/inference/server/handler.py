"""HTTP: routes, refusals and streams, on Python's own ``http.server``; a thread for each connection.

A connection carries one request and is closed: nothing to keep alive, and the end of a stream is the end of the
connection. Text is streamed as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).
Requests must come as ``application/json``, which a page of another site cannot send unless this server allows it.
"""

import contextlib
import json
import logging
import queue
import socket
import time
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from llmbook.inference.server.dialect import Answer, ApiError, Order, Usage, read_order
from llmbook.inference.server.worker import Event, Ticket

log = logging.getLogger(__name__)
PATIENCE = 0.1  # seconds between two looks whether a silent client is still there
UNREAD = 2**24  # bytes of a refused body that are read nevertheless, so that the client gets to read the refusal


class Listener(ThreadingHTTPServer):
    """Accepts connections, each handled in a thread, and knows those that are open."""

    daemon_threads = False  # server_close waits for them
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], app: Any):
        super().__init__(address, Handler)
        self.app = app  # the CompletionServer
        self.open: set[socket.socket] = set()

    def process_request(self, request, client_address) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def stop_listening_to_clients(self) -> None:
        """Who has not yet said what he wants is no longer waited for; answers on their way are sent."""
        for connection in list(self.open):
            with contextlib.suppress(OSError):  # it may have closed by itself
                connection.shutdown(socket.SHUT_RD)

    def handle_error(self, request, client_address) -> None:
        log.exception("a connection failed")


class Handler(BaseHTTPRequestHandler):
    """One connection: read a request, answer it."""

    server: Listener
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "llmbook", ""

    def setup(self) -> None:
        self.timeout = self.server.app.limits.socket_timeout
        self.unread = 0
        super().setup()

    def log_message(self, format: str, *args: Any) -> None:
        log.info(format, *args)

    def answer(self) -> None:
        """Answer any method; a refusal is answered in the dialect."""
        try:
            self._route()
        except ApiError as error:
            self._refuse(error)
        except (ConnectionError, TimeoutError):
            log.info("the client went away")
        except Exception:
            log.exception("a request failed")
            self._refuse(ApiError(500, "the server failed on this request; see its log"))

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = answer

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class refuses: malformed lines, unknown methods, endless headers."""
        self._send_json(code, ApiError(code, message or HTTPStatus(code).phrase).body())

    def _route(self) -> None:
        path = urlsplit(self.path).path
        routes = {
            "/health": ("GET", self._health),
            "/v1/models": ("GET", self._models),
            "/v1/completions": ("POST", lambda: self._complete(chat=False)),
            "/v1/chat/completions": ("POST", lambda: self._complete(chat=True)),
        }
        self.unread = _length(self.headers.get("Content-Length", "")) or 0
        if path not in routes:
            raise ApiError(404, f"nothing at {path}; there is {', '.join(sorted(routes))}", code="unknown_url")
        method, serve = routes[path]
        if self.command != method:
            raise ApiError(405, f"{path} takes {method}, not {self.command}", headers={"Allow": method})
        serve()

    def _health(self) -> None:
        app = self.server.app
        alive = app.worker.alive and not app.closing
        state = {"status": "ok" if alive else "failed", "model": app.name, "open": app.worker.n_open}
        self._send_json(200 if alive else 503, state)

    def _models(self) -> None:
        app = self.server.app
        model = {"id": app.name, "object": "model", "created": app.created, "owned_by": "llmbook"}
        self._send_json(200, {"object": "list", "data": [model]})

    def _complete(self, *, chat: bool) -> None:
        app = self.server.app
        order = read_order(self._body(), chat=chat, model=app.name)
        requests = app.requests(order)
        ticket = app.worker.submit(requests, order.stop)
        answer = Answer(order, app.name)
        try:
            (self._stream if order.stream else self._send_whole)(order, ticket, answer)
        finally:
            app.worker.give_up(ticket)  # after the last event there is nothing to give up

    def _send_whole(self, order: Order, ticket: Ticket, answer: Answer) -> None:
        texts = list(order.prompts) if order.echo else [""] * len(ticket.requests)
        reasons = [""] * len(texts)
        for event in self._events(ticket):
            texts[event.index] += event.text
            reasons[event.index] = event.reason or ""
        self._send_json(200, answer.whole(texts, reasons, _usage(ticket)))

    def _stream(self, order: Order, ticket: Ticket, answer: Answer) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            for i in range(len(ticket.requests)):
                if order.chat or order.echo:
                    self._send_event(answer.chunk(i, order.prompts[i] if order.echo else "", first=True))
            for event in self._events(ticket):
                self._send_event(answer.chunk(event.index, event.text, event.reason))
            if order.include_usage:
                self._send_event(answer.last_chunk(_usage(ticket)))
        except ApiError as error:  # the status has been sent long ago
            self._send_event(error.body())
            return
        self.wfile.write(b"data: [DONE]\n\n")

    def _events(self, ticket: Ticket) -> Iterator[Event]:
        """The events of a ticket up to its last.

        Raises:
            ApiError: the worker failed, or the answer takes too long (504).
            ConnectionError: nobody is there to read it.
        """
        limits, unfinished = self.server.app.limits, len(ticket.requests)
        deadline = time.monotonic() + limits.answer_timeout
        while unfinished:
            if time.monotonic() > deadline:
                raise ApiError(504, f"not finished within {limits.answer_timeout:g} seconds", code="timeout")
            if self._client_is_gone():
                raise ConnectionAbortedError
            try:
                event = ticket.events.get(timeout=PATIENCE)
            except queue.Empty:
                continue
            if isinstance(event, ApiError):
                raise event
            unfinished -= event.reason is not None
            yield event

    def _client_is_gone(self) -> bool:
        """Whether the client has closed its side: then its socket is at its end, not merely silent."""
        self.connection.settimeout(0)
        try:
            at_its_end = self.connection.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            self.connection.settimeout(self.timeout)
        return at_its_end and not self.server.app.closing  # asked last: when closing, the end is our own doing

    def _body(self) -> bytes:
        kind = self.headers.get_content_type()
        if kind != "application/json":
            raise ApiError(415, f"the body must be sent as Content-Type: application/json, not {kind}")
        given, limit = self.headers.get("Content-Length"), self.server.app.limits.max_body
        if given is None:
            raise ApiError(411, "the request must say how long its body is, in Content-Length")
        if (length := _length(given)) is None:
            raise ApiError(400, f"Content-Length: {given!r} is not a number of bytes")
        if length > limit:
            raise ApiError(413, f"the body has {length} bytes; at most {limit} are read", code="body_too_large")
        self.unread = 0
        try:
            body = self.rfile.read(length)
        except TimeoutError:
            raise ApiError(408, f"the body did not come within {self.timeout:g} seconds") from None
        if len(body) < length:
            raise ConnectionAbortedError
        return body

    def _refuse(self, error: ApiError) -> None:
        try:
            self._send_json(error.status, error.body(), error.headers)
            if self.unread:  # closing now would reset the connection, and the refusal with it
                self.connection.shutdown(socket.SHUT_WR)
                left = min(self.unread, UNREAD)
                while left > 0 and (read := self.rfile.read1(min(left, 2**16))):
                    left -= len(read)
        except OSError:
            log.info("the client went away")

    def _send_json(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Connection": "close",
            **(headers or {}),
        }.items():
            self.send_header(name, text)
        self.end_headers()
        self.close_connection = True
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send_event(self, value: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(value)}\n\n".encode())


def _length(header: str) -> int | None:
    """The number of bytes a client announces; None if it is no number. More than a disk holds is all the same."""
    digits = header.lstrip("0") or header[-1:]
    return int(digits[:18]) if digits.isdecimal() else None


def _usage(ticket: Ticket) -> Usage:
    return Usage(
        prompt_tokens=sum(len(request.prompt_ids) for request in ticket.requests), completion_tokens=ticket.n_tokens
    )
