"""What an undo script needs: the captured changes of an identity or run, what changed the same rows later, and what has no image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from lineage import errors, segments, undo
from lineage.access import Viewer
from lineage.engine import Question
from lineage.events import Resource, Value
from lineage.queries.ask import TWICE, Window, scoped
from lineage.queries.covering import coverage
from lineage.queries.subjects import Subject, theirs

CHANGES_MOST = 1_000
WITHOUT_MOST = 20

DONE = "outcome <> 'rolled_back' and coalesce(verdict, 'allowed') not in ('blocked', 'error', 'pending')"


def undoing(
    viewer: Viewer, subject: Subject, window: Window = Window(), place: tuple[str, str] | None = None
) -> dict[str, Any]:
    """For one database: `changes` (the newest 1,000), `later` by row, `without`: acts that left no row image, counted.

    `places` lists the databases with changes as (datasource, database, changes, db_system); `place` chooses, by default the one
    with most. Raises AccessDenied for roles that see no values, NotFound when nothing of the subject is in scope.
    """
    if not viewer.sees_values:
        raise errors.AccessDenied("An undo script holds row values, which your role does not see.")
    mine, values = theirs(viewer, subject, window)
    changed = f"{mine} and kind = 'change' and {DONE}"
    with Question() as question:
        places = question.rows(
            "select coalesce(datasource, '') as datasource, coalesce(database, '') as database, any_value(db_system) as db_system, "  # noqa: S608
            f"count(*) filter ({DONE} and kind = 'change') as changes from activity where {mine} group by 1, 2 order by 4 desc, 1, 2",
            values,
        )
        if not places:
            raise errors.NotFound
        chosen = next((p for p in places if place == (p["datasource"], p["database"])), None if place else places[0])
        if chosen is None:
            raise errors.NotFound
        here = "coalesce(datasource, '') = ? and coalesce(database, '') = ?"
        at = [chosen["datasource"], chosen["database"]]
        found = question.rows(
            f"select index, occurred_at, who_name, op, relations, transaction_id, flags from activity where {changed} and {here} "  # noqa: S608
            f"order by index desc limit {CHANGES_MOST + 1}",
            [*values, *at],
        )
        return {
            "places": [p for p in places if p["changes"]],
            "place": chosen,
            "is_cut": len(found) > CHANGES_MOST,
            "changes": _changes(found[:CHANGES_MOST]),
            "later": _later(question, viewer, (changed, values), (here, at), {row["index"] for row in found[:CHANGES_MOST]}),
            "without": _without(question, viewer, (mine, values), chosen),
            "as_of": question.size,
            "coverage": coverage(question, viewer, window),
        }  # fmt: skip


def _changes(rows: list[dict[str, Any]]) -> list[undo.Change]:
    """The rows with their images, types and all, from the log itself."""
    found = {record.index: record.groups for record in segments.records([row["index"] for row in rows])}
    return [_change(row, found.get(row["index"], {})) for row in rows]


class Images(msgspec.Struct):
    key: tuple[Value, ...] = ()
    old_key: tuple[Value, ...] = ()
    before: tuple[Value, ...] = ()
    after: tuple[Value, ...] = ()


class Place(msgspec.Struct):
    resources: tuple[Resource, ...] = ()


def _change(row: dict[str, Any], groups: Mapping[str, bytes | None]) -> undo.Change:
    image, action = groups.get("change", b""), groups.get("action")
    images = msgspec.json.decode(image, type=Images) if image else Images()
    # The name in two parts, as the source told it: either part may hold a dot.
    resources = msgspec.json.decode(action, type=Place).resources if action else ()
    table = resources[0] if resources else Resource()
    return undo.Change(
        index=row["index"], at=row["occurred_at"], who=row["who_name"], op=row["op"] or "change", schema=table.schema or "",
        relation=table.relation or "", transaction=row["transaction_id"], key=images.key, old_key=images.old_key,
        before=images.before, after=images.after, flags=tuple(row["flags"] or ()), is_erased=image is None or action is None,
    )  # fmt: skip


def _later(
    question: Question, viewer: Viewer, changed: tuple[str, list[Any]], here: tuple[str, list[Any]], selected: set[int]
) -> dict[tuple[str, str | None], list[undo.Later]]:
    """By (schema.relation, key) what changed these rows and is not among the selected; key None: a change of all its rows."""
    scope, values = scoped(viewer, Window())
    rows = question.rows(
        f"select distinct relation, key, index, who_name from touches where access = 'changed' and {DONE} and {scope} and {here[0]} "  # noqa: S608
        f"and (relation, coalesce(key, '')) in (select (relation, coalesce(key, '')) from touches where {changed[0]} and {here[0]} "
        f"union select (relation, '') from touches where {changed[0]} and {here[0]}) order by index",
        [*values, *here[1], *changed[1], *here[1], *changed[1], *here[1]],
    )
    found: dict[tuple[str, str | None], list[undo.Later]] = {}
    for row in rows:
        if row["index"] not in selected:
            later = undo.Later(row["index"], row["who_name"])
            found.setdefault((row["relation"], row["key"]), []).append(later)
    return found


def _without(question: Question, viewer: Viewer, mine: tuple[str, list[Any]], place: dict[str, Any]) -> dict[str, Any]:
    """Writing statements that no captured change accounts for, and definitions and rights that were changed.

    A record that does not say in which database of its server it was counts for each.
    """
    here = (
        "coalesce(datasource, '') = ? and (? = '' or coalesce(database, ?) = ?)",
        [place["datasource"], *[place["database"]] * 3],
    )
    scope, values = scoped(viewer, Window())
    captured = f"select transaction_id from activity where kind = 'change' and transaction_id is not null and {scope} and {here[0]}"  # noqa: S608
    rows = question.rows(
        "select min(index) as index, any_value(command) as command, any_value(relations) as relations, "  # noqa: S608
        f"any_value(class) as class from activity where {mine[0]} and {here[0]} and kind = 'query' and {DONE} and not {TWICE} "
        "and emitted is null and (class in ('ddl', 'privilege') or (class in ('write', 'procedural') and op <> 'other' "
        f"and (transaction_id is null or transaction_id not in ({captured})))) "
        "group by coalesce(correlation_id, event_id) order by 1 desc",
        [*mine[1], *here[1], *values, *here[1]],
    )
    return {"count": len(rows), "acts": rows[:WITHOUT_MOST]}
