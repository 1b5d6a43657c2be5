"""A few records with what changes without the log, as tables: `resolving.ACTIVITY` once more, in Python, without its joins.

DuckDB takes longer to plan that view than these few records take here. A test compares both over every column.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from lineage import projections, snapshots
from lineage.extracts.blocks import TOUCHED, Content
from lineage.moments import microseconds

KINDS = {field.name: field.type for field in (*projections.TOUCHES, *projections.EVENTS)} | {
    "attribution_index": pa.int64(), "claimed": pa.bool_(),
}  # fmt: skip
"""What is no text."""
LEFT = frozenset({"told_id", "told_name", "told_email", "told_type", "told_by", "refused"})
DERIVED = ("who_id", "who_name", "who_email", "who_type", "attribution")

Login = Mapping[str, Any]


def tables(
    columns: Sequence[str], contents: Sequence[Content], logins: Sequence[Login], conflicted: Collection[int]
) -> tuple[pa.Table, pa.Table]:
    """`activity` and `touches` of these records, without their tags."""
    activity = _activity(columns, [content[0] for content in contents], logins, conflicted)
    places = [place for place, (_, touches) in enumerate(contents) for _ in touches]
    told = list(zip(*(touch for _, touches in contents for touch in touches), strict=True)) or [()] * len(TOUCHED)
    touches = activity.drop_columns(["key", "key_columns", "columns"]).take(pa.array(places, pa.int64()))
    for name, values in zip(TOUCHED, told, strict=True):
        # The database of a touch is its record's.
        if name != "datasource":
            column = pa.array(values, KINDS.get(name, pa.string()))
            touches = touches.append_column("columns" if name == "touch_columns" else name, column)
    return activity, touches


def _activity(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], logins: Sequence[Login], conflicted: Collection[int]
) -> pa.Table:
    told = dict(zip(columns, zip(*rows, strict=True) if rows else [()] * len(columns), strict=True))
    people = by_login(logins)
    named = [
        named_as(dict(zip(NEEDED, values, strict=True)), people)
        for values in zip(*(told[name] for name in NEEDED), strict=True)
    ]
    every: dict[str, Any] = {name: values for name, values in told.items() if name not in LEFT}
    every |= zip(DERIVED, zip(*named, strict=True) if named else [()] * len(DERIVED), strict=True)
    every["flags"] = [
        flagged(flags, refused, index in conflicted)
        for index, flags, refused in zip(told["index"], told["flags"], told["refused"], strict=True)
    ]
    return pa.table({name: pa.array(values, KINDS.get(name, pa.string())) for name, values in every.items()})


def by_login(logins: Iterable[Login]) -> dict[tuple[str, str], list[Login]]:
    """Whose a login of a database is, and when."""
    people: dict[tuple[str, str], list[Login]] = {}
    for login in logins:
        people.setdefault((login["datasource"], login["db_user"]), []).append(login)
    return people


NEEDED = ("told_id", "told_name", "told_email", "told_type", "told_by", "datasource", "db_user", "occurred_at")


def named_as(row: Mapping[str, Any], people: Mapping[tuple[str, str], Sequence[Login]]) -> tuple[str | None, ...]:
    """Who it was: id, name, email, type, and how that is known."""
    login: Login = {}
    for one in people.get((row["datasource"], row["db_user"]), ()):
        if row["occurred_at"] is not None and microseconds(one["from_at"]) <= row["occurred_at"] < microseconds(
            one["to_at"]
        ):
            login = one
    user = row["db_user"]
    how = row["told_by"] or ("mapped_login" if login else "db_login" if user is not None else "none")
    if row["told_id"] is not None:
        name, email, kind = row["told_name"], row["told_email"], row["told_type"]
        return row["told_id"], _first(name, user, "unknown"), email, _first(kind, "unknown"), how
    who = login["person_id"] if login else user
    return (
        who,
        _first(login.get("name"), user, "unknown"),
        login.get("email"),
        _first(login.get("type"), "unknown"),
        how,
    )


def _first(*values: str | None) -> str | None:
    """The first that is not null."""
    for value in values:
        if value is not None:
            return value
    return None


def flagged(flags: list[str] | None, is_refused: bool, has_conflict: bool) -> list[str]:
    """A new list of the flags of a record, with what is known of it since."""
    more = ["duplicate_conflict"] if has_conflict and "duplicate_conflict" not in (flags or ()) else []
    return [*(flags or ()), *more, *(["suspected_forgery"] if is_refused else [])]


FAR = microseconds(snapshots.FAR)


def who(
    told: str | None, datasource: str | None, user: str | None, at: int | None, logins: Sequence[Login]
) -> str | None:
    """Who it was, of a record that is told of so."""
    if told is not None or at is None:
        return told if told is not None else user
    for one in logins:
        if (one["datasource"], one["db_user"]) == (datasource, user) and microseconds(
            one["from_at"]
        ) <= at < microseconds(one["to_at"]):
            return str(one["person_id"])
    return user
