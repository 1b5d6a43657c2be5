"""A few records with what changes without the log, as tables: `resolving.ACTIVITY` once more, in Python, without its joins.

DuckDB takes longer to plan that view than these few records take here. A test compares both over every column.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from lineage import projections, snapshots
from lineage.extracts.blocks import TOUCHED, Content
from lineage.moments import microseconds, moment

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
        _flags(flags, refused, index in conflicted)
        for index, flags, refused in zip(told["index"], told["flags"], told["refused"], strict=True)
    ]
    return pa.table({name: pa.array(values, KINDS.get(name, pa.string())) for name, values in every.items()})


def records(
    columns: Sequence[str], contents: Sequence[Content], logins: Sequence[Login], conflicted: Collection[int],
    wanted: Sequence[str],
) -> list[dict[str, Any]]:  # fmt: skip
    """These columns of `activity`, without tags, one dict a record, as DuckDB gives rows."""
    people = by_login(logins)
    place = {name: number for number, name in enumerate(columns)}
    told = [name for name in wanted if name not in DERIVED]
    values, needed = _getter(place[name] for name in told), _getter(place[name] for name in NEEDED)
    derived = [(name, DERIVED.index(name)) for name in wanted if name in DERIVED]
    moments = [name for name in ("occurred_at", "received_at") if name in wanted]
    index, flags, refused, has_flags = place["index"], place["flags"], place["refused"], "flags" in wanted
    found, known = [], dict[tuple[Any, ...], tuple[str | None, ...]]()
    for row, _ in contents:
        record = dict(zip(told, values(row), strict=True))
        if derived:
            said = needed(row)
            # When it was matters where a login was somebody's alone.
            key = said if said[LOGIN] in people else said[:-1]
            who_ = known.get(key)
            if who_ is None:
                who_ = known[key] = named_as(dict(zip(NEEDED, said, strict=True)), people)
            for name, number in derived:
                record[name] = who_[number]
        for name in moments:
            if record[name] is not None:
                record[name] = moment(record[name])
        if has_flags:
            record["flags"] = _flags(row[flags], row[refused], row[index] in conflicted)
        found.append(record)
    return found


def _getter(places: Iterable[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """What gives these values of a row."""
    every = list(places)
    if len(every) > 1:
        getter: Callable[[Sequence[Any]], tuple[Any, ...]] = operator.itemgetter(*every)
        return getter
    return lambda row: tuple(row[place] for place in every)


def by_login(logins: Iterable[Login]) -> dict[tuple[str, str], list[Login]]:
    """Whose a login of a database is, and when."""
    people: dict[tuple[str, str], list[Login]] = {}
    for login in logins:
        people.setdefault((login["datasource"], login["db_user"]), []).append(login)
    return people


NEEDED = ("told_id", "told_name", "told_email", "told_type", "told_by", "datasource", "db_user", "occurred_at")
LOGIN = slice(5, 7)
"""Database and user, as `by_login` has them."""


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


def _flags(flags: list[str] | None, is_refused: bool, has_conflict: bool) -> list[str]:
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
