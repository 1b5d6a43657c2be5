"""Rows of `TOUCHES`: from row images for changes, from parsed effects within the reported relations for queries."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import pyarrow as pa

from lineage.events import key_text
from lineage.projections import arrays
from lineage.projections.fields import ChangeGroup, Effect, Resource, Value
from lineage.projections.schema import TOUCHES
from lineage.statements import Statement

Touch = tuple[
    str, str | None, str, str | None, str, Sequence[str], Sequence[str], Sequence[str]
]  # relation, key, access, op, provenance, columns of the key, its pairs, columns touched
ACCESS = {
    "read": "read", "export": "read", "insert": "wrote", "update": "wrote", "delete": "wrote", "truncate": "wrote",
    "import": "wrote", "ddl": "ddl", "privilege": "privilege", "procedural": "procedural",
}  # fmt: skip


def qualified(schema: str | None, relation: str | None) -> str | None:
    return f"{schema}.{relation}" if schema and relation else relation


def reported(resources: Sequence[Resource]) -> list[str]:
    """What the source itself named, schema-qualified where it said so."""
    if len(resources) == 1:
        name = qualified(resources[0].schema, resources[0].relation)
        return [name] if name else []
    named = [qualified(r.schema, r.relation) for r in resources]
    return list(dict.fromkeys(n for n in named if n))


def of_query(
    op: str | None, effects: Sequence[Effect], parsed: Statement | None, reported: Sequence[str]
) -> list[Touch]:
    """What the source itself says was met, then what the text says, then relations of which nothing else is known."""
    touched = _told(effects) if effects else []
    known = {(touch[0], touch[3]) for touch in touched} if touched else ()
    for effect in parsed.effects if parsed else ():
        relation = _resolved(effect.schema, effect.relation, reported)
        if relation is None or (relation, effect.verb) in known:
            continue
        access = ACCESS.get(effect.verb, "procedural")
        if not effect.keys:
            touched.append((relation, None, access, effect.verb, "parsed", (), (), effect.columns))
        for key in effect.keys or ():
            columns, values = zip(*key, strict=True) if key else ((), ())
            pairs = [f"{column}={value}" for column, value in key]
            text = key_text(values) if key else None
            touched.append((relation, text, access, effect.verb, "parsed", columns, pairs, effect.columns))
    if reported:
        seen = {touch[0] for touch in touched}
        access = ACCESS.get(op or "", "procedural")
        for relation in reported:
            if relation not in seen:
                touched.append((relation, None, access, op, "reported", (), (), ()))
    return touched


def _told(effects: Sequence[Effect]) -> list[Touch]:
    """The rows that the source itself says were met: a gateway knows the keys in a result."""
    touched: list[Touch] = []
    for effect in effects:
        relation = qualified(effect.schema, effect.relation)
        if relation:
            access = ACCESS.get(effect.verb, "procedural")
            touched += [
                (relation, key_text(_values(key)), access, effect.verb, "reported", *_named(key), effect.columns)
                for key in effect.keys
            ]
    return touched


def of_change(op: str | None, change: ChangeGroup, reported: Sequence[str]) -> list[Touch]:
    """The row's key in each reported relation, and the one that it had before."""
    access = "snapshot" if op == "snapshot" else "changed"
    keys = (change.key, change.old_key) if change.old_key else (change.key,)
    rows = [(key_text(_values(key)) if key else None, *_named(key)) for key in keys]
    return [
        (relation, text, access, op, "reported", columns, pairs, change.changed_columns)
        for relation in reported
        for text, columns, pairs in rows
    ]


def _values(key: Sequence[Value]) -> list[str | None]:
    return [v.value for v in key]


def _named(key: Sequence[Value]) -> tuple[list[str], list[str]]:
    return [v.column for v in key], [f"{v.column}={v.value}" for v in key]


def _resolved(schema: str | None, relation: str | None, reported: Sequence[str]) -> str | None:
    """The relation's full name; None where the source reported relations and this is not one of them."""
    if not relation:
        return None
    name = qualified(schema, relation) or relation
    if not reported or name in reported:
        return name
    if schema is not None:
        return None
    if len(reported) == 1:
        return reported[0] if reported[0].rpartition(".")[2] == relation else None
    return next((r for r in reported if r.rpartition(".")[2] == relation), None)


def table(told: Sequence[Sequence[Touch]], at: Sequence[int], events: dict[str, pa.Array]) -> pa.Table:
    """All rows: each record has the touches that are told at its place of `at`, and more from the columns of the records."""
    every = list(chain.from_iterable(told))
    own = list(zip(*every, strict=True)) if every else [()] * 8
    made: list[pa.Array] = [*map(arrays.texts, own[:5]), *map(arrays.lists, own[5:])]
    counts = np.fromiter(map(len, told), np.int64, len(told))
    which = np.array(at, np.int64)
    often = counts[which]
    places = pa.array(np.repeat(np.arange(len(which)), often))
    # Each row's place among those that are told: where its record's begin, and how far it is from there.
    begins = (np.cumsum(counts) - counts)[which] - (np.cumsum(often) - often)
    rows = np.arange(len(places)) + np.repeat(begins, often)
    columns = [events[name].take(places) for name in ("index", "occurred_at", "datasource")]
    return pa.Table.from_arrays([*columns, *arrays.spread(made, rows)], schema=TOUCHES)
