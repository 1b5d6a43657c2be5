"""Joins made of facts say what joins over all records say: however the log was cut into parts, as of any size."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from lineage import concerned, derivation, engine, facts, joining, joins, projections, resolving, tagged
from tests.lineage import whole_log

BEGAN = dt.datetime.fromtimestamp(0x6B00F8AC, dt.UTC)
SERVER = ("6b00f8ac.7f28", "6b00f8ad.7f29", "6b00f8ae.7f30", None)
PEOPLE = ("dana@x.example", "omar@x.example", "bot")
SAID = ("[1]", "[2]")
LISTS = [field.name for field in projections.EVENTS if field.type == pa.list_(pa.string())]
LINE = "environment, datasource, transaction_id, line_index, line_session, line_user, line_app, line_ip, claim_index, joined_outcome"
JOINED = {
    "vids": "*", "gateway_transactions": "*", "gateway_sessions": "*", "claims": "*", "transactions": LINE, "told_twice": "*",
    "activity": "*",
}  # fmt: skip
"""What is compared, of records that name their database: the others meet none."""
RECORDS = 150


class Log:
    """Records that have to do with each other as often as chance lets them: few transactions, sessions, people and texts."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        kinds = [self.line] * 3 + [self.claim, self.gateway] * 2 + [self.change, self.proxy, self.native]
        self.rows = [self.row(index, **self.chance.choice(kinds)()) for index in range(RECORDS)]

    def any(self, *values: Any) -> Any:
        return self.chance.choice(values)

    def row(self, index: int, **said: Any) -> dict[str, Any]:
        flags = [*said.pop("flags", ()), *self.any((), (), (), ("unauthorised_assertion",))]
        at = BEGAN + dt.timedelta(seconds=self.chance.randrange(400))
        place = {"environment": self.any("prod", "prod", "test"), "datasource": self.any("orders", "orders", None)}
        return (
            {name: [] for name in LISTS}
            | {"index": index, "event_id": f"e{index:03}", "occurred_at": at, "received_at": at, "opaque": False}
            | place | {"occurred_at_quality": self.any("source", "received"), "flags": flags, "verdict": "allowed"} | said
        )  # fmt: skip

    def person(self) -> dict[str, Any]:
        who = self.any(*PEOPLE, None)
        return {
            "actor_id": who, "actor_name": self.any(who, None), "actor_email": self.any(who, None),
            "actor_type": self.any("human", "service"), "on_behalf_of": self.any(None, "lea@x.example"), "agent_id": self.any(None, "a-1"),
            "agent_name": self.any(None, "agent"),
            "agent_run": self.any(None, "run-1", "run-2"), "purpose": self.any(None, "p", "q"), "ticket": self.any(None, "T-1", "T-2"),
        }  # fmt: skip

    def xid(self) -> str | None:
        return self.any(None, "0", *"12345678")  # type: ignore[no-any-return]

    def line(self) -> dict[str, Any]:
        session, said = self.any(*SERVER), self.any(None, None, *SAID)
        statement = self.any("rollback ;", "ROLLBACK TO a", "select 1", "select 2")
        call = f"{session}/{self.chance.randrange(30)}"
        return {
            "kind": "query", "source": "log", "source_format": "postgres-csvlog", "op": self.any("read", "update"),
            "xid": self.xid(), "vid": self.any(None, "3/1", "3/2", "3/3", "3/4"), "db_session_id": session,
            "db_user": self.any("app", "app", "orders_api", None),
            "client_app": self.any(None, "psql", "api"), "client_ip": self.any("10.0.0.7", None),
            "client_port": self.any(53124, 53125, None),
            "command": statement.split()[0].upper(), "statement": statement, "emitted": said and "…", "said": said,
            "correlation_id": self.any(None, f"{call}.1", f"{call}.1", f"{call}.2", f"{call}.10"), "outcome": self.any(None, "unknown"),
        }  # fmt: skip

    def change(self) -> dict[str, Any]:
        return {
            "kind": "change",
            "source": "wal",
            "source_format": "pgoutput",
            "op": "update",
            "xid": self.xid(),
            "key": "4711",
        }

    def claim(self) -> dict[str, Any]:
        return {
            "kind": "query", "source": "wal", "source_format": "pgoutput", "op": "other", "flags": ["claim"], "xid": self.xid(),
            "said": self.any(*SAID), "db_session_id": None, **self.person(),
        }  # fmt: skip

    def gateway(self) -> dict[str, Any]:
        return {
            "kind": self.any("query", "query", "session", "decision"), "source": "gate", "source_format": "gateway", "xid": self.xid(),
            "op": self.any("read", "update", "other", None), "db_session_id": self.any(*SERVER),
            "session_id": self.any("gw-1", "gw-2", None),
            "outcome": self.any("committed", "rolled_back", "unknown", None), "correlation_id": self.any("st-1.1", "st-1.2", None),
            "db_user": self.any("app", None), **self.person(),
        }  # fmt: skip

    def proxy(self) -> dict[str, Any]:
        named = self.any(f"pid:{0x7F28}", f"pid:{0x7F29}", "client:10.0.0.7:53124", SERVER[2], None)
        return {
            "kind": self.any("session", "query"), "source": "tp", "source_format": self.any("teleport", "events", "hoop"), "op": "read",
            "session_phase": self.any("start", "end"), "session_id": self.any("tp-1", "tp-2", "tp-3"), "db_session_id": named,
            "db_user": self.any("app", "app", None), "statement": self.any("select 1", "select 2"), **self.person(),
        }  # fmt: skip

    def native(self) -> dict[str, Any]:
        return {
            "kind": "query", "source": "own", "source_format": "events", "op": "update", "xid": self.xid(), "vid": self.any(None, "3/1"),
            "db_session_id": self.any(*SERVER), "db_user": "app", "statement": "select 1", **self.person(),
        }  # fmt: skip

    def table(self) -> pa.Table:
        return pa.Table.from_pylist(self.rows, schema=projections.EVENTS)


def _reference(cursor: joining.Cursor) -> None:
    """Who is whose login, whose messages count, and what conflicts: said by no record."""
    cursor.execute(
        "create table identities as select 'orders' as datasource, 'app' as db_user, 'app@x' as person_id, 'App' as name, "
        "null::varchar as email, 'service' as type, timestamptz '2000-01-01' as from_at, timestamptz '2100-01-01' as to_at; "
        "create table context_roles as select 'prod' as environment, 'orders' as datasource, 'orders_api' as db_user; "
        "create table conflicted as select unnest([3, 30])::bigint as index"
    )


def _database(events: pa.Table, more: dict[str, pa.Table]) -> contextlib.AbstractContextManager[joining.Cursor]:
    touches, places = projections.TOUCHES.empty_table(), tagged.PLACES.empty_table()
    return engine._apart(more | {"raw_events": events, "raw_touches": touches, "tagged": places})


def _answers(database: joining.Cursor) -> dict[str, list[tuple[Any, ...]]]:
    own = ("told_twice", "activity")
    return {
        name: database.execute(
            f"select {columns} from {name} {'' if name in own else 'where datasource is not null'} order by all"
        ).fetchall()
        for name, columns in JOINED.items()
    }


def _over_all_records(events: pa.Table) -> dict[str, list[tuple[Any, ...]]]:
    with _database(events, {}) as database:
        _reference(database)
        database.execute(resolving.TAGS + whole_log.EVERYTHING)
        return _answers(database)


def _over_facts(events: pa.Table, made: pa.Table) -> dict[str, list[tuple[Any, ...]]]:
    with _database(events, {"facts": made}) as database:
        _reference(database)
        present = database.execute(joins.PRESENT).fetchone()
        database.execute(resolving.TAGS + joins.statements(*present))
        return _answers(database)


def _in_parts(events: pa.Table, sealed: pa.Table, told: pa.Table) -> dict[str, list[tuple[Any, ...]]]:
    """The tables of what is sealed are made first; then only those that the tail concerns."""
    with _database(events, {"facts_settled": sealed, "facts_newer": told}) as database:
        for schema in ("settled", "fresh", "joined"):
            database.execute(f"create schema {schema}; set schema = '{schema}'")
            _reference(database)
        database.execute("set schema = 'settled'; create view facts as from facts_settled")
        database.execute(joins.tables(True, True))
        database.execute("set schema = 'fresh'")
        database.execute(concerned.keys("settled") + joins.tables(True, True) + concerned.only_concerned())
        database.execute("set schema = 'joined'")
        database.execute(concerned.patched("settled", "fresh"))
        database.execute("create view facts as from facts_settled union all by name from facts_newer")
        database.execute(resolving.TAGS + joins.views(True, ("fresh", "settled")))
        return _answers(database)


def _facts(events: pa.Table, cuts: list[int]) -> list[pa.Table]:
    """The facts of each part of the log."""
    parts = itertools.pairwise([0, *cuts, events.num_rows])
    return [engine.facts_of(events.slice(first, following - first)) for first, following in parts]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(7))
def test_joins_of_facts_are_those_of_all_records_however_the_log_was_cut_and_as_of_any_size(seed: int) -> None:
    log, chance = Log(seed), random.Random(seed)
    events = log.table()
    cuts = sorted(chance.sample(range(1, RECORDS), 1 + seed % 4))
    parts = _facts(events, cuts)
    for size in (RECORDS, chance.randrange(20, RECORDS)):
        below = pc.field("index") < size
        known = events.slice(0, size)
        expected = _over_all_records(known)
        assert _over_facts(known, pa.concat_tables(reversed(parts)).filter(below)) == expected
        sealed, told = (pa.concat_tables(some).filter(below) for some in (parts[:-1], parts[-1:]))
        if size > cuts[-1]:
            assert _in_parts(known, sealed, told) == expected
        assert size < RECORDS or not [name for name, rows in expected.items() if not rows and name != "told_twice"]


def test_what_many_records_say_alike_is_one_fact_of_the_first() -> None:
    line = {**Log(1).line(), "xid": "7", "vid": "3/1", "db_session_id": "s", "flags": [], "emitted": None, "said": None}
    rows = [Log(1).row(n, **line) | {"environment": "prod", "datasource": "orders", "flags": []} for n in range(50)]
    (made,) = _facts(pa.Table.from_pylist(rows, schema=projections.EVENTS), [])
    found = {row["fact"]: row["index"] for row in made.to_pylist()}
    assert found.items() >= {"line": 0, "session": 0}.items()
    assert made.num_rows == len(found)


def test_facts_of_few_records_are_those_that_many_would_have() -> None:
    for seed in range(3):
        events = Log(seed).table()
        found = engine.over({"events": events}, facts.made_of("events", few=True)).cast(facts.SCHEMA)
        assert found.equals(engine.facts_of(events))
        assert found.num_rows > 50


@pytest.mark.slow
def test_facts_made_in_shares_are_those_made_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = Log(1).table()
    whole, parts, all_events = tmp_path / "whole", tmp_path / "parts", tmp_path / "events"
    told, cut = [tmp_path / f"told-{n}" for n in range(3)], [tmp_path / f"cut-{n}" for n in range(3)]
    pq.write_table(events, all_events)
    for number, (given, own) in enumerate(zip(told, cut, strict=True)):
        pq.write_table(events.slice(number * 50, 50), own)
        derivation.write_facts(given, [own])
    derivation.write_facts(whole, [all_events])
    made = pq.read_table(whole).to_pylist()
    assert len({fact["fact"] for fact in made}) > 6
    monkeypatch.setattr(derivation, "FACTS_MOST", 30)
    for given_events, given_told in ([all_events], []), ([], told), (cut[:1], told[1:]):
        derivation.write_facts(parts, given_events, given_told)
        assert sorted(pq.read_table(parts).to_pylist(), key=repr) == sorted(made, key=repr)
    assert derivation.facts_agree(all_events, whole)
    for wrong in (made[1:], [made[0] | {"source": "another"}, *made[1:]]):
        pq.write_table(pa.Table.from_pylist(wrong, facts.SCHEMA), parts)
        assert not derivation.facts_agree(all_events, parts)
