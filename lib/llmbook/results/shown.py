"""The comparison as a chapter shows it: one call at the end of an experiment."""

from collections.abc import Mapping
from typing import Any

from llmbook.results import comparison, reference
from llmbook.results.circumstances import here, settings
from llmbook.results.quantities import named

KEY = "llmbook"  # of our entry in the metadata of the output, where `make compare` finds the numbers again


def compare(chapter: str, data: Mapping[str, Any], *, scale: str | None = None, runtime: Any = None) -> None:
    """Show the numbers in ``data``, what the chapter gives to ``record``, beside those recorded for ``chapter``.

    ``runtime`` is what ``choose_runtime`` returned. Of the references and recorded runs of the chapter, the one made
    under the most similar circumstances is taken. Where there is none, or it is damaged, one line says so.
    """
    from IPython.display import display

    yours = here(runtime=runtime) | settings(data) | ({"scale": scale} if scale else {})
    quantities = named(data)
    words = in_words(chapter, data, yours)
    kept = {"quantities": {name: q.value for name, q in quantities.items()}, "circumstances": yours}
    display({"text/markdown": words, "text/plain": words}, raw=True, metadata={KEY: kept})


def in_words(chapter: str, data: Mapping[str, Any], yours: Mapping[str, str]) -> str:
    """What ``compare`` shows, as Markdown."""
    quantities = named(data)
    try:
        ours = reference.nearest(chapter, yours, among=quantities)
    except reference.DamagedReference as error:
        return f"Not compared: {error}."
    if ours is None:
        there = ", ".join(reference.known()) or "none yet"
        return f"Not compared: there are no recorded numbers for {chapter!r}; there are some for: {there}."
    ours = ours.only(quantities)
    found = comparison.compare(chapter, quantities, yours, ours)
    below = "\n".join(f"- {line}" for line in comparison.notes(found, yours))
    return f"**Yours beside ours.** {found.summary()}.\n\n{comparison.table(found.rows)}\n\n{below}"
