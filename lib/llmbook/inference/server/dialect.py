"""OpenAI's completions dialect (https://platform.openai.com/docs/api-reference): what is asked and what is answered.

Here are words only: nothing of HTTP, threads or the model. What this server does not do it refuses by name; a
parameter that were accepted and ignored would answer another question than was asked.
"""

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmbook.inference.sampling import Sampling

MAX_STOPS = 4
DEFAULT_MAX_TOKENS = 16  # of a plain completion; a chat may go on to the end of the context
# Parameters without which the answer is the same, at these values and at null.
NEUTRAL: dict[str, Any] = {
    "n": 1, "best_of": 1, "presence_penalty": 0, "frequency_penalty": 0, "logit_bias": {}, "logprobs": False,
    "top_logprobs": 0, "suffix": "", "tools": [], "tool_choice": "none", "response_format": {"type": "text"},
}  # fmt: skip


class ApiError(Exception):
    """A refusal as the dialect writes it: an HTTP status and {"error": {message, type, param, code}}."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ):
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.headers = status, message, param, code, headers or {}

    def body(self) -> dict[str, Any]:
        kind = "invalid_request_error" if self.status < 500 and self.status != 429 else "server_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


@dataclass(frozen=True, kw_only=True)
class Order:
    """The body of a request, read and checked."""

    chat: bool
    prompts: list[str]  # of a chat: none, but messages
    messages: list[dict[str, str]]
    max_tokens: int | None
    sampling: Sampling
    stop: list[str]
    seed: int | None
    stream: bool
    include_usage: bool
    echo: bool


def read_order(body: bytes, *, chat: bool, model: str) -> Order:
    """Read the body of ``POST /v1/completions``, or of ``POST /v1/chat/completions``.

    Raises:
        ApiError: 400 for what is malformed, out of range or not supported, 404 for another model than ``model``.
    """
    fields = _Fields(body)
    asked = fields.take("model", str, model)
    if asked != model:
        raise ApiError(404, f"no model {asked!r}; this server has {model!r}", param="model", code="model_not_found")
    prompts, messages = ([], _messages(fields)) if chat else (_prompts(fields), [])
    max_tokens = fields.take("max_tokens", int, None if chat else DEFAULT_MAX_TOKENS, low=1)
    stream = fields.take("stream", bool, False)
    order = Order(
        chat=chat,
        prompts=prompts,
        messages=messages,
        max_tokens=fields.take("max_completion_tokens", int, max_tokens, low=1) if chat else max_tokens,
        sampling=_sampling(fields),
        stop=_stop(fields),
        seed=fields.take("seed", int, None, low=-(2**63), high=2**63 - 1),
        stream=stream,
        include_usage=_include_usage(fields, stream),
        echo=False if chat else fields.take("echo", bool, False),
    )
    fields.take("user", str, None)  # says who asks, and asks nothing
    fields.refuse_rest()
    return order


class _Fields:
    """The members of a JSON object, taken one by one; null means not given."""

    def __init__(self, body: bytes):
        try:
            values = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise ApiError(400, f"the body is not valid JSON: {error}", code="invalid_json") from None
        if not isinstance(values, dict):
            raise ApiError(400, f"the body must be a JSON object, not {_kind(values)}", code="invalid_json")
        self.values = {name: value for name, value in values.items() if value is not None}

    def take(self, name: str, kind: type, default: Any, *, low: float | None = None, high: float | None = None) -> Any:
        value = self.values.pop(name, default)
        if value is default:
            return default
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        fits = is_number if kind is float else isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        if not fits:
            raise ApiError(400, f"{name} must be {_KINDS[kind]}, not {_kind(value)}", param=name)
        if (low is not None and value < low) or (high is not None and value > high):
            bounds = f"at least {low}" if high is None else f"between {low} and {high}"
            raise ApiError(400, f"{name}={value} must be {bounds}", param=name)
        return value

    def refuse_rest(self) -> None:
        for name, value in self.values.items():
            if name not in NEUTRAL:
                raise ApiError(400, f"unknown parameter {name!r}", param=name, code="unknown_parameter")
            neutral = NEUTRAL[name]
            if value != neutral or isinstance(value, bool) != isinstance(neutral, bool):
                raise ApiError(
                    400,
                    f"{name}={json.dumps(value)[:80]} is not supported by this server; leave it out",
                    param=name,
                    code="unsupported_parameter",
                )


def _prompts(fields: _Fields) -> list[str]:
    prompt = fields.values.pop("prompt", None)
    prompts = [prompt] if isinstance(prompt, str) else prompt
    if not isinstance(prompts, list) or not prompts or not all(isinstance(one, str) for one in prompts):
        raise ApiError(400, "prompt must be given, as a string or a list of strings", param="prompt")
    return prompts


def _messages(fields: _Fields) -> list[dict[str, str]]:
    messages = fields.values.pop("messages", None)
    if not isinstance(messages, list) or not messages:
        raise ApiError(400, "messages must be given, as a list of objects with role and content", param="messages")
    for i, message in enumerate(messages):
        is_plain = isinstance(message, dict) and set(message) == {"role", "content"}
        if not is_plain or not all(isinstance(value, str) for value in message.values()):
            raise ApiError(
                400, f"messages[{i}] must be an object of two strings, role and content", param=f"messages[{i}]"
            )
    return messages


def _sampling(fields: _Fields) -> Sampling:
    temperature = fields.take("temperature", float, 1.0, low=0, high=2)
    top_p = fields.take("top_p", float, 1.0)
    try:
        return Sampling(temperature=temperature, top_p=None if top_p == 1 else top_p)
    except ValueError as error:
        raise ApiError(400, str(error), param=str(error).partition("=")[0]) from None


def _stop(fields: _Fields) -> list[str]:
    stop = fields.values.pop("stop", [])
    stop = [stop] if isinstance(stop, str) else stop
    if not isinstance(stop, list) or len(stop) > MAX_STOPS or not all(isinstance(one, str) and one for one in stop):
        raise ApiError(400, f"stop must be a string or a list of up to {MAX_STOPS}, none of them empty", param="stop")
    return stop


def _include_usage(fields: _Fields, stream: bool) -> bool:
    options = fields.take("stream_options", dict, {})
    unknown = set(options) - {"include_usage"}
    if unknown or not isinstance(options.get("include_usage", False), bool):
        raise ApiError(400, "stream_options may hold include_usage, true or false, alone", param="stream_options")
    if options and not stream:
        raise ApiError(400, "stream_options needs stream=true", param="stream_options")
    return options.get("include_usage", False)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_KINDS = {str: "a string", int: "a whole number", float: "a number", bool: "true or false", dict: "an object"}


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "a string", list: "a list"}
    return kinds.get(type(value), "an object")


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Tokens read and written; of the written ones, the end token counts."""

    prompt_tokens: int
    completion_tokens: int

    def body(self) -> dict[str, int]:
        return {**vars(self), "total_tokens": self.prompt_tokens + self.completion_tokens}


class Answer:
    """The objects that answer one order: one whole, or chunk by chunk, under the same id."""

    def __init__(self, order: Order, model: str):
        self.chat = order.chat
        self.about = {
            "id": ("chatcmpl-" if order.chat else "cmpl-") + uuid.uuid4().hex,
            "created": int(time.time()),
            "model": model,
        }

    def whole(self, texts: Sequence[str], reasons: Sequence[str], usage: Usage) -> dict[str, Any]:
        choices = []
        for i, (text, reason) in enumerate(zip(texts, reasons, strict=True)):
            said = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
            choices.append({"index": i, **said, "logprobs": None, "finish_reason": reason})
        kind = "chat.completion" if self.chat else "text_completion"
        return {**self.about, "object": kind, "choices": choices, "usage": usage.body()}

    def chunk(self, index: int, text: str, reason: str | None = None, *, first: bool = False) -> dict[str, Any]:
        """More of choice ``index``; the first of a chat says who speaks."""
        said: dict[str, Any] = {"text": text}
        if self.chat:
            said = {"delta": ({"role": "assistant"} if first else {}) | ({"content": text} if text or first else {})}
        choice = {"index": index, **said, "logprobs": None, "finish_reason": reason}
        return {**self.about, "object": self._chunk_kind, "choices": [choice]}

    def last_chunk(self, usage: Usage) -> dict[str, Any]:
        """What ``stream_options.include_usage`` asks for: no text, but the counts."""
        return {**self.about, "object": self._chunk_kind, "choices": [], "usage": usage.body()}

    @property
    def _chunk_kind(self) -> str:
        return "chat.completion.chunk" if self.chat else "text_completion"
