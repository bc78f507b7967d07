"""What a kernel really used of the library, noted while a notebook runs: an IPython extension.

Reading the text of a chapter (reach.py) cannot see a name that is put together at run time, or a file opened by one.
So every execution is watched as well: which files below the library it opened and, from Python 3.12 on, where watching
costs nothing, which modules' functions it called. What the reading had missed is kept with the record, and a record
whose file has changed since is not taken. `LLMBOOK_WITNESS` names the file to write to.
"""

import json
import os
import sys
from pathlib import Path
from types import CodeType

LIBRARY = "llmbook"


class Witness:
    """Notes what of the package at `folder` is opened and called."""

    def __init__(self, folder: Path):
        self.root = f"{folder}{os.sep}"
        self.opened: set[str] = set()
        self.called: set[str] = set()

    def watch(self) -> None:
        sys.addaudithook(self._event)
        if monitoring := getattr(sys, "monitoring", None):
            monitoring.use_tool_id(monitoring.PROFILER_ID, "witness")
            monitoring.register_callback(monitoring.PROFILER_ID, monitoring.events.PY_START, self._start)
            monitoring.set_events(monitoring.PROFILER_ID, monitoring.events.PY_START)
        elif os.environ.get("LLMBOOK_WITNESS_CALLS"):  # slow: for a check of the reading, not for every run
            sys.setprofile(self._profile)

    def write(self, path: Path) -> None:
        path.write_text(json.dumps({"opened": sorted(self.opened), "called": sorted(self.called)}))

    def _event(self, event: str, arguments: tuple) -> None:
        if event == "open" and isinstance(arguments[0], str) and not arguments[0].endswith((".py", ".pyc")):
            path = os.path.abspath(arguments[0])
            mode = arguments[1] if len(arguments) > 1 else "r"
            if path.startswith(self.root) and "__pycache__" not in path and not set(mode or "r") & set("wax+"):
                self.opened.add(path.removeprefix(self.root))

    def _start(self, code: CodeType, _offset: int) -> object:
        if not code.co_filename.startswith(self.root):
            return sys.monitoring.DISABLE
        if _imports(sys._getframe(1)):
            return None  # it may be called again, after the import
        self.called.add(code.co_filename.removeprefix(self.root))
        return sys.monitoring.DISABLE

    def _profile(self, frame, event: str, _argument: object) -> None:
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(self.root) and not _imports(frame):
            self.called.add(name.removeprefix(self.root))


def _imports(frame) -> bool:
    """Whether `frame` runs because a module is being imported."""
    while frame:
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__", "").startswith(LIBRARY):
            return True
        frame = frame.f_back
    return False


def load_ipython_extension(shell) -> None:
    """Watch from now on; what was seen is written after every cell, so that a kernel's death loses none of it."""
    import importlib.util

    found = importlib.util.find_spec(LIBRARY)
    target = os.environ.get("LLMBOOK_WITNESS")
    if not target or not found or not found.submodule_search_locations:
        return
    witness = Witness(Path(found.submodule_search_locations[0]))
    witness.watch()
    shell.events.register("post_run_cell", lambda *_: witness.write(Path(target)))
