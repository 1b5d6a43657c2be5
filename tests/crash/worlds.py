"""Stores for crash cases: a PostgreSQL of their own, prepared stores, a copy for each case, and who runs the acts."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from benchmarks._running import ROOT
from config import embedded


class Zygote:
    """One process that forks a child for each act."""

    def __init__(self, root: Path) -> None:
        kept = {n: v for n, v in os.environ.items() if not n.startswith("TOUCHSTONE_") and n != "DATABASE_URL"}
        self.log = root / f"acts-{uuid.uuid4().hex[:6]}.log"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.zygote"],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**kept, "TOUCHSTONE_DATA": str(root), "DJANGO_SETTINGS_MODULE": "config.settings"},
        )  # fmt: skip

    def wait(self) -> None:
        assert self._line() == "ready"

    def run(self, act: str, world: dict[str, Any], **facts: Any) -> dict[str, Any]:
        """What the act returned; its `status` is -9 when it was killed."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({**world, **facts, "act": act, "log": str(self.log)}) + "\n")
        self.process.stdin.flush()
        return dict(json.loads(self._line()))

    def stop(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        assert line, "the process that forks has gone"
        return line


class Worlds:
    """A PostgreSQL with prepared stores in it, and copies of them for cases that run side by side."""

    def __init__(self, root: Path, server: embedded.Embedded, at_once: int = 2) -> None:
        self.root = root
        self.admin = {name: value for name, value in server.parameters("postgres").items() if name != "dbname"}
        self.zygotes = [Zygote(root) for _ in range(at_once)]
        self.free: queue.SimpleQueue[Zygote] = queue.SimpleQueue()
        for each in self.zygotes:
            each.wait()
            self.free.put(each)
        self.bases: dict[int, dict[str, Any]] = {}

    def base(self, records: int, chain: str) -> dict[str, Any]:
        """A store with so many records, of which the last three are not sealed, for rounds of one kind."""
        if records not in self.bases:
            name = f"base_{records}"
            world = {"database": name, "data": str(self.root / name), "records": records}
            # `setup` refuses a server that may lose what it has confirmed.
            self._hurry(False)
            self._execute(f"create database {name} owner touchstone_owner")
            Path(world["data"]).mkdir()
            made = self.zygotes[0].run("make", world)
            assert made["faults"] == [], made
            self._hurry(True)
            self.bases[records] = world | {"notes": made["notes"]}
        return self.bases[records] | {"chain": chain}

    @contextlib.contextmanager
    def copy(self, base: dict[str, Any]) -> Iterator[tuple[Zygote, dict[str, Any]]]:
        """A copy of a prepared store, and a process to run acts on it. It is kept when the block fails."""
        name = f"case_{uuid.uuid4().hex[:10]}"
        told = self.root / f"{name}.told"
        world = {"database": name, "data": str(self.root / name), "told": str(told), "chain": base["chain"]}
        self._execute(f"create database {name} template {base['database']} owner touchstone_owner")
        shutil.copytree(base["data"], world["data"])
        told.touch()
        zygote = self.free.get()
        try:
            yield zygote, world | {"admin": self.admin}
        finally:
            self.free.put(zygote)
        self._execute(f"drop database {name} with (force)")
        shutil.rmtree(world["data"])
        for path in self.root.glob(f"{name}.*"):
            path.unlink()

    @contextlib.contextmanager
    def more(self, count: int) -> Iterator[list[Zygote]]:
        """More processes, for acts that run beside each other."""
        made = [Zygote(self.root) for _ in range(count)]
        try:
            for each in made:
                each.wait()
            yield made
        finally:
            for each in made:
                each.stop()

    def stop(self) -> None:
        for each in self.zygotes:
            each.stop()

    def _hurry(self, fast: bool) -> None:
        """No database server dies here (tests/crash/test_kill.py does that): it need not wait for its disk."""
        self._execute(f"alter system set fsync = {'off' if fast else 'on'}")
        self._execute("alter system set autovacuum = off")
        self._execute("select pg_reload_conf()")
        with psycopg.connect(**self.admin, dbname="postgres", autocommit=True) as admin:
            while (admin.execute("show fsync").fetchone() or [""])[0] != ("off" if fast else "on"):
                time.sleep(0.01)

    def _execute(self, statement: str) -> None:
        with psycopg.connect(**self.admin, dbname="postgres", autocommit=True) as admin:
            admin.execute(statement.encode())
