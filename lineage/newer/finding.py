"""What a record is found by, and its marks: `lineage.extracts.terms` and `tables` once more, in Python. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from lineage import acts
from lineage.extracts import terms, writings
from lineage.extracts.persons import Person
from lineage.extracts.postings import hash_of
from lineage.extracts.tables import BITS, BOTH, NAMED, Table
from lineage.extracts.tables import TOUCHED as ONLY_TOUCHED
from lineage.newer.saying import UNAUTHORISED

Touch = Mapping[str, Any]
Resolved = Mapping[str, Any]
"""A record by the columns of `resolved`."""
ACTED = frozenset({"session", "query", "change"})
ASIDE = frozenset({"claim", "canary"})
QUIET = frozenset({"snapshot", "other"})


class Found(NamedTuple):
    """Terms by index and by time; the tables and shapes of its touches; whose beginning it may be, of which session; whom it names."""

    actors: list[int]
    rows: list[int]
    tables: list[Table]
    shapes: list[tuple[str, str, str]]
    begins: list[tuple[str | None, ...]]
    person: Person
    marks: int
    ran: int
    """Of a record that wrote to a table, its transaction, as `writings` has it."""


def found(row: Resolved, touches: Sequence[Touch]) -> Found:
    told = list(_tables(row, touches))
    by_table = [
        hash_of("table", one.how, one.datasource, one.relation, bit)
        for one in told
        for bit in range(BITS)
        if one.bits >> bit & 1
    ]
    actors = [*by_table, *_actors(row, touches)]
    return Found(
        actors,
        list(_rows(row, touches)),
        told,
        list(_shapes(touches)),
        list(_begins(row)),
        Person(*(row[name] for name in Person._fields)),
        marks(row),
        ran(row, touches),
    )


def marks(row: Resolved) -> int:
    flags, verdict, kind = set(row["flags"]), row["verdict"], row["kind"]
    is_real = not flags & ASIDE and not flags & acts.SECOND
    is_access = is_real and kind in ("query", "change") and row["op"] not in QUIET and row["emitted"] is None
    is_listed = row["environment"] not in (None, "touchstone") and not flags & ASIDE and kind != "custody"
    held = {
        terms.ACCESS: is_access, terms.REAL: is_real, terms.DONE: verdict is not None and verdict not in acts.UNDONE,
        terms.NOT_DONE: verdict in acts.UNDONE, terms.DECISION: kind == "decision", terms.ACT: kind in ACTED, terms.LISTED: is_listed,
    }  # fmt: skip
    return sum(mark for mark, holds in held.items() if holds)


def ran(row: Resolved, touches: Sequence[Touch]) -> int:
    if not any(touch["access"] == "wrote" for touch in touches):
        return writings.ALONE
    if row["outcome"] in (None, "rolled_back"):
        return writings.UNDONE
    return hash_of("transaction", row["transaction_id"]) if row["transaction_id"] is not None else writings.ALONE


def begin(group: tuple[str | None, ...]) -> int:
    """The term of the first record of such a group."""
    kind, *parts = group[2:]
    return hash_of(str(kind), *parts)


def _begins(row: Resolved) -> Iterator[tuple[str | None, ...]]:
    """Environment and session; then the kind of a term and its parts."""
    if row["session"] is None or row["kind"] not in ACTED:
        return
    of = row["environment"], row["session"]
    yield *of, "begin", row["datasource"]
    if row["told_id"] is not None:
        yield *of, "begin told", row["told_id"]
    elif row["db_user"] is not None:
        yield *of, "begin login", row["datasource"], row["db_user"]


def _actors(row: Resolved, touches: Sequence[Touch]) -> Iterator[int]:
    if row["told_id"] is not None:
        yield hash_of("told", row["told_id"])
    elif row["db_user"] is not None:
        yield hash_of("login", row["datasource"], row["db_user"])
    if row["agent_run"] is not None:
        yield hash_of("run", row["agent_run"])
    if row["on_behalf_of"] is not None:
        yield hash_of("behalf", row["on_behalf_of"])
    for touch in touches:
        if _is_here(touch) and touch["access"] == "changed" and touch["key_columns"]:
            yield hash_of("keyed", touch["datasource"], touch["relation"])


def _rows(row: Resolved, touches: Sequence[Touch]) -> Iterator[int]:
    if row["session"] is not None:
        yield hash_of("session", row["session"])
    how = "leave" if row["kind"] == "decision" else "cited"
    yield from (hash_of(how, asked) for asked in (row["ticket"], row["approval_request"]) if asked is not None)
    if row["datasource"] is not None and row["transaction_id"] is not None:
        yield hash_of("acted", row["datasource"], row["transaction_id"])
    if (
        row["kind"] == "state"
        and row["state"] is not None
        and UNAUTHORISED not in row["flags"]
        and _is_whole(row["state"])
    ):
        yield hash_of("state", row["datasource"])
    for touch in touches:
        if _is_here(touch):
            yield from _touched(row, touch)


def _touched(row: Resolved, touch: Touch) -> Iterator[int]:
    place, access, key = (touch["datasource"], touch["relation"]), touch["access"], touch["key"]
    if access in ("changed", "read") and key is not None:
        yield hash_of("row", *place, access, key)
    if access == "changed":
        if key is None:
            yield hash_of("keyless", *place)
        if row["transaction_id"] is not None:
            yield hash_of("captured", *place) ^ hash_of("transaction", row["transaction_id"])
    if access in ("read", "wrote"):
        yield from (hash_of("pair", *place, access, pair) for pair in touch["pairs"])
        yield hash_of("shape", *place, access, _shape(touch))
    if row["verdict"] in acts.UNDONE:
        yield from (hash_of("refused", *place, met) for met in (*touch["pairs"], key) if met is not None)


def _is_here(touch: Touch) -> bool:
    return touch["datasource"] is not None and touch["relation"] is not None


def _is_whole(state: str) -> bool:
    """Whether it is a complete snapshot of a database's catalogs."""
    said = msgspec.json.decode(state)
    mode = said.get("mode") if isinstance(said, dict) else None
    return mode is None or mode == "snapshot"


def _shape(touch: Touch) -> str:
    return terms.APART.join(sorted({pair.split("=", 1)[0] for pair in touch["pairs"]}))


def _shapes(touches: Sequence[Touch]) -> Iterator[tuple[str, str, str]]:
    for touch in touches:
        if _is_here(touch) and touch["access"] in ("read", "wrote"):
            yield touch["datasource"], touch["relation"], _shape(touch)


def _tables(row: Resolved, touches: Sequence[Touch]) -> Iterator[Table]:
    """Each table that the record names or touches, with the bits of how often."""
    times: dict[str, int] = {}
    for touch in touches:
        if touch["relation"] is not None:
            times[touch["relation"]] = times.get(touch["relation"], 0) + 1
    named = {relation for relation in row["relations"] if relation is not None}
    for relation in times.keys() | named:
        how = BOTH if relation in times and relation in named else NAMED if relation in named else ONLY_TOUCHED
        # Letter by letter, as DuckDB folds: what a letter stands beside does not matter.
        folded = "".join(letter.lower()[0] for letter in relation)
        yield Table(row["datasource"], relation, folded, how, times.get(relation, 1))
