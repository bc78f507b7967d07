"""The server speaks the dialect, keeps its limits, and writes what the model writes: over real sockets."""

import http.client
import json
import os
import queue
import signal
import socket
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from llmbook.inference import Engine, generate
from llmbook.inference.server import ApiError, CompletionServer, Limits
from llmbook.inference.server import __main__ as command
from llmbook.interop.checkpoint import save_model
from llmbook.model import DecoderLM, Encoder, TransformerConfig
from llmbook.text import BPETokenizer, ByteTokenizer, CharTokenizer

TEMPLATE = (
    "{% if messages[0].role == 'refused' %}{{ raise_exception('no') }}{% endif %}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
)
CONTEXT = 48


def make_model(**overrides) -> DecoderLM:
    """Two layers over bytes, with matrices of std 0.5: with small weights the text repeats one token."""
    values = dict(vocab_size=256, max_seq_len=CONTEXT, d_model=16, n_layers=2, n_heads=2, positions="rope")
    model = DecoderLM(TransformerConfig(**{**values, "tie_embeddings": False, **overrides}))
    generator = torch.Generator().manual_seed(0)
    for p in model.parameters():
        if p.ndim >= 2:
            nn.init.normal_(p, std=0.5, generator=generator)
    return model


class Script(nn.Module):
    """A model that recites ``text`` after a prompt of one byte; with ``paced`` it waits for ``let`` before a step."""

    def __init__(self, text: str, *, paced: bool = False):
        super().__init__()
        self.config = TransformerConfig(vocab_size=256, max_seq_len=CONTEXT, d_model=2, n_layers=1, n_heads=1)
        self.weight = nn.Parameter(torch.zeros(1))
        self.bytes = torch.tensor(list(text.encode()))
        self.steps = threading.Semaphore(0) if paced else None
        self.fails = False

    def let(self, n_steps: int) -> None:
        self.steps.release(n_steps)

    def forward(self, input_ids, *, attention_mask, cache):
        if self.steps is not None:
            assert self.steps.acquire(timeout=20)
        if self.fails:
            raise RuntimeError("out of memory")
        cache.advance(input_ids.shape[1])
        token = self.bytes[(attention_mask.sum(1) - 1) % len(self.bytes)]  # B
        return SimpleNamespace(logits=nn.functional.one_hot(token, 256).float()[:, None] * 50)


@contextmanager
def serving(model, *, tokenizer=None, max_batch=3, n_pages=36, limits=None, **options):
    engine = Engine(model, n_pages=n_pages, page_size=4, max_batch=max_batch)
    server = CompletionServer(
        engine, tokenizer or ByteTokenizer(), name="tiny", limits=limits or Limits(socket_timeout=5), **options
    )
    try:
        with server:
            yield server
    finally:
        assert not server.worker.alive
        assert engine.pool.n_free == n_pages


def connect(server) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(*server._http.server_address[:2], timeout=20)


def ask(server, method, path, body=None, headers=None):
    """Status, headers and the JSON of an answer."""
    connection = connect(server)
    sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} if headers is None else headers
    connection.request(method, path, body=sent, headers=headers)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, response.headers, json.loads(content) if content else None


def complete(server, **body):
    status, _, answer = ask(server, "POST", "/v1/completions", body)
    assert status == 200, answer
    return answer


def open_stream(server, path="/v1/completions", **body):
    """A connection and its response, whose events are still to come."""
    connection = connect(server)
    payload = json.dumps({**body, "stream": True})
    connection.request("POST", path, body=payload, headers={"Content-Type": "application/json"})
    response = connection.getresponse()
    assert response.status == 200, response.read()
    assert response.headers["Content-Type"].startswith("text/event-stream")
    return connection, response


def next_event(response):
    """The next event's data: JSON, or "[DONE]", or None at the end."""
    line = response.readline()
    if not line:
        return None
    assert line.startswith(b"data: ")
    assert response.readline() == b"\n"
    data = line[6:].decode().strip()
    return data if data == "[DONE]" else json.loads(data)


def read_stream(response) -> list:
    return list(iter(lambda: next_event(response), None))


def wait_until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def alone(model, prompt: str, n: int, *, seed=None, **dials) -> str:
    ids = torch.tensor([list(prompt.encode())])
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    new = generate(model, ids, max_new_tokens=n, generator=generator, **dials)[0, ids.shape[1] :]
    return ByteTokenizer().decode(new)


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def server(model):
    with serving(model, chat_template=TEMPLATE) as server:
        yield server


# --- what is answered


def test_a_completion_is_what_generate_writes(model, server):
    """Dials that do not arrive, a prompt repeated in the answer, counts that include the prompt."""
    answer = complete(server, model="tiny", prompt="To be", max_tokens=9, temperature=0)
    assert answer["choices"] == [
        {"index": 0, "text": alone(model, "To be", 9, temperature=0), "logprobs": None, "finish_reason": "length"}
    ]
    assert (answer["object"], answer["model"]) == ("text_completion", "tiny")
    assert answer["usage"] == {"prompt_tokens": 5, "completion_tokens": 9, "total_tokens": 14}
    sampled = complete(server, prompt="To be", max_tokens=9, temperature=1.4, top_p=0.8, seed=7)["choices"][0]["text"]
    assert sampled == alone(model, "To be", 9, seed=7, temperature=1.4, top_p=0.8)
    assert complete(server, prompt="a", seed=1)["usage"]["completion_tokens"] == 16  # the dialect's default
    echoed = complete(server, prompt="To be", max_tokens=9, temperature=0, echo=True)["choices"][0]["text"]
    assert echoed == "To be" + alone(model, "To be", 9, temperature=0)


def test_several_prompts_in_one_request(model, server):
    """Texts given to the wrong choice, whole and streamed."""
    prompts = ["a", "be", "see", "Shall", "I"]
    body = dict(prompt=prompts, max_tokens=6, temperature=0)
    answer = complete(server, **body)
    expected = [alone(model, prompt, 6, temperature=0) for prompt in prompts]
    assert [choice["text"] for choice in answer["choices"]] == expected
    assert answer["usage"] == {"prompt_tokens": 12, "completion_tokens": 30, "total_tokens": 42}
    texts = [""] * 5
    _, response = open_stream(server, **body)
    for event in read_stream(response)[:-1]:
        (choice,) = event["choices"]
        texts[choice["index"]] += choice["text"]
    assert texts == expected


def test_a_stream_says_the_same_in_pieces(model, server):
    """A stream without its end mark, without a reason, under changing ids, or with counts nobody asked for."""
    body = dict(prompt="O", max_tokens=12, temperature=0)
    _, response = open_stream(server, **body, stream_options={"include_usage": True})
    *chunks, usage, done = read_stream(response)
    assert done == "[DONE]"
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == complete(server, **body)["choices"][0]["text"]
    assert len(chunks) > 6
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["length"]
    assert len({chunk["id"] for chunk in [*chunks, usage]}) == 1
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 1, "completion_tokens": 12, "total_tokens": 13}
    _, response = open_stream(server, **body)
    assert not any("usage" in event for event in read_stream(response)[:-1])


def test_many_clients_at_once_do_not_disturb_each_other(model, server):
    """Answers that go to another client, draws from a shared generator, a batch that drops one."""
    results = queue.SimpleQueue()

    def client(i):
        body = dict(prompt="x" * (1 + i % 3), max_tokens=5 + i, temperature=1.2, seed=i)
        results.put((i, complete(server, **body)["choices"][0]["text"]))

    threads = [threading.Thread(target=client, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in range(8):
        i, text = results.get(timeout=0)
        assert text == alone(model, "x" * (1 + i % 3), 5 + i, temperature=1.2, seed=i)


def test_a_chat_is_its_template_continued(model, server):
    """A conversation without the mark that opens the answer, a stream that does not say who speaks."""
    messages = [{"role": "u", "content": "hi"}, {"role": "s", "content": "ho"}]
    body = dict(messages=messages, temperature=0)
    status, _, answer = ask(server, "POST", "/v1/chat/completions", {**body, "max_tokens": 8})
    assert status == 200
    expected = alone(model, "<u>hi\n<s>ho\n<a>", 8, temperature=0)
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": expected}
    assert (answer["object"], answer["usage"]["prompt_tokens"]) == ("chat.completion", 15)
    _, response = open_stream(server, "/v1/chat/completions", **body, max_completion_tokens=8)
    *chunks, done = read_stream(response)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert "".join(delta.get("content", "") for delta in deltas) == expected
    assert not any("role" in delta for delta in deltas[1:])
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert done == "[DONE]"
    to_the_end = ask(server, "POST", "/v1/chat/completions", body)[2]["usage"]
    assert to_the_end["total_tokens"] == CONTEXT  # a chat goes on as long as the context allows


def test_models_and_health(server):
    """A client that lists the models before it asks."""
    status, _, models = ask(server, "GET", "/v1/models")
    assert status == 200
    assert [(m["id"], m["object"]) for m in models["data"]] == [("tiny", "model")]
    assert ask(server, "GET", "/health?verbose=1")[2] == {"status": "ok", "model": "tiny", "open": 0}


RECITED = "schön 你好 🙂 STOP, and so on without end"


def test_a_stream_cuts_no_character_and_hides_the_stop_string():
    """Half characters sent as �, the beginning of a stop string sent before it is one, text sent after it."""
    with serving(Script(RECITED)) as server:
        _, response = open_stream(server, prompt="x", max_tokens=40, stop=["STOP", "never"])
        *chunks, _ = read_stream(response)
        pieces = [chunk["choices"][0]["text"] for chunk in chunks]
        assert "".join(pieces) == "schön 你好 🙂 "
        assert not any("�" in piece or "S" in piece for piece in pieces)
        assert {"ö", "你", "好", "🙂"} < set(pieces)
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
        answer = complete(server, prompt="x", max_tokens=len("schön 你好 🙂 STOP".encode()), stop="STOP")
        assert (answer["choices"][0]["text"], answer["choices"][0]["finish_reason"]) == ("schön 你好 🙂 ", "stop")
        assert answer["usage"]["completion_tokens"] == len("schön 你好 🙂 STOP".encode())  # no token after it
        cut = complete(server, prompt="x", max_tokens=8)["choices"][0]  # in the middle of 你
        assert (cut["text"], cut["finish_reason"]) == ("schön �", "length")


def test_an_end_token_ends_the_text_and_is_not_part_of_it():
    """The end token printed, or the text going on behind it."""
    with serving(Script("done.\0and more"), end_tokens=(0,)) as server:
        answer = complete(server, prompt="x", max_tokens=20)
        assert (answer["choices"][0]["text"], answer["choices"][0]["finish_reason"]) == ("done.", "stop")
        assert answer["usage"]["completion_tokens"] == 6


# --- what is refused


def completion(**body):
    return "POST", "/v1/completions", {"prompt": "a", **body}


def chat(**body):
    return "POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], **body}


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
    ]:
        assert ask(server, "POST", "/v1/completions", b"" if expected != 415 else b"{}", headers)[0] == expected
    with socket.create_connection(server._http.server_address[:2], timeout=20) as raw:
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
        CompletionServer(Engine(model, n_pages=1), CharTokenizer("abc"), name="tiny")


# --- limits, and clients that behave badly


def test_a_full_queue_says_so_and_empties():
    """Requests that pile up without end, a place that is never given back."""
    model = Script("abcdefgh", paced=True)
    with serving(model, max_batch=1, limits=Limits(max_waiting=1)) as server:
        first, first_response = open_stream(server, prompt="x", max_tokens=4)
        second, second_response = open_stream(server, prompt="x", max_tokens=4)
        status, headers, answer = ask(server, *completion())
        assert (status, headers["Retry-After"], answer["error"]["code"]) == (429, "1", "queue_full")
        assert answer["error"]["type"] == "server_error"
        assert ask(server, "GET", "/health")[2]["open"] == 2
        model.let(100)
        assert read_stream(first_response)[-1] == read_stream(second_response)[-1] == "[DONE]"
        assert complete(server, prompt="x", max_tokens=4)["choices"][0]["text"] == "abcd"
        assert ask(server, *completion(prompt=["x"] * 3))[0] == 429  # all of them or none
        first.close()
        second.close()


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_frees_its_place(stream):
    """A text written to its end for nobody, while others wait."""
    model = Script("abcdefgh", paced=True)
    with serving(model, max_batch=1) as server:
        if stream:
            connection, response = open_stream(server, prompt="x", max_tokens=40)
            model.let(2)
            assert next_event(response)["choices"][0]["text"] == "a"
            response.close()
        else:
            connection = connect(server)
            body = json.dumps({"prompt": "x", "max_tokens": 40})
            connection.request("POST", "/v1/completions", body=body, headers={"Content-Type": "application/json"})
            wait_until(lambda: server.worker.n_open == 1)
        connection.close()
        wait_until(lambda: not server._http.open)
        model.let(3)  # far fewer than the text has
        wait_until(lambda: server.worker.n_open == 0)
        model.let(100)
        assert complete(server, prompt="x", max_tokens=2)["choices"][0]["text"] == "ab"


def test_an_answer_that_takes_too_long_is_given_up():
    """Clients that wait for ever; a stream broken off that looks complete."""
    model = Script("abcdefgh", paced=True)
    with serving(model, limits=Limits(answer_timeout=0.2)) as server:
        status, _, answer = ask(server, *completion())
        assert (status, answer["error"]["code"]) == (504, "timeout")
        _, response = open_stream(server, prompt="x")
        (event,) = read_stream(response)
        assert "not finished within 0.2 seconds" in event["error"]["message"]
        model.let(100)
        wait_until(lambda: server.worker.n_open == 0)


def test_a_body_that_never_comes():
    """A thread held for ever by a client that announces a body, or nothing at all, and is silent."""
    with serving(Script("a"), limits=Limits(socket_timeout=0.2)) as server:
        address = server._http.server_address[:2]
        with socket.create_connection(address, timeout=20) as announced, socket.create_connection(address) as silent:
            head = "POST /v1/completions HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
            announced.sendall(head.encode())
            assert announced.makefile("rb").readline().split()[1] == b"408"
            silent.settimeout(20)
            assert silent.recv(1) == b""
        with socket.create_connection(address) as half:
            half.sendall(head.encode() + b"{")
        wait_until(lambda: not server._http.open)
        assert complete(server, prompt="x", max_tokens=1)["choices"][0]["text"] == "a"


def test_a_failure_of_the_server_is_answered_too(monkeypatch):
    """A mistake in the server itself that leaves the client without an answer, or shows it a traceback."""
    with serving(Script("a")) as server:
        with monkeypatch.context() as patch:
            patch.setattr(server, "requests", lambda order: 1 / 0)
            status, _, answer = ask(server, *completion())
        assert (status, answer["error"]["type"]) == (500, "server_error")
        assert "division" not in answer["error"]["message"]
        assert complete(server, prompt="x", max_tokens=1)["choices"][0]["text"] == "a"


def test_a_model_that_fails_fails_the_request_and_not_the_server():
    """An engine thread that dies and leaves every later request waiting."""
    model = Script("abcdefgh")
    with serving(model) as server:
        model.fails = True
        status, _, answer = ask(server, *completion())
        assert (status, answer["error"]["type"]) == (500, "server_error")
        assert "out of memory" not in answer["error"]["message"]
        model.fails = False
        assert complete(server, prompt="x", max_tokens=3)["choices"][0]["text"] == "abc"


# --- the end


def test_closing_lets_answers_finish():
    """An answer cut off at shutdown, new requests still taken, an idle connection that holds the server up."""
    model = Script("abcdefgh", paced=True)
    with serving(model) as server:
        address = server._http.server_address[:2]
        _, response = open_stream(server, prompt="x", max_tokens=4)
        idle = socket.create_connection(address)
        closing = threading.Thread(target=server.close, args=(20,))
        closing.start()
        wait_until(lambda: server.worker._closing)
        model.let(100)
        *chunks, done = read_stream(response)
        assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "abcd"
        assert done == "[DONE]"
        closing.join(timeout=20)
        assert not closing.is_alive()
        idle.close()
        with pytest.raises(ApiError, match="shutting down"):
            server.worker.submit([])
        with pytest.raises(OSError):  # noqa: PT011  refused
            socket.create_connection(address, timeout=1)


def test_closing_does_not_wait_beyond_its_patience():
    """A shutdown that one endless text can hold up; a text broken off that looks complete."""
    model = Script("abcdefgh", paced=True)
    with serving(model) as server:
        _, response = open_stream(server, prompt="x", max_tokens=40)
        closing = threading.Thread(target=server.close, args=(0.05,))
        closing.start()
        wait_until(lambda: server.worker._inbox.qsize() >= 2)  # patience is at an end
        model.let(5)
        events = read_stream(response)
        closing.join(timeout=20)
    assert events[-1]["error"]["message"] == "the server is shutting down"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_a_signal(model, monkeypatch, capsys, number):
    """A server that a signal kills in mid-answer, or that does not end; options that do not arrive."""
    made = queue.SimpleQueue()
    monkeypatch.setattr(command, "load", lambda name: (model, ByteTokenizer()))
    monkeypatch.setattr(CompletionServer, "start", lambda self: (start(self), made.put(self))[0])
    before = signal.getsignal(number)

    def client():
        server = made.get(timeout=20)
        made.put((server, complete(server, prompt="O", max_tokens=3, temperature=0)["choices"][0]["text"]))
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=client)
    thread.start()
    options = "--port 0 --max-batch 2 --max-waiting 5 --max-body 99 --timeout 7 --page-size 8 --cache-mib 1"
    assert command.main(["--model", "folder/tiny", *options.split()]) == 0
    thread.join()
    server, text = made.get(timeout=0)
    assert text == alone(model, "O", 3, temperature=0)
    assert server.limits == Limits(max_waiting=5, max_body=99, answer_timeout=7)
    assert (server.engine.max_batch, server.engine.pool.page_size, server.engine.pool.n_pages) == (2, 8, 2 * 48 // 8)
    assert capsys.readouterr().out.startswith(f"tiny at {server.url}/v1\n")
    assert signal.getsignal(number) is before


start = CompletionServer.start


def test_the_command_refuses_in_one_line(model, monkeypatch, capsys):
    """A traceback in place of a word: no such model, one that cannot write, a port in use, no memory for a page."""
    encoder = Encoder(TransformerConfig.bert(vocab_size=9, d_model=4, n_layers=1, n_heads=1))
    assert command.main(["--model", "nobody"]) == 2
    with monkeypatch.context() as patch:
        patch.setattr(command, "load_pretrained", lambda name: (encoder, ByteTokenizer()))
        assert command.main(["--model", "minilm"]) == 2
    monkeypatch.setattr(command, "load", lambda name: (model, ByteTokenizer()))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert command.main(["--model", "tiny", "--port", str(port)]) == 2
    assert command.main(["--model", "tiny", "--port", "70000"]) == 2
    assert command.main(["--model", "tiny", "--cache-mib", "0"]) == 2
    for option in ("--page-size 0", "--max-batch 0", "--max-waiting -1", "--threads 0", "--timeout 0"):
        assert command.main(["--model", "tiny", *option.split()]) == 2
    lines = capsys.readouterr().err.splitlines()
    words = [
        "no pretrained model 'nobody'",
        "Encoder does not write",
        f"127.0.0.1:{port}",
        "--port 70000",
        "a page of 16",
        "--page-size 0: must be at least 1",
        "--max-batch 0: must be at least 1",
        "--max-waiting -1: must be at least 0",
        "--threads 0: must be at least 1",
        "--timeout 0: must be more than 0 seconds",
    ]
    assert len(lines) == len(words)
    for line, word in zip(lines, words, strict=True):
        assert line.startswith("error: ")
        assert word in line


def test_the_command_loads_a_folder(model, tmp_path):
    """A model saved by the book that its server cannot open."""
    save_model(tmp_path / "tiny", model, ByteTokenizer())
    loaded, tokenizer = command.load(str(tmp_path / "tiny"))
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(loaded(ids).logits, model(ids).logits)
    assert tokenizer.encode("a") == [97]


def test_end_tokens_are_found_by_their_usual_names():
    """A chat that never ends because its end mark is taken for text, or ordinary characters taken for an end."""
    special = BPETokenizer.train("a b", vocab_size=259, special_tokens=["<s>", "<|im_end|>", "<|endoftext|>"])
    assert command.find_end_tokens(special) == (1, 2)
    assert command.find_end_tokens(ByteTokenizer()) == ()
    assert command.find_end_tokens(CharTokenizer("abc")) == ()
