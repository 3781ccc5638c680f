"""A small HTTP server in a thread, for what a test needs outside the product: an origin, a webhook,
an image server.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@contextmanager
def run_http_server(handle: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[int]:
    """A server on the loopback that answers every GET and POST by `handle`; yields its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            handle(self)

        def do_POST(self) -> None:
            handle(self)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def respond(request: BaseHTTPRequestHandler, media_type: str, body: bytes) -> None:
    """Answer 200 with a whole body."""
    request.send_response(200)
    request.send_header("Content-Type", media_type)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)
