"""Stored rows without the stale ones, and the fresh ones, are what all records say: for every cut of the log, as of any size."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lineage import engine, joining, joins, proxied, resolving
from lineage.extracts import fresh, keys, postings
from tests.lineage.test_joins import RECORDS, Log

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


@contextlib.contextmanager
def _database(events: pa.Table) -> Iterator[joining.Cursor]:
    """All records and their facts, of two parts of the log; both are told by views as of some size."""
    half = RECORDS // 2
    told = pa.concat_tables([engine.facts_of(events.slice(half)), engine.facts_of(events.slice(0, half))])
    roles = pa.table({"environment": ["prod"], "datasource": ["orders"], "db_user": ["orders_api"]})
    with engine._apart({"all_events": events, "all_facts": told, "given_context_roles": roles}) as database:
        yield database


def _views(database: joining.Cursor, size: int, told_to: int) -> None:
    database.execute(f"""
        create or replace temp view raw_events as select * from all_events where index < {size};
        create or replace temp view facts_of_all as select * from all_facts where index < {told_to};
    """)


class Store:
    """Extracts of a generated log as files of keys, and the rows that they hold, the last of each index."""

    def __init__(self, database: joining.Cursor, folder: Path) -> None:
        self.database, self.folder = database, folder
        self.rows: Rows = {}
        self.state = fresh.State(0, 0, ())

    @contextlib.contextmanager
    def _made(self, size: int) -> Iterator[fresh.Fresh]:
        _views(self.database, size, max(size, self.state.as_of))
        yield fresh.make(self.database, "f", self.state, size)
        tables = self.database.execute(
            "select schema_name, table_name from duckdb_tables() where not internal and schema_name <> 'main' order by all"
        )
        assert tables.fetchall() == [("f", "fresh"), ("f", "fresh_keys")]
        self.database.execute("set schema = 'main'; drop schema f cascade")

    def asked(self, size: int) -> tuple[Rows, Rows]:
        """What is stored and still holds as of this size, and what is fresh."""
        with self._made(size) as made:
            new = _rows(self.database, made.relation)
            stale = set(made.stale.tolist())
        assert new.keys() == stale | set(range(self.state.extracted_to, size))
        return {n: row for n, row in self.rows.items() if n < size and n not in stale}, new

    def asked_on(self, sizes: list[int]) -> Rows:
        """What is stored and fresh as of the last of these sizes, each made of what was made for the one before."""
        made: fresh.Fresh | None = None
        for number, size in enumerate(sizes):
            _views(self.database, size, max(size, self.state.as_of))
            name = f"f{number}"
            if made is None:
                made = fresh.make(self.database, name, self.state, size)
            else:
                made = fresh.extended(self.database, name, self.state, made, size)
        assert made is not None
        new, stale = _rows(self.database, made.relation), set(made.stale.tolist())
        for number, _ in enumerate(sizes):
            self.database.execute(f"set schema = 'main'; drop schema f{number} cascade")
        return {n: row for n, row in self.rows.items() if n not in stale} | new

    def extract(self, to: int, as_of: int) -> None:
        """The next extract, of the records from where the last one ended, as of a size that may be larger."""
        with self._made(as_of) as made:
            self.rows |= {n: row for n, row in _rows(self.database, made.relation).items() if n < to}
            found = self.database.sql(f"select * from {made.keys} where index < {to}").to_arrow_table()
        path = self.folder / f"{to}.post"
        postings.write(path, *keys.columns(found))
        self.state = fresh.State(as_of, to, (*self.state.keys, path))


def _rows(database: joining.Cursor, relation: str) -> Rows:
    found = database.execute(f"select * from {relation}").fetchall()
    assert len({row[0] for row in found}) == len(found)
    return {row[0]: row for row in found}


def _by_the_joins(database: joining.Cursor, size: int) -> Rows:
    """What the present way says of the records below this size."""
    _views(database, size, size)
    database.execute("create schema whole; set schema = 'whole'; create view facts as from facts_of_all")
    database.execute("create view context_roles as from given_context_roles")
    database.execute(joins.tables(True, True) + proxied.NO_SESSIONS + resolving.resolved(False))
    found = _rows(database, "resolved")
    database.execute("set schema = 'main'; drop schema whole cascade")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_stored_and_fresh_rows_are_the_same_as_all_joined_anew(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(fresh, "FAR", chance.choice([4, fresh.FAR]))
    cuts = sorted(chance.sample(range(20, RECORDS - 10), 3))
    asked = [*chance.sample(range(1, RECORDS), 2), RECORDS]
    stale = 0
    with _database(_events(seed)) as database:
        store = Store(database, tmp_path)
        expected = {size: _by_the_joins(database, size) for size in asked}
        for cut in cuts:
            store.extract(cut, max(cut + chance.choice([0, 12]), store.state.as_of))
            for size in asked:
                held, new = store.asked(size)
                stale += len([n for n in new if n < store.state.extracted_to])
                assert held | new == expected[size]
            reached = store.state.as_of
            on = sorted({chance.randrange(reached, RECORDS + 1) for _ in range(2)} | {RECORDS})
            assert store.asked_on(on) == expected[RECORDS]
    assert stale


def test_a_log_in_which_a_proxy_reports_is_not_joined_by_keys() -> None:
    with _database(Log(1).table()) as database:
        _views(database, RECORDS, RECORDS)
        with pytest.raises(fresh.Proxied):
            fresh.make(database, "f", fresh.State(0, 0, ()), RECORDS)
