"""What proof costs: integrating 10 million leaves, proofs from that log, verifying a pack of 10,000 events, bytes an event.

The log is a real one (embedded PostgreSQL, the keeper's own code). Its first 10,000 events come through ingest; the
leaves of the others are copied into the journal, since only the tree over them is measured. `bin/bench proof 300000`
takes a smaller log.
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from benchmarks._running import ROOT, machine, native
from config import embedded

LEAVES = 10_000_000
EVENTS = 10_000
BATCH = 100_000
PROOFS = 2_000
SLOW_PROOFS = 3


def main() -> None:
    leaves = int(sys.argv[1]) if len(sys.argv) > 1 else LEAVES
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
            print(f"{machine()}; a log of {leaves:,} leaves\n")
            measure(leaves, data)
    finally:
        shutil.rmtree(data, ignore_errors=True)


def measure(leaves: int, data: Path) -> None:
    from lineage import keeper, segments

    ingest()
    keeper.once()
    with keeper.lock():
        segments.seal()
    sizes(data)
    packs()
    integrate(leaves)
    proofs(leaves)


def ingest() -> None:
    """The real events, through the door that sources use."""
    from lineage import ingest
    from lineage.models import Source

    source = Source.objects.create(name="bench", format="events", environment="production", datasource="orders")
    for start in range(0, EVENTS, 1_000):
        body = msgspec.json.encode([native(f"bench-{start + n}") for n in range(1_000)])
        assert ingest.accept(source, body).count("accepted") == 1_000


def integrate(leaves: int) -> None:
    """Seconds in the signer for each step of 100,000 leaves, beside hashing the same leaves in memory."""
    from lineage import checkpoints, keeper

    template = next(_leaves(0, 1))
    signing, hashing = [], []
    while (size := _head()) < leaves:
        count = min(BATCH, leaves - size)
        made = [template.replace(b'"event_id":"0', b'"event_id":"%016x' % (size + n), 1) for n in range(count)]
        _copy(made)
        with keeper.lock():
            signing.append(_seconds(checkpoints.checkpoint) / count)
        hashing.append(_seconds(_root, made) / count)
    print("| integrating, leaves/s | median step | slowest step |")
    print("|---|---|---|")
    for name, taken in (
        ("read, hashed twice, written, signed, published", signing),
        ("hashed in memory only", hashing),
    ):
        print(f"| {name} | {1 / statistics.median(taken):,.0f} | {1 / max(taken):,.0f} |")
    print(f"\nratio {statistics.median(hashing) / statistics.median(signing):.2f}; steps of {BATCH:,}\n")


def proofs(leaves: int) -> None:
    """Milliseconds for one proof from the stored tree, beside the same proof from all leaf hashes."""
    from lineage import tree

    drawn = random.Random(7)
    places = [drawn.randrange(leaves) for _ in range(PROOFS)]
    print("| proof | p50 ms | p99 ms | slowest ms |")
    print("|---|---|---|---|")
    _row("inclusion, from the stored tree", [_seconds(tree.inclusion, place, leaves) for place in places])
    _row("consistency, from the stored tree", [_seconds(tree.consistency, place + 1, leaves) for place in places])
    slow = [_seconds(_from_all, leaves, place) for place in places[:SLOW_PROOFS]]
    _row("inclusion, from all leaf hashes", slow)
    print()


def packs() -> None:
    """Seconds to make and to verify a pack of all real events, beside SHA-256 over its bytes."""
    import hashlib

    from lineage import access, keys, notes, packs
    from lineage.models import Role
    from lineage.verify import verify

    policy = notes.parse_policy(notes.make_policy(*(keys.vkey(name) for name in ("checkpoint", "receipt", "report"))))
    viewer = access.Viewer(email="bench", role=Role.ADMIN)
    made: list[bytes] = []
    making = _seconds(lambda: made.append(packs.collect(viewer, "source:bench")))
    verdicts: list[Any] = []
    verifying = [_seconds(lambda: verdicts.append(verify(made[0], policy))) for _ in range(3)]
    hashing = _seconds(lambda: hashlib.sha256(made[0]).digest())
    assert {verdict.exit for verdict in verdicts} == {0}, verdicts[0].sentence
    print(f"| pack of {EVENTS:,} events, {len(made[0]):,} bytes | seconds |")
    print("|---|---|")
    rows = (("make", making), ("verify", statistics.median(verifying)), ("SHA-256 over the file only", hashing))
    for name, taken in rows:
        print(f"| {name} | {taken:.3f} |")
    print()


def sizes(data: Path) -> None:
    """Bytes an event, by part, of the real events."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("select sum(length(leaf)), count(*) from ledger_journal")
        leaf_bytes, count = cursor.fetchone()
        cursor.execute("select pg_total_relation_size('ledger_key')")
        key_bytes = cursor.fetchone()[0]
        cursor.execute(
            "select sum(pg_total_relation_size(inhrelid)) from pg_inherits where inhparent = 'ledger_journal'::regclass"
        )
        journal_bytes = cursor.fetchone()[0]
        cursor.execute("select files from ledger_segment")
        files = [msgspec.json.decode(row[0]) if isinstance(row[0], str) else row[0] for row in cursor.fetchall()]
    body = len(msgspec.json.encode(native("bench-0")))
    parts = {
        "as sent (JSON)": body * count, "leaf, plain": leaf_bytes, "journal until sealed": journal_bytes,
        "dedupe key with its index": key_bytes, "leaf hash in its file": (data / "log" / "hashes").stat().st_size,
    }  # fmt: skip
    parts |= {f"sealed {name}": sum(each[name]["bytes"] for each in files) for name in files[0]}
    print("| part | bytes an event |")
    print("|---|---|")
    for name, total in parts.items():
        print(f"| {name} | {float(total) / count:,.0f} |")
    print()


def _root(leaves: list[bytes]) -> bytes:
    from lineage import merkle

    return merkle.root([merkle.leaf_hash(leaf) for leaf in leaves])


def _from_all(leaves: int, place: int) -> list[bytes]:
    from lineage import merkle, tree

    return merkle.inclusion_proof(tree.hashes().read(0, leaves), place)


def _leaves(first: int, following: int) -> Iterator[bytes]:
    from lineage import segments

    return (leaf for _, leaf in segments.leaves(first, following))


def _head() -> int:
    from lineage import tree

    return tree.head()


def _copy(leaves: list[bytes]) -> None:
    """Leaves into the journal as one batch, numbered as the ledger numbers."""
    from django.db import connection, transaction

    with transaction.atomic():
        connection.ensure_connection()
        with psycopg.Cursor(connection.connection) as cursor:
            cursor.execute("select ledger_slot(), nextval('ledger_batch_id'), ledger_open_slot(ledger_slot())")
            slot, batch, _ = cursor.fetchone() or (0, 0, None)
            with cursor.copy("copy ledger_journal (slot, batch, ordinal, leaf) from stdin (format binary)") as copy:
                copy.set_types(["int4", "int8", "int4", "bytea"])
                for ordinal, leaf in enumerate(leaves):
                    copy.write_row([slot, batch, ordinal, leaf])
            count = len(leaves)
            cursor.execute("update ledger_head set size = size + %s returning size - %s", (count, count))
            first = (cursor.fetchone() or (0,))[0]
            cursor.execute(
                "insert into ledger_batch (first_index, batch, n, source_id, slot) values (%s, %s, %s, 0, %s)",
                (first, batch, count, slot),
            )


def _seconds(work: Callable[..., object], *given: Any) -> float:
    started = time.perf_counter()
    work(*given)
    return time.perf_counter() - started


def _row(name: str, seconds: list[float]) -> None:
    ordered = sorted(seconds)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    print(f"| {name} | {statistics.median(ordered) * 1e3:.2f} | {p99 * 1e3:.2f} | {ordered[-1] * 1e3:.2f} |")


if __name__ == "__main__":
    main()
