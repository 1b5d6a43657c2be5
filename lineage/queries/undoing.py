"""What an undo script needs: the captured changes of an identity or run, what changed the same rows later, and what has no image."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np

from lineage import errors, segments, undo
from lineage.access import Viewer
from lineage.engine import Question
from lineage.events import Resource, Value
from lineage.extracts import Indexes
from lineage.extracts.layers import Term
from lineage.extracts.looking import Lookup, by_time
from lineage.extracts.postings import NOTHING, hashes_of
from lineage.extracts.terms import BY_TIME
from lineage.queries import candidates, sought
from lineage.queries.ask import TWICE, Window, scoped
from lineage.queries.covering import coverage
from lineage.queries.subjects import Subject, few, theirs

CHANGES_MOST = 1_000
WITHOUT_MOST = 20

DONE = "outcome <> 'rolled_back' and coalesce(verdict, 'allowed') not in ('blocked', 'error', 'pending')"


HERE = "coalesce(datasource, '') = ? and coalesce(database, '') = ?"


class Own(NamedTuple):
    """Whose records, as a condition with its values, in which database; and who asks."""

    question: Question
    viewer: Viewer
    whose: tuple[str, list[Any]]
    place: dict[str, Any]

    @property
    def mine(self) -> str:
        return self.whose[0]

    @property
    def values(self) -> list[Any]:
        return self.whose[1]

    @property
    def datasource(self) -> str:
        return str(self.place["datasource"])

    @property
    def at(self) -> list[str]:
        """The values of `HERE`."""
        return [self.datasource, self.place["database"]]

    @property
    def near(self) -> list[str]:
        """The values of `HERE_TOO`."""
        return [self.datasource, *[self.place["database"]] * 3]

    def few(self, terms: list[Term]) -> contextlib.AbstractContextManager[str]:
        """As `sought.few`, for these terms of the database; what names none has no terms."""
        return sought.few(self.question, self.viewer, Window(), (lambda look: terms) if self.datasource else None)


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
        with few(question, viewer, subject, window) as some:
            places = question.rows(
                "select coalesce(datasource, '') as datasource, coalesce(database, '') as database, any_value(db_system) as db_system, "  # noqa: S608
                f"count(*) filter ({DONE} and kind = 'change') as changes from activity where {some} and {mine} group by 1, 2 "
                "order by 4 desc, 1, 2",
                values,
            )
            if not places:
                raise errors.NotFound
            chosen = next(
                (p for p in places if place == (p["datasource"], p["database"])), None if place else places[0]
            )
            if chosen is None:
                raise errors.NotFound
            own = Own(question, viewer, (mine, values), chosen)
            found = question.rows(
                f"select index, occurred_at, who_name, op, relations, transaction_id, flags from activity where {some} and {changed} "  # noqa: S608
                f"and {HERE} order by index desc limit {CHANGES_MOST + 1}",
                [*values, *own.at],
            )
            rows, acts = _rows_changed(own, some, changed), _acts(own, some)
        captured = _captured(own, sorted({act["transaction_id"] for act in acts if act["writes"]} - {None}))
        return {
            "places": [p for p in places if p["changes"]],
            "place": chosen,
            "is_cut": len(found) > CHANGES_MOST,
            "changes": _changes(found[:CHANGES_MOST]),
            "later": _later(own, rows, {row["index"] for row in found[:CHANGES_MOST]}),
            "without": _without(acts, captured),
            "as_of": question.size,
            "coverage": coverage(question, viewer, window),
        }


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


def _rows_changed(own: Own, some: str, changed: str) -> list[tuple[str, str]]:
    """Table and key of each row that was changed; with an empty key, all rows of the table."""
    rows = own.question.rows(
        f"select distinct relation, coalesce(key, '') as key from touches where {some} and {changed} and {HERE} "  # noqa: S608
        "and relation is not null",
        [*own.values, *own.at],
    )
    return sorted({pair for row in rows for pair in ((row["relation"], row["key"]), (row["relation"], ""))})


def _later(
    own: Own, changed: list[tuple[str, str]], selected: set[int]
) -> dict[tuple[str, str | None], list[undo.Later]]:
    """By (schema.relation, key) what changed these rows after the first of the selected, and is none of them; key None: a change
    of all its rows.
    """
    scope, values = scoped(own.viewer, Window())
    low = min(selected, default=own.question.size)
    with _after(own, changed, low) as some:
        rows = own.question.rows(
            f"select distinct relation, key, index, who_name from touches where {some} and index > ? and access = 'changed' and {DONE} "  # noqa: S608
            f"and {scope} and {HERE} and (relation, coalesce(key, '')) in "
            "(select (a, b) from (select unnest(?::varchar[]) as a, unnest(?::varchar[]) as b)) order by index",
            [low, *values, *own.at, [relation for relation, _ in changed], [key for _, key in changed]],
        )
    found: dict[tuple[str, str | None], list[undo.Later]] = {}
    for row in rows:
        if row["index"] not in selected:
            later = undo.Later(row["index"], row["who_name"])
            found.setdefault((row["relation"], row["key"]), []).append(later)
    return found


def _after(own: Own, changed: list[tuple[str, str]], low: int) -> contextlib.AbstractContextManager[str]:
    """As `sought.few`, for the records above `low` that changed one of these rows, or all rows of a table."""
    terms: list[tuple[object, ...]] = [("row", own.datasource, relation, "changed", key) for relation, key in changed]
    terms += [("keyless", own.datasource, relation) for relation in {relation for relation, _ in changed}]

    def tell(look: Lookup) -> Indexes | None:
        if not own.datasource:
            return None
        hashes = hashes_of(terms)
        every = np.concatenate([NOTHING, *(layer.postings[BY_TIME].find_all(hashes) for layer in look.layers)])
        later = every[every > low]
        return later if len(later) <= sought.NAMED_MOST else None

    some = candidates.told(own.question, tell)
    return sought.among(own.question, some) if some is not None else contextlib.nullcontext(sought.ALL)


WRITTEN = "class in ('write', 'procedural') and op <> 'other'"
HERE_TOO = "coalesce(datasource, '') = ? and (? = '' or coalesce(database, ?) = ?)"
"""A record that does not say in which database of its server it was counts for each."""
ACTED = f"kind = 'query' and {DONE} and not {TWICE} and emitted is null"


def _acts(own: Own, some: str) -> list[dict[str, Any]]:
    """What was written, and definitions and rights that were changed: by act and transaction, the first one first."""
    return own.question.rows(
        "select coalesce(correlation_id, event_id) as act, transaction_id, coalesce(class not in ('ddl', 'privilege'), false) as writes, "  # noqa: S608
        "min(index) as index, any_value(command) as command, any_value(relations) as relations, any_value(class) as class "
        f"from activity where {some} and {own.mine} and {HERE_TOO} and {ACTED} and (class in ('ddl', 'privilege') or ({WRITTEN})) "
        "group by 1, 2, 3 order by index",
        [*own.values, *own.near],
    )


def _captured(own: Own, transactions: list[str]) -> list[str]:
    """Those of these transactions of which a change was captured."""
    if not transactions:
        return []
    scope, values = scoped(own.viewer, Window())
    with own.few([by_time("acted", own.datasource, one) for one in transactions]) as some:
        rows = own.question.rows(
            f"select distinct transaction_id from activity where {some} and kind = 'change' and {scope} and {HERE_TOO} "  # noqa: S608
            "and transaction_id in (select unnest(?::varchar[]))",
            [*values, *own.near, transactions],
        )
    return [row["transaction_id"] for row in rows]


def _without(acts: list[dict[str, Any]], captured: list[str]) -> dict[str, Any]:
    """Writing statements that no captured change accounts for, and definitions and rights that were changed; the newest first."""
    told, found = set(captured), dict[str, dict[str, Any]]()
    for act in acts:
        if not (act["writes"] and act["transaction_id"] in told):
            one = {name: act[name] for name in ("index", "command", "relations", "class")}
            known = found.setdefault(act["act"], one)
            known |= {name: value for name, value in one.items() if known[name] is None}
    rows = sorted(found.values(), key=lambda one: -one["index"])
    return {"count": len(rows), "acts": rows[:WITHOUT_MOST]}
