"""What is answered: the server speaks the dialect and writes what the model writes."""

import queue
import threading

from .helpers import CONTEXT, RECITED, Script, alone, ask, complete, make_model, open_stream, read_stream, serving


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


def test_short_convolutions_are_served():
    """A model of the modern kind refused, or texts in one batch that look back on each other."""
    model, prompts = make_model(conv_width=4), ["a", "be", "see", "Shall", "I"]
    with serving(model) as server:
        answer = complete(server, prompt=prompts, max_tokens=6, temperature=0)
    expected = [alone(model, prompt, 6, temperature=0) for prompt in prompts]
    assert [choice["text"] for choice in answer["choices"]] == expected


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
