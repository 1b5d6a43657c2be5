"""Databases, tables and rows: who read, who wrote, who could have read, and who held which right."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lineage import errors
from lineage.access import Viewer
from lineage.acts import REAL
from lineage.engine import Question
from lineage.queries import candidates, databases, met, paging, readers, short, sought, usage
from lineage.queries.ask import (
    ACCESSES,
    LIMIT_MOST,
    TIMES,
    Answer,
    Coverage,
    Place,
    Total,
    Window,
    limited,
    scoped,
    searched,
)
from lineage.queries.covering import coverage, source_rows
from lineage.queries.holding import held
from lineage.queries.inventory import inventory, owners_of
from lineage.queries.people import latest_states

PEOPLE = (
    "who_id, any_value(who_name) as who_name, any_value(who_type) as who_type, any_value(on_behalf_of) as on_behalf_of, "
    f"{TIMES} as count, max(occurred_at) as last_at"
)


TOUCHING = (
    "occurred_at, environment, access, columns, key, db_user, who_id, who_name, who_type, on_behalf_of, kind, flags, correlation_id, "
    "index, transaction_id"
)
"""What of each access to a table its page tells of."""
RELATION_COLUMNS = """datasource, relation, max(index) as last_index, any_value(environment) as environment, min(occurred_at) as first_at,
        max(occurred_at) as last_at,
        count(distinct coalesce(correlation_id, event_id)) filter (access = 'read') as reads,
        count(distinct coalesce(correlation_id, event_id)) filter (access in ('wrote', 'changed')) as writes,
        count(*) filter (access = 'changed') as rows_changed,
        count(distinct who_id) filter (access = 'read') as readers,
        count(distinct who_id) filter (access in ('wrote', 'changed')) as writers,
        arg_max(key_columns, index) filter (access = 'changed') as keys"""


def relation_rows(
    viewer: Viewer, q: str, window: Window, now: dt.datetime | None = None, columns: str = RELATION_COLUMNS,
    only: Sequence[str] | None = None, few: str = "true",
) -> tuple[str, list[Any]]:  # fmt: skip
    """The rows of `relations` as SQL, and its values. Relative times in `q` count from `now`; with `only` of tables so named.

    `few`: a condition that all matching accesses meet.
    """
    condition, values = searched(viewer, q, window, "touch", now)
    those = "relation is not null" if only is None else "relation in (select unnest(?))"
    inner = f"select {columns} from touches where {few} and {condition} and {REAL} and {those} group by datasource, relation"  # noqa: S608
    return inner, values if only is None else [*values, list(only)]


def relations(
    viewer: Viewer, q: str = "", window: Window = Window(), limit: int | None = None, cursor: str | None = None
) -> Answer:
    """Relation rows: every table that a matching record touches, most recently touched first."""
    as_of, place, is_back = paging.asked(cursor, tuple[Place, str, str])
    with Question(as_of=as_of) as question:
        page = met.page(question, viewer, q, window, place, is_back, limited(limit))
        if page is None:
            page = _page(question, viewer, q, window, place, is_back, limited(limit))
        shown, following, previous, whole = page
        return Answer(shown, following, whole, question.size, coverage(question, viewer, window), previous)


def _page(
    question: Question, viewer: Viewer, q: str, window: Window, place: Any, is_back: bool, count: int
) -> paging.Page:
    """The same of records."""
    now = dt.datetime.now(dt.UTC)
    # One record may be the last of several tables: index, database and name order them wholly.
    names, last = ("datasource", "relation"), "datasource, relation, max(index) as last_index"
    with sought.matching(question, viewer, q, window, "touch") as few:
        inner, values = relation_rows(viewer, q, window, now, last, few=few)
        # Which tables are on the page is asked of all; what was done there, of them alone.
        found, following, previous, whole = paging.keyset(question, inner, values, names, place, is_back, count)
        inner, values = relation_rows(viewer, q, window, now, only=sorted({row["relation"] for row in found}), few=few)
        rows = {_named(row): row for row in question.rows(inner, values)} if found else {}
    return [rows[_named(row)] for row in found], following, previous, whole


def _named(row: Mapping[str, Any]) -> tuple[Any, Any]:
    return row["datasource"], row["relation"]


def relation(
    viewer: Viewer, datasource: str, relation: str, window: Window = Window(), at: dt.datetime | None = None
) -> dict[str, Any]:
    """One table: its columns, readers, writers, busiest rows, and who held which right (now, or at a time).

    Raises NotFound when nothing touched it in the window.
    """
    with Question() as question:
        found = usage.told(question, viewer, datasource, spellings(relation), window)
        if found is None:
            found = _used(question, viewer, datasource, relation, window)
        if not found["relation"]["touches"]:
            raise errors.NotFound
        return {
            **found,
            "relation": {"datasource": datasource, "relation": relation, **found["relation"]},
            "keys": key_columns(question, viewer, datasource, relation),
            **held(question, viewer, datasource, relation, at),
            "as_of": question.size,
            "coverage": coverage(question, viewer, window),
        }


def _used(question: Question, viewer: Viewer, datasource: str, relation: str, window: Window) -> dict[str, Any]:
    """As `usage.told`, of records."""
    condition, values = _touching(viewer, datasource, relation, window)
    # Read once for all that is asked of it.
    question.rows(f"create temp table here as select {TOUCHING} from touches where {condition}", values)  # noqa: S608

    def ask(select: str, tail: str) -> list[dict[str, Any]]:
        return question.rows(f"select {select} from here {tail}")  # noqa: S608 - our own words

    grouped = "group by who_id order by 5 desc, who_id limit 100"
    return {
        "relation": ask(
            "count(*) as touches, min(occurred_at) as first_at, max(occurred_at) as last_at, any_value(environment) as environment", ""
        )[0],
        "columns": ask(
            "unnest(list_distinct(columns)) as column, count(*) filter (access = 'read') as reads, "
            "count(*) filter (access in ('wrote', 'changed')) as writes", "group by 1 order by 1"
        ),
        "readers": ask(PEOPLE, f"where access = 'read' {grouped}"),
        "writers": ask(PEOPLE, f"where access in ('wrote', 'changed') {grouped}"),
        "hours": ask("date_trunc('hour', occurred_at) as hour, access, count(*) as count", "group by 1, 2 order by 1, 2"),
        "logins": ask(
            "db_user as login, count(*) filter (access = 'read') as reads, count(*) filter (access <> 'read') as others, "
            "max(occurred_at) as last_at", "where db_user is not null group by 1 order by 1"
        ),
        "busiest": ask(
            "key, count(*) as count, max(occurred_at) as last_at", "where key is not null group by 1 order by 2 desc, 1 limit 10"
        ),
    }  # fmt: skip


def columns(viewer: Viewer, datasource: str, relation: str) -> list[str]:
    """The columns of one table that accesses in scope name."""
    with Question() as question:
        names = usage.columns(question, viewer, datasource, spellings(relation))
        if names is None:
            condition, values = _touching(viewer, datasource, relation, Window())
            sql = f"select distinct unnest(columns) as name from touches where {condition} order by 1"  # noqa: S608
            names = [row["name"] for row in question.rows(sql, values)]
    return [name for name in names if name != "*"]


def _touching(viewer: Viewer, datasource: str, relation: str, window: Window) -> tuple[str, list[Any]]:
    scope, values = scoped(viewer, window)
    condition = f"datasource = ? and list_contains(?, relation) and {scope} and {REAL}"
    return condition, [datasource, spellings(relation), *values]


def spellings(relation: str) -> list[str]:
    """The full name, and the bare one that a parsed statement may have used."""
    return [relation, relation.rpartition(".")[2]] if "." in relation else [relation, f"public.{relation}"]


def key_columns(question: Question, viewer: Viewer, datasource: str, relation: str) -> list[str]:
    """The primary key's columns in key order, from the newest state snapshot or the newest change; else empty."""
    names = spellings(relation)
    known = candidates.told(
        question, lambda look: candidates.key_columns(look, viewer, datasource, names, lambda keys: _of(keys, relation))
    )
    if known is not None:
        return known
    for snapshot in latest_states(question, viewer):
        if snapshot["datasource"] == datasource and (found := _of(snapshot["state"].get("keys", ()), relation)):
            return found
    scope, values = viewer.scope()
    changed = question.rows(
        "select arg_max(key_columns, index) as columns from touches where datasource = ? and list_contains(?, relation) "  # noqa: S608
        f"and access = 'changed' and len(key_columns) > 0 and {scope}",
        [datasource, names, *values],
    )
    return list(changed[0]["columns"] or [])


def _of(keys: Iterable[Mapping[str, Any]], relation: str) -> list[str]:
    """The columns of the relation's key among those of a snapshot."""
    schema, _, name = relation.rpartition(".")
    for key in keys:
        if key["relation"] == name and key["schema"] == (schema or "public") and key.get("columns"):
            return list(key["columns"])
    return []


def column(
    viewer: Viewer, datasource: str, relation: str, name: str, window: Window = Window()
) -> dict[str, list[dict[str, Any]]]:
    """Who read and who wrote one column: as far as a record names it, or a statement all columns (`*`)."""
    scope, values = scoped(viewer, window)
    names = spellings(relation)
    here = (
        f"datasource = ? and list_contains(?, relation) and {scope} and {REAL} and list_has_any(columns, [?, '*']) "
        "and access in ('read', 'wrote', 'changed')"
    )
    with Question() as question:
        rows = readers.found(question, viewer, datasource, names, name, window)
        if rows is None:
            rows = question.rows(
                f"select access = 'read' as reading, {PEOPLE}, bool_and(not list_contains(columns, ?)) as by_star from touches "  # noqa: S608
                f"where {here} group by reading, who_id order by count desc, who_id limit {readers.MOST}",
                [name, datasource, names, *values, name],
            )
    return {"readers": [r for r in rows if r["reading"]], "writers": [r for r in rows if not r["reading"]]}


ANSWERS = {
    "person": "who_type = 'human' or on_behalf_of is not null",
    "statements": "kind = 'query'",
    "reads": "op = 'read'",
    "before_after": "kind = 'change' and len(before_values) > 0",
    "changes": "kind = 'change'",
    "approvals": "approval is not null",
    "grants": "kind = 'state'",
}
"""What a database can answer, if one of its records is so."""


def _with_inventory(
    rows: list[dict[str, Any]], said: list[dict[str, Any]], feeds: list[dict[str, Any]], covered: list[Coverage]
) -> list[dict[str, Any]]:
    """Adds databases that have no record yet, and to each where it stands: `state` and the inventory's `entry`.

    reporting; nothing received (a source, no record); no source (the inventory names it as active); retired; retired, still
    reporting; not in the inventory (where there is one).
    """
    entries = {entry["datasource"]: entry for entry in said}
    sent = {row["datasource"] for row in rows}
    heard = {f["datasource"]: f for f in feeds if f["datasource"] and f["revoked_at"] is None}
    for name in sorted({*entries, *heard} - sent):
        environment = (entries.get(name) or heard[name])["environment"]
        rows.append({
            "datasource": name, "environment": environment, "events": 0, "attributed": 0, "attributable": 0, "last_at": None,
            "gaps": 0, "settings": {}, "sources": [f for f in feeds if f["datasource"] == name],
            "coverage": [c for c in covered if c.datasource == name], **{f"can_{answer}": False for answer in ANSWERS},
        })  # fmt: skip
    for row in rows:
        entry = row["entry"] = entries.get(row["datasource"])
        retired = entry is not None and entry["state"] == "retired"
        if row["datasource"] in sent:
            row["state"] = (
                "retired, still reporting" if retired and row["sources"] else "retired" if retired else "reporting"
            )
            if said and entry is None:
                row["state"] = "not in the inventory"
        else:
            row["state"] = "retired" if retired else "nothing received" if row["datasource"] in heard else "no source"
    return sorted(rows, key=lambda row: (row["state"] != "no source", row["state"] == "retired", row["datasource"]))


SEARCHED = {"datasource": "datasource", "environment": "environment", "source": "source_names"}
"""By which fields of the search language databases are found, and the members that hold them."""


def _databases(question: Question, viewer: Viewer) -> list[dict[str, Any]]:
    """As `databases.rows`, of records."""
    scope, values = scoped(viewer, Window())
    answers = ", ".join(f"coalesce(bool_or({shown}), false) as can_{name}" for name, shown in ANSWERS.items())
    return question.rows(
        f"select datasource, any_value(environment) as environment, count(*) filter ({ACCESSES}) as events, {answers}, "  # noqa: S608
        "count(*) filter (attribution <> 'none' and kind in ('query', 'change')) as attributed, "
        "count(*) filter (kind in ('query', 'change')) as attributable, "
        "max(occurred_at) as last_at, count(*) filter (custody_type = 'gap') as gaps "
        "from activity where datasource is not null and not (source = 'touchstone' and kind = 'decision') "
        f"and {scope} group by datasource order by datasource",
        values,
    )


def datasources(
    viewer: Viewer, q: str = "", window: Window = Window(), limit: int | None = None, cursor: str | None = None
) -> Answer:
    """One row for each database: what its sources can answer, the last record, gaps, and settings from its catalogs.

    The window says which environment, and of which time completeness is told. What is counted is all in scope, since a
    database that was silent in that time must not be missing.
    """
    with Question() as question:
        rows = databases.rows(question, viewer)
        if rows is None:
            rows = _databases(question, viewer)
        states = {s["datasource"]: s for s in latest_states(question, viewer)}
        feeds = source_rows(viewer)
        covered = coverage(question, viewer, window)
        for found in rows:
            state = states.get(found["datasource"])
            found["settings"] = {s["name"]: s["value"] for s in state["state"].get("settings", ())} if state else {}
            found["sources"] = [s for s in feeds if s["datasource"] == found["datasource"]]
            found["coverage"] = [c for c in covered if c.datasource == found["datasource"]]
        rows = _with_inventory(rows, inventory(viewer), feeds, covered)
        for found in rows:
            found["source_names"] = [feed["name"] for feed in found["sources"]]
        rows = [row for row in rows if window.environment in (None, row["environment"])]
        rows = short.narrowed(rows, q, SEARCHED)
        shown, following = short.page(rows, "datasource", limit or LIMIT_MOST, cursor, question.size)
        named = owners_of(viewer, [found["datasource"] for found in shown])
        for found in shown:
            del found["source_names"]
            found["owners"] = named.get(found["datasource"], [])
        return Answer(shown, following, Total(len(rows), True), question.size, covered)
