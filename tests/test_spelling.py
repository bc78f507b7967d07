"""Spelling: British everywhere but in the names of other people's code."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def typos(*paths):
    command = [str(Path(sys.executable).with_name("typos"))]
    settings = ["--config", str(ROOT / ".typos.toml"), "--format", "brief"]
    done = subprocess.run([*command, *settings, *map(str, paths)], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.splitlines()


def test_everything_is_spelt_as_the_book_spells():
    """Catches a typing error, and American spelling in what readers read."""
    assert typos(".") == []


def test_the_check_sees_and_spares(tmp_path):
    """Catches settings that excuse too much: a word allowed in code is a mistake in prose; titles of papers are not."""
    prose, code = tmp_path / "chapter.md", tmp_path / "module.py"
    prose.write_text("We recieve a color from the optimizer.\n\n- A. Nyone, *On Color*, 2020: [x](https://x.org)\n")
    code.write_text("optimizer.color = 3  # recieved\n")
    assert [line.split("error: ")[1].split("`")[1] for line in typos(prose)] == ["recieve", "color", "optimizer"]
    assert [line.split("error: ")[1].split("`")[1] for line in typos(code)] == ["recieved"]
