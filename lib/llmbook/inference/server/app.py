"""The server as one object: a model, a worker and a port.

There is no password and no encryption: the server listens to its own machine unless told otherwise.
"""

import asyncio
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import uvicorn
from torch import Tensor
from uvicorn.protocols.http.h11_impl import H11Protocol

from llmbook.inference.batching import Engine
from llmbook.inference.server.errors import ApiError
from llmbook.inference.server.metrics import Metrics
from llmbook.inference.server.routes import Routes
from llmbook.inference.server.service import Service
from llmbook.inference.server.worker import Worker
from llmbook.interop import sentence_vectors
from llmbook.model import Encoder
from llmbook.text import HFTokenizer


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the server puts up with: bytes of a body, texts that wait, seconds for an answer and for a body, and seconds
    (whole ones) that a connection may be silent."""

    max_body: int = 2**20
    max_waiting: int = 32
    answer_timeout: float = 600.0
    body_timeout: float = 10.0
    idle_timeout: int = 10


class ModelServer:
    """Serves one model at ``http://host:port`` (0: any free port; ``url`` has it).

    ``start`` serves in the background until ``close``; as a context manager, both.

    Args:
        engine: a model that writes, with its tokenizer; the server takes it over.
        encoder: a model that reads, with its tokenizer, in place of ``engine``: then there are embeddings.
        name: what clients call the model.
        end_tokens: the tokens that end a text.
        chat_template: a Jinja template of conversations; without one there is no chat.

    Raises:
        OSError: the address is in use or not ours.
        ValueError: neither engine nor encoder is given, or both; the engine has no tokenizer, or may draw tokens that
            its tokenizer cannot read.
    """

    def __init__(
        self,
        engine: Engine | None = None,
        *,
        encoder: tuple[Encoder, HFTokenizer] | None = None,
        name: str,
        end_tokens: tuple[int, ...] = (),
        chat_template: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        limits: Limits = Limits(),
    ):
        if (engine is None) == (encoder is None):
            raise ValueError("a server has one model: give an engine or an encoder")
        if engine is not None:
            _check_tokenizer(engine)
        self.encoder, self.name, self.limits = encoder, name, limits
        self.created = int(time.time())
        self.closing = False
        self._encoding = threading.Lock()
        self._socket = _listen(host, port)
        self.url = "http://{}:{}".format(*self._socket.getsockname()[:2])
        self.counters = Metrics(engine)
        self.service = self.worker = None
        if engine is not None:
            self.service = Service(engine, name=name, end_tokens=end_tokens, chat_template=chat_template)
            self.worker = Worker(engine, max_open=engine.max_batch + limits.max_waiting, metrics=self.counters)
        config = uvicorn.Config(
            Routes(self).app, http=_Protocol, ws="none", lifespan="off", timeout_keep_alive=limits.idle_timeout,
            log_config=None, access_log=False, server_header=False,
        )  # fmt: skip
        self._http = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name="http", daemon=True)

    @property
    def healthy(self) -> bool:
        """Whether it can answer."""
        return not self.closing and (self.worker is None or self.worker.alive)

    @property
    def n_open(self) -> int:
        """Texts that are written or wait."""
        return 0 if self.worker is None else self.worker.n_open

    def start(self) -> "ModelServer":
        """Serve in the background."""
        self._thread.start()
        while not self._http.started and self._thread.is_alive():
            time.sleep(0.002)
        return self

    def close(self, grace: float = 10.0) -> None:
        """Accept no more, let open answers finish for up to ``grace`` seconds, end all threads, free the port."""
        self.closing = self._http.should_exit = True
        if self.worker is not None:
            self.worker.close(grace)
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()

    def __enter__(self) -> "ModelServer":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close(grace=0)

    def embed(self, texts: Sequence[str]) -> tuple[Tensor, int]:
        """A vector [N, C] for each text, and how many tokens were read. Raises ApiError (400) without an encoder, and
        for a text that it cannot read."""
        if self.encoder is None:
            raise ApiError(400, f"{self.name!r} gives no embeddings; use /v1/completions", code="no_embeddings")
        model, tokenizer = self.encoder
        limit = model.config.max_seq_len
        try:
            lengths = [len(tokenizer.encode(text, add_special_tokens=True)) for text in texts]
            if max(lengths) > limit:
                i = lengths.index(max(lengths))
                raise ValueError(f"input[{i}] has {lengths[i]} tokens; at most {limit} are read")
            with self._encoding:
                return sentence_vectors(model, tokenizer, texts), sum(lengths)
        except ValueError as error:
            raise ApiError(400, str(error), param="input") from None

    def _serve(self) -> None:
        asyncio.run(self._http.serve(sockets=[self._socket]))


class _Protocol(H11Protocol):
    """As uvicorn's, but the head of a request, too, must come in time: of the first one, and of each that follows."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._expect_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._late is not None:
            self._late.cancel()

    def _expect_head(self) -> None:
        if self._late is not None:
            self._late.cancel()
        self._late = self.loop.call_later(self.timeout_keep_alive, self._close_unless_begun, self.cycle)

    def _close_unless_begun(self, last: object) -> None:
        if self.cycle is last and not self.transport.is_closing():
            self.transport.close()


def _check_tokenizer(engine: Engine) -> None:
    if engine.tokenizer is None:
        raise ValueError("the engine has no tokenizer: make it with Engine(…, tokenizer=…)")
    n_drawn, n_read = engine.model.config.vocab_size, engine.tokenizer.vocab_size
    if n_drawn > n_read:
        raise ValueError(f"the model draws from {n_drawn} tokens, and the tokenizer reads {n_read}")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(f"cannot listen at {host}:{port}: {error}") from None
    return listener
