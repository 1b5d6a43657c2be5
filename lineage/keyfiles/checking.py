"""What `fsck` asks of key files: that each holds one key for each record of its segment, in order, and the right one."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from django.db import connection

from lineage import ledger
from lineage.events import parse_time
from lineage.keyfiles import form
from lineage.models import Source
from lineage.segments import Record

OWN = "touchstone"


class Keys:
    """The key file of one segment beside its records; 4 bytes of memory a record. `stated` is what the manifest says of it.

    Nothing is wrong where the manifest names none: it was sealed before there were any, and its keys are in PostgreSQL.
    """

    def __init__(self, first: int, following: int, path: Path, stated: dict[str, Any] | None) -> None:
        self.first, self.path, self.stated = first, path, stated
        self.places = array("I", [0]) * (following - first)
        """For each record the place of its key, counted from 1; 0: it has none."""
        self.file: form.KeyFile | None = None
        self.sources = dict(Source.objects.values_list("name", "pk"))

    def faults(self) -> Iterator[str]:
        """Faults of the file itself, as sentences; only without any are records compared with it."""
        if self.stated is None:
            return
        try:
            file = form.KeyFile(self.path)
        except form.Damaged as error:
            yield f"Segment {self.first}: {error}"
            return
        fault = self._ordered(file)
        if fault:
            yield f"Segment {self.first}: {fault}"
        else:
            self.file = file

    def _ordered(self, file: form.KeyFile) -> str:
        beside, last, place = form.Beside(file.timeless), b"", 0
        for part in form.parts(self.path):
            beside.add(part)
            for record in part:
                place += 1
                index = int.from_bytes(record[20:28], "big")
                at = index - self.first
                if record <= last:
                    return "its keys are not in order."
                if not 0 <= at < len(self.places) or self.places[at]:
                    return f"its keys name record {index} twice, or it is not in it."
                last, self.places[at] = record, place
        if beside.end() != file.view[file.fences :] or (self.stated or {}).get("hours") != beside.hours.runs():
            return "what its keys are found by does not follow from them."
        return ""

    def unlike(self, records: Iterable[Record]) -> Iterator[str]:
        """What is not as these records say, as sentences."""
        if self.file is None:
            return
        for record in records:
            place = self.places[record.index - self.first]
            said = _unlike(record, self.file.record(place - 1), self.sources) if place else "has no key."
            if said:
                yield f"Record {record.index} {said}"


def _unlike(record: Record, held: form.Record, sources: dict[str, int]) -> str:
    leaf = msgspec.json.decode(record.leaf)
    if sources.get(leaf["source_id"], held.source) != held.source:
        return "has a key of another source."
    expected = _key(leaf, record.groups.get("action"), held.source)
    if expected not in (None, held.key):
        return "has another key than the one that follows from it."
    if None in record.groups.values():
        return "" if held.content == form.FORGOTTEN else "is erased in part, and its content hash is still there."
    content = _content(record.groups.get("statement"))
    return "" if content is None or held.content in (content, form.FORGOTTEN) else "has another content hash."


def _key(leaf: dict[str, Any], action: bytes | None, source: int) -> bytes | None:
    named = msgspec.json.decode(action).get("source_event_id") if action else None
    at = leaf.get("received_at" if leaf["source_id"] == OWN else "occurred_at")
    return ledger.dedupe_key(source, named, parse_time(at) if at else None) if named else None


def _content(statement: bytes | None) -> bytes | None:
    origin = msgspec.json.decode(statement).get("origin") if statement else None
    return bytes.fromhex(origin["sha256"]) if origin and origin.get("sha256") else None


def uncovered() -> Iterator[str]:
    """Says which records have their keys nowhere: no longer in PostgreSQL, and in no key file of the manifest."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select (spans - (select coalesce(range_agg(int8range(first_index, next_index)), '{}') from ledger_segment "
            "where files ? 'keys'))::text from ledger_keys_left"
        )
        missing = cursor.fetchone()[0]
    if missing != "{}":
        yield f"The keys of the records {missing} have left the database, and no sealed file holds them."
