"""What is newer than extracts is told in Python as SQL tells it: every column, every term, whatever was told in how many steps."""

from __future__ import annotations

import functools
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from lineage import joining, joins, projections, proxied, resolving
from lineage.extracts import looking
from lineage.extracts.beginnings import BEGUN, BY_INDEX
from lineage.extracts.terms import BY_TIME
from lineage.newer import chunks, layers, records, telling
from tests.lineage import test_fresh
from tests.lineage.test_joins import RECORDS

ROLES = {("prod", "orders", "orders_api")}


def _touches(events: pa.Table, chance: random.Random) -> pa.Table:
    found = []
    for row in events.select(["index", "occurred_at", "datasource"]).to_pylist():
        for _ in range(chance.choice([0, 1, 1, 2, 3])):
            pairs = chance.sample(["id=1", "id=2", "a=x=y", "b="], chance.randrange(3))
            found.append(row | {
                "relation": chance.choice(["public.T1", "public.t2", "Straße", None]), "key": chance.choice(["1", "2", None]),
                "access": chance.choice(["read", "wrote", "changed", "ddl"]), "touch_op": "update", "provenance": "reported",
                "key_columns": chance.choice([["id"], []]), "pairs": pairs, "touch_columns": ["a"],
            })  # fmt: skip
    return pa.Table.from_pylist(found, schema=projections.TOUCHES)


def _events(seed: int) -> pa.Table:
    events = test_fresh._events(seed)
    chance = random.Random(seed)
    more = {
        "relations": lambda: chance.sample(["public.T1", "public.t2", "other"], chance.randrange(3)),
        "verdict": lambda: chance.choice(["allowed", "blocked", "pending", None]),
        "approval_request": lambda: chance.choice([None, "R-1"]),
        "session_phase": lambda: None,
    }
    for name, draw in more.items():
        place = events.schema.get_field_index(name)
        column = pa.array([draw() for _ in range(len(events))], events.schema.field(name).type)
        events = events.set_column(place, name, column)
    return events


class Both:
    """One log, told by the statements and by `lineage.newer`."""

    def __init__(self, events: pa.Table, touches: pa.Table, store: test_fresh.Store) -> None:
        self.database, self.events, self.touches = store.database, events, touches
        self.state, self.stored = store.state, dict(store.rows)
        self.records = records.Records(store.state, ROLES)

    def read(self, indexes: Any) -> chunks.Reported:
        some = pa.array(np.asarray(indexes, np.int64))
        parts = (pc.is_in(table["index"], some) for table in (self.events, self.touches))
        chosen = (table.filter(part) for table, part in zip((self.events, self.touches), parts, strict=True))
        return next(chosen), next(chosen)

    def extend(self, size: int) -> records.Stand:
        told = chunks.between(self.events, self.touches, self.records.size, size)
        return self.records.extend(told, size, self.read)

    def assert_same(self, stand: records.Stand) -> None:
        """As the statements have it: rows, and everything that they are found by."""
        test_fresh._views(self.database, stand.size, stand.size)
        told = {row[0]: row for row in self.database.execute("from whole").fetchall()}
        left = {
            n: row for n, row in self.stored.items() if n < self.state.extracted_to and n not in stand.stale.tolist()
        }
        assert left == {n: told[n] for n in left}
        again = ", ".join(map(str, [-1, *stand.stale.tolist()]))
        database = self.database
        rows = f"select * from whole where index >= {self.state.extracted_to} or index in ({again})"
        names = [row[0] for row in database.execute("describe whole").fetchall()]
        assert names == telling.COLUMNS
        database.register("all_touches", self.touches)
        touched = f"select * from all_touches where index < {stand.size} and (index >= {self.state.extracted_to} or index in ({again}))"
        held = looking.Held(database, rows, touched)
        asked = held.all.indexes
        assert self.contents(stand) == held.read(database, asked)
        self.assert_found(stand, held)

    def contents(self, stand: records.Stand) -> dict[int, Any]:
        found: dict[int, Any] = {}
        for layer, hidden in stand.layers:
            found |= stand.read(layer, np.setdiff1d(layer.all.indexes, hidden))
        return dict(sorted(found.items()))

    def assert_found(self, stand: records.Stand, held: looking.Held) -> None:
        layer = functools.reduce(layers.Layer.under, [one for one, _ in stand.layers])
        places = [held.places[number] for number in held.all.places.tolist()]
        assert [layer.places[number] for number in layer.all.places.tolist()] == places
        for mine, told in zip((*layer.all[:2], layer.all.marks), (*held.all[:2], held.all.marks), strict=True):
            assert mine.tolist() == told.tolist()
        for name in (BY_INDEX, BY_TIME, BEGUN):
            pairs = [tuple(map(np.ndarray.tolist, each.postings[name].between(0, 1 << 64))) for each in (layer, held)]
            assert pairs[0] == pairs[1], name
        assert {place: layer.shapes[place] & shapes for place, shapes in held.shapes.items()} == held.shapes
        ran = [tuple(map(np.ndarray.tolist, each.writings.pairs())) for each in (layer, held)]
        assert ran[0] == ran[1]
        bits = [
            {(*table[:4], bit) for some in each.tables.named.values() for table in some for bit in range(24) if table.bits >> bit & 1}
            for each in (layer, held)
        ]  # fmt: skip
        assert bits[0] >= bits[1]
        for some in layer.tables.named.values():
            assert len({table[:4] for table in some}) == len(some), "an access would be counted twice"


def _resolve(database: joining.Cursor, size: int) -> None:
    """The table `whole`: all records of a log of this size, by the joins."""
    test_fresh._views(database, size, size)
    database.execute("create schema joined; set schema = 'joined'; create view facts as from facts_of_all")
    database.execute("create view context_roles as from given_context_roles")
    database.execute(joins.tables(True, True) + proxied.NO_SESSIONS + resolving.resolved(False))
    database.execute(
        "create or replace table main.whole as from resolved; set schema = 'main'; drop schema joined cascade"
    )


@pytest.mark.parametrize("seed", range(4))
def test_what_is_newer_than_extracts_is_the_same_as_the_statements_make_it(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    events = _events(seed)
    touches = _touches(events, chance)
    stale = 0
    with test_fresh._database(events) as database:
        store = test_fresh.Store(database, tmp_path)
        for cut in sorted(chance.sample(range(20, 90), 2)):
            store.extract(cut, cut)
        both = Both(events, touches, store)
        sizes = sorted({*chance.sample(range(store.state.extracted_to, RECORDS), 4), RECORDS})
        # What was made of less is still told so when more is.
        for stand in [both.extend(size) for size in sizes]:
            stale += len(stand.stale)
            _resolve(database, stand.size)
            both.assert_same(stand)
    assert stale
