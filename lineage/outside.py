"""What stands outside the operator's hands: cosignatures, timestamps, checkpoints given away. Read here, and put into words.

Rows are only ever added: by the keeper (witnesses, authorities, drops) and by what auditors fetch and bring.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import NamedTuple

from django.db import connection

from lineage import errors, words

KINDS = ("witness", "timestamp", "pull", "mail", "folder")
PULL_PAUSE = "1 minute"
LATE = ("witness-late", "timestamp-late")
"""Alarms that somebody outside does not answer. They end by themselves when he does, and do not say that the log is broken."""


class Holding(NamedTuple):
    """One outside party's newest checkpoint, when it was taken, and since when the party takes them.

    `kind` is one of `KINDS`; `holder` the name or address ("" for the folder).
    """

    kind: str
    holder: str
    size: int
    at: dt.datetime
    since: dt.datetime


class Held(NamedTuple):
    """Everything that outside parties hold, the largest checkpoint first."""

    holdings: tuple[Holding, ...]

    @property
    def size(self) -> int:
        """The size of the largest checkpoint that anybody outside holds; 0 when nobody holds any."""
        return self.holdings[0].size if self.holdings else 0

    def newest(self, *kinds: str) -> Holding | None:
        """The largest checkpoint that a holder of these kinds has."""
        return next((each for each in self.holdings if each.kind in kinds), None)


class Timestamp(NamedTuple):
    """An authority's answer (RFC 3161 response, DER) over a checkpoint, and the time that it states."""

    authority: str
    response: bytes
    stated_at: dt.datetime


class Anchor(NamedTuple):
    """A checkpoint that somebody outside vouches for: its note as signed, cosignature lines, and timestamps."""

    size: int
    note: str
    cosignatures: tuple[str, ...]
    timestamps: tuple[Timestamp, ...]


def cosigned(size: int) -> list[str]:
    """The cosignature lines over the checkpoint of this size, each with its newline."""
    with connection.cursor() as cursor:
        cursor.execute("select line from ledger_cosignature where size = %s order by witness", [size])
        return [line for (line,) in cursor.fetchall()]


def signed_note(size: int) -> str:
    """The checkpoint of this size as the log signed it. Raises NotFound when none of that size is signed."""
    with connection.cursor() as cursor:
        cursor.execute("select note from ledger_checkpoint where size = %s", [size])
        row = cursor.fetchone()
    if row is None:
        raise errors.NotFound(f"No checkpoint of size {size} is signed.")
    return str(row[0])


def note_with_cosignatures(size: int) -> str:
    """`signed_note` with every known cosignature line after it."""
    return "".join([signed_note(size), *cosigned(size)])


def witnessed_note() -> str:
    """The newest checkpoint that a witness cosigned, with its cosignatures. Raises NotFound before the first."""
    with connection.cursor() as cursor:
        cursor.execute("select max(size) from ledger_cosignature")
        (size,) = cursor.fetchone()
    if size is None:
        raise errors.NotFound("No witness has cosigned a checkpoint yet.")
    return note_with_cosignatures(size)


def anchors(from_size: int, to_size: int) -> list[Anchor]:
    """The checkpoints of these sizes (both included) with a cosignature or a timestamp, smallest first."""
    between = [from_size, to_size]
    found: dict[int, tuple[list[str], list[Timestamp]]] = {}
    with connection.cursor() as cursor:
        cursor.execute(
            "select size, line from ledger_cosignature where size between %s and %s order by size, witness", between
        )
        for size, line in cursor.fetchall():
            found.setdefault(size, ([], []))[0].append(line)
        cursor.execute(
            "select size, authority, response, stated_at from ledger_timestamp where size between %s and %s "
            "order by size, authority",
            between,
        )
        for size, authority, response, stated_at in cursor.fetchall():
            found.setdefault(size, ([], []))[1].append(Timestamp(authority, bytes(response), stated_at))
        cursor.execute("select size, note from ledger_checkpoint where size = any(%s) order by size", [list(found)])
        return [Anchor(size, note, tuple(found[size][0]), tuple(found[size][1])) for size, note in cursor.fetchall()]


def held() -> Held:
    """What outside parties hold now."""
    found = [Holding("witness", *row) for row in _newest("ledger_cosignature", "witness")]
    found += [Holding("timestamp", *row) for row in _newest("ledger_timestamp", "authority")]
    for name, size, at, since in _newest("ledger_handed", "holder"):
        kind, _, holder = name.partition(" ")
        found.append(Holding(kind, holder, size, at, since))
    return Held(tuple(sorted(found, key=lambda each: (-each.size, KINDS.index(each.kind), each.holder))))


def hand(size: int, kind: str, holder: str = "") -> None:
    """Note that this checkpoint was given away. Raises nothing when that is known already."""
    with connection.cursor() as cursor:
        cursor.execute(
            "insert into ledger_handed (size, holder) values (%s, %s) on conflict do nothing",
            [size, f"{kind} {holder}".strip()],
        )


def last_handed(kind: str, holder: str = "") -> Holding | None:
    """What was given away to this holder last."""
    with connection.cursor() as cursor:
        name = f"{kind} {holder}".strip()
        cursor.execute("select size, at from ledger_handed where holder = %s order by size desc limit 1", [name])
        row = cursor.fetchone()
    return Holding(kind, holder, row[0], row[1], row[1]) if row else None


def note_pull(size: int, email: str) -> None:
    """Note that an auditor fetched this checkpoint; of somebody who follows the log closely, one a minute."""
    with connection.cursor() as cursor:
        cursor.execute(
            "insert into ledger_handed (size, holder) select %s, %s where not exists (select 1 from ledger_handed "
            "where holder = %s and at > clock_timestamp() - %s::interval) on conflict do nothing",
            [size, f"pull {email}", f"pull {email}", PULL_PAUSE],
        )


def sentence(size: int, most: int = 3) -> str:
    """Who outside holds what of a log of `size` records, since when (at most so many by name); or what it means that
    nobody does.
    """
    return words.held_outside(held().holdings, size, most)


def _newest(table: str, name: str) -> Iterable[tuple[str, int, dt.datetime, dt.datetime]]:
    """(name, newest size, its time, time of the first) for each name, by index even where there are many rows."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""with recursive names(name) as (
                    (select {name} from {table} order by {name} limit 1) union all
                    select (select {name} from {table} where {name} > names.name order by {name} limit 1)
                    from names where names.name is not null)
                select names.name, newest.size, newest.at, first.at from names
                cross join lateral (select size, at from {table} where {name} = names.name order by size desc limit 1) newest
                cross join lateral (select size, at from {table} where {name} = names.name order by size limit 1) first"""  # noqa: S608
        )
        return list(cursor.fetchall())
