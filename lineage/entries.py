"""Admitted events before they are appended: their ids and dedupe keys, and which of them are new. Pure but for chance."""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import time
from collections.abc import Iterator, Sequence

import msgspec

from lineage import journal
from lineage.events import Event
from lineage.keyfiles import form

_EPOCH = dt.date(1970, 1, 1).toordinal()
NO_BUCKET = bytes(4)
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One admitted event, committed. `key` is 16 bytes (time bucket and hash), `content` the SHA-256 of the item as received.

    The event itself is let go of: what is held of a batch until it is stored is no more than what is stored.
    """

    event_id: str
    key: bytes
    content: bytes
    row: journal.Row


class Placed(msgspec.Struct, frozen=True, gc=False):
    """What became of one entry: `status` accepted, duplicate or conflict, and the place of its leaf."""

    status: str
    index: int
    event_id: str
    leaf_hash: bytes


def entry_of(event: Event, key: bytes, content: bytes) -> Entry:
    """A complete event as an entry, under salts of its own. Raises OutsideProfile."""
    return Entry(event.event_id or "", key, content, journal.row(event, next(journal.salts())))


def event_id(now_ms: int | None = None) -> str:
    """A UUIDv7 (RFC 9562 section 5.7): 48 bits of Unix milliseconds, then random bits."""
    return next(event_ids(now_ms if now_ms is not None else time.time_ns() // 1_000_000))


def event_ids(now_ms: int) -> Iterator[str]:
    """UUIDv7s of one moment, without end."""
    head = f"{now_ms:012x}"
    head = f"{head[:8]}-{head[8:]}-7"
    for chance in journal.chances(10):
        rest = chance.hex()
        yield f"{head}{rest[:3]}-{_VARIANT[rest[3]]}{rest[4:7]}-{rest[7:19]}"


def dedupe_key(source_id: int, source_event_id: str, occurred_at: dt.datetime | None) -> bytes:
    """4 bytes of the hour (UTC) in which it happened (0 for sources without times), then 12 bytes of SHA-256."""
    return key_in(_bucket(occurred_at), source_id, source_event_id)


def key_in(bucket: bytes, source_id: int, source_event_id: str) -> bytes:
    """The dedupe key in the hour of `bucket`."""
    return bucket + hashlib.sha256(_prefix(source_id) + source_event_id.encode("utf-8", "surrogatepass")).digest()[:12]


@functools.lru_cache(maxsize=1024)
def bucket_of(hour: str) -> bytes:
    """The bucket of an hour of UTC, such as 2026-11-21T01."""
    return _bucket(dt.datetime.fromisoformat(f"{hour}:00:00+00:00"))


@functools.lru_cache(maxsize=1024)
def _prefix(source_id: int) -> bytes:
    return b"%d\0" % source_id


def _bucket(occurred_at: dt.datetime | None) -> bytes:
    if occurred_at is None:
        return NO_BUCKET
    if occurred_at.tzinfo is not dt.UTC:
        occurred_at = occurred_at.astimezone(dt.UTC)
    return max(0, (occurred_at.toordinal() - _EPOCH) * 24 + occurred_at.hour).to_bytes(4, "big")


class Part:
    """All that one source has in a transaction: its entries in order, which of them are fresh, and where each one lies.

    `fresh` are places among the entries, in the order of their ordinals, and `rows` their rows; `status` says for each
    entry what it is and its ordinal, or batch and ordinal of an older one. `first` is the index of the first fresh one,
    once the head has grown. `left` are those of the keys that were found in sealed files, at the state `state`.
    """

    def __init__(self, source_id: int, number: int, entries: list[Entry], rows: list[journal.Row]) -> None:
        self.source_id, self.number, self.first = source_id, number, 0
        self.entries, self.rows = entries, rows
        self.keys = [entry.key for entry in entries]
        self.fresh: list[tuple[int, str]] = []
        self.status: list[tuple[str, int | tuple[int, int]]] = []
        self.firsts: dict[int, int | tuple[int, int]] = {}
        self.state, self.left = "", dict[bytes, tuple[bytes, int, int]]()

    def fresh_keys(self) -> list[bytes]:
        return [self.keys[at] for at, _ in self.fresh]

    def first_of(self, ordinal: int) -> tuple[int, int]:
        """Batch and ordinal of the first record of the key of which this fresh one is another content."""
        place = self.firsts[ordinal]
        return place if isinstance(place, tuple) else (self.number, place)

    def plan(
        self, known: dict[bytes, tuple[bytes, int, int]], conflicts: dict[tuple[bytes, bytes], tuple[int, int]]
    ) -> None:
        """Tells fresh entries from known ones. `known` and `conflicts` say where those of earlier transactions lie."""
        if not (known or conflicts) and len(set(self.keys)) == len(self.keys):
            self.fresh = [(at, "accepted") for at in range(len(self.keys))]
            self.status = [("accepted", at) for at in range(len(self.keys))]
            return
        fresh, status = self.fresh, self.status
        seen: dict[bytes, tuple[bytes, int]] = {}
        seen_conflicts: dict[tuple[bytes, bytes], int] = {}
        forgotten = {key for key, content in conflicts if form.is_forgotten(content)}
        for at, entry in enumerate(self.entries):
            key = entry.key
            if key in known:
                content, *place = known[key]
                here: int | tuple[int, int] = (place[0], place[1])
            elif key in seen:
                content, here = seen[key]
            else:
                seen[key] = (entry.content, len(fresh))
                status.append(("accepted", len(fresh)))
                fresh.append((at, "accepted"))
                continue
            pair = (key, entry.content)
            if content == entry.content or key in forgotten or form.is_forgotten(content):
                status.append(("duplicate", here))
            elif pair in conflicts or pair in seen_conflicts:
                status.append(("conflict", conflicts.get(pair) or seen_conflicts[pair]))
            else:
                seen_conflicts[pair] = len(fresh)
                self.firsts[len(fresh)] = here
                status.append(("conflict", len(fresh)))
                fresh.append((at, "conflict"))
        if len(fresh) < len(self.entries) or seen_conflicts:
            self.rows = [self._flagged(at) if status == "conflict" else self.rows[at] for at, status in fresh]

    def _flagged(self, at: int) -> journal.Row:
        return journal.flagged(self.rows[at], "duplicate_conflict", next(journal.salts()))

    def claims(self, wanted: str) -> list[tuple[bytes, bytes, int]]:
        """(key, content, ordinal) of the fresh entries of a status, sorted by key."""
        return sorted(
            (self.entries[at].key, self.entries[at].content, ordinal)
            for ordinal, (at, status) in enumerate(self.fresh)
            if status == wanted
        )

    def placed(self, older: dict[tuple[int, int], int]) -> list[Placed]:
        """What became of each entry. `older` are the indexes of those that lie in earlier batches."""
        found = []
        for status, place in self.status:
            if isinstance(place, tuple):
                found.append(Placed(status, older.get(place, -1), "", b""))
            else:
                event_id = self.entries[self.fresh[place][0]].event_id
                found.append(Placed(status, self.first + place, event_id, self.rows[place].leaf_hash))
        return found

    def older(self) -> list[tuple[int, int]]:
        """Batch and ordinal of each entry that lies in an earlier batch."""
        return [place for _, place in self.status if isinstance(place, tuple)]


def parts(batches: Sequence[tuple[int, Sequence[Entry], Sequence[journal.Row]]], numbers: dict[int, int]) -> list[Part]:
    """What each source has, in the order of the sources. `numbers` are the numbers of their batches in the journal."""
    return [
        Part(
            source_id, number,
            [entry for whose, entries, _ in batches if whose == source_id for entry in entries],
            [row for whose, _, rows in batches if whose == source_id for row in rows],
        )
        for source_id, number in sorted(numbers.items())
    ]  # fmt: skip
