"""A quarantined item and an erasure of it at once, each on a connection of its own: after the approval nothing of it enters."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.db import connection, connections, transaction

from lineage import erasures, errors, quarantine, queries, segments
from lineage.access import Viewer
from tests.lineage import forgetting
from tests.lineage.test_custody_pages import SECRET, decisions, kept
from tests.lineage.test_telling import wait_for

pytestmark = pytest.mark.slow

__all__ = ["kept"]
WORD = SECRET[:7]
OPERATOR = Viewer("otto@shop.example", "operator")
READER = Viewer("a@example.org", "auditor")


class Beside(threading.Thread):
    """A deed on a connection of its own, and what became of it."""

    def __init__(self, deed: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self.deed, self.became = deed, ""
        self.start()

    def run(self) -> None:
        try:
            self.became = str(getattr(self.deed(), "status", "done"))
        except errors.TouchstoneError as error:
            self.became = error.code
        finally:
            connections.close_all()


def asked(items: list[int], texts: list[str]) -> tuple[int, Viewer]:
    """The number of an erasure that waits, and who approves it."""
    carla, claus = forgetting.people()
    made = erasures.request(
        carla, "", ["actor", "action", "statement", "change"], reason="asked", ground="law", items=items, texts=texts
    )
    return made.number, claus


def waiting(mode: str) -> bool:
    """Whether somebody waits for the fence of erasures in this mode."""
    sql = "select exists (select 1 from pg_locks where locktype = 'advisory' and objid = %s and mode = %s and not granted)"
    return bool(forgetting.rows(sql, erasures.quarantine.LOCK, mode)[0][0])


def told() -> bytes:
    """All that is left of every record."""
    size = segments.sealed_to()
    assert size > 0
    return b"".join(group or b"" for one in segments.records(range(size)) for group in one.groups.values())


@pytest.mark.parametrize("by", ["item", "value"])
def test_what_is_read_again_while_somebody_approves_waits_and_is_refused(kept: int, by: str) -> None:
    number, claus = asked([kept], []) if by == "item" else asked([], [WORD])
    with transaction.atomic():
        erasures.approve(claus, number)
        retry = Beside(lambda: quarantine.retry(OPERATOR, kept))
        wait_for(lambda: waiting("ShareLock"), "the retry waits for the approval")
    retry.join()
    assert retry.became == "under-erasure"
    assert decisions(f"quarantined item {kept}") == [f"refused by {OPERATOR.email}"]
    assert queries.events(READER, "flag:from_quarantine").total.value == 0
    forgetting.locked(erasures.execute, number)
    with pytest.raises(errors.NotFound, match="erased"):
        quarantine.retry(OPERATOR, kept)
    assert queries.events(READER, "flag:from_quarantine").total.value == 0
    assert WORD.encode() not in told()


def test_what_is_being_read_again_is_in_the_log_before_the_approval_and_goes_with_it(kept: int) -> None:
    number, claus = asked([], [WORD])
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}) as other:
        other.execute("select pg_advisory_xact_lock(%s, %s)", [quarantine.LOCK, kept])
        retry = Beside(lambda: quarantine.retry(OPERATOR, kept))
        wait_for(
            lambda: forgetting.rows("select 1 from pg_locks where locktype = 'advisory' and not granted"),
            "it stands still",
        )
        approval = Beside(lambda: erasures.approve(claus, number))
        wait_for(lambda: waiting("ExclusiveLock"), "the approval waits for it")
        assert erasures.one(number).state == "requested"
    retry.join()
    approval.join()
    assert (retry.became, approval.became) == ("accepted", "done")
    assert queries.events(READER, "flag:from_quarantine").total.value == 1
    forgetting.locked(erasures.execute, number)
    assert erasures.one(number).state == "pending"
    assert WORD.encode() not in told()
