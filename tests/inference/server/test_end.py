"""The end of a server, and the command that runs one."""

import os
import queue
import signal
import socket
import threading

import pytest
import torch

from llmbook.inference.server import ApiError, Limits, ModelServer
from llmbook.inference.server import __main__ as command
from llmbook.interop.saved import save_model
from llmbook.model import Encoder, TransformerConfig
from llmbook.text import ByteTokenizer

from .helpers import PATIENCE, Script, address, alone, complete, open_stream, read_stream, serving, wait_until


def test_closing_lets_answers_finish():
    """An answer cut off at shutdown, new requests still taken, an idle connection that holds the server up."""
    model = Script("abcdefgh", paced=True)
    with serving(model) as server:
        _, response = open_stream(server, prompt="x", max_tokens=4)
        idle = socket.create_connection(where := address(server))
        closing = threading.Thread(target=server.close, args=(20,))
        closing.start()
        wait_until(lambda: server.worker._closing)
        model.let(100)
        *chunks, done = read_stream(response)
        assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "abcd"
        assert done == "[DONE]"
        closing.join(timeout=PATIENCE)
        assert not closing.is_alive()
        idle.close()
        with pytest.raises(ApiError, match="shutting down"):
            server.worker.submit([], print)
        with pytest.raises(OSError):  # noqa: PT011  refused
            socket.create_connection(where, timeout=1)


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
        closing.join(timeout=PATIENCE)
    assert events[-1]["error"]["message"] == "the server is shutting down"


@pytest.mark.skipif(os.name == "nt", reason="on Windows os.kill ends the process, whatever the signal")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_a_signal(model, monkeypatch, capsys, number):
    """A server that a signal kills in mid-answer, or that does not end; options that do not arrive."""
    made = queue.SimpleQueue()
    monkeypatch.setattr(command, "load", lambda name: (model, ByteTokenizer()))
    monkeypatch.setattr(ModelServer, "start", lambda self: (start(self), made.put(self))[0])
    before = signal.getsignal(number)

    def client():
        server = made.get(timeout=PATIENCE)
        made.put((server, complete(server, prompt="O", max_tokens=3, temperature=0)["choices"][0]["text"]))
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=client)
    thread.start()
    options = "--port 0 --max-batch 2 --max-waiting 5 --max-body 99 --timeout 7 --page-size 8 --cache-mib 1"
    assert command.main(["--model", "folder/tiny", *options.split()]) == 0
    thread.join()
    server, text = made.get(timeout=0)
    assert text == alone(model, "O", 3, temperature=0)
    engine = server.service.engine
    assert server.limits == Limits(max_waiting=5, max_body=99, answer_timeout=7)
    assert (engine.max_batch, engine.pool.page_size, engine.pool.n_pages) == (2, 8, 2 * 48 // 8)
    assert capsys.readouterr().out.startswith(f"tiny at {server.url}/v1\n")
    assert signal.getsignal(number) is before


start = ModelServer.start


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
        "Encoder neither writes nor gives embeddings",
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
