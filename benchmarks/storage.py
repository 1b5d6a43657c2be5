"""Bytes a record takes, by part, beside the same columns in ClickHouse and PostgreSQL: `bin/bench storage --data DIR`.

DIR was filled by `bin/bench generate`; without it a passing store of 100,000 lean records is. Our parts are what the manifest
names and what lies beside it. The peers hold the joined records and the touches of rows, with what makes their lookups fast.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks import _peers, query
from benchmarks._running import machine

PROOF, CONTENT = ("leaves", "salts", "leaf hashes", "upper hashes and checkpoints"), ("disclosures",)
SERVING = ("keys", "dedupe keys", "journal, unsealed or not yet dropped", "batches")


def main() -> None:
    parser = argparse.ArgumentParser(prog="bin/bench storage", description=__doc__)
    parser.add_argument("--data", type=Path, help="a store that `bin/bench generate` filled")
    parser.add_argument("--without", action="append", default=[], choices=list(_peers.PEERS), help="leave a peer out")
    options = parser.parse_args()
    with query.opened(options.data) as (data, plan):
        print(f"{machine()}; {plan.events:,} {plan.shape} records; bytes a record\n")
        print("| system | part | bytes a record |")
        print("|---|---|---|")
        parts = ours(data)
        for name, size in parts.items():
            print(f"| {query.OURS} | {name} | {size / plan.events:,.1f} |")
        for name, size in summed(parts).items():
            print(f"| {query.OURS} | **{name}** | {size / plan.events:,.1f} |")
        for name in query.prepared(data, options.without)[1:]:
            with contextlib.closing(_peers.PEERS[name](data)) as peer:
                sizes = peer.sizes()
            for part, size in sizes.items():
                print(f"| {name} | {part} | {size / plan.events:,.1f} |")
            print(f"| {name} | **all** | {sum(sizes.values()) / plan.events:,.1f} |")


def ours(data: Path) -> dict[str, int]:
    """Bytes by part: sealed files by name, with the salts of `disclosures` apart, and what lies beside them."""
    from lineage import segments
    from lineage.extracts import storing

    parts: dict[str, int] = {}
    for _, _, folder, files in segments.manifest():
        for name, told in files.items():
            parts[name] = parts.get(name, 0) + int(told["bytes"])
        parts["salts"] = parts.get("salts", 0) + _column(segments.storage().path(folder, "disclosures"), "salt")
    parts["disclosures"] -= parts["salts"]
    for extract in storing.manifest():
        for name, told in extract.files.items():
            parts[f"extracts: {name}"] = parts.get(f"extracts: {name}", 0) + int(told["bytes"])
    parts["leaf hashes"] = (data / "log" / "hashes").stat().st_size
    return parts | dict(_tables())


def _column(path: Path, name: str) -> int:
    told = pq.ParquetFile(path).metadata
    groups = [told.row_group(number) for number in range(told.num_row_groups)]
    columns = [group.column(place) for group in groups for place in range(group.num_columns)]
    return sum(column.total_compressed_size for column in columns if column.path_in_schema == name)


def _tables() -> Iterator[tuple[str, int]]:
    from django.db import connection

    measured = "select coalesce(sum(pg_total_relation_size(relid)), 0) from pg_partition_tree(%s::regclass)"
    with connection.cursor() as cursor:
        for name, tables in (
            ("upper hashes and checkpoints", ("ledger_tile", "ledger_checkpoint")),
            ("dedupe keys", ("ledger_key", "ledger_conflict")),
            ("journal, unsealed or not yet dropped", ("ledger_journal",)),
            ("batches", ("ledger_batch",)),
        ):
            total = 0
            for table in tables:
                cursor.execute("select relkind from pg_class where oid = %s::regclass", [table])
                is_parted = cursor.fetchone() == ("p",)
                cursor.execute(measured if is_parted else "select pg_total_relation_size(%s::regclass)", [table])
                total += int(cursor.fetchone()[0])
            yield name, total


def summed(parts: dict[str, int]) -> dict[str, int]:
    """The parts by what they are for; whatever is neither proof nor content nor for serving is a projection."""
    extracts = [name for name in parts if name.startswith("extracts: ")]
    others = [name for name in parts if name not in (*PROOF, *CONTENT, *SERVING, *extracts)]
    return {
        "proof": sum(parts.get(name, 0) for name in PROOF),
        "content": sum(parts.get(name, 0) for name in CONTENT),
        "projections beside segments": sum(parts[name] for name in others),
        "extracts": sum(parts[name] for name in extracts),
        "all but the journal": sum(size for name, size in parts.items() if not name.startswith("journal")),
    }


if __name__ == "__main__":
    main()
