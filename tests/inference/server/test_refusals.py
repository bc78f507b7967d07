"""What is refused: by name, in words that a client of the dialect can read."""

import socket

import pytest

from llmbook.inference import Engine
from llmbook.inference.server import ModelServer
from llmbook.text import CharTokenizer

from .helpers import PATIENCE, Script, address, ask, chat, complete, completion, serving

IMAGE = {"type": "image_url", "image_url": {"url": "data:"}}


def schema(described):
    return completion(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": described}})


REFUSED = [
    (("GET", "/v2/completions", None), 404, None, "nothing at /v2/completions; there is /health"),
    (("GET", "/v1/models/gpt-4", None), 404, "model", "no model 'gpt-4'; this server has 'tiny'"),
    (("GET", "/v1/completions", None), 405, None, "/v1/completions takes POST, not GET"),
    (("DELETE", "/v1/models", None), 405, None, "takes GET, not DELETE"),
    (("POST", "/nowhere", {"prompt": "a" * 5000}), 404, None, "nothing at /nowhere"),
    (("POST", "/v1/completions", b"{"), 400, None, "not valid JSON"),
    (("POST", "/v1/completions", b"\xff"), 400, None, "not valid JSON"),
    (("POST", "/v1/completions", b"[" * 100_000), 400, None, "not valid JSON"),
    (("POST", "/v1/completions", b'{"temperature": NaN}'), 400, None, "NaN is not JSON"),
    (("POST", "/v1/completions", b"[]"), 400, None, "must be a JSON object"),
    (("POST", "/v1/completions", b"null"), 400, None, "must be a JSON object"),
    (("POST", "/v1/completions", {}), 400, "prompt", "prompt must be given"),
    (completion(prompt=[]), 400, "prompt", "must not be an empty list"),
    (completion(prompt=[1, "a"]), 400, "prompt[0]", "valid string; or Input should be a valid integer"),
    (completion(prompt=[[]]), 400, "prompt", "an empty prompt predicts nothing"),
    (completion(prompt=[-1]), 400, "prompt[0]", "greater than or equal to 0"),
    (completion(prompt=[[1], [256]]), 400, "prompt", "input_ids holds 256, outside the vocabulary"),
    (completion(prompt=[2**70]), 400, "prompt[0]", "less than 2147483648"),
    (completion(prompt=""), 400, "prompt", "an empty prompt predicts nothing"),
    (completion(prompt="\ud800"), 400, "prompt", "half of a surrogate pair"),
    (completion(prompt="a" * 60), 400, "prompt", "48 tokens together; the prompt has 60"),
    (completion(max_tokens=48), 400, "prompt", "has 1, and up to 48 more"),
    (completion(max_tokens=-1), 400, "max_tokens", "greater than or equal to 0"),
    (completion(max_tokens=True), 400, "max_tokens", "max_tokens=true: Input should be a valid integer"),
    (completion(max_tokens="9"), 400, "max_tokens", 'max_tokens="9": Input should be a valid integer'),
    (completion(max_tokens=1.5), 400, "max_tokens", "max_tokens=1.5: Input should be a valid integer"),
    (completion(min_tokens=2), 400, "min_tokens", "forbids an early end"),
    (completion(temperature=3), 400, "temperature", "temperature=3: Input should be less than or equal to 2"),
    (completion(temperature=True), 400, "temperature", "temperature=true: Input should be a valid number"),
    (completion(temperature=1e-9), 400, "temperature", "temperature=1e-09"),
    (completion(top_p=0), 400, "top_p", "top_p=0"),
    (completion(top_k=0), 400, "top_k", "top_k=0"),
    (completion(stop=["a"] * 5), 400, "stop", "at most 4 items"),
    (completion(stop=""), 400, "stop", "at least 1 character"),
    (completion(stop=["a", ""]), 400, "stop[1]", "at least 1 character"),
    (completion(stream="yes"), 400, "stream", "valid boolean"),
    (completion(stream_options={"include_usage": True}), 400, "stream_options", "needs stream=true"),
    (completion(stream=True, stream_options={"x": 1}), 400, "stream_options.x", "unknown parameter 'stream_options.x'"),
    (completion(seed=2**63), 400, "seed", "seed="),
    (completion(seed=2**200), 400, "seed", "seed="),
    (completion(model="gpt-4"), 404, "model", "no model 'gpt-4'; this server has 'tiny'"),
    (completion(n=0), 400, "n", "greater than or equal to 1"),
    (completion(n=100), 400, None, "100 texts are asked for at once; at most 35"),
    (completion(n=3, best_of=2), 400, "best_of", "best_of=2 must be at least n=3"),
    (completion(best_of=2, stream=True), 400, "best_of", "cannot be streamed"),
    (completion(logprobs=21), 400, "logprobs", "less than or equal to 20"),
    (completion(logprobs=True), 400, "logprobs", "valid integer"),
    (completion(logit_bias={"a": 1}), 400, "logit_bias", "'a', which is no token number"),
    (completion(logit_bias={"256": 1}), 400, "logit_bias", "logit_bias names 256, outside the vocabulary 0…255"),
    (completion(logit_bias={"9" * 5000: 1}), 400, "logit_bias", "outside the vocabulary"),
    (completion(logit_bias={"5": 101}), 400, "logit_bias", "less than or equal to 100"),
    (completion(logit_bias={"5": "much"}), 400, "logit_bias", "valid number"),
    (completion(presence_penalty=2.5), 400, "presence_penalty", "less than or equal to 2"),
    (completion(response_format={"type": "yaml"}), 400, "response_format.type", "'json_object' or 'json_schema'"),
    (completion(response_format={"type": "json_schema"}), 400, "response_format", "json_schema belongs to type"),
    (schema({"type": "integer", "not": {}}), 400, "response_format", 'Unimplemented keys: ["not"]'),
    (schema({"type": "colour"}), 400, "response_format", "Invalid type: colour"),
    (schema({"$ref": "http://example.com/x"}), 400, "response_format", "is not supported as a grammar"),
    (completion(suffix="z"), 400, "suffix", "not supported"),
    (completion(temprature=1), 400, "temprature", "unknown parameter 'temprature'"),
    (chat(messages=[{"role": "refused", "content": "a"}]), 400, "messages", "refuses a conversation of [refused]"),
    (chat(messages=[]), 400, "messages", "at least 1 item"),
    (chat(messages=[{"role": "user"}]), 400, "messages[0].content", "messages[0].content must be given"),
    (chat(messages=[{"role": "user", "content": [IMAGE]}]), 400, "messages[0].content[0].type", "'text'"),
    (chat(messages=[{"role": "user", "content": "a", "tool_calls": [1]}]), 400, "messages.0.tool_calls", "unknown"),
    (chat(echo=True), 400, "echo", "unknown parameter 'echo'"),
    (chat(tools=[{"type": "function"}]), 400, "tools", "not supported"),
    (chat(top_logprobs=3), 400, "top_logprobs", "needs logprobs=true"),
    (chat(max_tokens=0), 400, "max_tokens", "must be at least 1"),
    (chat(messages=[{"role": "user", "content": "a" * 60}]), 400, "messages", "the conversation has 70"),
    (("POST", "/v1/embeddings", {"input": "a"}), 400, None, "'tiny' gives no embeddings; use /v1/completions"),
    (("POST", "/v1/embeddings", {"input": [1, 2]}), 400, "input[0]", "valid string"),
    (("POST", "/v1/embeddings", {"input": "a", "dimensions": 2}), 400, "dimensions", "not supported"),
]  # fmt: skip


@pytest.mark.parametrize(("request_", "status", "param", "words"), REFUSED)
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
    assert ask(server, "POST", "/v1/completions", b"{}", {"Content-Type": "text/plain"})[0] == 415
    assert ask(server, "POST", "/v1/completions", b"{}", {"Content-Type": "application/json; charset=utf-8"})[0] == 400
    status, _, answer = ask(server, "POST", "/v1/completions", iter([b"x" * 2**19] * 3))  # in pieces, of no said size
    assert (status, answer["error"]["code"]) == (413, "body_too_large")
    head = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
    for sent in ("nonsense\r\n\r\n", head + "-1\r\n\r\n", head + "9" * 5000 + "\r\n\r\n", "GET / HTTP/9\r\n\r\n"):
        with socket.create_connection(address(server), timeout=PATIENCE) as raw:
            raw.sendall(sent.encode())
            assert raw.makefile("rb").readline().split()[1] == b"400"
    status, headers, _ = ask(server, "PUT", "/v1/models")
    assert (status, "GET" in headers["Allow"]) == (405, True)
    assert ask(server, "BREW", "/v1/models")[0] == 405
    assert ask(server, "HEAD", "/v1/models")[0] == 200


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
