"""Alarms that people see: on every page, on `/readyz`, on the integrity page, and as records in the log itself."""

from __future__ import annotations

import contextlib
import datetime as dt
from typing import Any

import psycopg
from django.db import DatabaseError, connection, transaction

from lineage import errors, ledger, outside
from lineage.events import Custody, Event


def sound(code: str, message: str, subject: str = "") -> None:
    """Raises an alarm, once while one with this code and subject stands, and notes it in the log.

    Where the log cannot be written to, the alarm stands all the same and is noted when it is sounded again.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "insert into ledger_alarm (code, subject, message) values (%s, %s, %s) on conflict do nothing",
            [code, subject, message],
        )
    with contextlib.suppress(errors.StoreUnavailable, DatabaseError, psycopg.Error):
        _note(code, subject)


def _note(code: str, subject: str) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "select id, message from ledger_alarm where code = %s and subject = %s and cleared_at is null "
            "and record is null for update",
            [code, subject],
        )
        for alarm, message in cursor.fetchall():
            told = f"{subject}: {message}" if subject else message
            placed = ledger.record(Event(kind="custody", custody=Custody(type="alarm", subject=code, detail=told)))
            cursor.execute("update ledger_alarm set record = %s where id = %s", [placed.index, alarm])


def standing() -> list[dict[str, Any]]:
    """The alarms that stand, newest first: id, code, subject, message, at."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select id, code, subject, message, at from ledger_alarm where cleared_at is null order by at desc, id desc"
        )
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def clear(code: str, subject: str = "") -> None:
    """Ends an alarm that ends by itself (one of `outside.LATE`), if it stands: what it told of is over."""
    if code not in outside.LATE:
        raise errors.AccessDenied(f"An alarm {code} does not end by itself. Run `bin/manage alarm clear`.")
    for alarm in standing():
        if (alarm["code"], alarm["subject"]) == (code, subject):
            clear_by(alarm["id"], "touchstone", "what it told of is over")


def clear_by(alarm: int, who: str, reason: str) -> None:
    """Ends an alarm because somebody looked into it; who and why become a record. Raises NotFound, StoreUnavailable."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "update ledger_alarm set cleared_at = clock_timestamp(), cleared_by = %s, reason = %s "
            "where id = %s and cleared_at is null returning code, message, at",
            [who, reason, alarm],
        )
        row: tuple[str, str, dt.datetime] | None = cursor.fetchone()
        if row is None:
            raise errors.NotFound("No alarm of this number stands. `bin/manage alarm list` shows those that do.")
        code, message, at = row
        ledger.record(
            Event(
                kind="custody",
                custody=Custody(
                    type="alarm",
                    subject=code,
                    detail=f"ended by {who}: {reason}. It stood since {at:%Y-%m-%dT%H:%M:%SZ}: {message}",
                ),
            )
        )
