"""HTTP below the routes: bodies read within limits, JSON and server-sent events written, clients that leave noticed."""

import asyncio
import json
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from llmbook.inference.server.errors import ApiError

if TYPE_CHECKING:
    from llmbook.inference.server.app import Limits

UNREAD = 2**24  # bytes of a refused body that are read nevertheless, so that the client gets to read the refusal


class Json(Response):
    """JSON in ASCII: what a client sends may hold characters that UTF-8 cannot, and comes back in refusals."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False).encode("ascii")


async def read_bytes(request: Request, limits: "Limits") -> bytes:
    """The body of a request. Raises ApiError: it is no JSON, too large, or does not come in time."""
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    limit, patience = limits.max_body, limits.body_timeout
    if kind != "application/json":
        await drain(request, limits)
        given = kind or "without a type"
        raise ApiError(415, f"the body must be sent as Content-Type: application/json, not {given}")
    said = request.headers.get("Content-Length", "0")  # a number: h11 has seen to it
    if len(said) > 18 or int(said) > limit:
        await drain(request, limits)
        raise ApiError(413, f"the body has {said} bytes; at most {limit} are read", code="body_too_large")
    body = bytearray()
    try:
        async with asyncio.timeout(patience):
            async for piece in request.stream():
                body += piece
                if len(body) > limit:
                    break
    except TimeoutError:
        headers = {"Connection": "close"}
        raise ApiError(408, f"the body did not come within {patience:g} seconds", headers=headers) from None
    if len(body) > limit:
        await drain(request, limits)
        raise ApiError(413, f"the body has more than the {limit} bytes that are read", code="body_too_large")
    return bytes(body)


async def drain(request: Request, limits: "Limits") -> None:
    """Read on for a while: a connection closed with a body on its way would take the refusal with it."""
    n_read = 0
    try:
        async with asyncio.timeout(limits.body_timeout):
            while n_read < UNREAD:
                message = await request.receive()
                if message["type"] != "http.request" or not message.get("more_body"):
                    return
                n_read += len(message.get("body", b""))
    except TimeoutError:
        return


async def left(request: Request) -> None:
    """Wait until the client has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def event_bytes(value: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(value, allow_nan=False)}\n\n".encode("ascii")


def refusal(error: ApiError) -> Json:
    return Json(error.body(), status_code=error.status, headers=error.headers)
