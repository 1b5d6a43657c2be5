"""What exact dedupe costs with a long history: look-ups of fresh and of old keys, and keys that leave PostgreSQL.

The history is made as key files alone, in segments as large as merging makes them, a year of one source with times and
(a tenth) of one without; the process that looks up may have 256 MiB of memory of its own. `bin/bench dedupe 5000000`
takes a shorter one.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from benchmarks._running import ROOT, machine
from config import database, embedded

KEYS = 50_000_000
SEGMENT = 12_800_000
BATCH = 1_000
ROUNDS = 100
MEMORY = 256 << 20
HOURS = 8_760
NOW = 500_000
"""The present hour, in hours since 1970; the history ends before it."""
TIMED, TIMELESS = 1, 2
STEP_KEYS, CYCLES = 500_000, 6


def main() -> None:
    keys = int(sys.argv[1]) if len(sys.argv) > 1 else KEYS
    data = Path(tempfile.mkdtemp(prefix="touchstone-bench-"))
    data.chmod(0o711)
    os.environ.pop("DATABASE_URL", None)
    os.environ |= {
        "TOUCHSTONE_DATA": str(data), "TOUCHSTONE_DB_ROLE": "store", "DJANGO_SETTINGS_MODULE": "config.settings"
    }  # fmt: skip
    try:
        with embedded.in_use(data):
            subprocess.run([sys.executable, "manage.py", "setup", "--verbosity", "0"], cwd=ROOT, check=True)
            import django

            django.setup()
            print(f"{machine()}; a history of {keys:,} keys, {MEMORY >> 20} MiB for the process that looks up\n")
            with psycopg.connect(**database.parameters(data, "postgres"), autocommit=True) as root:
                root.execute("set session_replication_role = replica")
                leave(root)
                look(make(root, keys), keys)
    finally:
        shutil.rmtree(data, ignore_errors=True)


class History:
    """Where the made keys lie. Keys follow from their segment, hour and number, so that old ones can be asked for."""

    def __init__(self) -> None:
        self.paths: list[Path] = []
        self.some: dict[int, list[bytes]] = {TIMED: [], TIMELESS: []}
        """A sample of the keys of each source."""


def make(root: psycopg.Connection[Any], keys: int) -> History:
    """Key files of a year, the manifest that names them, and the batches that their records came in."""
    from lineage import segments
    from lineage.keyfiles import form, making

    made, drawn, started = History(), random.Random(7), time.process_time()
    root.execute("truncate ledger_segment, ledger_batch, ledger_key")
    root.execute("update ledger_keys_left set spans = '{}', version = 1")
    total = 0
    for first in range(0, keys, SEGMENT):
        count = min(SEGMENT, keys - first)
        hours = range(NOW - HOURS + HOURS * first // keys, NOW - HOURS + HOURS * (first + count) // keys)
        folder = segments.storage().root / f"{first}"
        folder.mkdir()
        path = folder / segments.KEYS
        said = making.added(path, lambda place: _write(place, first, count, hours, drawn, made))  # noqa: B023
        root.execute(
            "insert into ledger_segment (first_index, next_index, folder, files, first_at, last_at) "
            "values (%s, %s, %s, %s, now(), now())",
            (first, first + count, folder.name, msgspec.json.encode({"keys": said}).decode()),
        )
        made.paths.append(path)
        total += path.stat().st_size
    root.execute(
        "insert into ledger_batch (first_index, batch, n, source_id, slot) "
        "select g, g / %s + 1, %s, 1, 0 from generate_series(0, %s, %s) as g", (BATCH, BATCH, keys - 1, BATCH),
    )  # fmt: skip
    root.execute("update ledger_keys_left set spans = int8multirange(int8range(0, %s)), version = 2", (keys,))
    print(
        f"made in {(time.process_time() - started) / keys * 1e6:.2f} us of CPU a key; {total / keys:.1f} bytes a key in files"
    )
    assert total / keys > form.SIZE
    return made


def _write(
    path: Path, first: int, count: int, hours: Sequence[int], drawn: random.Random, made: History
) -> dict[str, Any]:
    from lineage.keyfiles import form

    without = count // 10
    runs = [(TIMED, hour, (count - without) // len(hours)) for hour in hours] + [
        (TIMELESS, 0, count - (count - without) // len(hours) * len(hours))
    ]

    def parts() -> Iterator[list[bytes]]:
        index = first
        for source, hour, size in runs:
            chance, bucket = random.Random(index).randbytes(12 * size), hour.to_bytes(4, "big")
            ends = sorted(chance[n : n + 12] for n in range(0, len(chance), 12))
            content = bytes(32)[:31] + b"\1"
            found = [form.pack(source, bucket + end, index + n, False, content) for n, end in enumerate(ends)]
            made.some[source] += [bucket + end for end in drawn.sample(ends, min(size, max(20, size // 200)))]
            index += size
            yield from (found[n : n + form.PART] for n in range(0, size, form.PART))

    return {"hours": form.write(path, parts(), runs[-1][2])}


def look(made: History, keys: int) -> None:
    """Look-ups in batches of 1,000, by what is asked; each time once with the files out of memory, and then again."""
    drawn = random.Random(8)
    hours: dict[bytes, list[bytes]] = {}
    for key in made.some[TIMED]:
        hours.setdefault(key[:4], []).append(key)
    full = [some for some in hours.values() if len(some) >= 20]

    def fresh(hour: int) -> Callable[[], list[bytes]]:
        return lambda: [hour.to_bytes(4, "big") + drawn.randbytes(12) for _ in range(BATCH)]

    def one_hour() -> list[bytes]:
        return [drawn.choice(some) for some in [drawn.choice(full)] for _ in range(BATCH)]

    asked: list[tuple[str, int, Callable[[], list[bytes]], int]] = [
        ("fresh, of now", TIMED, fresh(NOW), 0),
        ("fresh, of an hour half a year ago", TIMED, fresh(NOW - HOURS // 2), 0),
        ("fresh, without a time", TIMELESS, fresh(0), 0),
        ("old, all of one hour", TIMED, one_hour, BATCH),
        ("old, of the whole year", TIMED, lambda: drawn.choices(made.some[TIMED], k=BATCH), BATCH),
        ("old, without a time", TIMELESS, lambda: drawn.choices(made.some[TIMELESS], k=BATCH), BATCH),
    ]
    resource.setrlimit(resource.RLIMIT_DATA, (_data() + MEMORY, resource.RLIM_INFINITY))
    print(
        f"\n| look-ups in {keys:,} keys, batches of {BATCH:,} | keys/s, files not in memory | keys/s, again | us of CPU a key |"
    )
    print("|---|---|---|---|")
    for words, source, draw, there in asked:
        batches = [draw() for _ in range(ROUNDS)]
        for path in made.paths:
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        cold, _ = _asked(source, batches, there)
        warm, cpu = _asked(source, batches, there)
        print(f"| {words} | {cold:,.0f} | {warm:,.0f} | {cpu:.1f} |")
    print(
        f"\nmost memory of the process, files included: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB\n"
    )


def _data() -> int:
    """Bytes of private memory that the process has now, as the limit counts them."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData"))
    return int(line.split()[1]) << 10


def _asked(source: int, batches: Sequence[Sequence[bytes]], there: int) -> tuple[float, float]:
    """(keys a second, microseconds of CPU a key)."""
    from django.db import connection

    from lineage.keyfiles import looking

    connection.ensure_connection()
    with psycopg.Cursor(connection.connection) as cursor:
        cursor.execute("select ledger_keys_state()")
        state = (cursor.fetchone() or ("",))[0]
        started, cpu = time.perf_counter(), time.process_time()
        for batch in batches:
            _, found = looking.find(cursor, source, batch, state)
            assert len(found) == (len(set(batch)) if there else 0)
        taken, cpu = time.perf_counter() - started, time.process_time() - cpu
    count = sum(map(len, batches))
    return count / taken, cpu / count * 1e6


def leave(root: psycopg.Connection[Any]) -> None:
    """Keys that come and leave, again and again: what it takes, and whether the table stays as small as its rows are few."""
    from lineage.keyfiles import leaving

    print(
        f"| {STEP_KEYS:,} keys come and leave | us a key to insert | us a key to leave | bytes of the table a key, before | after |"
    )
    print("|---|---|---|---|---|")
    folder = msgspec.json.encode({"keys": {"hours": {}}}).decode()
    for cycle in range(CYCLES):
        first = cycle * STEP_KEYS
        root.execute(
            "insert into ledger_batch (first_index, batch, n, source_id, slot) select g, g / %s + 1, %s, 1, 0 "
            "from generate_series(%s, %s, %s) as g", (BATCH, BATCH, first, first + STEP_KEYS - 1, BATCH),
        )  # fmt: skip
        started = time.perf_counter()
        # Sorted within a batch, as the ledger inserts them.
        for batch in range(first, first + STEP_KEYS, BATCH):
            root.execute(
                "insert into ledger_key select 1, k, sha256(k), %s, row_number() over (order by k) - 1 from "
                "(select int4send(%s::int4) || substr(uuid_send(gen_random_uuid()), 1, 12) as k from generate_series(1, %s::int4)) as t",
                (batch // BATCH + 1, NOW + cycle, BATCH),
            )
        inserted = time.perf_counter() - started
        before = _table(root)
        root.execute(
            "insert into ledger_segment (first_index, next_index, folder, files, first_at, last_at) "
            "values (%s, %s, %s, %s, now(), now())", (first, first + STEP_KEYS, f"cycle {cycle}", folder),
        )  # fmt: skip
        started = time.perf_counter()
        with_age_of_none(leaving.leave)
        left = time.perf_counter() - started
        root.execute("vacuum ledger_key")
        print(
            f"| {cycle + 1} | {inserted / STEP_KEYS * 1e6:.1f} | {left / STEP_KEYS * 1e6:.1f} "
            f"| {before / STEP_KEYS:.0f} | {_table(root) / STEP_KEYS:.0f} |"
        )
    print()


def with_age_of_none(work: Callable[[], int]) -> None:
    """Lets keys leave that came just now."""
    from django.conf import settings

    settings.KEY_SECONDS = 0
    assert work() == STEP_KEYS


def _table(root: psycopg.Connection[Any]) -> int:
    return int((root.execute("select pg_total_relation_size('ledger_key')").fetchone() or (0,))[0])


if __name__ == "__main__":
    main()
