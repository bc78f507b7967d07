"""The glossary's terms are there once, and every link to one finds it."""

import json
import re
from pathlib import Path

from publishing.glossary import anchor

ROOT = Path(__file__).parents[1]
TERMS = re.findall(r"^### (.+)$", (ROOT / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_no_term_is_there_twice():
    """Catches a second entry, whose anchor would be another than its readers expect."""
    assert len(TERMS) > 60
    assert len({anchor(term) for term in TERMS}) == len(TERMS)


def test_every_entry_has_a_chinese_term_and_a_sentence():
    """Catches a heading with nothing below it."""
    text = (ROOT / "glossary.md").read_text(encoding="utf-8")
    for term in TERMS:
        entry = text.split(f"\n### {term}\n")[1].split("\n#")[0].strip()
        assert re.fullmatch(r"\*[^*]+\*\. .+\.( \[→ [^]]+\]\([^)]+\))?", entry), term


def test_links_to_the_glossary_find_their_term():
    """Catches a term that was renamed while chapters link to it."""
    known, found = {anchor(term) for term in TERMS}, 0
    for path in sorted((ROOT / "chapters").rglob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        for link in re.findall(r"glossary\.md#([\w-]+)", "".join("".join(cell["source"]) for cell in cells)):
            found += 1
            assert link in known, f"{path.name} links to {link}"
    assert found > 5
