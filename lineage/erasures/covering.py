"""Which record of the log covers which erased group."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import pyarrow.parquet as pq
from django.db import connection

from lineage import segments
from lineage.events import Erased


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


def undone() -> Iterator[str]:
    """Groups that the log calls erased and that have a value again, as after a restored backup; as sentences."""
    with connection.cursor() as cursor:
        cursor.execute("select distinct erasure_id from ledger_erased order by 1")
        numbers = [row[0] for row in cursor.fetchall()]
    for number in numbers:
        spans = covered(number)
        for first, following, folder, _ in segments.manifest():
            inside = [span for span in spans if span.last >= first and span.first < following]
            if inside:
                yield from _undone_in(folder, number, inside)


def _undone_in(folder: str, number: int, spans: Sequence[Erased]) -> Iterator[str]:
    table = pq.read_table(segments.storage().path(folder, "disclosures"))
    taken = {(index, group) for s in spans for index in range(s.first, s.last + 1) for group in s.groups}
    columns = (table["index"].to_pylist(), table["group"].to_pylist(), table["value"].is_valid().to_pylist())
    back = [index for index, group, there in zip(*columns, strict=True) if there and (index, group) in taken]
    if back:
        yield f"Record {back[0]}: a group that erasure {number} took has its value again ({len(back)} in all)."
