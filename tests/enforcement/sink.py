"""A small real store end for collector tests: records every batch, and refuses when told to."""

from __future__ import annotations

import gzip
import http.server
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import zstandard


class Sink:
    """Listens on a free loopback port. `refusals` holds the answers for the next batches, first to last:
    a status, `"drop"` (store, then cut the connection), or `"silence"` (cut without storing)."""

    def __init__(self) -> None:
        self.batches: list[list[dict[str, Any]]] = []
        self.heartbeats: list[dict[str, Any]] = []
        self.refusals: list[int | str] = []
        self.sizes: list[tuple[int, int]] = []
        self.paths: list[str] = []
        self.encodings: list[str | None] = []
        self.is_down = False
        self.closes_connections = False
        self.retry_after: int | None = None
        self.delay_seconds = 0.0
        sink = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                sink.answer(self)

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"]))
        if self.is_down:
            request.close_connection = True
            return
        if request.path == "/api/v1/heartbeat":
            self.heartbeats.append(json.loads(body))
            self.reply(request, 200, {"ok": True})
            return
        encoding = request.headers.get("Content-Encoding")
        plain = gzip.decompress(body) if encoding == "gzip" else zstandard.decompress(body)
        self.ingest(request, plain, encoding)

    def ingest(self, request: http.server.BaseHTTPRequestHandler, plain: bytes, encoding: str | None) -> None:
        time.sleep(self.delay_seconds)
        refusal = self.refusals.pop(0) if self.refusals else None
        items = [json.loads(line) for line in plain.splitlines()]
        if refusal == "silence":
            request.close_connection = True
            return
        if isinstance(refusal, int):
            self.sizes.append((refusal, len(items)))
            self.reply(request, refusal, {"code": "refused"})
            return
        self.batches.append(items)
        self.paths.append(request.path)
        self.encodings.append(encoding)
        self.sizes.append((200, len(items)))
        if refusal == "drop":
            request.close_connection = True
            return
        answers = [{"position": n, "status": "accepted"} for n in range(len(items))]
        self.reply(request, 200, {"accepted": len(items), "items": answers})

    def reply(self, request: http.server.BaseHTTPRequestHandler, status: int, told: dict[str, Any]) -> None:
        body = json.dumps(told).encode()
        request.send_response(status)
        if status in (429, 503) and self.retry_after is not None:
            request.send_header("Retry-After", str(self.retry_after))
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)
        request.close_connection = self.closes_connections

    def items(self) -> list[dict[str, Any]]:
        """Every item by sequence, in order. Fails when one sequence came with two contents or one is missing."""
        by_sequence: dict[int, dict[str, Any]] = {}
        for batch in list(self.batches):
            for item in batch:
                known = by_sequence.setdefault(item["sequence"], item)
                assert known == item, "one sequence number, two contents"
        assert sorted(by_sequence) == list(range(1, len(by_sequence) + 1)), "a sequence number is missing"
        return [by_sequence[n] for n in sorted(by_sequence)]

    def wait_for(self, condition: Callable[[], bool], seconds: float = 30) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, f"not seen within {seconds} s; {sum(map(len, self.batches))} items came"
            time.sleep(0.02)
