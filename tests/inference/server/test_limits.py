"""Limits, and clients that behave badly."""

import json
import socket

import pytest

from llmbook.inference.server import Limits

from .helpers import (
    PATIENCE,
    Script,
    address,
    ask,
    complete,
    completion,
    connect,
    next_event,
    open_stream,
    read_stream,
    serving,
    wait_until,
)


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
        status, _, answer = ask(server, *completion(prompt=["x"] * 3))  # more than could ever be taken
        assert (status, answer["error"]["code"]) == (400, "too_many_texts")
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
        wait_until(lambda: not server._http.server_state.connections)
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
    with serving(Script("a"), limits=Limits(body_timeout=0.2, idle_timeout=1)) as server:
        where = address(server)
        with (
            socket.create_connection(where, timeout=PATIENCE) as announced,
            socket.create_connection(where) as silent,
            socket.create_connection(where) as halting,
        ):
            head = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            head += "Content-Length: 9\r\n\r\n"
            announced.sendall(head.encode())
            halting.sendall(head[:40].encode())
            assert announced.makefile("rb").readline().split()[1] == b"408"
            silent.settimeout(20)
            assert silent.recv(1) == b""
            halting.settimeout(20)
            assert halting.recv(1) == b""
        with socket.create_connection(where) as half:
            half.sendall(head.encode() + b"{")
        wait_until(lambda: not server._http.server_state.connections)
        assert complete(server, prompt="x", max_tokens=1)["choices"][0]["text"] == "a"


def test_a_failure_of_the_server_is_answered_too(monkeypatch):
    """A mistake in the server itself that leaves the client without an answer, or shows it a traceback."""
    with serving(Script("a")) as server:
        with monkeypatch.context() as patch:
            patch.setattr(server.service, "requests", lambda asked: 1 / 0)
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
