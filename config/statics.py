"""Stylesheets, scripts and fonts: kept by browsers for a year under addresses that name their content, and sent packed."""

from __future__ import annotations

import functools
import gzip
import hashlib
from pathlib import Path
from typing import Any

from django.contrib.staticfiles import finders
from django.contrib.staticfiles.storage import StaticFilesStorage
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from whitenoise.middleware import WhiteNoiseMiddleware

PACKED = (".css", ".js", ".svg")
LEVEL = 6


class Stamped(StaticFilesStorage):
    """Gives each file an address with the hash of its content, so that a new version is never taken for the old one."""

    def url(self, name: str | None, *args: Any, **kwargs: Any) -> str:
        address = str(super().url(name, *args, **kwargs))
        stamp = _stamp(name or "")
        return f"{address}?v={stamp}" if stamp else address


@functools.cache
def _stamp(name: str) -> str:
    path = finders.find(name)
    return hashlib.sha256(Path(str(path)).read_bytes()).hexdigest()[:12] if path else ""


class Packed(WhiteNoiseMiddleware):  # type: ignore[misc]
    """Serves the files; text is packed once per process when a browser first asks for it."""

    @staticmethod
    def serve(static_file: Any, request: HttpRequest) -> HttpResponseBase:
        plain: HttpResponseBase = WhiteNoiseMiddleware.serve(static_file, request)
        may_pack = request.method == "GET" and "gzip" in request.headers.get("Accept-Encoding", "")
        if plain.status_code != 200 or not may_pack or not request.path_info.endswith(PACKED):
            return plain
        plain.close()
        answer = HttpResponse(_packed(static_file.alternatives[-1][1]), headers=dict(plain.items()))
        answer["Content-Encoding"] = "gzip"
        answer["Content-Length"] = str(len(answer.content))
        answer["Vary"] = "Accept-Encoding"
        return answer


@functools.cache
def _packed(path: str) -> bytes:
    return gzip.compress(Path(path).read_bytes(), LEVEL, mtime=0)
