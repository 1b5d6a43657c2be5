"""Databases, tables and rows: who read, who wrote, who could have read, and who held which right."""

from __future__ import annotations

import datetime as dt
from typing import Any

from lineage import errors
from lineage.access import Viewer
from lineage.engine import Question
from lineage.events import split_key
from lineage.queries import paging
from lineage.queries.ask import (
    ACCESSES,
    TIMES,
    TWICE,
    Answer,
    Place,
    Total,
    Window,
    fetch,
    limited,
    scoped,
    searched,
    total,
)
from lineage.queries.covering import coverage, source_rows
from lineage.queries.people import latest_states

REAL = f"not list_has_any(flags, ['claim', 'canary']) and not {TWICE}"
ROW_MOST = 500


def relation_rows(viewer: Viewer, q: str, window: Window, now: dt.datetime | None = None) -> tuple[str, list[Any]]:
    """The rows of `relations` as SQL, and its values. Relative times in `q` count from `now`."""
    condition, values = searched(viewer, q, window, "touch", now)
    inner = f"""select datasource, relation, max(index) as last_index, any_value(environment) as environment, min(occurred_at) as first_at,
        max(occurred_at) as last_at,
        count(distinct coalesce(correlation_id, event_id)) filter (access = 'read') as reads,
        count(distinct coalesce(correlation_id, event_id)) filter (access in ('wrote', 'changed')) as writes,
        count(*) filter (access = 'changed') as rows_changed,
        count(distinct who_id) filter (access = 'read') as readers,
        count(distinct who_id) filter (access in ('wrote', 'changed')) as writers,
        arg_max(key_columns, index) filter (access = 'changed') as keys
        from touches where {condition} and {REAL} and relation is not null group by datasource, relation"""  # noqa: S608
    return inner, values


def relations(
    viewer: Viewer, q: str = "", window: Window = Window(), limit: int | None = None, cursor: str | None = None
) -> Answer:
    """Relation rows: every table that a matching record touches, most recently touched first."""
    as_of, place, is_back = paging.asked(cursor, tuple[Place, str, str])
    inner, values = relation_rows(viewer, q, window)
    # One record may be the last of several tables: index, database and name order them wholly.
    names = ("datasource", "relation")
    with Question(as_of=as_of) as question:
        rows, following, previous = paging.keyset(question, inner, values, names, place, is_back, limited(limit))
        whole = total(question, f"({inner})", "true", values)
        return Answer(rows, following, whole, question.size, coverage(question, viewer, window), previous)


def relation(viewer: Viewer, datasource: str, relation: str, window: Window = Window()) -> dict[str, Any]:
    """One table: its columns, readers, writers, busiest rows, grants. Raises NotFound when nothing touched it."""
    scope, values = scoped(viewer, window)
    here = f"datasource = ? and list_contains(?, relation) and {scope} and {REAL}"
    here_values = [datasource, spellings(relation), *values]
    with Question() as question:

        def ask(select: str, tail: str) -> list[dict[str, Any]]:
            return question.rows(f"select {select} from touches where {here} {tail}", here_values)  # noqa: S608

        head = ask(
            "count(*) as touches, min(occurred_at) as first_at, max(occurred_at) as last_at, any_value(environment) as environment",
            "",
        )[0]
        if not head["touches"]:
            raise errors.NotFound
        people = (
            "who_id, any_value(who_name) as who_name, any_value(who_type) as who_type, "
            f"any_value(on_behalf_of) as on_behalf_of, {TIMES} as count, "
            "max(occurred_at) as last_at"
        )
        grouped = "group by who_id order by 5 desc limit 100"
        return {
            "relation": {"datasource": datasource, "relation": relation, **head},
            "columns": ask(
                "unnest(columns) as column, count(*) filter (access = 'read') as reads, "
                "count(*) filter (access in ('wrote', 'changed')) as writes", "group by 1 order by 1"
            ),
            "readers": ask(people, f"and access = 'read' {grouped}"),
            "writers": ask(people, f"and access in ('wrote', 'changed') {grouped}"),
            "hours": ask("date_trunc('hour', occurred_at) as hour, access, count(*) as count", "group by 1, 2 order by 1"),
            "busiest": ask("key, count(*) as count, max(occurred_at) as last_at", "and key is not null group by 1 order by 2 desc limit 10"),  # noqa: E501
            "keys": key_columns(question, viewer, datasource, relation),
            "grants": _grants(question, viewer, datasource, relation, None),
            "as_of": question.size,
            "coverage": coverage(question, viewer, window),
        }  # fmt: skip


def spellings(relation: str) -> list[str]:
    """The full name, and the bare one that a parsed statement may have used."""
    return [relation, relation.rpartition(".")[2]] if "." in relation else [relation, f"public.{relation}"]


def key_columns(question: Question, viewer: Viewer, datasource: str, relation: str) -> list[str]:
    """The primary key's columns in key order, from the newest state snapshot or the newest change; else empty."""
    schema, _, name = relation.rpartition(".")
    for snapshot in latest_states(question, viewer):
        if snapshot["datasource"] == datasource:
            for key in snapshot["state"].get("keys", ()):
                if key["relation"] == name and key["schema"] == (schema or "public") and key.get("columns"):
                    return list(key["columns"])
    scope, values = viewer.scope()
    found = question.rows(
        "select arg_max(key_columns, index) as columns from touches where datasource = ? and list_contains(?, relation) "  # noqa: S608
        f"and access = 'changed' and len(key_columns) > 0 and {scope}",
        [datasource, spellings(relation), *values],
    )
    return list(found[0]["columns"] or [])


# A condition on part of the key with the same value may still have met the row; with another it cannot.
ANOTHER_KEY = (
    "coalesce(list_bool_or(list_transform(pairs, lambda p: list_contains(?::varchar[], split_part(p, '=', 1)) "
    "and not list_contains(?::varchar[], p))), false)"
)


def row(viewer: Viewer, datasource: str, relation: str, key: str, window: Window = Window()) -> dict[str, Any]:
    """One row's life: who changed it, who read it by key, who could have read it, and what cannot be told.

    `changed` comes from row images; `uncertain` are writes by statement whose rows no image accounts for.
    """
    scope, values = scoped(viewer, window)
    with Question() as question:
        columns = key_columns(question, viewer, datasource, relation)
        parts = split_key(key)
        pairs = [f"{c}={v}" for c, v in zip(columns, parts, strict=True)] if len(columns) == len(parts) else []
        here = f"datasource = ? and list_contains(?, relation) and {scope} and {REAL}"
        here_values = [datasource, spellings(relation), *values]
        # The value alone tells nothing: 4711 may be another column's. Only where no key is known it has to do.
        exact = "list_has_all(pairs, ?)" if pairs else "false" if columns else "coalesce(key = ?, false)"
        exact_values: list[Any] = [pairs] if pairs else [] if columns else [key]
        other_values = [columns if pairs else [], pairs]

        def ask(condition: str, more: list[Any]) -> list[dict[str, Any]]:
            found = question.rows(
                f"select distinct index, occurred_at from touches where {here} and {condition} "  # noqa: S608
                f"order by occurred_at desc, index desc limit {ROW_MOST}",
                [*here_values, *more],
            )
            return fetch(question, viewer, found)

        changed = ask("access = 'changed' and key = ?", [key])
        done = "verdict not in ('blocked', 'error')"
        read = ask(f"access = 'read' and {done} and {exact}", exact_values)
        could = ask(f"access = 'read' and {done} and not {exact} and not {ANOTHER_KEY}", [*exact_values, *other_values])
        captured = (
            f"select transaction_id from touches where {here} and access = 'changed' and transaction_id is not null"  # noqa: S608
        )
        uncertain = ask(
            f"((access = 'wrote' and {done} and outcome <> 'rolled_back' and not {ANOTHER_KEY} "
            f"and (transaction_id is null or transaction_id not in ({captured}))) or (access = 'changed' and key is null))",
            [*other_values, *here_values],
        )
        refused = ask(f"verdict in ('blocked', 'error') and {exact}", exact_values)
        if not (changed or read or uncertain or refused) and not could:
            raise errors.NotFound
        return {
            "datasource": datasource, "relation": relation, "key": key, "key_columns": columns,
            "changed": changed, "read": read, "could_have_read": could, "uncertain": uncertain, "refused": refused,
            "versions": versions(changed, key), "summary": _summary(changed, read, could), "as_of": question.size,
            "coverage": coverage(question, viewer, window),
        }  # fmt: skip


def versions(changed: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    """The row as it stood after each change, newest first; a column is None-stated until an image shows it.

    A change that gave the row another key is the end of the row under this one: `renamed_to` names it.
    """
    state: dict[str, dict[str, Any]] = {}
    built = []
    for event in sorted(changed, key=lambda r: (r["occurred_at"], r["index"])):
        for column in event["diff"]:
            if column["state_after"] not in ("unchanged", "unavailable"):
                state[column["column"]] = {"state": column["state_after"], "value": column["after"]}
            elif column["state_before"] not in ("unchanged", "unavailable"):
                state.setdefault(column["column"], {"state": column["state_before"], "value": column["before"]})
        gone = event["op"] in ("delete", "truncate")
        renamed = event["key"] if event["key"] != key else None
        built.append(
            {
                "index": event["index"],
                "at": event["occurred_at"],
                "deleted": gone,
                "renamed_to": renamed,
                "row": dict(state),
            }
        )
        if gone or renamed:
            state = {}
    return built[::-1]


def _summary(changed: list[dict[str, Any]], read: list[dict[str, Any]], could: list[dict[str, Any]]) -> dict[str, Any]:
    by_type: dict[str, set[str]] = {}
    for event in changed:
        by_type.setdefault(event["who_type"], set()).add(event["who_id"] or event["who_name"])
    return {
        "changes": len(changed),
        "changed_by": {kind: len(people) for kind, people in by_type.items()},
        "last_changed_by": changed[0]["who_name"] if changed else None,
        "last_changed_at": changed[0]["occurred_at"] if changed else None,
        "reads": len({r["correlation_id"] or r["event_id"] for r in read}),
        "could_have_read": len({r["correlation_id"] or r["event_id"] for r in could}),
    }


def holders(viewer: Viewer, datasource: str, relation: str, at: dt.datetime | None = None) -> dict[str, Any]:
    """Who held which right on a table at a time, from the newest state snapshot at or before it."""
    if viewer.datasources and datasource not in viewer.datasources:
        raise errors.NotFound
    with Question() as question:
        return {
            "datasource": datasource,
            "relation": relation,
            "at": at,
            "grants": _grants(question, viewer, datasource, relation, at),
            "as_of": question.size,
        }


def _grants(
    question: Question, viewer: Viewer, datasource: str, relation: str, at: dt.datetime | None
) -> list[dict[str, Any]]:
    schema, _, name = relation.rpartition(".")
    for snapshot in latest_states(question, viewer, at):
        if snapshot["datasource"] == datasource:
            return [
                {**grant, "as_of": snapshot["occurred_at"], "index": snapshot["index"]}
                for grant in snapshot["state"].get("grants", ())
                if grant.get("relation") == name and grant.get("schema") == (schema or "public")
            ]
    return []


ANSWERS = {
    "person": "bool_or(who_type = 'human' or on_behalf_of is not null)",
    "statements": "bool_or(kind = 'query')",
    "reads": "bool_or(op = 'read')",
    "before_after": "bool_or(kind = 'change' and len(before_values) > 0)",
    "changes": "bool_or(kind = 'change')",
    "approvals": "bool_or(approval is not null)",
    "grants": "bool_or(kind = 'state')",
}


def datasources(viewer: Viewer) -> Answer:
    """One row for each database: what its sources can answer, the last record, gaps, and settings from its catalogs."""
    scope, values = scoped(viewer, Window())
    with Question() as question:
        answers = ", ".join(f"{expression} as can_{name}" for name, expression in ANSWERS.items())
        rows = question.rows(
            f"select datasource, any_value(environment) as environment, count(*) filter ({ACCESSES}) as events, {answers}, "  # noqa: S608
            "count(*) filter (attribution <> 'none' and kind in ('query', 'change')) as attributed, "
            "count(*) filter (kind in ('query', 'change')) as attributable, "
            "max(occurred_at) as last_at, count(*) filter (custody_type = 'gap') as gaps "
            f"from activity where datasource is not null and {scope} group by datasource order by datasource",
            values,
        )
        states = {s["datasource"]: s for s in latest_states(question, viewer)}
        feeds = source_rows(viewer)
        covered = coverage(question, viewer, Window())
        for found in rows:
            state = states.get(found["datasource"])
            found["settings"] = {s["name"]: s["value"] for s in state["state"].get("settings", ())} if state else {}
            found["sources"] = [s for s in feeds if s["datasource"] == found["datasource"]]
            found["coverage"] = [c for c in covered if c.datasource == found["datasource"]]
        return Answer(rows, None, Total(len(rows), True), question.size, covered)
