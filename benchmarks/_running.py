"""The product as `bin/serve` runs it, on a data folder of its own, for measuring (and for killing: tests/crash)."""

from __future__ import annotations

import datetime as dt
import http.client
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from config import cluster
from demo.monitored import free_port

ROOT = Path(__file__).resolve().parents[1]
PARTS = {
    "web": ("gunicorn",),
    "keeper": ("manage.py", "keeper"),
    "steward": ("manage.py", "steward"),
    "worker": ("manage.py", "worker"),
    "supervisor": ("config.embedded", "run"),
}


class Product:
    """One running store on a free port of 127.0.0.1. `settings` are environment variables."""

    def __init__(self, data: Path, **settings: str) -> None:
        self.data = data
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TOUCHSTONE_")}
        own = {"TOUCHSTONE_DATA": str(data), "TOUCHSTONE_BIND": f"127.0.0.1:{self.port}"}
        self.environment = {**kept, **own, **settings}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start and wait until it is ready."""
        with (self.data / "serve.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "config.serve"],
                cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=cluster.die_with_parent,
            )  # fmt: skip
        wait_for(self._answers, 180, f"the product answers; see {self.data / 'serve.log'}")

    def _answers(self) -> bool:
        """Raises RuntimeError when it has ended: nothing would come any more."""
        if self.process is not None and self.process.poll() is not None:
            raise RuntimeError(f"the product ended with {self.process.returncode}; see {self.data / 'serve.log'}")
        return self.ready() is not None

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
            self.process = None

    def ready(self) -> dict[str, Any] | None:
        """What /readyz says, or None while it does not answer or is not ready."""
        try:
            status, answer = self.request("GET", "/readyz")
        except (OSError, http.client.HTTPException):
            return None
        return answer if status == 200 else None

    def manage(self, *words: str) -> str:
        """What `bin/manage` prints. RuntimeError with what it said when it fails."""
        done = subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"bin/manage {' '.join(words)}: {done.stdout}{done.stderr[-2000:]}")
        return done.stdout.strip()

    def add_source(self, name: str, form: str = "events", environment: str = "production") -> str:
        """The token of a new source."""
        return self.manage("source", "add", name, "--format", form, "--environment", environment, "--datasource", name)

    def request(self, method: str, path: str, token: str = "", body: bytes | None = None) -> tuple[int, Any]:
        """Status and answer of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            connection.request(method, path, body, headers | {"Content-Type": "application/json"})
            answer = connection.getresponse()
            raw = answer.read()
        finally:
            connection.close()
        return answer.status, msgspec.json.decode(raw) if raw[:1] in (b"{", b"[") else raw

    def pids(self, part: str) -> list[int]:
        """Process ids of one part: a name of `PARTS` (of web the master first), or postgres (the postmaster)."""
        if part == "postgres":
            pid = self.postgres_home / "postmaster.pid"
            # Absent, or still empty, while the server starts again.
            return [int(words[0])] if pid.exists() and (words := pid.read_text().split()) else []
        return sorted(pid for pid in pids() if self._is(pid, PARTS[part]))

    @property
    def postgres_home(self) -> Path:
        return cluster.home_of(self.data / "postgres") / "pg"

    def _is(self, pid: int, words: tuple[str, ...]) -> bool:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return False
        return f"TOUCHSTONE_DATA={self.data}".encode() in environment and all(word in command for word in words)


def native(name: str, **more: Any) -> dict[str, Any]:
    """A native event of about 600 bytes that is found again by its correlation id."""
    number = sum(name.encode()) % 10_000
    return {
        "kind": "query", "op": "read", "class": "read", "source_event_id": name, "correlation_id": name,
        "occurred_at": dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"), "occurred_at_quality": "source",
        "actor": {"db_user": "orders_api", "type": "service"}, "client": {"app": "orders-api", "ip": "10.0.0.7"},
        "database": "shop", "db_session_id": f"6540.{number}", "transaction": {"id": str(number), "outcome": "committed"},
        "statement": {"text": f"select id, amount from orders where id = {number}", "state": "whole"},
        "resources": [{"schema": "public", "relation": "orders", "columns": ["id", "amount"], "access": "read"}],
        "rows": {"returned": 1}, "duration_us": 250, "verdict": "allowed",
    } | more  # fmt: skip


def wait_for(holds: Callable[[], bool], seconds: float, what: str) -> None:
    """Returns when `holds` does. TimeoutError says what did not come.

    Who waits takes at most a fifth of a processor with asking: what is waited for would come the later.
    """
    deadline = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if holds():
            return
        ended = time.monotonic()
        if ended > deadline:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(max(0.1, min(1.0, 4 * (ended - began))))


def pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def machine() -> str:
    """Date and size of this machine, for the head of a table."""
    memory = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    return f"{dt.datetime.now(dt.UTC):%Y-%m-%d}, {os.cpu_count()} cores, {int(memory.split()[1]) >> 20} GiB"
