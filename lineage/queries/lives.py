"""One row's life: its versions under every key it had, who read it by key, and who could have read it."""

from __future__ import annotations

from typing import Any

from lineage import errors
from lineage.access import Viewer
from lineage.engine import Question
from lineage.events import split_key
from lineage.queries import touching
from lineage.queries.ask import Window
from lineage.queries.covering import coverage
from lineage.queries.places import key_columns, spellings
from lineage.queries.touching import ROW_MOST, Life, OneRow, Wider

NAMES_MOST = 8
"""How many keys of one row are followed back."""


def row(
    viewer: Viewer, datasource: str, relation: str, key: str, window: Window = Window(), wider: int | None = None
) -> dict[str, Any]:
    """One row's life: who changed it, who read it by key, who could have read it, and what cannot be told.

    `changed` comes from row images, `earlier` are those under keys that the row had before (`names`, oldest last);
    `uncertain` are writes by statement whose rows no image accounts for. Lists hold at most 500; `cut` names those with more.
    With `wider` no more than so many of `could_have_read` are given; `more_could_have_read` says of how many others, up to 500.
    """
    with Question() as question:
        columns = key_columns(question, viewer, datasource, relation)
        parts = split_key(key)
        pairs = [f"{c}={v}" for c, v in zip(columns, parts, strict=True)] if len(columns) == len(parts) else []
        one = OneRow(datasource, spellings(relation), key, columns, pairs)
        at = touching.life(question, viewer, window, one, wider)
        changed, earlier, names = _changed(at, key)
        could = at.could_have_read(ROW_MOST if wider is None else wider)
        found = {
            "changed": changed, "earlier": earlier, "read": at.read(), "could_have_read": could.events,
            "uncertain": at.uncertain(), "refused": at.refused(),
        }  # fmt: skip
        if not any(found.values()):
            raise errors.NotFound
        more = {"could_have_read": could.records - len(could.events)}
        for event in found["could_have_read"]:
            event["why"] = why(event)
        return {
            "datasource": datasource, "relation": relation, "key": key, "key_columns": columns, "names": names, **found,
            "cut": [name for name, rows in found.items() if len(rows) + more.get(name, 0) >= ROW_MOST],
            "more_could_have_read": more["could_have_read"],
            "versions": versions([*changed, *earlier, *_emptied(found["uncertain"])], key), "original": original([*changed, *earlier]),
            "summary": _summary(changed, found["read"], could),
            "as_of": question.size, "coverage": coverage(question, viewer, window),
        }  # fmt: skip


def _emptied(uncertain: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Captured truncates: no image says which rows they took, and they took every one."""
    return [e for e in uncertain if e["kind"] == "change" and e["op"] == "truncate" and e["outcome"] != "rolled_back"]


def _changed(at: Life, key: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
    """Changes under a key; those before it under keys that were given up for it; and the keys. Newest first.

    An event that gave the row another key has the earlier one as `old_key`.
    """
    own = at.changed(key)
    _mark(at, own)
    seen, names, earlier = {event["index"] for event in own}, [key], list[dict[str, Any]]()
    ahead = _given_up(own, key)
    while ahead and len(names) < NAMES_MOST:
        name, before = ahead.pop(0)
        if name in names:
            continue
        names.append(name)
        events = [event for event in at.changed(name, before) if event["index"] not in seen]
        _mark(at, events)
        seen |= {event["index"] for event in events}
        earlier += events
        ahead += _given_up(events, name)
    return own, sorted(earlier, key=lambda e: (e["occurred_at"], e["index"]), reverse=True), names


def _given_up(events: list[dict[str, Any]], key: str) -> list[tuple[str, int]]:
    """The keys that rows had before they got this one, each with the record of that change."""
    return [(event["old_key"], event["index"]) for event in events if event["old_key"] and event["key"] == key]


def _mark(at: Life, events: list[dict[str, Any]]) -> None:
    """Adds `old_key` to changes that gave a row another key: such an event touches both."""
    keys = at.keys_of(events)
    for event in events:
        event["old_key"] = next((k for k in keys.get(event["index"], ()) if k != event["key"]), None)


def why(event: dict[str, Any]) -> str:
    """Why a read of the table may have met the row."""
    if event["opaque"]:
        return "its statement is not understood"
    if event["op"] == "export":
        return "an export of the table"
    if event["statement_state"] in (None, "truncated", "withheld") and not event["statement"]:
        return "its statement is not known"
    others = len(set(event["relations"] or ())) - 1
    how = (
        "a condition that fixes other columns, or part of the key"
        if event["conditioned"]
        else "no condition that fixes the key"
    )
    return f"{how}{f'; joined with {others} more' if others > 0 else ''}"


Cells = dict[str, dict[str, Any]]


def versions(changed: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    """The row as it stood after each change, newest first; a column is None-stated until an image shows it.

    `under` is the key of the row then. A change that took the key away is the end of the row under this one: `renamed_to`
    names the other; one that brought it has `renamed_from`. `again`: inserted after it was deleted.
    """
    states: dict[str, Cells] = {}
    ended: set[str] = set()
    built: list[dict[str, Any]] = []
    for event in sorted(changed, key=lambda r: (r["occurred_at"], r["index"])):
        under = event["key"] or key
        before = event.get("old_key") or under
        if event["key"] is None and not built:
            continue
        state = {} if event["op"] == "insert" else states.pop(before, {})
        _apply(state, event["diff"])
        gone = event["op"] in ("delete", "truncate")
        built.append(
            {
                "index": event["index"], "at": event["occurred_at"], "deleted": gone, "row": dict(state), "under": under,
                "renamed_to": under if before == key and under != key else None,
                "renamed_from": before if before != under and under == key else None,
                "again": event["op"] == "insert" and under in ended,
            }
        )  # fmt: skip
        if gone or under != before:
            ended.add(before)
        if not gone:
            states[under] = state
    return built[::-1]


def _apply(state: Cells, diff: list[dict[str, Any]]) -> None:
    for column in diff:
        if column["state_after"] not in ("unchanged", "unavailable"):
            state[column["column"]] = {"state": column["state_after"], "value": column["after"]}
        elif column["state_before"] not in ("unchanged", "unavailable"):
            state.setdefault(column["column"], {"state": column["state_before"], "value": column["before"]})


def original(changed: list[dict[str, Any]]) -> Cells | None:
    """What the first known change shows of the row before it; None when that change brought the row, or shows nothing."""
    first = min(changed, key=lambda r: (r["occurred_at"], r["index"]), default=None)
    if first is None or first["op"] == "insert":
        return None
    return {
        c["column"]: {"state": c["state_before"], "value": c["before"]}
        for c in first["diff"] if c["state_before"] not in ("unchanged", "unavailable", "absent")
    } or None  # fmt: skip


def _summary(changed: list[dict[str, Any]], read: list[dict[str, Any]], could: Wider) -> dict[str, Any]:
    by_type: dict[str, set[str]] = {}
    for event in changed:
        by_type.setdefault(event["who_type"], set()).add(event["who_id"] or event["who_name"])
    return {
        "changes": len(changed),
        "changed_by": {kind: len(people) for kind, people in by_type.items()},
        "last_changed_by": changed[0]["who_name"] if changed else None,
        "last_changed_at": changed[0]["occurred_at"] if changed else None,
        "reads": len({r["correlation_id"] or r["event_id"] for r in read}),
        # Of how many acts the newest 500 records tell is no number that says something.
        "could_have_read": could.acts if could.records < ROW_MOST else ROW_MOST,
    }
