"""Alarms that people see: on every page, on `/readyz`, on the integrity page."""

from __future__ import annotations

from django.db import connection


def sound(code: str, message: str) -> None:
    """Raises an alarm, once while it stands."""
    with connection.cursor() as cursor:
        cursor.execute(
            "insert into ledger_alarm (code, message) select %s, %s where not exists "
            "(select 1 from ledger_alarm where code = %s and message = %s and cleared_at is null)",
            [code, message, code, message],
        )


def clear(code: str) -> None:
    """Ends an alarm of this code, if one stands: what it told of is over."""
    with connection.cursor() as cursor:
        cursor.execute(
            "update ledger_alarm set cleared_at = clock_timestamp() where code = %s and cleared_at is null", [code]
        )
