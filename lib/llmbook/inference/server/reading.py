"""A body in bytes as one of the ``schema``, or a refusal that names the member."""

import json
from typing import Any, TypeVar

from pydantic import ValidationError

from llmbook.inference.server.errors import ApiError
from llmbook.inference.server.schema import RequestBody

Body = TypeVar("Body", bound=RequestBody)


def read_body(body: bytes, kind: type[Body]) -> Body:
    """The body of a request. Raises ApiError (400) for what is malformed, out of range or not supported."""
    try:
        values = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"the body is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(values, dict):
        raise ApiError(400, "the body must be a JSON object, {…}", code="invalid_json")
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise _refusal(error) from None
    except RecursionError:
        raise ApiError(400, "the body is nested too deeply", code="invalid_json") from None


def _refusal(error: ValidationError) -> ApiError:
    """The first complaint, by the name of the member; of a union, the kind whose complaint lies deepest."""
    first = error.errors(include_url=False)[0]
    member = str(first["loc"][0]) if first["loc"] else None
    complaints = [found for found in error.errors(include_url=False) if found["loc"][:1] == first["loc"][:1]]
    worst = max(complaints, key=lambda found: sum(isinstance(step, int) for step in found["loc"]))
    if first["type"] == "extra_forbidden":
        name = ".".join(map(str, first["loc"]))
        return ApiError(400, f"unknown parameter {name[:80]!r}", param=name, code="unknown_parameter")
    param = _path(member, worst["loc"][1:])
    if worst["type"] == "missing":
        return ApiError(400, f"{param} must be given", param=param)
    reason = worst["msg"].removeprefix("Value error, ")
    if len(complaints) > 1:
        reason = "; or ".join(dict.fromkeys(found["msg"] for found in complaints))
    return ApiError(400, f"{param}={_shown(worst['input'])}: {reason}", param=param)


def _path(member: str | None, steps: tuple[str | int, ...]) -> str | None:
    """``messages[0]``, ``response_format.type``: names and places, without the kinds of a union."""
    path = member
    for step in steps:
        if isinstance(step, int):
            path = f"{path}[{step}]"
        elif step.isidentifier() and step not in ("str", "list", "int", "dict"):
            path = f"{path}.{step}"
    return path


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else text[:80] + "…"


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
