"""The embedded PostgreSQL 18: who starts it, who stops it, who may enter.

One supervisor holds a lock on the folder, runs `postgres` as its child, starts it again when it dies and stops it.
Everybody else only connects. Whoever needs the server holds a shared lock while it does (`Embedded.ensure`); the
supervisor leaves when no such lock is held, and the kernel drops the locks of the killed, so no file of process
numbers can go stale. As root the server runs as a user of its own; nothing here opens a folder that it did not make.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import psycopg

from config import cluster
from lineage.errors import StoreUnavailable

USER_POLL_SECONDS = 0.5
STOP_SECONDS = 60


class Embedded:
    """The server whose folder is `root`. Making the object touches nothing."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def parameters(self, role: str = "web", dbname: str = "touchstone") -> dict[str, str]:
        """libpq parameters for owner, web, store or the superuser postgres. Works whether or not the server runs."""
        user = "postgres" if role == "postgres" else f"touchstone_{role}"
        home = cluster.home_of(self.root)
        return {"host": str(cluster.socket_folder(home)), "port": cluster.PORT, "user": user, "dbname": dbname}

    def dsn(self, role: str = "web", dbname: str = "touchstone") -> str:
        """`parameters` as one connection string."""
        return psycopg.conninfo.make_conninfo("", **self.parameters(role, dbname))

    @contextlib.contextmanager
    def ensure(self) -> Iterator[Embedded]:
        """Keep the server running for the length of the block; start it when nobody has, wait for it without limit.

        The last one to leave waits until the server has stopped. StoreUnavailable: it cannot be started here.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with self._lock("users.lock") as users:
            fcntl.flock(users, fcntl.LOCK_SH)
            self.revive()
            self._wait()
            try:
                yield self
            finally:
                last = _try_lock(users)
                fcntl.flock(users, fcntl.LOCK_UN)
                if last:
                    self._wait_for_stop()

    def revive(self) -> bool:
        """Start a supervisor when none runs. True: one was started. Call it now and then while inside `ensure`."""
        if self.supervised():
            return False
        with open(self.root / "supervisor.log", "ab") as log:
            subprocess.Popen(
                [sys.executable, "-m", "config.embedded", "run", "--while-used", "--data", str(self.root)],
                cwd=Path(__file__).resolve().parent.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return True

    def supervised(self) -> bool:
        """Whether a supervisor holds the folder."""
        with self._lock("supervisor.lock") as gate:
            return not _try_lock(gate)

    def run_forever(self, while_used: bool = False) -> None:
        """Be the supervisor until SIGTERM or SIGINT, or, `while_used`, until the last user has left.

        Waits for another supervisor of the same folder to leave; with `while_used` it gives up after two seconds
        (the other one serves everybody).
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with self._lock("supervisor.lock") as gate, self._lock("users.lock") as users:
            if not _acquire(gate, seconds=2 if while_used else None):
                return
            server = cluster.Server(self.root, self.parameters)
            with cluster.stop_signals() as stopping:
                while not stopping.is_set() and not (while_used and _try_lock(users)):
                    server.keep_running(stopping)
                    stopping.wait(USER_POLL_SECONDS)
            server.stop(STOP_SECONDS)

    def _wait(self) -> None:
        began = time.monotonic()
        while True:
            try:
                psycopg.connect(self.dsn("owner"), connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                time.sleep(0.1)
            failure = self.root / "failure"
            if failure.exists():
                raise StoreUnavailable(f"The embedded PostgreSQL cannot start: {failure.read_text().strip()}")
            if time.monotonic() - began > 5:
                self.revive()

    def _wait_for_stop(self) -> None:
        deadline = time.monotonic() + STOP_SECONDS
        while self.supervised() and time.monotonic() < deadline:
            time.sleep(0.05)

    def _lock(self, name: str) -> IO[bytes]:
        return open(self.root / name, "ab")


def _try_lock(file: IO[bytes]) -> bool:
    """Take the exclusive lock, or turn a shared one into it, when nobody else holds any."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _acquire(file: IO[bytes], seconds: float | None) -> bool:
    deadline = None if seconds is None else time.monotonic() + seconds
    while not _try_lock(file):
        if deadline is not None and time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@contextlib.contextmanager
def in_use(data: Path) -> Iterator[Embedded | None]:
    """Keep the store's own server running for the block; nothing to do when `DATABASE_URL` names another."""
    if os.environ.get("DATABASE_URL"):
        yield None
        return
    with Embedded(data / "postgres").ensure() as server:
        yield server


def main() -> None:
    """`python -m config.embedded run --data DIR`: the supervisor; `dsn` prints where to connect."""
    parser = argparse.ArgumentParser(prog="python -m config.embedded", description=main.__doc__)
    parser.add_argument("command", choices=["run", "dsn"])
    parser.add_argument("--data", type=Path, required=True, help="the server's folder")
    parser.add_argument("--while-used", action="store_true", help="stop when the last user has left")
    parser.add_argument("--role", default="web", choices=["owner", "web", "store", "postgres"])
    options = parser.parse_args()
    if options.command == "dsn":
        sys.stdout.write(Embedded(options.data).dsn(options.role) + "\n")
    else:
        Embedded(options.data).run_forever(options.while_used)


if __name__ == "__main__":
    main()
