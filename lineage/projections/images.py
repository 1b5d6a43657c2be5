"""What the row images of a change say, column by column."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from lineage.projections.fields import Value


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One column of a changed row: state and value on both sides, and whether they differ (None: cannot be told)."""

    column: str
    state_before: str
    before: str | None
    state_after: str
    after: str | None
    changed: bool | None


_encode = msgspec.json.Encoder().encode


def diff(before: Sequence[Value], after: Sequence[Value], op: str | None) -> str | None:
    """The entries of all columns as JSON, those of the new row first; None where no image was told."""
    if not before and not after:
        return None
    old, new = {v.column: v for v in before}, {v.column: v for v in after}
    no_old = Value("", "absent" if op == "insert" else "unavailable")
    no_new = Value("", "absent" if op in ("delete", "truncate") else "unavailable")
    entries = []
    for column in dict.fromkeys([*new, *old]):
        was, now = old.get(column, no_old), new.get(column, no_new)
        entries.append(Entry(column, was.state, was.value, now.state, now.value, _changed(was, now)))
    return _encode(entries).decode()


def _changed(was: Value, now: Value) -> bool | None:
    if was.state == "unchanged" or now.state == "unchanged":
        return False
    if was.state == "unavailable" or now.state == "unavailable":
        return None
    return was.state != now.state or was.value != now.value


def told(values: Sequence[Value]) -> list[str]:
    """The values that are known, each with its column's name."""
    return [f"{v.column}={v.value}" for v in values if v.value is not None]
