"""``python -m llmbook.exercises attention 3 0.45``: check an answer on the command line.

An answer is written as in Python (``0.45``, ``[0.1, 0.9]``, ``"left"``); a function is named by its file,
``mine.py:attend``. Without an answer, what the exercise asks for is said; without a number, those of the chapter.
"""

import argparse
import ast
import runpy
import sys
from pathlib import Path
from typing import Any

from llmbook.exercises.asking import check
from llmbook.exercises.finding import UnknownExercise, chapters, exercises


def main(arguments: list[str] | None = None) -> int:
    """0 for a right answer or a question, 1 for a wrong answer, 2 for an exercise that is not there."""
    parser = argparse.ArgumentParser(prog="python -m llmbook.exercises", description="Check an answer of the book.")
    parser.add_argument("chapter", nargs="?", help="2-concepts/attention, or attention")
    parser.add_argument("number", nargs="?", type=int, help="of the exercise")
    parser.add_argument("answer", nargs="?", help="as Python writes it; for a function, file.py:name")
    given = parser.parse_args(arguments)
    try:
        if given.chapter is None:
            print("\n".join(chapters()))
        elif given.number is None:
            print("\n".join(f"{n}: {one.expects}" for n, one in exercises(given.chapter).items()))
        elif given.answer is None:
            check(given.chapter, given.number, ...)
        else:
            exercises(given.chapter)
            return 0 if check(given.chapter, given.number, read(given.answer)) else 1
    except (UnknownExercise, FileNotFoundError, NameError) as error:
        print(f"? {error}.", file=sys.stderr)
        return 2
    return 0


def read(text: str) -> Any:
    """An answer from the command line. Raises FileNotFoundError or NameError where a named function is not there."""
    path, colon, name = text.rpartition(":")
    if colon and path.endswith(".py"):
        if not Path(path).is_file():
            raise FileNotFoundError(f"there is no file {path}")
        defined = runpy.run_path(path)
        if name not in defined:
            raise NameError(f"{path} defines no {name!r}")
        return defined[name]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


if __name__ == "__main__":
    sys.exit(main())
