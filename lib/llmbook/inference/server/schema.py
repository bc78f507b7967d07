"""The bodies of requests in OpenAI's format (https://platform.openai.com/docs/api-reference), as pydantic checks them.

A member that is null counts as not given. What the server does not do it refuses by name: a parameter that is accepted
and ignored gives the answer to another question. Beyond OpenAI's members there are some of vLLM's: ``top_k``,
``min_p``, ``repetition_penalty``, ``min_tokens``.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llmbook.inference.option_checks import COLDEST
from llmbook.inference.server.errors import ApiError

MAX_STOPS = 4
# Parameters without which the answer is the same, at these values.
NEUTRAL: dict[str, Any] = {
    "suffix": "", "tools": [], "tool_choice": "none", "parallel_tool_calls": True, "functions": [],
    "modalities": ["text"], "service_tier": "auto", "store": False, "metadata": {}, "dimensions": None,
}  # fmt: skip

Text = Annotated[str, Field(min_length=1)]
Token = Annotated[int, Field(ge=0, lt=2**31)]


class Part(BaseModel):
    """An object in a body: with known members alone, and without those that are null."""

    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _given(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {name: value for name, value in values.items() if value is not None}


class RequestBody(Part):
    """What all requests have in common."""

    model: str | None = None
    user: str | None = None  # says who asks, and asks nothing

    @model_validator(mode="before")
    @classmethod
    def _supported(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Without what asks nothing."""
        given = dict(values)
        for name in NEUTRAL.keys() & given.keys() - cls.model_fields.keys():
            value = given.pop(name)
            if value is None:
                continue
            if value != NEUTRAL[name] or isinstance(value, bool) != isinstance(NEUTRAL[name], bool):
                raise ApiError(
                    400,
                    f"{name}={json.dumps(value)[:80]} is not supported by this server; leave it out",
                    param=name,
                    code="unsupported_parameter",
                )
        return given


class StreamOptions(Part):
    """What a stream ends with."""

    include_usage: bool = False


class JsonSchema(Part):
    """The schema of ``response_format``; it is kept to whether ``strict`` or not."""

    name: str
    described: dict[str, Any] | None = Field(None, alias="schema")
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(Part):
    """What the text must be."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _complete(self) -> "ResponseFormat":
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError('json_schema belongs to type "json_schema", and to no other')
        return self

    @property
    def schema_wanted(self) -> dict[str, Any] | None:
        """The JSON schema of the text, if it must be JSON."""
        if self.json_schema is not None:
            return self.json_schema.described or {}
        return {"type": "object"} if self.type == "json_object" else None


class TextRequest(RequestBody):
    """What completions and chats have in common."""

    max_tokens: int | None = Field(None, ge=0)
    min_tokens: int = Field(0, ge=0)
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int | None = Field(None, ge=1)
    min_p: float | None = Field(None, ge=0, le=1)
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    repetition_penalty: float = Field(1.0, gt=0, le=100)
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] = Field(default_factory=dict)
    stop: Text | Annotated[list[Text], Field(max_length=MAX_STOPS)] = Field(default_factory=list)
    seed: int | None = Field(None, ge=-(2**63), le=2**63 - 1)
    n: int = Field(1, ge=1, le=128)
    response_format: ResponseFormat = ResponseFormat(type="text")
    stream: bool = False
    stream_options: StreamOptions | None = None

    @model_validator(mode="after")
    def _fit(self) -> "TextRequest":
        if self.stream_options is not None and not self.stream:
            raise ApiError(400, "stream_options needs stream=true", param="stream_options")
        if 0 < self.temperature < COLDEST:
            raise ApiError(400, f"temperature={self.temperature} must be 0 or at least {COLDEST}", param="temperature")
        if wrong := next((key for key in self.logit_bias if not key.isascii() or not key.isdecimal()), None):
            raise ApiError(400, f"logit_bias names {wrong[:80]!r}, which is no token number", param="logit_bias")
        return self

    @property
    def n_written(self) -> int:
        """How many texts are written for each prompt."""
        return self.n

    @property
    def bias(self) -> dict[int, float]:
        """``logit_bias`` by token number; more digits than any vocabulary needs are all the same."""
        return {int(token[-18:]): value for token, value in self.logit_bias.items()}

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with the counts."""
        return self.stream_options is not None and self.stream_options.include_usage


class CompletionRequest(TextRequest):
    """``POST /v1/completions``."""

    prompt: str | list[str] | list[Token] | list[list[Token]]
    max_tokens: int | None = Field(16, ge=0)
    best_of: int | None = Field(None, ge=1, le=128)
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: bool = False

    @model_validator(mode="after")
    def _choose(self) -> "CompletionRequest":
        if not self.prompt and self.prompt != "":
            raise ApiError(400, "prompt must not be an empty list", param="prompt")
        if self.best_of is not None and self.best_of < self.n:
            raise ApiError(400, f"best_of={self.best_of} must be at least n={self.n}", param="best_of")
        if self.stream and self.n_written > self.n:
            raise ApiError(400, "best_of cannot be streamed: which is best is known at the end", param="best_of")
        return self

    @property
    def n_written(self) -> int:
        return self.best_of or self.n

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts, one or several, as texts or as token numbers."""
        if isinstance(self.prompt, str) or isinstance(self.prompt[0], int):
            return [self.prompt]
        return list(self.prompt)

    @property
    def n_likeliest(self) -> int | None:
        """How many likeliest tokens are wanted at each place; None for no log-probabilities."""
        return self.logprobs


class ContentPart(Part):
    """A part of a message; text is the only kind that a language model reads."""

    type: Literal["text"]
    text: str


class Message(Part):
    """A turn of a conversation."""

    role: str
    content: str | list[ContentPart]
    name: str | None = None

    def said(self) -> dict[str, str]:
        """As chat templates take it: the parts of its content as one text."""
        parts = self.content
        text = parts if isinstance(parts, str) else "".join(part.text for part in parts)
        return {"role": self.role, "content": text} | ({} if self.name is None else {"name": self.name})


class ChatRequest(TextRequest):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=20)

    @model_validator(mode="after")
    def _agree(self) -> "ChatRequest":
        if self.top_logprobs is not None and not self.logprobs:
            raise ApiError(400, "top_logprobs needs logprobs=true", param="top_logprobs")
        if self.max_tokens == 0:
            raise ApiError(400, "max_tokens=0 must be at least 1", param="max_tokens")
        return self

    @property
    def n_likeliest(self) -> int | None:
        """How many likeliest tokens are wanted at each place; None for no log-probabilities."""
        return (self.top_logprobs or 0) if self.logprobs else None


class EmbeddingRequest(RequestBody):
    """``POST /v1/embeddings``."""

    input: Text | Annotated[list[Text], Field(min_length=1)]
    encoding_format: Literal["float", "base64"] = "float"

    @property
    def texts(self) -> list[str]:
        """The texts, one or several."""
        return [self.input] if isinstance(self.input, str) else self.input
