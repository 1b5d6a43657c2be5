"""Events a second over HTTP, small and full, one at a time and in batches, beside binary COPY in the same run.

The product runs as `bin/serve` runs it (two web workers, keeper, steward, embedded PostgreSQL); a client process keeps 64
connections busy with single events, 8 with batches. COPY fills a table of the same columns with the same unique key
from rows that are ready-made, one durable transaction a batch. Rounds are interleaved; the median is printed. CPU is
what the kernel charged to each part. With `--minutes` one long run of each shape follows, as fast as the store takes it (a
burst where it is short), in batches of `--batch`; it says what waits, until all have caught up, and the most that journal and
processes took at any time. `--shape` and `--only-long` leave the rest out.
"""

from __future__ import annotations

import argparse
import datetime as dt
import functools
import multiprocessing
import os
import shutil
import statistics
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import django
import msgspec

from benchmarks import _feeding, _taken
from benchmarks._running import Product, machine, wait_for

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from lineage import entries, events, ingest, journal, ledger, models, notes, segments, sources  # noqa: E402

EVENTS = {("small", 1): 6_000, ("small", 100): 40_000, ("small", 1_000): 120_000, ("full", 1_000): 30_000}
ROUNDS = 3
LEFT_MOST = 30_000
"""In the long run seal, extracts and findings have caught up when no more waits for each than is left at rest."""
WAITING = ("unsigned", "unsealed", "unextracted", "unjudged")
CONNECTIONS = {1: 64, 100: 8, 1_000: 8}
PARTS = ("client", *_taken.PARTS)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--minutes", type=float, default=0.0, help="length of the long run of each shape (0: none)")
    asked.add_argument("--shape", choices=_feeding.SHAPES, help="this shape only")
    asked.add_argument(
        "--batch", type=int, choices=list(CONNECTIONS), default=1_000, help="events a request of the long run"
    )
    asked.add_argument("--only-long", action="store_true", help="nothing but the long run")
    options = asked.parse_args()
    shapes = [options.shape] if options.shape else list(_feeding.SHAPES)
    for work in (() if options.only_long else (rates,)) + ((long,) if options.minutes else ()):
        for shape in shapes:
            with_product(functools.partial(work, shape=shape, options=options))
    if not options.only_long:
        for shape in shapes:
            stages(shape)


def with_product(work: Callable[[Product], None]) -> None:
    data = Path(tempfile.mkdtemp(prefix="touchstone-bench-"))
    data.chmod(0o711)
    product = Product(data)
    try:
        product.start()
        work(product)
    finally:
        product.stop()
        shutil.rmtree(data, ignore_errors=True)


def rates(product: Product, shape: str, options: argparse.Namespace) -> None:
    token = product.add_source("bench")
    sizes = {size: count for (its, size), count in EVENTS.items() if its == shape}
    warm = _feeding.Feed(shape, "warm", 100)
    in_child(product, token, warm, 8, events=4_000)
    found: dict[int, list[dict[str, Any]]] = {size: [] for size in sizes}
    ready = Copied(product, shape)
    for turn in range(ROUNDS):
        for size, count in sizes.items():
            before = _taken.charged(product)
            told = in_child(
                product, token, _feeding.Feed(shape, f"{turn}x{size}", size), CONNECTIONS[size], events=count
            )
            used = {part: value - before.get(part, 0.0) for part, value in _taken.charged(product).items()}
            told["cpu"] = {part: value * 1e6 / count for part, value in {**used, "client": told["client"]}.items()}
            told["copy"] = ready.rate(count, size)
            found[size].append(told)
    print(f"\n{machine()}; {shape} events of {warm.event_bytes:,.0f} bytes, median of {ROUNDS} rounds\n")
    print("| batch | connections | events/s over HTTP | rows/s by COPY | HTTP / COPY | answer p50 | p99 |")
    print("|---|---|---|---|---|---|---|")
    for size, every in found.items():
        rate, copied = middle([one["events"] / one["seconds"] for one in every]), middle([one["copy"] for one in every])
        waits = [wait for one in every for wait in one["waits"]]
        print(
            f"| {size:,} | {CONNECTIONS[size]} | {rate:,.0f} | {copied:,.0f} | {rate / copied:.2f} | {quantiles(waits)} |"
        )
    print("\n| CPU, us an event, batch | " + " | ".join(PARTS) + " |\n|---|" + "---|" * len(PARTS))
    for size, every in found.items():
        print(
            f"| {size:,} | "
            + " | ".join(f"{middle([one['cpu'][part] for one in every]):,.0f}" for part in PARTS)
            + " |"
        )


def middle(values: list[float]) -> float:
    return statistics.median(values)


def quantiles(waits: list[float]) -> str:
    return f"{middle(waits) * 1e3:,.1f} ms | {statistics.quantiles(waits, n=100)[98] * 1e3:,.1f} ms"


def long(product: Product, shape: str, options: argparse.Namespace) -> None:
    """As fast as the store takes it for so long; then until the last record is sealed."""
    minutes, size = options.minutes, options.batch
    token, feed = product.add_source("bench"), _feeding.Feed(shape, "long", size)
    peaks = _taken.Peaks(product)
    events, seconds, waits, put_off = 0, 0.0, [], 0
    print(
        f"\n{machine()}; {minutes:g} minutes of {shape} events of {feed.event_bytes:,.0f} bytes in batches of {size:,} "
        f"over {CONNECTIONS[size]} connections\n"
    )
    print(
        f"| minute | events/s | {' | '.join(WAITING)} | journal MB | batches MB | {' | '.join(f'{part} MB' for part in PARTS[1:])} "
        "| answer p50 | p99 | put off |"
    )
    print("|" + "---|" * (6 + len(WAITING) + len(PARTS)))
    step = 60 * min(1.0, minutes)
    before, lags = _taken.charged(product), []
    for turn in range(max(1, round(minutes * 60 / step))):
        feed.name, feed.sent = b"long%04d" % turn, 0
        told = in_child(product, token, feed, CONNECTIONS[size], seconds=step)
        events, seconds, put_off = events + told["events"], seconds + told["seconds"], put_off + told["put_off"]
        waits += told["waits"]
        lags.append(lag(product))
        print(
            f"| {(turn + 1) * step / 60:g} | {told['events'] / told['seconds']:,.0f} | "
            + " | ".join(f"{lags[-1][name]:,}" for name in WAITING)
            + f" | {_taken.journal_bytes(product) / 1e6:,.0f} | {_taken.batch_bytes(product) / 1e6:,.1f} | "
            + " | ".join(f"{taken:,.0f}" for taken in _taken.memory(product).values())
            + f" | {quantiles(told['waits'])} | {told['put_off']} |",
            flush=True,
        )
    used = spent(product, before, events)
    rests = caught_up(product)
    print(
        f"\n{events:,} events acknowledged in {seconds:,.0f} s ({events / seconds:,.0f}/s; {quantiles(waits)}), {put_off} batches put off. "
        f"But for the newest {LEFT_MOST:,} they were sealed {rests['unsealed']:,.0f} s later "
        f"(**{events / (seconds + rests['unsealed']):,.0f}/s with seals keeping up**), in extracts {rests['unextracted']:,.0f} s "
        f"and judged {rests['unjudged']:,.0f} s (**{events / (seconds + max(rests.values())):,.0f}/s with everything**). "
        f"CPU in us an event while they came: {used}; until all had caught up: {spent(product, before, events)}; "
        f"unsealed from the first minute to the last: {growth([one['unsealed'] for one in lags])}. "
        f"The most at any time, in MB: {', '.join(f'{name} {taken:,.0f}' for name, taken in peaks.end().items())}."
    )


def spent(product: Product, before: dict[str, float], events: int) -> str:
    """CPU of each part since `before`, in us an event."""
    every = _taken.charged(product).items()
    return ", ".join(f"{part} {(value - before.get(part, 0.0)) * 1e6 / events:,.0f}" for part, value in every)


def caught_up(product: Product) -> dict[str, float]:
    """After how many seconds so little waited for each that it is what is left at rest."""
    started = time.perf_counter()
    rests: dict[str, float] = {}

    def is_done() -> bool:
        found = lag(product)
        for name in WAITING[1:]:
            if found[name] < LEFT_MOST:
                rests.setdefault(name, time.perf_counter() - started)
        # Each look is a connection, which costs the server.
        time.sleep(1)
        return len(rests) == len(WAITING) - 1

    wait_for(is_done, 1_800, "seals, extracts and findings catch up")
    return rests


def growth(counts: list[int]) -> str:
    """Whether what waits stayed as it was; what one seal takes is no growth."""
    if len(counts) < 2:
        return "too short to tell"
    grown = counts[-1] - counts[0]
    return f"grown by {grown:,}" if grown > segments.SEGMENT_MOST else f"flat ({counts[0]:,} and {counts[-1]:,})"


def in_child(product: Product, token: str, feed: _feeding.Feed, connections: int, **amount: float) -> dict[str, Any]:
    """What `_feeding.send` tells, run in a process of its own, and the CPU seconds that it took as `client`."""
    receiving, sending = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.Process(target=_send, args=(sending, product.port, token, feed, connections, amount))
    child.start()
    # Else a child that fails would be waited for without end.
    sending.close()
    told: dict[str, Any] = receiving.recv()
    child.join()
    return told


def _send(out: Any, port: int, token: str, feed: _feeding.Feed, connections: int, amount: dict[str, Any]) -> None:
    before = time.process_time()
    told = _feeding.send(port, token, feed.bodies(**amount), connections)
    out.send(told | {"client": time.process_time() - before, "events": feed.sent})


def lag(product: Product) -> dict[str, int]:
    """How many records no checkpoint covers, are not sealed, are in no extract, and were not looked at for findings."""
    with _taken.owner(product) as connection:
        row = connection.execute(
            "select size - (select coalesce(max(size), 0) from ledger_checkpoint), size - ledger_sealed_to(), "
            "size - (select coalesce(max(next_index), 0) from ledger_extract), "
            "size - (select coalesce(max(judged_to), 0) from lineage_findingprogress) from ledger_head"
        ).fetchone()
    return dict(zip(WAITING, map(int, row or ()), strict=True))


class Copied:
    """Binary COPY into the journal's columns with the dedupe table's key and content, unique as there."""

    def __init__(self, product: Product, shape: str) -> None:
        self.product, self.taken = product, 0
        self.rows = [one.row.body for one in admitted(shape)[1].entries]
        with _taken.owner(product) as connection:
            connection.execute(
                "create table bench_copy (like ledger_journal, key bytea not null, content bytea not null)"
            )
            connection.execute("alter table bench_copy add unique (key), add primary key (slot, batch, ordinal)")

    def rate(self, count: int, size: int) -> float:
        """Rows a second from one connection, the rows ready-made. The time to make their keys is left out."""
        took = 0.0
        with _taken.owner(self.product) as connection:
            connection.execute("truncate bench_copy")
            connection.commit()
            for batch in range(count // size):
                pieces = list(self._pieces(batch, size))
                started = time.perf_counter()
                with (
                    connection.cursor() as cursor,
                    cursor.copy(
                        f"copy bench_copy ({journal.COLUMNS}, key, content) from stdin (format binary)"
                    ) as stream,
                ):
                    for piece in pieces:
                        stream.write(piece)
                connection.commit()
                took += time.perf_counter() - started
        return count / took

    def _pieces(self, batch: int, size: int) -> list[bytes]:
        first, *_, last = journal.stream(0, [])
        place = struct.Struct(">hiiiqii").pack
        return [first, b"".join([place(14, 4, 0, 8, batch, 4, n) + self._row() for n in range(size)]), last]

    def _row(self) -> bytes:
        self.taken += 1
        key = entries.dedupe_key(1, str(self.taken), None)
        return b"".join([self.rows[self.taken % len(self.rows)], b"\0\0\0\x10", key, b"\0\0\0\x20", key, key])


def bench() -> models.Source:
    return models.Source(pk=1, name="bench", format="events", environment="production", datasource="bench")


def admitted(shape: str) -> tuple[bytes, ingest.Admitted]:
    """A body of 1,000 events, and what ingest makes of it, in this process and without a database."""
    body = _feeding.Feed(shape, "stage", 1_000).body()
    return body, ingest.admitted(bench(), body)


def stages(shape: str) -> None:
    """Python's share of one event by stage, in this process, in batches of 1,000."""
    body, read = admitted(shape)
    admission = ingest.Admission(bench())
    parsed = [event for event in sources.parse("events", body) if isinstance(event, events.Event)]
    rows = [entry.row for entry in read.entries]
    key = notes.parse_skey(notes.generate_key("bench/receipt"))
    placed = [ledger.Placed("accepted", n, entry.event_id, entry.row.leaf_hash) for n, entry in enumerate(read.entries)]

    def part() -> entries.Part:
        made = entries.Part(1, 1, read.entries, rows)
        made.plan({}, {})
        return made

    promised = read.answer(placed)
    receipt = notes.Receipt("bench", events.format_time(dt.datetime.now(dt.UTC)), tuple(promised.promises))
    work: dict[str, Callable[[], object]] = {
        "parse": lambda: list(sources.parse("events", body)),
        "admit, salts, groups, leaf, row": lambda: [admission.admit(event) for event in parsed],
        "which are new, keys": lambda: part().claims("accepted"),
        "what COPY is sent": lambda: list(journal.stream(0, [(1, rows)])),
        "answer": lambda: msgspec.json.encode({"items": read.answer(placed).items}),
        "receipt": lambda: notes.sign_receipt(receipt, key),
    }
    print(f"\nPython stages in the web worker, {shape} events, microseconds an event:\n\n| stage | CPU |\n|---|---|")
    for name, run in work.items():
        took = []
        for _ in range(7):
            started = time.process_time()
            run()
            took.append(time.process_time() - started)
        print(f"| {name} | {middle(took) * 1e6 / len(parsed):.1f} |")


if __name__ == "__main__":
    main()
