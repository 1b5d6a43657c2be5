"""Sends a spool to the store: batches, backoff, refusals, heartbeats (docs/collector-protocol.md).

One thread. What the store has not acknowledged stays in the spool; nothing is ever dropped. Beside `Shipper`
this module holds what all collectors share: the command-line options and the wording of a custody statement.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime as dt
import gzip
import http.client
import os
import signal
import ssl
import sys
import threading
import time
import urllib.parse
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from enforcement import spool as spools

try:
    import zstandard
except ImportError:  # gzip does too; a collector installs alone
    zstandard = None  # type: ignore[assignment]

BATCH_ITEMS = 1000
BATCH_BYTES = 5 << 20
FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 60.0
FEED_TYPE = "application/vnd.touchstone.feed+json"


def now() -> str:
    """The current time as the store writes times."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def say(text: str) -> None:
    """One line for the operator. Never holds row or statement values."""
    # A log on a full disk must not stop what it tells of.
    with contextlib.suppress(OSError):
        print(f"{now()} {text}", file=sys.stderr, flush=True)


def item(position: str, record: bytes) -> bytes:
    """A feed item from JSON text that is the record; without sequence, as the spool takes it."""
    return b'"position":%b,"record":%b' % (msgspec.json.encode(position), record)


def raw_item(position: str, record: bytes) -> bytes:
    """A feed item whose record is text, or base64 where the bytes are not valid UTF-8."""
    try:
        return item(position, msgspec.json.encode(record.decode("utf-8")))
    except UnicodeDecodeError:
        return bytes_item(position, record)


def bytes_item(position: str, record: bytes) -> bytes:
    """A feed item whose record is any bytes, as base64."""
    return b'"position":%b,"record_base64":%b' % (msgspec.json.encode(position), msgspec.json.encode(record))


def custody_item(
    kind: str,
    subject: str,
    detail: str,
    *,
    position: str = "",
    first: str = "",
    last: str = "",
    count: int | None = None,
) -> bytes:
    """A statement of the collector about its own feed: gap, canary, alarm or silence."""
    told = {"type": kind, "subject": subject, "detail": detail, "first": first, "last": last, "count": count}
    told["occurred_at"] = now()
    present = {name: value for name, value in told.items() if value not in ("", None)}
    return b'"position":%b,"custody":%b' % (msgspec.json.encode(position), msgspec.json.encode(present))


@dataclasses.dataclass(frozen=True)
class Store:
    """Where to send, as whom, and what. `query` is the ingest endpoint's query string without the question mark."""

    url: str
    token: str
    format: str
    query: str = ""
    encoding: str = "zstd"
    ca_file: str | None = None


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came back: status 0 when nothing did; `was_cut` when the connection broke."""

    status: int
    body: bytes = b""
    retry_after: float | None = None
    was_cut: bool = False

    def accepts(self, items: int) -> bool:
        """Whether this is the store's own acknowledgement of `items` items, not some other server's page."""
        if self.status != 200:
            return False
        try:
            told = msgspec.json.decode(self.body)
        except msgspec.DecodeError:
            return False
        return isinstance(told, dict) and isinstance(told.get("items"), list) and len(told["items"]) >= items


class Shipper:
    """Sends from `spool` to `store` in a thread of its own, with a heartbeat every 10 s.

    `reachable` says whether the store's last answer was an acknowledgement. `note(...)` puts facts about the
    reader into the heartbeat's `detail`.
    """

    def __init__(
        self, spool: spools.Spool, store: Store, *, heartbeat_seconds: float = 10.0, timeout: float = 60.0
    ) -> None:
        self.spool, self.store = spool, store
        self.heartbeat_seconds, self.timeout = heartbeat_seconds, timeout
        self.reachable = True
        self._cursor = spools.Cursor(spool)
        self._replay_until = spool.last
        self._connection: http.client.HTTPConnection | None = None
        self._batch_items = BATCH_ITEMS
        self._wait_seconds = 0.0
        self._heartbeat_due = 0.0
        self._detail: dict[str, Any] = {}
        self._stopping = threading.Event()
        self._last_said = ""
        self._thread = threading.Thread(target=self._run, name="shipper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def note(self, **detail: Any) -> None:
        """Facts about the reader for the next heartbeats, such as `skipped=12`."""
        with self.spool.changed:
            self._detail.update(detail)

    def drain(self, seconds: float) -> bool:
        """Wait until everything durable is acknowledged; False when the time is up first."""
        until = time.monotonic() + seconds
        with self.spool.changed:
            while self.spool.acknowledged < self.spool.synced:
                left = until - time.monotonic()
                if left <= 0 or not self._thread.is_alive():
                    return False
                self.spool.changed.wait(min(left, 0.2))
        return True

    def stop(self, drain_seconds: float = 5.0) -> None:
        """Send what can be sent in the given time, then end the thread. The spool stays open."""
        self.spool.sync()
        if self.reachable:
            self.drain(drain_seconds)
        self._stopping.set()
        with self.spool.changed:
            self.spool.changed.notify_all()
        self._thread.join(5)

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._heartbeat()
                if not self._send():
                    self._pause()
        except Exception as error:  # noqa: BLE001  a dead sender with a living reader would look healthy: end both
            say(f"shipper: stopped by {type(error).__name__}: {error}. The spool is kept; start the collector again.")
            os._exit(70)

    def _pause(self) -> None:
        if self._wait_seconds == 0:
            with self.spool.changed:
                if self._cursor.next > self.spool.synced and not self._stopping.is_set():
                    self.spool.changed.wait(max(self._heartbeat_due - time.monotonic(), 0.01))
            return
        until = time.monotonic() + self._wait_seconds
        while not self._stopping.is_set() and time.monotonic() < until:
            self._heartbeat()
            self._stopping.wait(0.2)

    def _send(self) -> bool:
        """Send one batch. True when something was acknowledged or settled, so that the next can go at once."""
        expected = self._cursor.next
        first, lines = self._cursor.take(self._batch_items, BATCH_BYTES)
        if not lines:
            self._wait_seconds = 0.0
            return False
        if first > expected:
            detail = "The spool's file was damaged on disk; these items must be read again from the source."
            self._tell(
                custody_item("gap", "spool", detail, first=str(expected), last=str(first - 1), count=first - expected)
            )
        query = f"?{self.store.query}" if self.store.query else ""
        answer = self._post(f"/api/v1/ingest/{self.store.format}{query}", b"\n".join(lines) + b"\n", FEED_TYPE)
        if answer.accepts(len(lines)):
            return self._acknowledged(first + len(lines) - 1)
        if answer.status == 413 and len(lines) > 1:
            self._batch_items = max(1, len(lines) // 2)
            self._cursor.give_back(first, lines)
            return True
        if answer.status in (400, 413):
            return self._refused(first, lines, answer)
        self._cursor.give_back(first, lines)
        self._back_off(answer)
        return False

    def _acknowledged(self, last: int) -> bool:
        self.spool.acknowledge(last)
        if not self.reachable:
            say("shipper: the store answers again.")
        self.reachable, self._wait_seconds, self._last_said = True, 0.0, ""
        self._batch_items = min(BATCH_ITEMS, self._batch_items + self._batch_items // 4 + 1)
        return True

    def _refused(self, first: int, lines: list[bytes], answer: Answer) -> bool:
        last = first + len(lines) - 1
        path = self.spool.refuse(lines, first, last)
        say(f"shipper: the store refused items {first} to {last} ({answer.status}); kept in {path}.")
        detail = f"The store refused these items with status {answer.status}; the collector keeps them in {path.name}."
        self._tell(custody_item("gap", "feed", detail, first=str(first), last=str(last), count=len(lines)))
        self.spool.acknowledge(last)
        return True

    def _tell(self, custody: bytes) -> None:
        self.spool.append([custody])
        self.spool.sync()

    def _back_off(self, answer: Answer) -> None:
        self.reachable = False
        doubled = min(max(self._wait_seconds * 2, FIRST_WAIT_SECONDS), LONGEST_WAIT_SECONDS)
        self._wait_seconds = answer.retry_after if answer.retry_after is not None else doubled
        if answer.status in (401, 403, 404, 415):
            self._wait_seconds = LONGEST_WAIT_SECONDS
        self._complain(answer.status)

    def _complain(self, status: int) -> None:
        told = {
            0: "does not answer",
            401: "does not know this token: make one with `bin/manage source add` and set TOUCHSTONE_TOKEN",
            403: "does not let this token send",
            429: "has more to do than it keeps up with",
            404: f"has no format {self.store.format}: compare the versions of store and collector",
            200: "gave an answer that is not an acknowledgement: is the URL right?",
        }.get(status, f"answered {status}")
        text = f"shipper: {self.store.url} {told}. Everything is kept in the spool; trying on."
        if text != self._last_said:
            say(text)
            self._last_said = text

    def _heartbeat(self) -> None:
        if time.monotonic() < self._heartbeat_due or self.spool.acknowledged < self._replay_until:
            return
        self._heartbeat_due = time.monotonic() + self.heartbeat_seconds
        with self.spool.changed:
            detail = {
                **self._detail,
                "spooled": self.spool.last,
                "spool_bytes": sum(s.size for s in self.spool.segments),
            }
            told = {
                "last_sequence": self.spool.acknowledged,
                "position": str(self.spool.position.get("text", "")),
                "at": now(),
                "detail": detail,
            }
        answer = self._post("/api/v1/heartbeat", msgspec.json.encode(told), "application/json", compress=False)
        if answer.status in (0, 401, 403):
            self._complain(answer.status)

    def _post(self, path: str, body: bytes, content_type: str, *, compress: bool = True) -> Answer:
        headers = {"Authorization": f"Bearer {self.store.token}", "Content-Type": content_type}
        if compress:
            body, headers["Content-Encoding"] = compressed(body, self.store.encoding)
        was_open = self._connection is not None
        answer = self._exchange(path, body, headers)
        # Servers close connections that rest for a few seconds; that is no sign that the store is away.
        return self._exchange(path, body, headers) if answer.was_cut and was_open else answer

    def _exchange(self, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        try:
            if self._connection is None:
                self._connection = connect(self.store, self.timeout)
            prefix = urllib.parse.urlsplit(self.store.url).path.rstrip("/")
            self._connection.request("POST", prefix + path, body, headers)
            response = self._connection.getresponse()
            content = response.read()
            if response.will_close:
                self._connection.close()
                self._connection = None
            return Answer(response.status, content, retry_seconds(response.headers.get("Retry-After")))
        except (OSError, http.client.HTTPException) as error:
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            return Answer(0, was_cut=isinstance(error, (ConnectionError, http.client.HTTPException)))


def connect(store: Store, timeout: float) -> http.client.HTTPConnection:
    """A connection to the store; https verifies the certificate, against `ca_file` when given."""
    parts = urllib.parse.urlsplit(store.url)
    host = parts.hostname or "localhost"
    if parts.scheme == "https":
        context = ssl.create_default_context(cafile=store.ca_file)
        return http.client.HTTPSConnection(host, parts.port, timeout=timeout, context=context)
    return http.client.HTTPConnection(host, parts.port, timeout=timeout)


def compressed(body: bytes, encoding: str) -> tuple[bytes, str]:
    """The body and its Content-Encoding: zstd where the library is there, else gzip."""
    if encoding == "zstd" and zstandard is not None:
        return zstandard.ZstdCompressor(level=3).compress(body), "zstd"
    return gzip.compress(body, 3), "gzip"


def retry_seconds(header: str | None) -> float | None:
    """Retry-After in seconds, at most an hour; None when absent or a date."""
    return min(float(header), 3600.0) if header and header.strip().isdigit() else None


def secret(name: str) -> str:
    """The value of environment variable `name`, or the content of the file that `NAME_FILE` names."""
    path = os.environ.get(f"{name}_FILE")
    return Path(path).read_text(encoding="utf-8").strip() if path else os.environ.get(name, "")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that every collector has."""
    parser.add_argument(
        "--url", default=os.environ.get("TOUCHSTONE_URL", ""), help="address of the store (TOUCHSTONE_URL)"
    )
    parser.add_argument(
        "--token-file",
        type=Path,
        help="file with the source's token; else TOUCHSTONE_TOKEN_FILE, else TOUCHSTONE_TOKEN holds the token itself",
    )
    parser.add_argument("--spool", type=Path, required=True, metavar="DIR", help="folder of this collector's own queue")
    parser.add_argument("--spool-limit", type=int, default=1024, metavar="MIB", help="when full, reading waits (1024)")
    parser.add_argument("--heartbeat-seconds", type=float, default=10.0, help=argparse.SUPPRESS)
    parser.add_argument("--encoding", choices=("zstd", "gzip"), default="zstd", help="compression of batches (zstd)")
    parser.add_argument("--ca-file", help="certificate authority of the store, when it is not a public one")
    parser.add_argument(
        "--once", action="store_true", help="send what is there now, wait until the store has it, and end"
    )


def open_spool(options: argparse.Namespace) -> spools.Spool:
    """The spool that the options name. SystemExit with a sentence when it cannot be used."""
    try:
        return spools.Spool(options.spool, limit_bytes=options.spool_limit << 20)
    except spools.SpoolError as error:
        raise SystemExit(str(error)) from None


def from_options(options: argparse.Namespace, spool: spools.Spool, format_name: str, query: str = "") -> Shipper:
    """A started shipper. SystemExit with a sentence when address or token is missing."""
    token = options.token_file.read_text(encoding="utf-8").strip() if options.token_file else secret("TOUCHSTONE_TOKEN")
    if not options.url.startswith(("http://", "https://")) or not token:
        raise SystemExit(
            "Give the store's address (--url or TOUCHSTONE_URL) and its token (TOUCHSTONE_TOKEN or a file)."
        )
    store = Store(options.url, token, format_name, query, options.encoding, options.ca_file)
    shipper = Shipper(spool, store, heartbeat_seconds=options.heartbeat_seconds)
    shipper.start()
    return shipper


class Stopped(Exception):
    """SIGTERM or SIGINT arrived: end in order."""


class StopSignal:
    """Turns SIGTERM and SIGINT into an event that loops look at."""

    def __init__(self) -> None:
        self.event = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._arrived)

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        self.event.set()

    def check(self) -> None:
        """Stopped when a signal has arrived."""
        if self.event.is_set():
            raise Stopped
