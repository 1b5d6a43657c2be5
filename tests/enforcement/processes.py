"""Collectors as real processes that tests start, kill and start again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

BASE = Path(__file__).resolve().parent.parent.parent


class Collector:
    """`python -m enforcement.NAME` with its own spool, sending to `url`."""

    def __init__(self, name: str, *arguments: Any, spool: Path, url: str, environment: dict[str, str] | None = None):
        self.command = [sys.executable, "-m", f"enforcement.{name}", *map(str, arguments), "--spool", str(spool)]
        token = {"TOUCHSTONE_URL": url, "TOUCHSTONE_TOKEN": "test-token"}
        self.environment = {**os.environ, **token, **(environment or {})}
        self.process: subprocess.Popen[str] | None = None
        self.told = ""

    def start(self) -> Collector:
        self.process = subprocess.Popen(
            self.command, cwd=BASE, env=self.environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        return self

    def kill9(self) -> None:
        assert self.process is not None
        self.process.kill()
        self._collect()

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        assert self.process is not None
        self.process.terminate()
        self._collect()
        return self.process.returncode

    def wait(self, seconds: float = 60) -> int:
        assert self.process is not None
        self._collect(seconds)
        return self.process.returncode

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill9()

    def _collect(self, seconds: float = 30) -> None:
        assert self.process is not None
        self.told += self.process.communicate(timeout=seconds)[1]

    def peak_memory_mib(self) -> float:
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))
