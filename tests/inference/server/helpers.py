"""Servers over real sockets, clients that speak to them, and models that are real, or recite."""

import http.client
import json
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import torch
from torch import nn

from llmbook.inference import Engine, generate
from llmbook.inference.server import Limits, ModelServer
from llmbook.model import DecoderLM, TransformerConfig
from llmbook.text import ByteTokenizer

TEMPLATE = (
    "{% if messages[0].role == 'refused' %}{{ raise_exception('no') }}{% endif %}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
)
CONTEXT = 48
RECITED = "schön 你好 🙂 STOP, and so on without end"
PATIENCE = 300  # seconds before a test gives up: a busy machine is no failure


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
            assert self.steps.acquire(timeout=PATIENCE)
        if self.fails:
            raise RuntimeError("out of memory")
        cache.advance(input_ids.shape[1])
        token = self.bytes[(attention_mask.sum(1) - 1) % len(self.bytes)]  # B
        return SimpleNamespace(logits=nn.functional.one_hot(token, 256).float()[:, None] * 50)


@contextmanager
def serving(model, *, tokenizer=None, max_batch=3, n_pages=36, limits=None, **options):
    engine = Engine(model, n_pages=n_pages, page_size=4, max_batch=max_batch, tokenizer=tokenizer or ByteTokenizer())
    server = ModelServer(engine, name="tiny", limits=limits or Limits(body_timeout=60), **options)
    try:
        with server:
            yield server
    finally:
        assert not server.worker.alive
        assert engine.pool.n_free == n_pages


def connect(server) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(*address(server), timeout=PATIENCE)


def address(server) -> tuple[str, int]:
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    return host, int(port)


def ask(server, method, path, body=None, headers=None, *, raw=False):
    """Status, headers and the JSON of an answer, or its bytes."""
    connection = connect(server)
    sent = json.dumps(body).encode() if isinstance(body, dict) else body
    headers = {"Content-Type": "application/json"} if headers is None else headers
    connection.request(method, path, body=sent, headers=headers)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, response.headers, content if raw or not content else json.loads(content)


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


def wait_until(condition):
    """Wait as long as a busy machine needs; what never comes ends the test after minutes, instead of never."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("waited in vain")
        time.sleep(0.005)


def alone(model, prompt: str, n: int, *, seed=None, **dials) -> str:
    ids = torch.tensor([list(prompt.encode())])
    new = generate(model, ids, max_new_tokens=n, seed=seed, **dials)[0, ids.shape[1] :]
    return ByteTokenizer().decode(new)


def completion(**body):
    return "POST", "/v1/completions", {"prompt": "a", **body}


def chat(**body):
    return "POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], **body}
