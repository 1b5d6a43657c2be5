"""What the row images of a change say, column by column."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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
    entries = [
        Entry(
            column, was.state, was.value, now.state, now.value,
            was.value != now.value if was.state == now.state == "present" else _changed(was, now),
        )
        for column, was, now in _paired(before, after, op)
    ]  # fmt: skip
    return _encode(entries).decode()


def _paired(before: Sequence[Value], after: Sequence[Value], op: str | None) -> Iterable[tuple[str, Value, Value]]:
    """Each column with what it held before and after; mostly both images have the same columns in the same order."""
    columns = [v.column for v in after]
    if columns == [v.column for v in before] and len(set(columns)) == len(columns):
        return zip(columns, before, after, strict=True)
    old, new = {v.column: v for v in before}, {v.column: v for v in after}
    no_old = Value("", "absent" if op == "insert" else "unavailable")
    no_new = Value("", "absent" if op in ("delete", "truncate") else "unavailable")
    return [(name, old.get(name, no_old), new.get(name, no_new)) for name in dict.fromkeys([*new, *old])]


def _changed(was: Value, now: Value) -> bool | None:
    if was.state == "unchanged" or now.state == "unchanged":
        return False
    if was.state == "unavailable" or now.state == "unavailable":
        return None
    return was.state != now.state or was.value != now.value


def told(values: Sequence[Value]) -> list[str]:
    """The values that are known, each with its column's name."""
    return [f"{v.column}={v.value}" for v in values if v.value is not None]
