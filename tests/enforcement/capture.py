"""What the change-capture tests share: reading what came, and waiting for the slot."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from lineage.events import Event
from tests.enforcement.conftest import Database
from tests.enforcement.processes import Collector
from tests.enforcement.sink import Sink

Make = Callable[..., Collector]


def ready(database: Database) -> None:
    """Wait until the slot is there and being read: what is committed from now on is captured."""
    until = time.monotonic() + 30
    # A slot that is still being made is active too, and captures nothing yet.
    made = f"slot_name = '{database.slot}' and active and confirmed_flush_lsn is not null"
    while not database.run(f"select 1 from pg_replication_slots where {made}"):
        assert time.monotonic() < until
        time.sleep(0.05)


def changes(sink: Sink) -> list[dict[str, Any]]:
    """The records in the order of their sequence; every key exactly once, every transaction whole."""
    records = [item["record"] for item in sink.items() if "record" in item]
    keys = [(r["timeline"], r["commit_lsn"], r["ordinal"]) for r in records]
    assert len(keys) == len(set(keys)), "a change was sent under two sequence numbers"
    of: dict[str, int] = {}
    for record in records:
        of[record["commit_lsn"]] = max(record["of"], of.get(record["commit_lsn"], 0))
    for lsn, count in of.items():
        ordinals = [r["ordinal"] for r in records if r["commit_lsn"] == lsn and r["ordinal"]]
        assert ordinals == list(range(1, count + 1))
    return records


def arrived(sink: Sink) -> int:
    return len({item["sequence"] for batch in list(sink.batches) for item in batch})


def values(record: dict[str, Any], image: str = "new") -> dict[str, Any]:
    return dict(zip([c["name"] for c in record["relation"]["columns"]], record[image], strict=True))


def confirmed(database: Database) -> int:
    query = f"select confirmed_flush_lsn - '0/0' from pg_replication_slots where slot_name = '{database.slot}'"
    return int(database.run(query)[0][0])


def wal(database: Database) -> int:
    return int(database.run("select pg_current_wal_lsn() - '0/0'")[0][0])


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def gaps(sink: Sink) -> list[dict[str, Any]]:
    return [item["custody"] for item in sink.items() if "custody" in item]


def events(sink: Sink, parse: Callable[..., Iterator[Any]]) -> list[Event]:
    """What the store makes of everything that came; fails when one item cannot be read."""
    body = b"\n".join(json.dumps(item).encode() for item in sink.items())
    outputs = list(parse(body, feed=True))
    assert all(isinstance(output, Event) for output in outputs), outputs
    return outputs
