"""Stored rows without the stale ones, and the fresh ones, are what all records say: for every cut of the log, as of any size."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from lineage import engine, joining, joins, proxied, resolving
from lineage.extracts import fresh, keys, postings
from tests.lineage.test_joins import RECORDS, Log

ROLES = pa.table({"environment": ["prod"], "datasource": ["orders"], "db_user": ["orders_api"]})
Rows = dict[int, tuple[Any, ...]]


class Unproxied(Log):
    """A log of which no proxy tells; there is a gateway, and now and then two people in one of its sessions."""

    def proxy(self) -> dict[str, Any]:
        return self.line()


def _events(seed: int) -> pa.Table:
    log = Unproxied(seed)
    for row in log.rows:
        # Fewer meet than in a log for the joins alone: else everything is stale as soon as anything is.
        if log.chance.random() < 0.6:
            own = {name: row.get(name) for name in ("xid", "vid", "db_session_id")}
            row |= {name: f"{said}+{row['index'] // 15}" for name, said in own.items() if said not in (None, "0")}
    return log.table()


class Store:
    """Extracts of a generated log as files of keys, and the rows that they hold, the last of each index."""

    def __init__(self, events: pa.Table, folder: Path) -> None:
        self.events, self.folder = events, folder
        self.rows: Rows = {}
        self.state = fresh.State(0, 0, ())

    def asked(self, size: int) -> tuple[Rows, Rows]:
        """What is stored and still holds as of this size, and what is fresh."""
        with _question(self.events, size, max(size, self.state.as_of)) as cursor:
            made = fresh.make(cursor, "f", self.state, size)
            new = _rows(cursor, made.relation)
            left = cursor.execute(
                "select distinct schema_name from duckdb_schemas() where not internal and schema_name <> 'main'"
            )
            assert left.fetchall() == [("f",)]
        stale = set(made.stale.tolist())
        assert new.keys() == stale | set(range(self.state.extracted_to, size))
        return {n: row for n, row in self.rows.items() if n < size and n not in stale}, new

    def extract(self, to: int, as_of: int) -> None:
        """The next extract, of the records from where the last one ended, as of a size that may be larger."""
        with _question(self.events, as_of, max(as_of, self.state.as_of)) as cursor:
            made = fresh.make(cursor, "f", self.state, as_of)
            self.rows |= {n: row for n, row in _rows(cursor, made.relation).items() if n < to}
            found = cursor.sql(f"select * from {made.keys} where index < {to}").to_arrow_table()
        path = self.folder / f"{to}.post"
        postings.write(path, *keys.columns(found))
        self.state = fresh.State(as_of, to, (*self.state.keys, path))


def _question(events: pa.Table, size: int, told: int) -> contextlib.AbstractContextManager[joining.Cursor]:
    known, further = (events.filter(pc.field("index") < n) for n in (size, told))
    return engine._apart({"raw_events": known, "facts_of_all": engine.facts_of(further), "given_context_roles": ROLES})


def _rows(cursor: joining.Cursor, relation: str) -> Rows:
    found = cursor.execute(f"select * from {relation}").fetchall()
    assert len({row[0] for row in found}) == len(found)
    return {row[0]: row for row in found}


def _by_the_joins(events: pa.Table, size: int) -> Rows:
    """What the present way says of the records below this size."""
    known = events.slice(0, size)
    with engine._apart({"raw_events": known, "facts": engine.facts_of(known), "context_roles": ROLES}) as cursor:
        cursor.execute(joins.tables(True, True) + proxied.NO_SESSIONS + resolving.resolved(False))
        return _rows(cursor, "resolved")


@pytest.mark.parametrize("seed", range(4))
def test_stored_and_fresh_rows_are_the_same_as_all_joined_anew(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    events = _events(seed)
    store = Store(events, tmp_path)
    cuts = sorted(chance.sample(range(20, RECORDS - 10), 3))
    stale = 0
    for cut in cuts:
        store.extract(cut, chance.choice([cut, min(cut + 12, RECORDS)]))
        sizes = {cut, RECORDS, store.state.as_of, *chance.sample(range(1, RECORDS), 3)}
        for size in sizes:
            held, new = store.asked(size)
            stale += size - len(new.keys() | held.keys()) + len([n for n in new if n < store.state.extracted_to])
            assert held | new == _by_the_joins(events, size)
            assert not held.keys() & new.keys()
    assert stale


def test_where_a_proxy_reports_nothing_is_made_by_keys(tmp_path: Path) -> None:
    events = Log(1).table()
    assert any(row["fact"] == "proxy" for row in engine.facts_of(events).to_pylist())
    with _question(events, RECORDS, RECORDS) as cursor, pytest.raises(fresh.Proxied):
        fresh.make(cursor, "f", fresh.State(0, 0, ()), RECORDS)
