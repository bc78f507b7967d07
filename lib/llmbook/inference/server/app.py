"""The server as one object: a model, a worker and a port.

There is no password and no encryption: the server listens to its own machine unless told otherwise.
"""

import threading
import time
from dataclasses import dataclass

from llmbook.inference.batching import Engine
from llmbook.inference.request import Request
from llmbook.inference.server.dialect import ApiError, Order
from llmbook.inference.server.handler import Listener
from llmbook.inference.server.worker import Worker
from llmbook.text import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the server puts up with: bytes, texts that wait, seconds for an answer, seconds without a word."""

    max_body: int = 2**20
    max_waiting: int = 32
    answer_timeout: float = 600.0
    socket_timeout: float = 10.0


class CompletionServer:
    """Serves one model at ``http://host:port`` (0: any free port; ``url`` has it).

    ``start`` serves in the background until ``close``; as a context manager, both.

    Args:
        engine: what writes; the server takes it over.
        name: what clients call the model.
        end_tokens: the tokens that end a text.
        chat_template: a Jinja template of conversations; without one there is no chat.

    Raises:
        OSError: the address is in use or not ours.
        ValueError: the model may draw tokens the tokenizer cannot read.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        *,
        name: str,
        end_tokens: tuple[int, ...] = (),
        chat_template: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        limits: Limits = Limits(),
    ):
        n_drawn = engine.model.config.vocab_size
        if n_drawn > tokenizer.vocab_size:
            raise ValueError(f"the model draws from {n_drawn} tokens, and the tokenizer reads {tokenizer.vocab_size}")
        self.engine, self.tokenizer, self.name, self.limits = engine, tokenizer, name, limits
        self.end_tokens, self.chat_template = end_tokens, chat_template
        self.created = int(time.time())
        self.closing = False
        try:
            self._http = Listener((host, port), self)
        except OSError as error:
            raise OSError(f"cannot listen at {host}:{port}: {error}") from None
        self.worker = Worker(engine, tokenizer, max_open=engine.max_batch + limits.max_waiting)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), name="http", daemon=True)

    @property
    def url(self) -> str:
        host, port = self._http.server_address[:2]
        return f"http://{host}:{port}"

    def start(self) -> "CompletionServer":
        self._thread.start()
        return self

    def close(self, grace: float = 10.0) -> None:
        """Accept no more, let open answers finish for up to ``grace`` seconds, end all threads, free the port."""
        if self._thread.is_alive():
            self._http.shutdown()
            self._thread.join()
        self.worker.close(grace)
        self.closing = True
        self._http.stop_listening_to_clients()
        self._http.server_close()  # waits for the handlers

    def __enter__(self) -> "CompletionServer":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close(grace=0)

    def requests(self, order: Order) -> list[Request]:
        """The order in tokens, one request a prompt.

        Raises:
            ApiError: 400, the order does not fit the model: its context, its alphabet, its chat template.
        """
        prompts = [self._conversation(order)] if order.chat else order.prompts
        return [self._request(order, prompt) for prompt in prompts]

    def _conversation(self, order: Order) -> str:
        from llmbook.adaptation.chat import render  # what only chats need is loaded when one comes

        if self.chat_template is None:
            raise ApiError(400, f"{self.name!r} has no chat template; use /v1/completions", code="no_chat_template")
        try:
            known = getattr(self.tokenizer, "special_tokens_map", {})
            return render(order.messages, self.chat_template, add_generation_prompt=True, **known)
        except ValueError as error:
            raise ApiError(400, str(error), param="messages") from None

    def _request(self, order: Order, prompt: str) -> Request:
        param, called = ("messages", "conversation") if order.chat else ("prompt", "prompt")
        longest = self.engine.longest
        try:
            ids = self.tokenizer.encode(prompt)
            max_tokens = max(longest - len(ids), 1) if order.max_tokens is None else order.max_tokens
            if len(ids) + max_tokens > longest:
                raise ApiError(
                    400,
                    f"prompt and answer may have {longest} tokens together; the {called} has {len(ids)}, and up to "
                    f"{max_tokens} more are asked for",
                    param=param,
                    code="context_length_exceeded",
                )
            request = Request(
                prompt_ids=ids,
                max_new_tokens=max_tokens,
                sampling=order.sampling,
                eos_token_id=self.end_tokens,
                seed=order.seed,
            )
            self.engine.check(request)
        except ValueError as error:  # an empty prompt, a character the tokenizer does not know
            raise ApiError(400, str(error), param=param) from None
        return request
