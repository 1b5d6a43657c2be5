"""`bin/serve`: runs web, worker, keeper and steward, starts again whichever ends, stops all when told to.

Each child is a process group of its own and is told by the kernel when this process dies, so that even `kill -9` of
this one leaves nothing running. The embedded PostgreSQL has its own supervisor (`config.embedded`), which leaves
when its last user does; here it is only watched.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from config import cluster, embedded

BASE_DIR = Path(__file__).resolve().parent.parent
STOP_SECONDS = 15
FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 5.0
STEADY_SECONDS = 5.0


class Child:
    """One process that shall run for ever."""

    def __init__(
        self, name: str, command: list[str], environment: dict[str, str] | None = None, log: Path | None = None
    ) -> None:
        self.name = name
        self.command = command
        self.environment = {**os.environ, **(environment or {})}
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        self.delay = FIRST_DELAY_SECONDS

    def tend(self) -> None:
        """Start it when it does not run; wait longer between starts while it keeps ending at once."""
        if self.process is not None and self.process.poll() is None:
            return
        now = time.monotonic()
        if self.process is not None:
            lived = now - self.started_at
            self.delay = FIRST_DELAY_SECONDS if lived > STEADY_SECONDS else self.delay
            if lived < self.delay:
                return
            self.delay = min(self.delay * 2, LONGEST_DELAY_SECONDS)
            _say(f"{self.name} ended with status {self.process.returncode}; starting it again")
            self._signal(signal.SIGKILL)
        self.started_at = now
        with open(self.log, "ab") if self.log else contextlib.nullcontext() as log:
            self.process = subprocess.Popen(
                self.command, cwd=BASE_DIR, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=_die_with_parent,
            )  # fmt: skip

    def ask_to_stop(self) -> None:
        self._signal(signal.SIGTERM)

    def wait(self, deadline: float) -> None:
        """Wait until it has ended, and end what is left of its group at `deadline` (monotonic seconds)."""
        if self.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(max(0.0, deadline - time.monotonic()))
            self._signal(signal.SIGKILL)
            self.process.wait()

    def _signal(self, number: int) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)


def children() -> list[Child]:
    """What the product consists of."""
    bind = os.environ.get("TOUCHSTONE_BIND", "127.0.0.1:8000")
    workers = os.environ.get("TOUCHSTONE_WEB_WORKERS", "2")
    threads = str(sum(at_once()))
    web = [
        "-m",
        "gunicorn",
        "config.wsgi",
        "--config",
        "python:config.workers",
        "--bind",
        bind,
        "--workers",
        workers,
        "--threads",
        threads,
        "--limit-request-line",
        "8190",
    ]
    web += ["--timeout", "60", "--graceful-timeout", "10", "--log-level", "warning"]
    return [
        Child("web", [sys.executable, *web]),
        Child("worker", [sys.executable, "manage.py", "worker"]),
        Child("keeper", [sys.executable, "manage.py", "keeper"]),
        Child("steward", [sys.executable, "manage.py", "steward"]),
    ]


def at_once() -> tuple[int, int]:
    """How many requests a web process works on at once: of pages and questions, and of feeds beside them."""
    return int(os.environ.get("TOUCHSTONE_WEB_THREADS", "2")), int(os.environ.get("TOUCHSTONE_INTAKE_THREADS", "32"))


def run(data: Path) -> int:
    """Set the store up, then keep everything running until SIGTERM or SIGINT. Returns the exit status."""
    with cluster.stop_signals() as stopping, embedded.in_use(data) as server:
        if subprocess.run([sys.executable, "manage.py", "setup", "--verbosity", "0"], cwd=BASE_DIR).returncode != 0:
            _say("The database could not be brought up to date; nothing was started. The lines above say why.")
            return 1
        running = children()
        try:
            _tend(running, stopping, server)
        finally:
            stop(running)
    return 0


def stop(running: list[Child]) -> None:
    """Ask all to stop, wait, and end what is left after 15 seconds."""
    for child in running:
        child.ask_to_stop()
    deadline = time.monotonic() + STOP_SECONDS
    for child in running:
        child.wait(deadline)


def _tend(running: list[Child], stopping: threading.Event, server: embedded.Embedded | None) -> None:
    while not stopping.is_set():
        for child in running:
            child.tend()
        if server is not None:
            server.revive()
        stopping.wait(0.5)


def _say(line: str) -> None:
    sys.stderr.write(f"serve: {line}\n")
    sys.stderr.flush()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def main() -> None:
    """The process that `bin/serve` becomes."""
    data = Path(os.environ.get("TOUCHSTONE_DATA", str(BASE_DIR / "var"))).absolute()
    os.environ["TOUCHSTONE_DATA"] = str(data)
    (data / "static").mkdir(parents=True, exist_ok=True)
    sys.exit(run(data))


if __name__ == "__main__":
    main()
