"""The book's published models: what a page computes from the very files it fetches, beside PyTorch."""

import numpy as np
import pytest
import torch

from llmbook.interop import load_pretrained
from llmbook.published import manifest, weights_path
from publishing.playground import packed
from tests.playground.test_playground import needs_node, run

PUBLISHED = list(manifest()) or [None]
PROMPTS = {
    "English": "HAMLET:\nTo be, or not to be, that is the question:\n",
    "Chinese": "话说天下大势，分久必合，合久必分。",
    "emoji": "🙂🚀 naïve — “quotes”",
    "nothing": "",
    "a single space": " ",
}


@needs_node
@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_page_and_notebook_agree_on_every_published_model(name, prompt):
    """Catches a published file that the page reads otherwise than Python does, a text that only one of the two can
    spell, and an empty prompt that nothing stands for."""
    if name is None:
        pytest.skip("no model has been published")
    model, tokenizer = load_pretrained(name)
    path = weights_path(name)
    text = PROMPTS[prompt]
    try:
        ids = tokenizer.encode(text)
    except ValueError:
        (refused,) = run(path, ["encode", text])
        assert "is not among the" in refused["error"]
        return
    encoded, start = (result["value"] for result in run(path, ["encode", text], ["start", None]))
    assert encoded == ids
    ids = ids or start
    assert ids
    (read,) = run(path, ["read", {"ids": ids}])
    with torch.no_grad():
        out = model(torch.tensor([ids]), need_weights=True)
    np.testing.assert_allclose(read["value"]["logits"], out.logits[0].numpy(), atol=1e-3)
    np.testing.assert_allclose(read["value"]["weights"], torch.stack(out.attentions)[:, 0, :, -1], atol=1e-3)


@needs_node
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_last_position_is_as_good_as_the_first(name):
    """Catches positions that drift apart where the context ends, which short prompts never reach."""
    if name is None:
        pytest.skip("no model has been published")
    model, _ = load_pretrained(name)
    length, size = model.config.max_seq_len, model.config.vocab_size
    ids = [i * 31 % size for i in range(length)]
    skipped, more = run(weights_path(name), ["skip", ids], ["read", {"ids": [*ids, 0]}])
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits[0, -1]
    np.testing.assert_allclose(skipped["value"], expected.numpy(), atol=1e-3)
    assert more["error"] == f"The context is full: this model reads at most {length} tokens."


@pytest.mark.skipif("shakespeare-chars" not in PUBLISHED, reason="it has not been published")
def test_heads_have_the_habits_that_the_page_tells_of():
    """Catches words about a model that has been trained anew since."""
    model, tokenizer = load_pretrained("shakespeare-chars")
    text = (
        PROMPTS["English"] + "Whether 'tis nobler in the mind to suffer\nThe slings and arrows of outrageous fortune,\n"
    )
    with torch.no_grad():
        seen = model(torch.tensor([tokenizer.encode(text)]), need_weights=True).attentions
    read = {head: seen[head[0]][0, head[1], 40:] for head in ((0, 3), (0, 4), (2, 3))}  # each [T - 40, T]
    assert read[0, 4].diagonal(39).mean() > 0.35  # the token before
    assert read[0, 3].diagonal(40).mean() > 0.45  # itself
    ends = torch.tensor([letter == "\n" for letter in text])
    assert read[2, 3][:, ends].sum(-1).mean() > 0.3 > 5 * ends.float().mean()


def test_every_model_opens_within_a_second_on_a_common_line():
    """Catches a model that a reader must wait for: 3 MB take a second at 24 Mbit/s."""
    if PUBLISHED == [None]:
        pytest.skip("no model has been published")
    assert max(len(packed(name)) for name in PUBLISHED) < 3_000_000
