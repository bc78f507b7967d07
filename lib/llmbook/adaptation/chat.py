"""Conversations as text: the templates that chat models are trained and used with.

A chat model reads one text in which marks say who speaks. How the marks look is a convention, and a wrong one is
hardly noticed: the answers only get worse. So models carry theirs along as a Jinja2 template
(https://jinja.palletsprojects.com), and ``render`` fills it in as transformers does: blocks leave no white space
behind, ``raise_exception``, ``tojson`` and ``strftime_now`` are there, ``{% generation %}`` marks are accepted. A
template is code from elsewhere, so it runs in Jinja's sandbox.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

Message = Mapping[str, Any]

# ChatML: the marks of OpenAI's early chat models, and of many since.
CHATML = """\
{% for message in messages %}
<|im_start|>{{ message['role'] }}
{{ message['content'] }}<|im_end|>
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}
"""


def render(
    messages: Sequence[Message], template: str = CHATML, *, add_generation_prompt: bool = False, **variables: Any
) -> str:
    """The text of a conversation.

    Args:
        messages: one dictionary a turn, with its ``"role"`` (system, user, assistant) and ``"content"``.
        template: the model's template.
        add_generation_prompt: end with the marks that open the assistant's next turn, so that the model writes it.
        variables: what else the template uses, such as ``bos_token="<s>"`` (``tokenizer.special_tokens_map``).

    Raises:
        ValueError: a message has no role, the template is invalid or refuses these messages (its words are given), or
            it writes a special token that is not among the variables.
    """
    for number, message in enumerate(messages):
        if not isinstance(message, Mapping) or "role" not in message:
            raise ValueError(f"message {number} is {message!r}: expected a dictionary with 'role' and 'content'")
    try:
        return _compiled(template).render(messages=messages, add_generation_prompt=add_generation_prompt, **variables)
    except jinja2.TemplateSyntaxError as error:
        raise ValueError(f"the chat template is not valid, line {error.lineno}: {error.message}") from error
    except (jinja2.TemplateError, TypeError) as error:
        roles = ", ".join(str(message["role"]) for message in messages)
        raise ValueError(f"the chat template refuses a conversation of [{roles}]: {error}") from error


@lru_cache(maxsize=16)
def _compiled(template: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols], undefined=_Missing
    )
    environment.filters["tojson"] = _to_json
    environment.globals |= {"raise_exception": _raise_exception, "strftime_now": _now}
    return environment.from_string(template)


class _Missing(jinja2.Undefined):
    """What the template asks for and was not given: nothing, but for a special token, without which the model would
    read another conversation than the one it was trained on."""

    def __str__(self) -> str:
        if str(self._undefined_name).endswith("_token"):
            self._fail_with_undefined_error()
        return super().__str__()


class Generation(Extension):
    """``{% generation %}…{% endgeneration %}``, with which some templates mark what the assistant says: the inside."""

    tags = {"generation"}  # noqa: RUF012  Jinja's own attribute

    def parse(self, parser):
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


def _to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False) -> str:
    """Jinja's own filter would write < and > for a web page."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _now(pattern: str) -> str:
    return datetime.now().strftime(pattern)
