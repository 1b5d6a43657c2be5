"""The undo script: SQL that takes captured row changes back, and what it cannot take back, with the reason. Pure.

Nobody here runs it. Each step touches a row only where it still is as the change left it; one that does not find exactly
one such row makes the whole transaction fail. Values and names from records are quoted so that none can become SQL.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from lineage.events import Value, key_text

STEPS_IN_ONE = 100
KNOWN = ("present", "null")

# For these `column = 'literal'` means the same value; all else, such as json, is compared as text.
EXACT = frozenset(
    {
        "smallint", "integer", "bigint", "numeric", "real", "double precision", "text", "character varying", "character", "boolean",
        "uuid", "bytea", "jsonb", "date", "time without time zone", "time with time zone", "timestamp without time zone",
        "timestamp with time zone", "interval", "inet", "cidr", "oid",
        "bytes", "io.debezium.data.Uuid", "io.debezium.data.VariableScaleDecimal", "org.apache.kafka.connect.data.Decimal",
        "io.debezium.time.Date", "io.debezium.time.Time", "io.debezium.time.MicroTime", "io.debezium.time.NanoTime",
        "io.debezium.time.Timestamp", "io.debezium.time.MicroTimestamp", "io.debezium.time.NanoTimestamp",
        "io.debezium.time.ZonedTime", "io.debezium.time.ZonedTimestamp", "org.apache.kafka.connect.data.Date",
    }
)  # fmt: skip

# Debezium's further names whose text is what PostgreSQL prints. All others, such as MicroDuration, Bits or double, may stand
# for a value that was encoded or rounded on its way.
PRINTED = frozenset(
    {"int8", "int16", "int32", "int64", "string", "io.debezium.data.Json", "io.debezium.data.Enum"}
)  # fmt: skip
CONNECT = frozenset({"array", "map", "struct", "float", "float32", "float64", "double", "bytes"})

LIMITS = (
    "Sequences keep their place: numbers that were used stay used.",
    "Triggers and rules of the tables run again, and foreign keys that cascade do so; what they do is not foreseen here.",
    "Columns that the database computes itself (generated) are computed anew.",
    "Schema changes, TRUNCATE, large objects and what left the database (exports, messages) stay as they are.",
    "Later changes are looked for in the records that you may see; each step also looks at the row itself.",
)

HEAD = """begin;
set local standard_conforming_strings = on;
set local datestyle = 'ISO, MDY';
set local intervalstyle = 'postgres';
set local timezone = 'UTC';
set local bytea_output = 'hex';
set local extra_float_digits = 3;
create temp table touchstone_undo (step integer, done bigint) on commit drop;
"""
FOOT = """do $touchstone$
declare missed text;
begin
  select string_agg(step::text, ', ' order by step) into missed from pg_temp.touchstone_undo where done <> 1;
  if missed is not null then
    raise exception 'Nothing was undone: the rows of these steps are not as they were left: %', missed;
  end if;
end
$touchstone$;
commit;
"""


class Change(msgspec.Struct, frozen=True):
    """One captured row change, with its images as the source told them."""

    index: int
    at: dt.datetime
    who: str
    op: str
    schema: str
    relation: str
    transaction: str | None = None
    key: tuple[Value, ...] = ()
    old_key: tuple[Value, ...] = ()
    before: tuple[Value, ...] = ()
    after: tuple[Value, ...] = ()
    flags: tuple[str, ...] = ()
    is_erased: bool = False

    @property
    def name(self) -> str:
        return f"{self.schema}.{self.relation}" if self.schema else self.relation

    @property
    def table(self) -> str:
        """The quoted name."""
        return f"{name(self.schema)}.{name(self.relation)}" if self.schema else name(self.relation)

    @property
    def key_text(self) -> str | None:
        return key_text([value.value for value in self.key]) if self.key else None

    @property
    def rows(self) -> set[str | None]:
        """The keys that the row had after and before the change; None where it has none."""
        old = {key_text([value.value for value in self.old_key])} if self.old_key else set()
        return {self.key_text, *old}


class Later(NamedTuple):
    """A change of the same row that is not to be undone."""

    record: int
    who: str


class Left(NamedTuple):
    """A change that the script leaves as it is."""

    change: Change
    reason: str
    because: int | None = None


class Step(NamedTuple):
    change: Change
    sql: str


class Plan(NamedTuple):
    """Steps in the order in which they run, newest change first, and what is left."""

    steps: list[Step]
    left: list[Left]


def plan(changes: Iterable[Change], later: Mapping[tuple[str, str | None], Sequence[Later]]) -> Plan:
    """Which of `changes` can be taken back. `later`: by (schema.relation, key) what else changed that row; key None, all its rows.

    Where one change of a row stays, so do all earlier ones of that row.
    """
    steps: list[Step] = []
    left: list[Left] = []
    kept: dict[tuple[str, str | None], int] = {}
    for change in sorted(changes, key=lambda c: -c.index):
        places = [(change.name, key) for key in (*change.rows, None)]
        stays = next((kept[place] for place in places if place in kept), None)
        others = [one for place in places for one in later.get(place, ()) if one.record > change.index]
        reason, because = _reason(change), None
        if reason is None and stays is not None:
            reason, because = "a later change of the same row stays", stays
        elif reason is None and others:
            first = min(others)
            reason, because = f"{first.who} changed the same row later", first.record
        if reason is None:
            steps.append(Step(change, _sql(change)))
            continue
        left.append(Left(change, reason, because))
        rows = (None,) if change.op == "truncate" else change.rows
        kept.update({(change.name, key): change.index for key in rows if reason != NOTHING})
    return Plan(steps, left)


NOTHING = "it changed no field"
UNKNOWN = {
    "unavailable": "is not known: the table does not send old values (REPLICA IDENTITY)",
    "unchanged": "is not known: the database did not send it",
    "truncated": "is kept only in part",
    "masked": "was masked",
    "absent": "is not known",
}


def _reason(change: Change) -> str | None:
    """Why the change cannot be taken back, or None."""
    if change.is_erased:
        return "its row image was erased"
    if change.op == "truncate":
        return "TRUNCATE leaves no image of the rows that it removed"
    if change.op not in ("insert", "update", "delete"):
        return f"{change.op} has no inverse"
    if not change.relation:
        return "the source did not name the table"
    damaged = {"nul_removed", "invalid_utf8"} & set(change.flags)
    if damaged:
        return "a value came with characters that could not be kept as they were"
    images = {"insert": change.after, "delete": change.before}.get(change.op)
    if images is not None:
        if not images:
            return "there is no image of the row"
        when = "after it" if change.op == "insert" else "before it"
        return _unknown(images, when) or _untold((*images, *(change.key if change.op == "delete" else ())))
    return _update_reason(change)


def _update_reason(change: Change) -> str | None:
    if not change.before:
        return "there is no image of the row before it (REPLICA IDENTITY of the table)"
    named = {value.column for value in change.after if value.state != "unchanged"}
    reason = _unknown([v for v in change.after if v.state != "unchanged"], "after it") or _unknown(
        [v for v in change.before if v.column in named], "before it"
    )
    if reason is not None:
        return reason
    restored = _differing(change)
    return _untold((*change.after, *restored)) if restored else NOTHING


def _unknown(values: Iterable[Value], when: str) -> str | None:
    for value in values:
        if value.state not in KNOWN:
            return f"the value of {value.column} {when} {UNKNOWN.get(value.state, 'is not known')}"
    return None


def _untold(values: Iterable[Value]) -> str | None:
    """Why a value cannot be written or compared as the database has it: what it stands for depends on its type."""
    for value in values:
        if value.state == "present" and value.value is not None and not _is_told(value.type, value.value):
            named = f" well enough ({value.type[:100]})" if value.type else ""
            return f"the source does not say its type{named}: {value.column}"
    return None


def _is_told(kind: str | None, text: str) -> bool:
    if kind == "bytes":
        return text.startswith("\\x")
    if kind in EXACT or kind in PRINTED:
        # A time that has no date, such as infinity, stays the number that it came as.
        return not (kind or "").startswith("io.debezium.time.") or not text.lstrip("-").isdigit()
    return bool(kind) and kind not in CONNECT and ('"' in (kind or "") or (kind or "").count(".") < 2)


def _differing(change: Change) -> list[Value]:
    """The values before the update of the columns that it changed."""
    new = {value.column: value for value in change.after}
    return [
        was
        for was in change.before
        if was.column in new
        and new[was.column].state in KNOWN
        and (was.state, was.value) != (new[was.column].state, new[was.column].value)
    ]


def name(text: str) -> str:
    """A quoted identifier; characters that do not show are written as Unicode escapes."""
    if text.isprintable():
        return '"' + text.replace('"', '""') + '"'
    escaped = "".join(
        c if c.isprintable() else f"\\{ord(c):04X}" if ord(c) < 0x10000 else f"\\+{ord(c):06X}"
        for c in text.replace("\\", "\\\\").replace('"', '""')
    )
    return f'U&"{escaped}"'


def literal(text: str) -> str:
    """A quoted text, safe whatever `standard_conforming_strings` is; characters that do not show are escaped."""
    quoted = text.replace("'", "''")
    if "\\" not in text and text.isprintable():
        return f"'{quoted}'"
    escaped = "".join(
        c if c.isprintable() else f"\\u{ord(c):04X}" if ord(c) < 0x10000 else f"\\U{ord(c):08X}"
        for c in quoted.replace("\\", "\\\\")
    )
    return f"E'{escaped}'"


def comment(text: str) -> str:
    """One line that stays a comment whatever a record says."""
    shown = "".join(c if c.isprintable() else f"\\u{ord(c):04X}" for c in text)
    return f"-- {shown}\n"


def _value(value: Value) -> str:
    if value.state == "null" or value.value is None:
        return "null"
    # So a connector that sends bytes as text makes the script fail, instead of writing the letters as bytes.
    return literal(value.value) + ("::text" if value.type == "string" else "")


def _is(value: Value) -> str:
    """The condition that a column still has this value."""
    column = name(value.column)
    if value.state == "null" or value.value is None:
        return f"{column} is null"
    exact = (value.type or "").removesuffix("[]") in EXACT
    return f"{column}{'' if exact else '::text'} = {_value(value)}"


def _sql(change: Change) -> str:
    table = change.table
    as_left = " and ".join(_is(value) for value in change.after if value.state in KNOWN)
    if change.op == "insert":
        return f"delete from {table} where {as_left} returning 1"  # noqa: S608 - quoted above
    if change.op == "update":
        restored = ", ".join(f"{name(value.column)} = {_value(value)}" for value in _differing(change))
        return f"update {table} set {restored} where {as_left} returning 1"  # noqa: S608 - quoted above
    columns = ", ".join(name(value.column) for value in change.before)
    values = ", ".join(_value(value) for value in change.before)
    there = " and ".join(_is(value) for value in change.key)
    free = f" where not exists (select from {table} where {there})" if there else ""
    return f"insert into {table} ({columns}) overriding system value select {values}{free} returning 1"


def script(made: Plan, about: Sequence[str], more: Sequence[str] = ()) -> str:
    """The whole script. `about`: sentences for its head; `more`: further things that it cannot restore."""
    lines = [comment(text) for text in (*about, "Read it whole before you run it. Touchstone never runs it.", "")]
    lines += [comment(f"Row changes that it takes back: {len(made.steps)}, newest first, all or none.")]
    lines += [comment("It does not restore:")]
    lines += [comment(f"  {text}") for text in (*map(told, made.left), *more, *LIMITS)]
    if not made.steps:
        return "".join([*lines, comment(""), comment("No change can be taken back: there is nothing to run.")])
    parts = ["".join(lines), "\n", HEAD]
    number = 1
    for group in _groups(made.steps):
        parts.append("\n" + _statement(group, number))
        number += len(group)
    return "".join([*parts, "\n", FOOT])


def told(left: Left) -> str:
    """One change that stays, in a sentence."""
    because = f" (record {left.because})" if left.because is not None else ""
    row = f" row {left.change.key_text}" if left.change.key else ""
    return f"record {left.change.index}, {left.change.op} of {left.change.name}{row}: {left.reason}{because}"


def _groups(steps: Sequence[Step]) -> Iterable[list[Step]]:
    """Steps of one transaction stand in one statement, whose foreign keys are checked at its end; a row only once in each."""
    group: list[Step] = []
    rows: set[tuple[str, str | None]] = set()
    for step in steps:
        places = {(step.change.name, key) for key in step.change.rows}
        same = group and step.change.transaction and step.change.transaction == group[-1].change.transaction
        if group and (not same or places & rows or len(group) == STEPS_IN_ONE):
            yield group
            group, rows = [], set()
        group.append(step)
        rows |= places
    if group:
        yield group


def _statement(group: Sequence[Step], number: int) -> str:
    parts = []
    for place, step in enumerate(group, number):
        change = step.change
        row = f" row {change.key_text}" if change.key else ""
        what = f"Step {place}: record {change.index}, {change.at:%Y-%m-%d %H:%M:%S} UTC, {change.who}: {change.op} of {change.name}{row}"
        within = f", transaction {change.transaction}" if change.transaction else ""
        parts.append(f"{comment(what + within)}step_{place} as ({step.sql})")
    counted = "\nunion all ".join(f"select {n}, count(*) from step_{n}" for n in range(number, number + len(group)))  # noqa: S608
    return "with\n" + ",\n".join(parts) + f"\ninsert into pg_temp.touchstone_undo\n{counted};\n"
