"""Show the built site under a local address, for this machine alone."""

import functools
import http.server

from .book import Book, BookError


class _Quiet(http.server.SimpleHTTPRequestHandler):
    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {".js": "text/javascript"}

    def log_message(self, *_: object) -> None:
        pass

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-cache")  # a rebuilt page is seen at the next reload
        super().end_headers()


def server(book: Book, port: int = 8000) -> http.server.ThreadingHTTPServer:
    """A server of `_build/html` on `port`, or on the next free one of the twenty that follow."""
    if not (book.html / "index.html").is_file():
        raise BookError("there is no site yet: run `make book` first.")
    handler = functools.partial(_Quiet, directory=str(book.html))
    for candidate in range(port, port + 20):
        try:
            return http.server.ThreadingHTTPServer(("127.0.0.1", candidate), handler)
        except OSError:
            continue
    raise BookError(f"ports {port} to {port + 19} are all taken: choose another with PORT=.")


def serve(book: Book, port: int = 8000) -> None:
    with server(book, port) as web:
        print(f"The book is at http://127.0.0.1:{web.server_port}/ (Ctrl-C stops)", flush=True)
        web.serve_forever()
