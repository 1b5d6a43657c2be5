"""The whole product as a user runs it, with what is needed to kill parts of it and to see what it kept."""

from __future__ import annotations

import http.client
import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec

from benchmarks import _running
from benchmarks._running import native, wait_for
from config import cluster

__all__ = ["Feed", "Product", "native", "wait_for"]


class Product(_running.Product):
    """Seals often, so that kills meet a seal as well as an append."""

    def __init__(self, data: Path) -> None:
        super().__init__(
            data,
            TOUCHSTONE_WEB_WORKERS="2",
            TOUCHSTONE_WEB_THREADS="2",
            TOUCHSTONE_SEAL_EVENTS="500",
            TOUCHSTONE_SEAL_SECONDS="2",
            TOUCHSTONE_CHECKPOINT_SECONDS="0.3",
        )

    def add_viewer(self, email: str, *words: str) -> str:
        return self.manage("user", "add", email, "--role", "auditor", "--token", *words)

    def rows(self, path: str, token: str, **asked: str) -> Iterator[dict[str, Any]]:
        """Every item of a list endpoint, page by page."""
        cursor: str | None = None
        while True:
            query = urlencode(asked | {"limit": "1000"} | ({"cursor": cursor} if cursor else {}))
            answer = self.ask(f"/api/v1/{path}?{query}", token)
            yield from answer["items"]
            cursor = answer["next"]
            if cursor is None:
                return

    def ask(self, address: str, token: str) -> dict[str, Any]:
        """One answer; asked again while a web worker whose master was killed still answers and then goes."""
        for _ in range(20):
            try:
                status, answer = self.request("GET", address, token)
            except (OSError, http.client.HTTPException):
                status, answer = 503, None
            if status == 200:
                return dict(answer)
            assert status in (502, 503), answer
            time.sleep(0.5)
        raise AssertionError(f"no answer from {address}")

    def kill9(self, part: str) -> None:
        """SIGKILL to one part, which must be running: of the web the master or a worker, else the one process."""
        wait_for(lambda: len(self.pids(part)) >= (3 if part == "web" else 1), 30, f"{part} runs")
        pids = self.pids(part)
        os.kill(random.choice(pids) if part == "web" else pids[0], signal.SIGKILL)

    def kill9_all(self) -> None:
        """What a power cut leaves: nothing of it runs any more, and nobody was asked."""
        assert self.process is not None
        pids = [pid for part in (*_running.PARTS, "postgres") for pid in self.pids(part)]
        for pid in (self.process.pid, *pids):
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        cluster.kill_orphans(self.postgres_home)
        self.process = None


class Feed:
    """Sends batches from two threads as fast as they are answered, each one again until the answer is 200."""

    def __init__(self, product: Product, name: str, token: str) -> None:
        self.product, self.name, self.token = product, name, token
        self.places: dict[str, int] = {}
        self.doubled: list[str] = []
        self.faults: list[str] = []
        self.resent = 0
        self._numbers = itertools.count()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(2)]

    def __enter__(self) -> Feed:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), f"a batch of {self.name} is not answered"

    def wait_for_more(self, count: int = 50) -> None:
        """Until `count` more events are acknowledged: the store takes events again."""
        target = len(self.places) + count
        wait_for(lambda: len(self.places) >= target, 60, f"{self.name} is taken again")

    def _run(self) -> None:
        while not self._stopping.is_set():
            ids = [f"{self.name}-{next(self._numbers)}" for _ in range(random.randint(1, 20))]
            body = msgspec.json.encode([native(one) for one in ids])
            while (answer := self._send(body)) is None:
                self.resent += 1
                time.sleep(0.05)
            if len(answer["items"]) != len(ids):
                self.faults.append(f"{len(answer['items'])} answers for {len(ids)} items")
            for one, item in zip(ids, answer["items"], strict=False):
                if item["status"] not in ("accepted", "duplicate"):
                    self.faults.append(f"{one}: {item}")
                self.places[one] = item["index"]

    def _send(self, body: bytes) -> dict[str, Any] | None:
        try:
            status, answer = self.product.request("POST", "/api/v1/ingest/events", self.token, body)
        except (OSError, http.client.HTTPException):
            return None
        if status not in (200, 429, 502, 503):
            self.faults.append(f"status {status}: {answer}")
        return answer if status == 200 else None
