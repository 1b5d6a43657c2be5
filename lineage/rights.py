"""Who may erase, hold and let expire; a refusal is answered, counted and recorded (docs/erasure.md)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal, get_args

from django.db import DatabaseError, connection, transaction

from lineage import errors, ledger
from lineage.access import Viewer
from lineage.models import Role

ROLES = frozenset({Role.COMPLIANCE, Role.ADMIN})
Kind = Literal["erasure", "hold", "retention"]


def may(viewer: Viewer) -> bool:
    return viewer.role in ROLES


@contextlib.contextmanager
def asked(viewer: Viewer, kind: Kind, number: int | None = None) -> Iterator[None]:
    """Around what a person asks for. Whatever is refused inside, here or by the database, is recorded and counted."""
    try:
        if not may(viewer):
            raise errors.AccessDenied(
                "Erasure, holds and retention are for compliance and administrators. The refusal is recorded."
            )
        yield
    except errors.TouchstoneError as error:
        if error.status < 500:
            refuse(kind, number, viewer.email, error.code)
        raise
    except DatabaseError as error:
        told = _told(kind, number, error)
        if told is None:
            raise
        refuse(kind, number, viewer.email, told.code)
        raise told from error


def _told(kind: Kind, number: int | None, error: DatabaseError) -> errors.TouchstoneError | None:
    """What the database's own refusal means to a reader; None for any other fault."""
    match getattr(error.__cause__, "sqlstate", None):
        case "42501":
            return errors.AccessDenied(
                f"This {kind} needs another person with the right to it than the one who asked. The refusal is recorded."
            )
        case "P0002":
            return errors.NotFound(
                f"No {kind} {number} waits for this. `bin/manage {_verb(kind)} list` shows what does."
            )
    return None


def _verb(kind: Kind) -> str:
    return "erase" if kind == "erasure" else kind


def refuse(kind: Kind | Literal["approval", "configuration", "grant"], number: int | None, who: str, code: str) -> None:
    """Records a refusal in the log, by its code alone: its words could hold a value. Those of this module's kinds are counted."""
    with transaction.atomic(), connection.cursor() as cursor:
        if kind in get_args(Kind):
            cursor.execute(
                "insert into ledger_refusal (kind, number, who, code) values (%s, %s, %s, %s)",
                [kind, number, who[:512], code],
            )
        subject = kind if number is None else f"{kind} {number}"
        ledger.record_decision(kind, decided_by=who, subject=subject, transition="refused", purpose=code)


def refusals() -> int:
    """How many requests, approvals and executions were refused so far."""
    with connection.cursor() as cursor:
        cursor.execute("select count(*) from ledger_refusal")
        return int(cursor.fetchone()[0])


def call(sql: str, *values: Any) -> Any:
    """The one value of a function of ours."""
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchone()[0]
