"""`bin/serve`: up from nothing, back after kills, and nothing left when it goes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from config import cluster
from config.embedded import Embedded
from config.serve import Child
from demo.monitored import free_port

pytestmark = pytest.mark.slow
BASE = Path(__file__).resolve().parent.parent


class Served:
    """One running `bin/serve` in its own folder."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="touchstone-serve-"))
        self.folder.chmod(0o711)
        self.port = free_port()
        self.mark = f"127.0.0.1:{self.port}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TOUCHSTONE_", "DATABASE_"))}
        self.environment = kept | {"TOUCHSTONE_DATA": str(self.folder), "TOUCHSTONE_BIND": self.mark}
        self.process = subprocess.Popen([sys.executable, "-m", "config.serve"], cwd=BASE, env=self.environment)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.mark}/readyz", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def processes(self, word: str = "") -> list[int]:
        """Our processes, known by their environment, whose command line holds `word`."""
        found = []
        for pid in cluster._pids():
            try:
                ours = f"TOUCHSTONE_BIND={self.mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
                if ours and word in Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode():
                    found.append(pid)
            except OSError:
                continue
        return found

    def remove(self) -> None:
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        cluster.kill_orphans(cluster.home_of(self.folder / "postgres") / "pg")
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture
def served() -> Iterator[Served]:
    running = Served()
    yield running
    running.remove()


def eventually(condition: object, seconds: float = 90) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.2)
    return False


def test_serve_comes_up_from_nothing_restarts_what_is_killed_and_stops_clean(served: Served) -> None:
    assert eventually(served.answers)
    for word in ("gunicorn", "manage.py worker", "manage.py keeper", "manage.py steward"):
        assert eventually(lambda word=word: served.processes(word))
        killed = served.processes(word)
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        assert eventually(lambda word=word, killed=killed: set(served.processes(word)) - set(killed))
    assert eventually(served.answers)
    postmaster = cluster.home_of(served.folder / "postgres") / "pg" / "postmaster.pid"
    os.kill(int(postmaster.read_text().splitlines()[0]), signal.SIGKILL)
    assert eventually(lambda: not served.answers(), 10) or served.answers()
    assert eventually(served.answers)
    served.process.send_signal(signal.SIGINT)
    assert served.process.wait(60) == 0
    assert not served.processes()
    assert not Embedded(served.folder / "postgres").supervised()


def test_nothing_runs_on_after_serve_itself_was_killed(served: Served) -> None:
    assert eventually(served.answers)
    served.process.kill()
    served.process.wait()
    assert eventually(lambda: not served.processes())
    assert not Embedded(served.folder / "postgres").supervised()


def test_a_child_that_keeps_ending_is_started_less_and_less_often(tmp_path: Path) -> None:
    child = Child("restless", [sys.executable, "-c", "print('began', flush=True)"], log=tmp_path / "log")
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        child.tend()
        time.sleep(0.02)
    assert 2 <= (tmp_path / "log").read_text().count("began") <= 6
