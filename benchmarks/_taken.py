"""What each part of a running product takes: CPU, memory, journal."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import Any

import psycopg

from benchmarks._running import Product, pids
from config import embedded

TICK = os.sysconf("SC_CLK_TCK")
PARTS = ("web", "postgres", "keeper", "steward")
PEAK_SECONDS = 5.0
"""From one look at what the journal and the processes take to the next; each is a connection, which costs the server."""


def charged(product: Product) -> dict[str, float]:
    """CPU seconds so far of web, keeper, steward and all of PostgreSQL."""
    return {part: sum(_stat(pid)[1] for pid in members) for part, members in parts_of(product).items()}


def parts_of(product: Product) -> dict[str, list[int]]:
    postmaster = product.pids("postgres")[0]
    children = [pid for pid in pids() if _stat(pid)[0] == postmaster]
    return {part: [postmaster, *children] if part == "postgres" else product.pids(part) for part in PARTS}


def memory(product: Product) -> dict[str, float]:
    """Megabytes of each part that are its own alone (proportional set size)."""
    return {part: sum(map(_own_bytes, members)) / 1e6 for part, members in parts_of(product).items()}


class Peaks:
    """The most that the journal and each part took in megabytes, looked at by a process of its own until `end`."""

    def __init__(self, product: Product) -> None:
        self.told, there = multiprocessing.Pipe()
        self.child = multiprocessing.Process(target=_watch, args=(there, product), daemon=True)
        self.child.start()
        there.close()

    def end(self) -> dict[str, float]:
        self.told.send(None)
        found: dict[str, float] = self.told.recv()
        self.child.join()
        return found


def _watch(asked: Any, product: Product) -> None:
    most: dict[str, float] = {}
    is_over = False
    while not is_over:
        for name, taken in {"journal": journal_bytes(product) / 1e6, **memory(product)}.items():
            most[name] = max(most.get(name, 0.0), taken)
        is_over = asked.poll(PEAK_SECONDS)
    asked.send(most)


def _own_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


def _stat(pid: int) -> tuple[int, float]:
    """Parent, and CPU seconds with those of ended children."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0, 0.0
    return int(words[1]), sum(map(int, words[11:15])) / TICK


def owner(product: Product) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(embedded.Embedded(product.data / "postgres").dsn("owner"))


def journal_bytes(product: Product) -> int:
    return _bytes(product, "select inhrelid from pg_inherits where inhparent = 'ledger_journal'::regclass")


def batch_bytes(product: Product) -> int:
    """Of the rows that stay for ever: one for each source in each transaction."""
    return _bytes(product, "select 'ledger_batch'::regclass")


def _bytes(product: Product, tables: str) -> int:
    with owner(product) as connection:
        row = connection.execute(
            f"select coalesce(sum(pg_total_relation_size(named)), 0) from ({tables}) as t (named)"
        ).fetchone()
    return int(row[0]) if row else 0
