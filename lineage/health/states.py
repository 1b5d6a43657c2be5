"""Snapshots of one database held against the one before: what captures less, since when, and until when. Pure."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from lineage import coverage
from lineage.coverage import Weakness
from lineage.events import State

DAY = dt.timedelta(days=1)
"""How long something counts as weakened; afterwards it is how this database is set up."""

PUBLICATION = "touchstone"
"""The publication that `pgwal` reads unless told otherwise."""

_decode = msgspec.json.Decoder(State).decode


class Snapshot(msgspec.Struct, frozen=True):
    """The state of one database at one time, put together from its parts."""

    index: int
    at: dt.datetime
    arrived_at: dt.datetime
    database: str
    state: State


class Judged(msgspec.Struct):
    """What new snapshots told: what began and what ended, each with the snapshot's time, and where to go on."""

    begins: list[tuple[Weakness, Snapshot]] = []
    ends: list[tuple[str, str, Snapshot]] = []
    baseline: int | None = None
    newest: int | None = None


def snapshots(rows: Iterable[Mapping[str, Any]]) -> list[Snapshot]:
    """Snapshots from state records by index; a difference adds to the snapshot before it."""
    made: list[Snapshot] = []
    for row in rows:
        state, database = _decode(row["state"]), row["database"] or ""
        if state.mode == "snapshot":
            made.append(Snapshot(row["index"], row["occurred_at"], row["received_at"], database, state))
        elif made and made[-1].database == database:
            last = made[-1]
            more = {name: (*getattr(last.state, name), *getattr(state, name)) for name in ADDED}
            made[-1] = msgspec.structs.replace(last, state=msgspec.structs.replace(last.state, **more))
    return made


ADDED = ("roles", "grants", "keys", "marks")


def judge(
    told: Sequence[Snapshot],
    new_from: int,
    baseline: int | None,
    open_since: Mapping[tuple[str, str], dt.datetime],
) -> Judged:
    """Compares each snapshot from index `new_from` on with the one before and with the last one that nothing was weaker than.

    `open_since`: (rule, about) of what was weakened before and is not known to be restored.
    """
    result, still = Judged(baseline=baseline), dict(open_since)
    result.newest = told[-1].index if told else None
    for before, after in itertools.pairwise(told):
        if after.index < new_from or before.database != after.database:
            continue
        result.baseline = before.index if result.baseline is None else result.baseline
        base = next((s for s in told if s.index == result.baseline), before)
        since_base, newly = (
            {(w.rule, w.about): w for w in coverage.differences(first.state, after.state)} for first in (base, before)
        )
        now = since_base | newly
        for name, weakness in now.items():
            # Weaker in another way than before is news too: it takes the place of what was told.
            if name not in still or name in newly:
                still[name] = after.at
                result.begins.append((weakness, after))
        for name in [n for n, since in still.items() if n not in now or after.at - since > DAY]:
            del still[name]
            result.ends.append((*name, after))
        if not still:
            result.baseline = after.index
    return result


def ever(told: Sequence[Snapshot], at: dt.datetime, database: str) -> list[State]:
    """The states in force at a time or during the day before it, oldest first."""
    inside = [s for s in told if s.database == database and s.at <= at]
    return [
        s.state for n, s in enumerate(inside) if n + 1 == len(inside) or inside[n + 1].at > at - DAY
    ]  # fmt: skip


def setting(state: State, name: str) -> str:
    return next((s.value for s in state.settings if s.name == name), "")


def logs_transactions(state: State, *classes: str) -> bool:
    """Whether pgAudit writes lines of these classes, with the transaction's id."""
    rows = setting(state, "pgaudit.log_rows").lower() in coverage.ON
    return rows and set(classes) <= coverage.audited(setting(state, "pgaudit.log"))


def captures(state: State, relation: str, ops: Collection[str], seen: Collection[str]) -> bool:
    """Whether change capture must bring these operations on a table: published without a filter, in the write-ahead log.

    Which publication is captured the state does not say: the one of the usual name, or any for a table of which changes
    were `seen`.
    """
    schema, _, name = relation.rpartition(".")
    key = next((k for k in state.keys if (k.schema, k.relation) == (schema, name)), None)
    if key is None or key.kind != "table" or key.persistence != "permanent":
        return False
    return any(
        (publication.name == PUBLICATION or relation in seen)
        and set(ops) <= set(publication.operations)
        and (
            publication.all_tables
            or any((t.schema, t.relation) == (schema, name) and not t.row_filter for t in publication.tables)
        )
        for publication in state.published
    )
