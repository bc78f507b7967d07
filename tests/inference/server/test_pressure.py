"""Bodies that no client should send, and more clients than there is room for."""

import asyncio
import copy
import gc
import json
import random
from collections import Counter
from collections.abc import Iterator

import httpx
import psutil

from llmbook.inference.server import Limits

from .helpers import PATIENCE, Script, ask, complete, serving, wait_until

GOOD = {
    "completions": {
        "model": "tiny", "prompt": "a", "max_tokens": 2, "temperature": 1.0, "top_p": 0.9, "n": 1, "best_of": 1,
        "logprobs": 1, "echo": True, "seed": 1, "stop": ["x"], "stream": False, "logit_bias": {"97": 1},
        "presence_penalty": 0.5, "frequency_penalty": 0.5, "response_format": {"type": "text"}, "user": "me",
        "stream_options": None,
    },
    "chat/completions": {
        "model": "tiny", "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}], "max_tokens": 2,
        "logprobs": True, "top_logprobs": 2, "n": 1, "stop": "x",
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "integer"}}},
    },
    "embeddings": {"model": "tiny", "input": ["a"], "encoding_format": "float"},
}  # fmt: skip
NASTY = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**400, 1e308, -1e308, 0.5, "", "a", "\ud800", "\0", "9" * 999,
    "𝄞" * 50, [], [[]], [None], [0], [-1], [2**70], [[1], "a"], ["a"] * 99, {}, {"": {}}, {"a": None}, {"type": "text"},
    {"type": []}, {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "$ref": "#"}}},
    {"type": "json_schema", "json_schema": {"name": "x", "schema": {"pattern": "(" * 200, "type": "string"}}},
    {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": [[[[{}]]], "\ud800", 1e308]}}},
]  # fmt: skip


def hostile(random_: random.Random) -> tuple[str, bytes]:
    """A path, and a good body for it with one to three members exchanged, dropped, added, or its bytes damaged."""
    path, body = random_.choice(list(GOOD.items()))
    body = json.loads(json.dumps(body))
    for _ in range(random_.randint(1, 3)):
        place = body
        while random_.random() < 0.4:  # somewhere inside
            inner = [value for value in (place.values() if isinstance(place, dict) else place) if value]
            inner = [value for value in inner if isinstance(value, dict | list)]
            if not inner:
                break
            place = random_.choice(inner)
        key = random_.choice(list(place) or ["x"]) if isinstance(place, dict) else 0
        if isinstance(place, dict) and random_.random() < 0.2:
            place.pop(key, None)
        elif isinstance(place, dict) or place:
            place["new" if isinstance(place, dict) and random_.random() < 0.1 else key] = copy.deepcopy(
                random_.choice(NASTY)
            )
    sent = bytearray(json.dumps(body).encode())
    if random_.random() < 0.2:
        for _ in range(random_.randint(1, 4)):
            sent[random_.randrange(len(sent))] = random_.randrange(256)
    return f"/v1/{path}", bytes(sent[: random_.randrange(len(sent))] if random_.random() < 0.05 else sent)


def test_hostile_bodies_are_answered():
    """An exception that a body causes somewhere behind its checks: a 500, a connection closed without a word, a text
    that stays open."""
    random_, seen = random.Random(1), Counter()
    with serving(Script("ab1"), chat_template="{{ messages[0].content }}") as server:
        for i in range(400):
            path, body = hostile(random_)
            status, _, answer = ask(server, "POST", path, body)
            seen[status] += 1
            if status == 200:
                continue
            assert 400 <= status < 500, (i, path, body, answer)
            assert set(answer["error"]) == {"message", "type", "param", "code"}, (i, path, body)
            assert answer["error"]["message"], (i, path, body)
        wait_until(lambda: server.n_open == 0)
        assert complete(server, prompt="x", max_tokens=2)["choices"][0]["text"] == "ab"
    assert seen[400] > 200  # most of them are hostile
    assert seen[200] > 5  # and not all


def test_a_thousand_requests_at_eight_times_the_capacity():
    """Requests lost or left waiting when the queue is full, texts that reach another client, clients that are refused
    without being told when to come again, memory that grows with every request."""
    capacity, seen, process = 8, Counter(), psutil.Process()
    grown = []

    async def client(http: httpx.AsyncClient, numbers: Iterator[int]) -> None:
        for i in numbers:
            body = {"prompt": "x" * (1 + i % 3), "max_tokens": 1 + i % 5, "stream": i % 7 == 0}
            while True:
                response = await http.post("/v1/completions", json=body)
                seen[response.status_code] += 1
                if response.status_code == 200:
                    break
                assert response.status_code == 429
                assert int(response.headers["Retry-After"]) >= 1
                await asyncio.sleep(0.05)
            wanted = ("abcdefgh" * 2)[i % 3 : i % 3 + 1 + i % 5]
            if body["stream"]:
                *lines, done = [line for line in response.text.split("\n\n") if line]
                assert done == "data: [DONE]"
                text = "".join(json.loads(line.removeprefix("data: "))["choices"][0]["text"] for line in lines)
            else:
                text = response.json()["choices"][0]["text"]
            assert text == wanted
            if i in (400, 990):
                gc.collect()
                grown.append(process.memory_info().rss)

    async def all_clients(url: str) -> None:
        limits = httpx.Limits(max_connections=8 * capacity)
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE, limits=limits) as http:
            numbers = iter(range(1000))
            await asyncio.gather(*(client(http, numbers) for _ in range(8 * capacity)))

    with serving(Script("abcdefgh"), max_batch=4, limits=Limits(max_waiting=capacity - 4)) as server:
        asyncio.run(all_clients(server.url))
        assert seen[200] == 1000
        assert seen[429] > 0
        print(seen, grown)
        assert server.n_open == 0
        wait_until(lambda: server.worker._inbox.empty())
        assert not server.worker._texts
        page = ask(server, "GET", "/metrics", raw=True)[2].decode()
    assert 'llmbook_requests_total{route="/v1/completions",status="200"} 1000.0' in page
    assert grown[1] - grown[0] < 20 * 2**20


def test_metrics_are_what_prometheus_reads():
    """Counters that do not count, or a page that is not in Prometheus' format."""
    from prometheus_client.parser import text_string_to_metric_families

    with serving(Script("abcdefgh")) as server:
        complete(server, prompt="xyz", max_tokens=5)
        ask(server, "POST", "/v1/completions", {"prompt": 3})
        ask(server, "GET", "/nowhere")
        status, headers, page = ask(server, "GET", "/metrics", raw=True)
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }
    assert found["llmbook_tokens_read_total",] == 3 + 4
    assert found["llmbook_tokens_written_total",] == 5
    assert found["llmbook_requests_total", "/v1/completions", "200"] == 1
    assert found["llmbook_requests_total", "/v1/completions", "400"] == 1
    assert found["llmbook_requests_total", "404", "other"] == 1
    assert found["llmbook_first_token_seconds_count",] == 1
    assert found["llmbook_pages", "free"] == 36
    assert found["llmbook_texts", "running"] == 0
