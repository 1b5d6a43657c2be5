"""Which record of the log covers which erased group."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import msgspec
from django.db import connection

from lineage import rowgroups, segments
from lineage.engine import Question
from lineage.events import Decision, Erased


def covered(number: int) -> list[Erased]:
    """What the records of an erasure say was taken."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select distinct first_index, last_index, groups from ledger_erased where erasure_id = %s order by 1",
            [number],
        )
        return [Erased(first=first, last=last, groups=tuple(groups)) for first, last, groups in cursor.fetchall()]


def erased_by(indexes: Collection[int]) -> dict[tuple[int, str], int]:
    """For each (index, group) that is erased: the index of the newest record of the log that covers it."""
    if not indexes:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            "select first_index, last_index, groups, event_index from ledger_erased "
            "where last_index >= %s and first_index <= %s order by event_index",
            [min(indexes), max(indexes)],
        )
        rows = cursor.fetchall()
    wanted = set(indexes)
    found: dict[tuple[int, str], int] = {}
    for first, last, groups, event_index in rows:
        inside = wanted.intersection(range(first, last + 1)) if last - first < len(wanted) else wanted
        found.update({(i, group): event_index for i in inside if first <= i <= last for group in groups})
    return found


def unsaid() -> Iterator[str]:
    """Groups that are not as the log's own records of erasures say, as sentences.

    One that they call erased has a value again, as after a restored backup; or one is gone that none of them names.
    """
    told = _told()
    for first, following, folder, _ in segments.walk():
        taken = [(subject, _pairs(spans, first, following)) for subject, spans in told]
        there, gone = _held(folder, set().union(*(pairs for _, pairs in taken)))
        for subject, pairs in taken:
            back = [index for index, group in there if (index, group) in pairs]
            if back:
                yield f"Record {back[0]}: a group that {subject} took has its value again ({len(back)} in all)."
        if gone:
            index, group = gone[0]
            yield f"Record {index}: the group {group} is gone, and no record of the log says so ({len(gone)} in all)."


def _held(folder: str, taken: Collection[tuple[int, str]]) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
    """Of a segment's groups, those in `taken` that have a value, and those outside of it that have none."""
    there: list[tuple[int, str]] = []
    gone: list[tuple[int, str]] = []
    for part in rowgroups.batches(segments.storage().path(folder, "disclosures"), ["index", "group", "value"]):
        columns = (part["index"].to_pylist(), part["group"].to_pylist(), part["value"].is_valid().to_pylist())
        for index, group, is_there in zip(*columns, strict=True):
            if is_there == ((index, group) in taken):
                (there if is_there else gone).append((index, group))
    return there, gone


def _told() -> list[tuple[str, tuple[Erased, ...]]]:
    """What was taken by which erasure, as the records of the log say: the tables beside it are no evidence."""
    with Question(joined=False) as question:
        rows = question.rows(
            "select decision from raw_events where source = 'touchstone' and decision_type in ('erasure', 'retention') "
            "order by index"
        )
    said = [msgspec.json.decode(row["decision"], type=Decision) for row in rows]
    return [(each.subject or "an erasure", each.erased) for each in said if each.transition in ("pending", "erased")]


def _pairs(spans: Sequence[Erased], first: int, following: int) -> set[tuple[int, str]]:
    """(index, group) of what the spans name in a segment."""
    inside = [(range(max(s.first, first), min(s.last + 1, following)), s.groups) for s in spans]
    return {(index, group) for places, groups in inside for index in places for group in groups}
