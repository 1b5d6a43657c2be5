"""What a process keeps of `heard` (`lineage.heard`): read once of each segment; of hours and records, those looked at last.

Forgotten with an erasure. What has none, the newest records and those of a segment that a question sees a part of, is made for each.
"""

from __future__ import annotations

import collections
import datetime as dt
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lineage import heard, listened
from lineage.listened import Days, Ever, Place, Places, Records, Rows, Spans, Tail
from lineage.snapshots import Segment, Snapshot

Sealed = Callable[[Sequence[str], str], str]
"""Gives the SQL of a file of some segments."""
Ask = Callable[[str], pa.Table]
"""Asks the question's cursor, within its limits."""


class Asking(NamedTuple):
    """What asks of files alone, which needs no views, and what asks with the tail beside them."""

    files: Ask
    reported: Ask


PLACE = ", ".join(listened.PLACE)
FOLDER = "split_part(filename, '/', -2)"
LOOKED_MOST = 500_000
"""So many records, and hours of places, are kept of those that were looked at."""
LISTED_MOST = 500
"""So many records are asked for by their numbers."""
NOTHING = listened.together([])


class _Kept:
    """Of one store since one erasure."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.places = Places()
        self.segments: dict[str, int] = {}
        self.parts: dict[str, Rows] = {}
        self.together: tuple[tuple[str, ...], Rows] = ((), NOTHING)
        self.tail: tuple[tuple[int, int], Tail, list[dict[str, Any]]] | None = None
        self.newest: tuple[tuple[Any, ...], Rows, Records] | None = None
        self.looked = _Looked()

    def number(self, folder: str) -> int:
        return self.segments.setdefault(folder, len(self.segments))


class _Looked:
    """What was read last, up to so many rows in all."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.found: collections.OrderedDict[tuple[Any, ...], tuple[int, Any]] = collections.OrderedDict()
        self.size = 0

    def get(self, key: tuple[Any, ...], read: Callable[[], tuple[int, Any]]) -> Any:
        with self.lock:
            if key in self.found:
                self.found.move_to_end(key)
                return self.found[key][1]
        count, value = read()
        with self.lock:
            if key not in self.found and count <= LOOKED_MOST:
                self.found[key] = count, value
                self.size += count
            while self.size > LOOKED_MOST:
                self.size -= self.found.popitem(last=False)[1][0]
        return value


class Heard:
    """What was heard in the first records of a log, for one question; `newest` are the records that lie in no segment."""

    def __init__(self, ask: Ask, sealed: Sealed, kept: _Kept, rows: Rows, newest: Records) -> None:
        self.ask, self.sealed, self.kept = ask, sealed, kept
        self.days, self.ever, self.told = rows.days, rows.ever, rows.told
        self.rows, self.newest = rows, newest

    @property
    def by_source(self) -> dict[str, Ever]:
        """All of each source as one."""
        return self.rows.by_source

    @property
    def reported(self) -> dict[str, Ever]:
        """The same of what sources reported: without the store itself."""
        return self.rows.reported

    @property
    def arrived(self) -> dict[str, dt.datetime]:
        """When the last record of each source came."""
        return self.rows.arrived

    @property
    def places(self) -> list[Place]:
        """By their numbers."""
        return list(self.kept.places.met)

    def hours(self, segment: int, day: int) -> Days:
        """The hours of a busy day in the segment of this number."""

        def read() -> tuple[int, Days]:
            sql = f"select * from {self.sealed([self._folder(segment)], 'heard')} where what = 'hour' and day = {day}"  # noqa: S608
            found = listened.days(self.ask(sql), self.kept.places, segment)
            return len(found.place), found._replace(busy=np.zeros(len(found.place), bool))

        hours: Days = self.kept.looked.get(("hours", segment, day), read)
        return hours

    def within(self, of: Days, since: int, until: int) -> Spans:
        """What lies in this time, among others of the same day or hour, of these rows, which are of one in one segment."""
        segment, day = int(of.segment[0]), int(of.day[0])
        index, last_index = int(of.first_index.min()), int(of.last_index.max())
        first, last = int(of.first.min()), int(of.last.max())
        events = f"{self.sealed([self._folder(segment)], 'events')} where index between {index} and {last_index}"
        if last_index - index >= LOOKED_MOST:
            return self._spans(events, max(first, since), min(last, until - 1))

        def read() -> tuple[int, Records]:
            rows = self.ask(f"select occurred_at, {PLACE} from {events} and {_between(first, last)}")  # noqa: S608
            return rows.num_rows, Records(self.kept.places.of(rows), listened.numbers(rows["occurred_at"]))

        records: Records = self.kept.looked.get((segment, day, index, last_index, first, last), read)
        return records.within(since, until)

    def _spans(self, events: str, first: int, last: int) -> Spans:
        """The same of so many that they are not to be held in memory."""
        ends = "min(occurred_at) as first_at, max(occurred_at) as last_at"
        rows = self.ask(f"select {PLACE}, {ends} from {events} and {_between(first, last)} group by all")  # noqa: S608
        return self.kept.places.of(rows), listened.numbers(rows["first_at"]), listened.numbers(rows["last_at"])

    def _folder(self, segment: int) -> str:
        return list(self.kept.segments)[segment]


def _between(first: int, last: int) -> str:
    return f"occurred_at between make_timestamptz({first}) and make_timestamptz({last})"


class Listening:
    """`heard` of the sealed segments that were asked of last, and of what was unsealed then."""

    def __init__(self, sealed: Sealed) -> None:
        self.sealed = sealed
        self.lock = threading.Lock()
        self.of: tuple[Any, ...] = ()
        self.kept = _Kept()

    def forget(self) -> None:
        self.kept = _Kept()

    @property
    def remembers(self) -> bool:
        return bool(self.kept.parts or self.kept.tail or self.kept.newest)

    def now(self, *of: object) -> None:
        """Store and last erasure, as they stand: of no other state anything is kept."""
        with self.lock:
            if self.of != of:
                self.of = of
                self.forget()

    def hear(self, asking: Asking, snap: Snapshot, size: int) -> Heard:
        """What was heard in the first `size` records."""
        with self.lock:
            # A question of a state before an erasure leaves nothing behind.
            kept = self.kept if self.of == (snap.store, snap.erased_at) else _Kept()
        state = snap.folders, snap.size, size
        with kept.lock:
            if kept.newest is None or kept.newest[0] != state:
                kept.newest = state, *self._of(asking, kept, snap, size)
            return Heard(asking.files, self.sealed, kept, *kept.newest[1:])

    def _of(self, asking: Asking, kept: _Kept, snap: Snapshot, size: int) -> tuple[Rows, Records]:
        """The same, and the times of the records that lie in no segment."""
        whole = [one for one in snap.segments if one.following <= size]
        rows = self._sealed(asking.files, kept, whole, len(whole) == len(snap.segments))
        if len(whole) < len(snap.segments):
            rows = listened.together([rows, *self._cut(asking.files, kept, snap.segments[len(whole)], size)])
        newest = Records(rows.days.place[:0], rows.days.first[:0])
        if size > snap.sealed_to:
            tail, telling = self._tail(asking.reported, kept, snap)
            newest = tail.records(size)
            more = [row for row in telling if row["index"] < size]
            unsealed = Rows(listened.NO_DAYS, tail.ever(size, list(kept.places.met)), more)
            rows = listened.together([rows, unsealed])
        return rows, newest

    def _sealed(self, ask: Ask, kept: _Kept, segments: Sequence[Segment], is_all: bool) -> Rows:
        folders = tuple(one.folder for one in segments)
        if kept.together[0] == folders:
            return kept.together[1]
        unknown = [one for one in segments if one.folder not in kept.parts]
        for table in self._read(ask, unknown) if unknown else ():
            for folder in pc.unique(table["folder"]).to_pylist():
                some = table.filter(pc.equal(table["folder"], folder))
                kept.parts[folder] = listened.rows(some, kept.places, kept.number(folder))
        rows = listened.together(kept.parts.get(folder, NOTHING) for folder in folders)
        if is_all:
            kept.parts = {folder: kept.parts[folder] for folder in folders if folder in kept.parts}
            kept.together = folders, rows
        return rows

    def _read(self, ask: Ask, segments: Sequence[Segment]) -> Iterator[pa.Table]:
        if stored := [one.folder for one in segments if one.has_heard]:
            yield ask(f"select *, {FOLDER} as folder from {self.sealed(stored, 'heard')} where what <> 'hour'")  # noqa: S608
        for one in segments:
            if not one.has_heard:
                made = heard.made_of(self.sealed([one.folder], "events"))
                yield ask(
                    f"select * replace (false as busy), '{one.folder}' as folder from ({made}) where what <> 'hour'"  # noqa: S608
                )

    def _cut(self, ask: Ask, kept: _Kept, one: Segment, size: int) -> Iterator[Rows]:
        """Of the records below this size of a segment that has more."""
        if one.first < size:
            below = f"(select * from {self.sealed([one.folder], 'events')} where index < {size})"  # noqa: S608
            yield listened.rows(ask(heard.at_once(below)), kept.places, kept.number(one.folder))

    def _tail(self, ask: Ask, kept: _Kept, snap: Snapshot) -> tuple[Tail, list[dict[str, Any]]]:
        state = snap.sealed_to, snap.size
        if kept.tail is not None and kept.tail[0] == state:
            return kept.tail[1:]
        events = snap.events.select(heard.READ).filter(pc.field("index") >= snap.sealed_to)
        tail, telling = Tail(events, kept.places), list[dict[str, Any]]()
        if tail.may_tell:
            # A text of thousands of numbers takes longer to read than the records between them.
            listed = ", ".join(map(str, tail.may_tell)) if len(tail.may_tell) <= LISTED_MOST else ""
            where = f"index in ({listed})" if listed else f"index >= {min(tail.may_tell)}"
            among = f"(select * from tail_events where {where})"  # noqa: S608
            telling = listened.told(ask(heard.telling(among)))
        kept.tail = state, tail, telling
        return tail, telling
