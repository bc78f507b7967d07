"""What is refused: by name, in words that a client of the dialect can read."""

import socket

import pytest

from llmbook.inference import Engine
from llmbook.inference.server import ModelServer
from llmbook.text import CharTokenizer

from .helpers import PATIENCE, Script, address, ask, chat, complete, completion, serving


@pytest.mark.parametrize(
    ("request_", "status", "param", "words"),
    [
        (("GET", "/v2/completions", None), 404, None, "nothing at /v2/completions; there is /health"),
        (("GET", "/v1/completions", None), 405, None, "/v1/completions takes POST, not GET"),
        (("DELETE", "/v1/models", None), 405, None, "takes GET, not DELETE"),
        (("POST", "/nowhere", {"prompt": "a" * 5000}), 404, None, "nothing at /nowhere"),
        (("POST", "/v1/completions", b"{"), 400, None, "not valid JSON"),
        (("POST", "/v1/completions", b"\xff"), 400, None, "not valid JSON"),
        (("POST", "/v1/completions", b"[" * 100_000), 400, None, "not valid JSON"),
        (("POST", "/v1/completions", b'{"temperature": NaN}'), 400, None, "NaN is not JSON"),
        (("POST", "/v1/completions", b"[]"), 400, None, "a JSON object, not a list"),
        (("POST", "/v1/completions", b"null"), 400, None, "a JSON object, not null"),
        (("POST", "/v1/completions", {}), 400, "prompt", "prompt must be given"),
        (completion(prompt=[]), 400, "prompt", "prompt must be given"),
        (completion(prompt=[1, 2]), 400, "prompt", "a string or a list of strings"),
        (completion(prompt=""), 400, "prompt", "an empty prompt predicts nothing"),
        (completion(prompt="\ud800"), 400, "prompt", "half of a surrogate pair"),
        (completion(prompt="a" * 60), 400, "prompt", "48 tokens together; the prompt has 60"),
        (completion(max_tokens=48), 400, "prompt", "has 1, and up to 48 more"),
        (completion(max_tokens=0), 400, "max_tokens", "max_tokens=0 must be at least 1"),
        (completion(max_tokens=True), 400, "max_tokens", "a whole number, not true or false"),
        (completion(max_tokens="9"), 400, "max_tokens", "a whole number, not a string"),
        (completion(max_tokens=1.5), 400, "max_tokens", "a whole number, not a number"),
        (completion(temperature=3), 400, "temperature", "temperature=3 must be between 0 and 2"),
        (completion(temperature=1e-9), 400, "temperature", "temperature=1e-09"),
        (completion(top_p=0), 400, "top_p", "top_p=0"),
        (completion(stop=["a"] * 5), 400, "stop", "up to 4"),
        (completion(stop=""), 400, "stop", "none of them empty"),
        (completion(stream="yes"), 400, "stream", "true or false, not a string"),
        (completion(stream_options={"include_usage": True}), 400, "stream_options", "needs stream=true"),
        (completion(stream=True, stream_options={"x": 1}), 400, "stream_options", "include_usage"),
        (completion(seed=2**63), 400, "seed", "seed="),
        (completion(model="gpt-4"), 404, "model", "no model 'gpt-4'; this server has 'tiny'"),
        (completion(n=2), 400, "n", "n=2 is not supported"),
        (completion(best_of=3), 400, "best_of", "best_of=3 is not supported"),
        (completion(logprobs=0), 400, "logprobs", "logprobs=0 is not supported"),
        (completion(logit_bias={"5": 1}), 400, "logit_bias", "not supported"),
        (completion(presence_penalty=0.5), 400, "presence_penalty", "not supported"),
        (completion(suffix="z"), 400, "suffix", "not supported"),
        (completion(temprature=1), 400, "temprature", "unknown parameter 'temprature'"),
        (chat(messages=[{"role": "refused", "content": "a"}]), 400, "messages", "refuses a conversation of [refused]"),
        (chat(messages=[]), 400, "messages", "messages must be given"),
        (chat(messages=[{"role": "user"}]), 400, "messages[0]", "role and content"),
        (chat(messages=[{"role": "user", "content": [{"type": "image"}]}]), 400, "messages[0]", "two strings"),
        (chat(echo=True), 400, "echo", "unknown parameter 'echo'"),
        (chat(messages=[{"role": "user", "content": "a" * 60}]), 400, "messages", "the conversation has 70"),
    ],
)  # fmt: skip
def test_bad_requests_are_refused_by_name(server, request_, status, param, words):
    """A parameter accepted and ignored, a traceback in place of words, an error no client of the dialect can read."""
    got, _, answer = ask(server, *request_)
    assert got == status
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    assert words in answer["error"]["message"]
    assert answer["error"]["param"] == param
    assert answer["error"]["type"] == "invalid_request_error"


def test_neutral_values_are_no_wishes(server):
    """Clients that spell out the defaults refused for it."""
    neutral = dict(n=1, best_of=1, logprobs=None, presence_penalty=0.0, logit_bias={}, stop=None, user="me", seed=None)
    assert complete(server, prompt="a", max_tokens=1, **neutral)["choices"][0]["finish_reason"] == "length"


def test_bodies_of_the_wrong_size_or_kind(server):
    """A body read before its size is known to be bearable, or sent by a page that needs no permission."""
    n_bytes = 12 * 2**20  # more than the sockets buffer: the client is still sending when it is refused
    status, _, answer = ask(server, "POST", "/v1/completions", b"x" * n_bytes)
    assert status == 413
    assert f"the body has {n_bytes} bytes; at most {server.limits.max_body}" in answer["error"]["message"]
    for headers, expected in [
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/json", "Transfer-Encoding": "chunked"}, 411),
        ({"Content-Type": "application/json", "Content-Length": "-1"}, 400),
        ({"Content-Type": "application/json", "Content-Length": "9" * 5000}, 413),  # more digits than int() reads
    ]:
        assert ask(server, "POST", "/v1/completions", b"" if expected != 415 else b"{}", headers)[0] == expected
    with socket.create_connection(address(server), timeout=PATIENCE) as raw:
        raw.sendall(b"nonsense\r\n\r\n")
        assert b'"error"' in raw.makefile("rb").read()
    status, headers, _ = ask(server, "PUT", "/v1/models")
    assert (status, headers["Allow"]) == (405, "GET")
    assert ask(server, "BREW", "/v1/models")[0] == 501
    assert ask(server, "HEAD", "/v1/models")[0] == 405


def test_without_a_template_there_is_no_chat():
    """Conversations glued together in a way the model never saw."""
    with serving(Script("a")) as server:
        status, _, answer = ask(server, *chat())
        assert status == 400
        assert "'tiny' has no chat template; use /v1/completions" in answer["error"]["message"]


def test_characters_the_tokenizer_does_not_know(model):
    """A tokenizer's refusal that becomes a failure of the server, and a model that writes what nobody can read."""
    tokenizer = CharTokenizer("".join(map(chr, range(256))))
    with serving(model, tokenizer=tokenizer) as server:
        status, _, answer = ask(server, *completion(prompt="a你"))
        assert (status, answer["error"]["param"]) == (400, "prompt")
        assert "'你'" in answer["error"]["message"]
    with pytest.raises(ValueError, match="draws from 256 tokens, and the tokenizer reads 3"):
        ModelServer(Engine(model, n_pages=1, tokenizer=CharTokenizer("abc")), name="tiny")
