"""Two lanes into one web process: what feeds send, and everything else.

Many feeds may be served at once: they mostly wait, and what they send together becomes one transaction. Of everything
else as many requests are at work as `TOUCHSTONE_WEB_THREADS` says, so that questions keep to their memory. A feed's
request does not pass the middleware of pages, which knows of sessions, forms and zones and costs more than the request.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from django.core.exceptions import DisallowedHost
from django.core.handlers.exception import response_for_exception
from django.core.handlers.wsgi import WSGIRequest
from django.db import close_old_connections
from django.http import HttpResponse

from lineage.answers import ErrorMiddleware
from lineage.intake_api import ingest_batch

FEEDS = "/api/v1/ingest/"
Environment = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environment, StartResponse], Iterable[bytes]]


class Lanes:
    """The WSGI application: `pages` is Django's."""

    def __init__(self, pages: Application, at_once: int) -> None:
        self._pages = pages
        self._gate = threading.BoundedSemaphore(at_once)
        self._errors = ErrorMiddleware(self._ingest)

    def __call__(self, environ: Environment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "POST" and environ["PATH_INFO"].startswith(FEEDS):
            answer = self._feed(environ)
            if answer is not None:
                start_response(f"{answer.status_code} {answer.reason_phrase}", list(answer.items()))
                return [answer.content]
        self._gate.acquire()
        try:
            return _Leaving(self._pages(environ, start_response), self._gate)
        except BaseException:
            self._gate.release()
            raise

    def _feed(self, environ: Environment) -> HttpResponse | None:
        """The answer to a feed; None where the address is not one of ours, which is for pages to say."""
        request = WSGIRequest(environ)
        try:
            request.get_host()
        except DisallowedHost:
            return None
        if "/" in request.path_info.removeprefix(FEEDS):
            return None
        close_old_connections()
        answer = self._errors(request)
        answer["X-Content-Type-Options"] = "nosniff"
        answer["Content-Length"] = str(len(answer.content))
        return answer

    def _ingest(self, request: Any) -> HttpResponse:
        try:
            return ingest_batch(request, request.path_info.removeprefix(FEEDS))
        except Exception as error:  # noqa: BLE001  as Django does around every view: what is not ours is a plain 500
            return self._errors.process_exception(request, error) or response_for_exception(request, error)


class _Leaving:
    """An answer of pages; its place is free once the server is done with it, be it whole or cut off."""

    def __init__(self, answer: Iterable[bytes], gate: threading.BoundedSemaphore) -> None:
        self._answer, self._gate = answer, gate
        self._once = contextlib.ExitStack()
        self._once.callback(gate.release)
        if close := getattr(answer, "close", None):
            self._once.callback(close)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._answer)

    def close(self) -> None:
        self._once.close()
