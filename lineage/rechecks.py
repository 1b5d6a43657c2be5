"""Checks of the signed log that somebody asks for on a page: the newest checkpoint against every stored record.

What is derived again: each leaf's hash, the root of this and of every earlier checkpoint, their signatures, the file of
leaf hashes and the upper hashes. Sealed files, values and projections are left to `fsck`, which runs every night.
The keeper does one at a time, beside its other work; a killed one begins anew.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
from django.db import IntegrityError, connection, transaction

from lineage import alarms, errors, fsck, ledger, tree
from lineage.access import Viewer
from lineage.models import Role

FAULTS_MOST = 20
ENDERS = frozenset({Role.OPERATOR, Role.SECURITY, Role.ADMIN})
COLUMNS = "id, asked_by, asked_at, state, size, done, checkpoints, faults, started_at, ended_at, ended_by"


class Recheck(msgspec.Struct, frozen=True):
    """One check: `done` of `size` records were looked at; `state` waiting, running, held, failed or cancelled."""

    id: int
    asked_by: str
    asked_at: dt.datetime
    state: str
    size: int
    done: int
    checkpoints: int
    faults: list[str]
    started_at: dt.datetime | None
    ended_at: dt.datetime | None
    ended_by: str | None

    @property
    def is_open(self) -> bool:
        return self.state in ("waiting", "running")

    @property
    def percent(self) -> int:
        return 100 * self.done // self.size if self.size else 100

    @property
    def seconds(self) -> float | None:
        return (self.ended_at - self.started_at).total_seconds() if self.started_at and self.ended_at else None


class _Cancelled(Exception):
    """Somebody ended the check while it ran."""


def _rows(sql: str, *values: Any) -> list[Recheck]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return [Recheck(*row) for row in cursor.fetchall()]


def ask(viewer: Viewer) -> int:
    """The number of a new check of the newest checkpoint, or of the one that is under way. Raises NotFound before the first."""
    size, _ = tree.published()
    if not size:
        raise errors.NotFound("No checkpoint is signed yet, so there is nothing to check. It is signed within seconds.")
    if under_way := _open():
        return under_way[0].id
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                "insert into integrity_check (asked_by, size) values (%s, %s) returning id", [viewer.email, size]
            )
            number = int(cursor.fetchone()[0])
            ledger.record_decision(
                "review", decided_by=viewer.email, subject=f"integrity check {number}", transition="asked for"
            )
            return number
    except IntegrityError:
        # Somebody asked at the same moment: theirs is the one under way.
        return ask(viewer)


def _open() -> list[Recheck]:
    return _rows(f"select {COLUMNS} from integrity_check where state in ('waiting', 'running')")  # noqa: S608 - our own names


def one(number: int) -> Recheck:
    """Raises NotFound."""
    found = _rows(f"select {COLUMNS} from integrity_check where id = %s", min(number, 2**62))  # noqa: S608 - our own names
    if not found:
        raise errors.NotFound("There is no check of this number.")
    return found[0]


def newest(most: int = 10) -> list[Recheck]:
    return _rows(f"select {COLUMNS} from integrity_check order by id desc limit %s", most)  # noqa: S608 - our own names


def may_end(viewer: Viewer, asked: Recheck) -> bool:
    """Whoever asked; of the checks of others, those who see everything: a check is of the whole log."""
    return viewer.email == asked.asked_by or (viewer.role in ENDERS and not viewer.is_narrowed)


def cancel(viewer: Viewer, number: int) -> None:
    """Ends a check that waits or runs. Raises NotFound, AccessDenied, and AlreadyDone when it has ended."""
    if not may_end(viewer, one(number)):
        raise errors.AccessDenied(
            "This check is ended by whoever asked for it, or an operator, security or administrator whose scope is everything."
        )
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "update integrity_check set state = 'cancelled', ended_at = clock_timestamp(), ended_by = %s "
            "where id = %s and state in ('waiting', 'running')",
            [viewer.email, number],
        )
        if cursor.rowcount != 1:
            raise errors.AlreadyDone("The check has ended already. Reload the page to see what it found.")
        ledger.record_decision(
            "review", decided_by=viewer.email, subject=f"integrity check {number}", transition="cancelled"
        )


def run_due() -> None:
    """Does the check that waits, or that a killed keeper left. Call where nobody else does the same."""
    with connection.cursor() as cursor:
        cursor.execute(
            "update integrity_check set state = 'running', started_at = clock_timestamp(), done = 0 "
            "where state in ('waiting', 'running') returning id, size"
        )
        row = cursor.fetchone()
    if row:
        number, size = row
        try:
            _run(number, size)
        except _Cancelled:
            return


def _run(number: int, size: int) -> None:
    signed = [each for each in fsck.signed() if each[0] <= size]
    faults: list[str] = []
    for fault in fsck.tree_faults(size, signed, lambda reached: _reached(number, reached)):
        faults.append(fault)
        if len(faults) == FAULTS_MOST:
            break
    _end(number, size, len(signed), faults)
    if faults:
        alarms.sound("fsck-failed", faults[0])


def _reached(number: int, done: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("update integrity_check set done = %s where id = %s and state = 'running'", [done, number])
        if cursor.rowcount != 1:
            raise _Cancelled


def _end(number: int, size: int, checkpoints: int, faults: list[str]) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "update integrity_check set state = %s, done = %s, checkpoints = %s, faults = %s, ended_at = clock_timestamp() "
            "where id = %s and state = 'running'",
            ["failed" if faults else "held", size, checkpoints, faults, number],
        )
        if cursor.rowcount != 1:
            raise _Cancelled
        told = f"{len(faults)} faults" if faults else f"held: {size} records, {checkpoints} checkpoints"
        ledger.record_decision("review", decided_by="touchstone", subject=f"integrity check {number}", transition=told)
