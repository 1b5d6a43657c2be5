"""Events a second over HTTP in batches of 1, 100 and 1,000, beside binary COPY of the same rows in the same run.

The product runs as `bin/serve` runs it (two web workers, keeper, embedded PostgreSQL); a client process keeps four
connections busy. COPY writes the rows that the log kept into a table of the same columns, one transaction a batch,
from one Python process. Rounds are interleaved; the median is printed. CPU is what the kernel charged to each part.
"""

from __future__ import annotations

import http.client
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from benchmarks._running import Product, machine, native, pids
from config import embedded

EVENTS = {1: 500, 100: 10_000, 1_000: 40_000}
ROUNDS = 3
CONNECTIONS = 4
TICK = os.sysconf("SC_CLK_TCK")
COLUMNS = (
    "slot, batch, ordinal, leaf, actor_salt, actor, action_salt, action, statement_salt, statement, change_salt, change"
)
TYPES = ["int4", "int8", "int4", *["bytea"] * 9]


def main() -> None:
    data = Path(tempfile.mkdtemp(prefix="touchstone-bench-"))
    data.chmod(0o711)
    product = Product(data)
    try:
        product.start()
        measure(product)
    finally:
        product.stop()
        shutil.rmtree(data, ignore_errors=True)


def measure(product: Product) -> None:
    token = product.add_source("bench")
    body_bytes = len(msgspec.json.encode(native("warm-0")))
    post(product.port, token, bodies("warm", 2_000, 100))
    over_http: dict[int, list[float]] = {size: [] for size in EVENTS}
    by_copy: dict[int, list[float]] = {size: [] for size in EVENTS}
    waits: dict[int, list[float]] = {size: [] for size in EVENTS}
    cpu: dict[int, list[dict[str, float]]] = {size: [] for size in EVENTS}
    rows = kept_rows(product, 2_000)
    for turn in range(ROUNDS):
        for size, count in EVENTS.items():
            batches = bodies(f"r{turn}-{size}", count, size)
            before = charged(product)
            seconds, answered, client = in_child(post, product.port, token, batches)
            after = charged(product)
            over_http[size].append(count / seconds)
            waits[size] += answered
            used = {part: (after[part] - before[part]) * 1e6 / count for part in after}
            cpu[size].append({"client": client * 1e6 / count, **used})
            by_copy[size].append(copy(product, rows, count, size))
    print(f"{machine()}; events of {body_bytes} bytes, {CONNECTIONS} connections, median of {ROUNDS} rounds\n")
    print("| batch | events/s over HTTP | rows/s by COPY | HTTP / COPY | answer p50 | p99 |")
    print("|---|---|---|---|---|---|")
    for size in EVENTS:
        http_rate, copy_rate = statistics.median(over_http[size]), statistics.median(by_copy[size])
        p50, p99 = statistics.median(waits[size]), statistics.quantiles(waits[size], n=100)[98]
        print(
            f"| {size:,} | {http_rate:,.0f} | {copy_rate:,.0f} | {http_rate / copy_rate:.2f} "
            f"| {p50 * 1e3:.1f} ms | {p99 * 1e3:.1f} ms |"
        )
    print("\nCPU, microseconds an event:\n")
    print("| batch | client | web | PostgreSQL | keeper |")
    print("|---|---|---|---|---|")
    for size in EVENTS:
        parts = [
            statistics.median(turn[part] for turn in cpu[size]) for part in ("client", "web", "postgres", "keeper")
        ]
        print(f"| {size:,} | " + " | ".join(f"{part:,.0f}" for part in parts) + " |")
    stages()


def bodies(name: str, count: int, size: int) -> list[bytes]:
    """Ready-made request bodies of `size` events each, `count` events together."""
    return [
        msgspec.json.encode([native(f"{name}-{start + n}") for n in range(size)]) for start in range(0, count, size)
    ]


def post(port: int, token: str, batches: list[bytes]) -> tuple[float, list[float]]:
    """Sends all over a few kept connections. Seconds for all, and seconds for each answer."""
    waiting = iter(batches)

    def run(_: int) -> list[float]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        took = []
        for body in waiting:
            started = time.perf_counter()
            connection.request("POST", "/api/v1/ingest/events", body, headers)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 200:
                raise RuntimeError(f"the store answered {answer.status}: {text[:500]!r}")
            took.append(time.perf_counter() - started)
        return took

    started = time.perf_counter()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        answered = [seconds for took in pool.map(run, range(CONNECTIONS)) for seconds in took]
    return time.perf_counter() - started, answered


def in_child(task: Callable[..., tuple[float, list[float]]], *words: Any) -> tuple[float, list[float], float]:
    """What `task` returns, run in a process of its own, and the CPU seconds that it took."""
    receiving, sending = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.Process(target=_report, args=(sending, task, words))
    child.start()
    seconds, answered, cpu = receiving.recv()
    child.join()
    return seconds, answered, cpu


def _report(sending: Any, task: Callable[..., tuple[float, list[float]]], words: tuple[Any, ...]) -> None:
    seconds, answered = task(*words)
    sending.send((seconds, answered, time.process_time()))


def charged(product: Product) -> dict[str, float]:
    """CPU seconds so far of web, keeper and all of PostgreSQL."""
    postmaster = product.pids("postgres")[0]
    children = {pid: parent for pid in pids() if (parent := _stat(pid)[0]) == postmaster}
    groups = {"web": product.pids("web"), "keeper": product.pids("keeper"), "postgres": [postmaster, *children]}
    return {part: sum(_stat(pid)[1] for pid in members) for part, members in groups.items()}


def _stat(pid: int) -> tuple[int, float]:
    """Parent, and CPU seconds with those of ended children."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0, 0.0
    return int(words[1]), sum(map(int, words[11:15])) / TICK


def owner(product: Product) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(embedded.Embedded(product.data / "postgres").dsn("owner"))


def kept_rows(product: Product, count: int) -> list[tuple[Any, ...]]:
    """Journal rows as the store wrote them; makes the table that COPY fills."""
    with owner(product) as connection:
        connection.execute("create table bench_copy (like ledger_journal including all)")
        cursor = connection.execute(f"select {COLUMNS} from ledger_journal limit %s", (count,), binary=True)
        return cursor.fetchall()


def copy(product: Product, rows: list[tuple[Any, ...]], count: int, size: int) -> float:
    """Rows a second by binary COPY, one durable transaction for each `size` rows."""
    with owner(product) as connection:
        connection.execute("truncate bench_copy")
        connection.commit()
        started = time.perf_counter()
        for batch in range(count // size):
            with (
                connection.cursor() as cursor,
                cursor.copy(f"copy bench_copy ({COLUMNS}) from stdin (format binary)") as stream,
            ):
                stream.set_types(TYPES)
                for ordinal in range(size):
                    stream.write_row((0, batch, ordinal, *rows[(batch * size + ordinal) % len(rows)][3:]))
            connection.commit()
        return count / (time.perf_counter() - started)


def stages() -> None:
    """Python's share of one event by stage, in this process, in batches of 1,000."""
    from django.conf import settings as django_settings

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()
    assert django_settings.configured
    from lineage import commitment, ingest, ledger, sources
    from lineage.events import GROUPS, Event
    from lineage.models import Source

    source = Source(pk=1, name="bench", format="events", environment="production", datasource="bench", asserts=[])
    body = bodies("stage", 1_000, 1_000)[0]
    parsed = [event for event in sources.parse("events", body) if isinstance(event, Event)]
    entries = [entry for event in parsed if isinstance(entry := ingest.admit(source, event), ledger.Entry)]
    salts = dict.fromkeys(GROUPS, b"0123456789abcdef")
    work: dict[str, Callable[[], object]] = {
        "parse": lambda: list(sources.parse("events", body)),
        "admit": lambda: [ingest.admit(source, event) for event in parsed],
        "commit (salts, groups, leaf)": lambda: [commitment.commit(entry.event, salts) for entry in entries],
    }
    print("\nPython stages in the web worker, microseconds an event:\n")
    print("| stage | CPU |")
    print("|---|---|")
    for name, run in work.items():
        took = []
        for _ in range(7):
            started = time.process_time()
            run()
            took.append(time.process_time() - started)
        print(f"| {name} | {statistics.median(took) * 1e6 / len(parsed):.1f} |")


if __name__ == "__main__":
    main()
