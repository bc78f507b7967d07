"""`python -m publishing COMMAND`, with `--help` for the list of them; `make` calls it."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .book import ROOT, Book, BookError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it went well, 1 with one clear message when not, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options, Book(options.root.resolve())) or 0
    except BookError as error:
        print(f"error: {error}" if "\n" not in str(error) else str(error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        if options.command != "serve":
            print("\nInterrupted: what had finished is kept; run it again to go on.", file=sys.stderr)
        return 130 if options.command != "serve" else 0


def _run(options: argparse.Namespace, book: Book) -> int | None:
    match options.command:
        case "build":
            from .build import build

            build(book, chapter=options.chapter, scale=options.scale, workers=options.workers)
        case "tidy" | "refresh":
            from .tidy import refresh, tidy

            sources = [book.find(name) for name in options.chapters] or book.notebooks
            execute = options.command == "refresh" or options.execute
            for name in (refresh if execute else tidy)(book, sources):
                print(f"changed {name}")
        case "check":
            from .tidy import check

            if problems := check(book):
                raise BookError("\n".join(problems))
        case "test":
            from .suite import run

            return run(book, options.workers, everything=options.all)
        case "gpu-test":
            from .gpu import run

            return run(book)
        case "record":
            from .record import record

            record(book, options.chapter, options.settings)
        case "reference":
            from .seeds import reference

            sources = [book.find(name) for name in options.chapters] or book.notebooks
            reference(book, sources, scale=options.scale, runs=options.runs, workers=options.workers)
        case "compare":
            from .compare import compare

            return compare(book, options.chapter)
        case "address":
            from .address import change

            changed = change(book, options.url, options.branch)
            print("\n".join(f"changed {name}" for name in changed) or "nothing to change")
        case "links":
            from .links import check_links

            print(check_links(book))
        case "release":
            from .release import release

            release(book, options.version)
        case "serve":
            from .serve import serve

            serve(book, options.port)
        case "pdf":
            from .pdf import pdf

            pdf(book, options.chapter)
        case "model":
            from .models import make

            return make(options.name)
        case "sounds":
            from .sounds import make

            make()
        case "vendor":
            from .vendor import vendor

            vendor(book)
    return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="publishing", description="Build and check the book.")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout (default: this one)")
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="run the notebooks and render the site")
    build.add_argument("--chapter", help="only this one, for example 2-concepts/attention")
    build.add_argument("--scale", help="quick or full; without it every notebook decides by the machine")
    build.add_argument("--workers", type=int, default=2, help="notebooks run at a time")
    tidy = commands.add_parser("tidy", help="bring notebooks into their normal form")
    tidy.add_argument("--execute", action="store_true", help="run them and refresh their checked outputs")
    tidy.add_argument("chapters", nargs="*", help="all of them when none is named")
    refresh = commands.add_parser("refresh", help="tidy --execute")
    refresh.add_argument("chapters", nargs="*", help="all of them when none is named")
    commands.add_parser("check", help="check the contract of every notebook")
    test = commands.add_parser("test", help="style, contract, tests and checked outputs")
    test.add_argument("--workers", type=int, default=2)
    test.add_argument("--all", action="store_true", help="repeat the tests that passed as they are, too")
    commands.add_parser("gpu-test", help="tests and chapters that are marked for a GPU")
    record = commands.add_parser("record", help="run a chapter at length and keep what it records")
    record.add_argument("chapter", help="for example 2-concepts/positions")
    record.add_argument("settings", nargs="*", help="name=value in place of its parameters (default: scale=full)")
    reference = commands.add_parser("reference", help="record what chapters print, and its range over seeds")
    reference.add_argument("chapters", nargs="*", help="all of them when none is named")
    reference.add_argument("--scale", help="quick or full; without it every notebook decides by the machine")
    reference.add_argument("--runs", type=int, default=4, help="how many seeds")
    reference.add_argument("--workers", type=int, default=2, help="notebooks run at a time")
    compare = commands.add_parser("compare", help="your run beside the recorded numbers")
    compare.add_argument("--chapter", help="only this one, for example 2-concepts/attention")
    address = commands.add_parser("address", help="move the book to another repository")
    address.add_argument("url", help="https://github.com/OWNER/NAME")
    address.add_argument("--branch")
    commands.add_parser("links", help="ask every address of another site that the book links to")
    release = commands.add_parser("release", help="commit and tag a release; nothing is pushed")
    release.add_argument("version", help="three numbers, for example 0.2.0")
    serve = commands.add_parser("serve", help="show the built site under a local address")
    serve.add_argument("--port", type=int, default=8000)
    pdf = commands.add_parser("pdf", help="print the built site with a headless Chromium")
    pdf.add_argument("--chapter", help="only this one, for example 2-concepts/attention")
    model = commands.add_parser("model", help="train a model of the book and publish it with the library")
    model.add_argument("name", help="for example shakespeare-chars")
    commands.add_parser("sounds", help="train the models of letters and sounds and publish them with the library")
    commands.add_parser("vendor", help="fetch plotly.js, KaTeX and MiniSearch again (needs npm)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
