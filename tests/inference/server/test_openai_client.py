"""OpenAI's own Python client, as its users call it."""

import json
import math

import openai
import pytest
import torch

from llmbook.inference import completions
from llmbook.inference.server import ModelServer
from llmbook.interop import sentence_vectors
from llmbook.model import Encoder, TransformerConfig
from llmbook.text import ByteTokenizer, CharTokenizer, HFTokenizer

from .helpers import PATIENCE, RECITED, Script, alone, make_model, serving


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", timeout=PATIENCE) as client:
        yield client


def connect(server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", timeout=PATIENCE)


def scored(model, prompt: str, length: int, **options):
    """What the library itself says: the texts, with the log-probabilities of everything."""
    options = {"logprobs": 3, "prompt_logprobs": True, "max_new_tokens": length, **options}
    return completions(model, [list(prompt.encode())], tokenizer=ByteTokenizer(), **options)


def test_completions_with_everything(model, client):
    """Options that do not arrive: each of them changes the text that the library writes, and so the server's."""
    options = dict(temperature=1.3, presence_penalty=2.0, frequency_penalty=1.0, logit_bias={"101": -100, "120": 6.0})
    answer = client.completions.create(
        model="tiny", prompt="To be", max_tokens=20, seed=5, n=3, top_p=0.9, stop=None, **options
    )
    bias = {101: -100.0, 120: 6.0}
    expected = scored(model, "To be", 20, seed=5, n=3, top_p=0.9, **{**options, "logit_bias": bias})
    assert [choice.text for choice in answer.choices] == [one.text for one in expected]
    assert len({choice.text for choice in answer.choices}) == 3
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert answer.usage.prompt_tokens == 5
    assert answer.usage.completion_tokens == 60
    for left_out in options:
        others = {name: value for name, value in options.items() if name != left_out}
        changed = client.completions.create(
            model="tiny", prompt="To be", max_tokens=20, seed=5, n=3, top_p=0.9, **others
        )
        assert [c.text for c in changed.choices] != [c.text for c in answer.choices], left_out


def test_log_probabilities_and_echo(model, client):
    """Log-probabilities of other tokens, or shifted by one; offsets that do not point at their token; a prompt that is
    not scored."""
    answer = client.completions.create(model="tiny", prompt="To be", max_tokens=6, temperature=0, logprobs=3, echo=True)
    (expected,) = scored(model, "To be", 6, temperature=0)
    found, text = answer.choices[0].logprobs, answer.choices[0].text
    assert text == "To be" + expected.text
    assert len(found.tokens) == 11
    assert found.token_logprobs[0] is None
    assert found.top_logprobs[0] is None
    both = [*expected.prompt_logprobs[1:], *expected.logprobs]
    assert found.token_logprobs[1:] == pytest.approx([one.logprob for one in both], abs=1e-5)
    for token, offset in zip(found.tokens, found.text_offset, strict=True):
        assert token.startswith("bytes:") or token in text[offset : offset + 3 + len(token)]  # behind broken bytes
    for top, one in zip(found.top_logprobs[1:], both, strict=True):
        assert 3 <= len(top) <= 4  # the three likeliest, and the token itself
        assert max(top.values()) == pytest.approx(one.top[0][1], abs=1e-5)
    without = client.completions.create(model="tiny", prompt="To be", max_tokens=6, temperature=0, logprobs=3)
    assert without.choices[0].logprobs.tokens == found.tokens[5:]
    assert without.choices[0].logprobs.text_offset[0] == 0


def test_a_prompt_alone_is_scored(model, client):
    """max_tokens=0 refused, or a token written all the same; prompts of token numbers read as others."""
    rows = [[84, 111, 32], [98, 101]]
    answer = client.completions.create(model="tiny", prompt=rows, max_tokens=0, logprobs=1, echo=True)
    assert [choice.text for choice in answer.choices] == ["To ", "be"]
    assert answer.usage.completion_tokens == 0
    for choice, row in zip(answer.choices, rows, strict=True):
        log_p = model(torch.tensor([row])).logits.log_softmax(-1)[0]
        expected = [float(log_p[i, token]) for i, token in enumerate(row[1:])]
        assert choice.logprobs.token_logprobs[1:] == pytest.approx(expected, abs=1e-4)
        assert choice.finish_reason == "length"
    one = client.completions.create(model="tiny", prompt=rows[0], max_tokens=4, temperature=0)
    assert one.choices[0].text == alone(model, "To ", 4, temperature=0)
    assert client.completions.create(model="tiny", prompt="a", max_tokens=0).choices[0].text == ""


def test_best_of_returns_the_likeliest(model, client):
    """The first texts returned in place of the best, or the best by another measure."""
    answer = client.completions.create(model="tiny", prompt="a", max_tokens=8, seed=3, best_of=6, n=2)
    texts = scored(model, "a", 8, seed=3, n=6)
    texts.sort(key=lambda text: -sum(one.logprob for one in text.logprobs) / len(text.logprobs))
    assert [choice.text for choice in answer.choices] == [text.text for text in texts[:2]]
    assert answer.choices[0].logprobs is None
    assert answer.usage.completion_tokens == 48


def test_chat(model, client):
    """Content parts dropped, a name lost, answers that cannot be given back as the next turn; log-probabilities of a
    chat in the form of a completion."""
    parts = [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]
    first = client.chat.completions.create(
        model="tiny", messages=[{"role": "u", "content": parts}], max_completion_tokens=5, temperature=0, logprobs=True,
        top_logprobs=2, n=2, response_format={"type": "text"}, tools=[],
    )  # fmt: skip
    said = first.choices[0].message
    assert said.content == alone(model, "<u>hi\n<a>", 5, temperature=0)
    (expected,) = scored(model, "<u>hi\n<a>", 5, temperature=0, logprobs=2)
    content = first.choices[1].logprobs.content
    assert [one.logprob for one in content] == pytest.approx([one.logprob for one in expected.logprobs], abs=1e-5)
    assert [one.bytes for one in content] == [[token] for token in expected.tokens]
    assert [len(one.top_logprobs) for one in content] == [2] * 5
    again = client.chat.completions.create(
        model="tiny", messages=[{"role": "u", "content": "hi"}, said.model_dump()], max_tokens=3, temperature=0
    )  # the message holds half a dozen members that are null
    assert again.choices[0].message.content == alone(model, f"<u>hi\n<assistant>{said.content}\n<a>", 3, temperature=0)


def test_streams(model, client):
    """Pieces of one choice given to another, log-probabilities left out of a stream, or not beside their text."""
    options = dict(model="tiny", prompt=["To be", "or"], max_tokens=9, seed=4, n=2, echo=True, logprobs=0)
    whole, texts, tokens = client.completions.create(**options), [""] * 4, [[] for _ in range(4)]
    for chunk in client.completions.create(**options, stream=True):
        (choice,) = chunk.choices
        texts[choice.index] += choice.text
        tokens[choice.index] += choice.logprobs.tokens
    assert texts == [choice.text for choice in whole.choices]
    assert tokens == [choice.logprobs.tokens for choice in whole.choices]
    messages = [{"role": "u", "content": "hi"}]
    chunks = client.chat.completions.create(
        model="tiny",
        messages=messages,
        max_tokens=4,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    *parts, last = chunks
    assert "".join(p.choices[0].delta.content or "" for p in parts) == alone(model, "<u>hi\n<a>", 4, temperature=0)
    assert last.usage.completion_tokens == 4


SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer", "maximum": 9, "minimum": 0}, "of": {"enum": ["x", "y"]}},
    "required": ["n", "of"],
    "additionalProperties": False,
}


def test_text_that_must_be_json(client, model):
    """A schema that is taken and not kept to; a text that goes on behind the end of its JSON."""
    for seed in range(4):
        answer = client.chat.completions.create(
            model="tiny", messages=[{"role": "u", "content": "?"}], seed=seed, temperature=1.5,
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}},
        )  # fmt: skip
        value = json.loads(answer.choices[0].message.content)
        assert set(value) == {"n", "of"}
        assert value["n"] in range(10)
        assert value["of"] in ("x", "y")
        assert answer.choices[0].finish_reason == "stop"
    answer = client.completions.create(
        model="tiny", prompt="x", max_tokens=40, extra_body={"response_format": {"type": "json_object"}}, seed=1
    )
    assert answer.choices[0].text.startswith("{")


def test_a_dead_end_fails_one_request_alone():
    """A grammar that cannot be spelled with this vocabulary: an empty text, a failure of all that are being written."""
    without_braces = CharTokenizer("".join(map(chr, range(200, 456))))
    model, wanted = make_model(), {"response_format": {"type": "json_object"}}
    with serving(model, tokenizer=without_braces) as server, connect(server) as client:
        stream = client.completions.create(model="tiny", prompt="Ā", max_tokens=30, stream=True, seed=1)
        first = next(stream)
        with pytest.raises(openai.BadRequestError, match="dead end after ''"):
            client.completions.create(model="tiny", prompt="Ā", extra_body=wanted, n=2)
        assert len(first.choices[0].text + "".join(chunk.choices[0].text for chunk in stream)) == 30
        assert server.n_open == 0


def test_errors_are_the_clients_own(client):
    """Refusals that the client takes for a failure of the connection, and tries again."""
    with pytest.raises(openai.NotFoundError, match="no model 'gpt-4'"):
        client.completions.create(model="gpt-4", prompt="a")
    with pytest.raises(openai.BadRequestError, match="best_of=1 must be at least n=2") as caught:
        client.completions.create(model="tiny", prompt="a", n=2, best_of=1)
    assert caught.value.param == "best_of"
    with pytest.raises(openai.BadRequestError, match="gives no embeddings"):
        client.embeddings.create(model="tiny", input="a")
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "llmbook"


def test_a_stream_cuts_no_character():
    """Half a character sent to a client; the stop string's beginning sent before it is one."""
    with serving(Script(RECITED)) as server, connect(server) as client:
        stream = client.completions.create(model="tiny", prompt="x", max_tokens=40, stop="STOP", stream=True)
        pieces = [chunk.choices[0].text for chunk in stream]
    assert "".join(pieces) == "schön 你好 🙂 "
    assert not any("�" in piece for piece in pieces)


def test_embeddings():
    """Vectors in another order, not of length 1, or whose bytes are read backwards; tokens counted without marks."""
    tokenizer = HFTokenizer.train("a few words and a few more words", vocab_size=262)
    config = TransformerConfig.bert(vocab_size=262, max_seq_len=32, d_model=12, n_layers=1, n_heads=2)
    encoder = Encoder(config).eval()
    texts = ["a few words", "more", "words and words"]
    with ModelServer(encoder=(encoder, tokenizer), name="tiny") as server, connect(server) as client:
        packed = client.embeddings.create(model="tiny", input=texts)  # the client asks for base64
        plain = client.embeddings.create(model="tiny", input=texts[0], encoding_format="float")
        with pytest.raises(openai.BadRequestError, match=r"input\[0\] has \d+ tokens; at most 32"):
            client.embeddings.create(model="tiny", input="a" * 99)
        with pytest.raises(openai.BadRequestError, match="writes no text; use /v1/embeddings"):
            client.completions.create(model="tiny", prompt="a")
    expected = sentence_vectors(encoder, tokenizer, texts)
    torch.testing.assert_close(torch.tensor([one.embedding for one in packed.data]), expected)
    torch.testing.assert_close(torch.tensor(plain.data[0].embedding), expected[0])
    assert math.hypot(*plain.data[0].embedding) == pytest.approx(1)
    assert packed.usage.prompt_tokens == sum(len(tokenizer.encode(t, add_special_tokens=True)) for t in texts)
