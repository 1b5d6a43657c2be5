"""The pages over a test's store at an address of this machine, for a browser."""

from __future__ import annotations

import contextlib
import socketserver
import threading
from collections.abc import Iterator
from typing import Any
from wsgiref import simple_server

from django.core.wsgi import get_wsgi_application
from django.db import connections

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]


class Quiet(simple_server.WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: the test's output is for the test."""


class Threads(socketserver.ThreadingMixIn, simple_server.WSGIServer):
    """A thread a request; each closes its own database connections."""

    daemon_threads = True

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            connections.close_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that leaves a page drops its requests; that is no failure."""


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """Serves for the length of the block; gives the address."""
    with simple_server.make_server("127.0.0.1", 0, get_wsgi_application(), Threads, Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
