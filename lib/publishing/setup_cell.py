"""The first code cell of every notebook: nothing in a clone, `pip install` of the library elsewhere (Colab).

It is written once, here; `tidy` puts it into the notebooks and `check` compares. A notebook of a release installs that
release, so that it works the same way years later; between releases it installs the branch it was read from.
"""

CELL_ID = "setup"
TAGS = ["hide-input", "setup"]

TEMPLATE = """\
# @title Set-up: nothing to do in a clone of the book; elsewhere (Colab) this installs its library
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("llmbook") is None:
    library = "llmbook @ git+{url}@{ref}#subdirectory=lib"
    pip = subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", library], capture_output=True, text=True)
    if pip.returncode:
        reason = (pip.stderr.strip() or pip.stdout.strip() or "no message").splitlines()[-1]
        raise SystemExit(
            f"The book's library could not be installed: {{reason}}\\n"
            f'Check the network and run this cell again, or install it by hand: pip install "{{library}}"'
        )
    importlib.invalidate_caches()"""


def setup_source(url: str, ref: str) -> str:
    """The source of the set-up cell that installs the library from the tag or branch `ref` of the repository `url`."""
    return TEMPLATE.format(url=url, ref=ref)
