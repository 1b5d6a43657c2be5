"""Appending: what the one writer promises."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest
from django.db import connection, connections

from lineage import ingest, ledger
from lineage.events import Event, Quarantined, Statement
from lineage.models import Source

pytestmark = pytest.mark.slow


@pytest.fixture
def source(store: str) -> Source:
    return Source.objects.create(name="shop", format="events", environment="prod", datasource="orders")


def entries(source: Source, *ids: str, text: str = "select 1") -> list[ledger.Entry]:
    found = []
    for each in ids:
        event = Event(
            kind="query", op="read", source_event_id=each, occurred_at="2026-11-21T04:00:00.000000Z",
            statement=Statement(text=f"{text} -- {each}", state="whole"),
        )  # fmt: skip
        entry = ingest.admit(source, event)
        assert isinstance(entry, ledger.Entry)
        found.append(entry)
    return found


def rows(sql: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def test_indexes_are_contiguous_from_zero_in_commit_order(source: Source) -> None:
    first = ledger.append(source.pk, entries(source, "a", "b"))
    second = ledger.append(source.pk, entries(source, "c"))
    assert [p.index for p in first + second] == [0, 1, 2]
    assert rows("select size from ledger_head") == [(3,)]


def test_the_same_item_again_is_a_duplicate_and_names_its_first_place(source: Source) -> None:
    ledger.append(source.pk, entries(source, "a", "b"))
    again = ledger.append(source.pk, entries(source, "b", "a"))
    assert [(p.status, p.index) for p in again] == [("duplicate", 1), ("duplicate", 0)]
    assert rows("select count(*) from ledger_journal") == [(2,)]


def test_a_key_with_other_content_is_kept_beside_the_first_and_flagged(source: Source) -> None:
    ledger.append(source.pk, entries(source, "a"))
    other = ledger.append(source.pk, entries(source, "a", text="select 2"))
    again = ledger.append(source.pk, entries(source, "a", text="select 2"))
    assert [(p.status, p.index) for p in other + again] == [("conflict", 1), ("conflict", 1)]
    assert b"duplicate_conflict" in bytes(rows("select action from ledger_journal order by batch desc limit 1")[0][0])


def test_a_batch_that_repeats_itself_counts_once(source: Source) -> None:
    placed = ledger.append(source.pk, entries(source, "a", "a") + entries(source, "a", text="select 2"))
    assert [(p.status, p.index) for p in placed] == [("accepted", 0), ("duplicate", 0), ("conflict", 1)]


def test_two_writers_with_one_key_and_two_contents_make_exactly_two_leaves(source: Source) -> None:
    one, two = entries(source, "a"), entries(source, "a", text="select 2")
    answers: list[str] = []

    def send(batch: list[ledger.Entry]) -> None:
        try:
            answers.extend(p.status for p in ledger.append(source.pk, batch))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=send, args=(batch,)) for batch in [one, two] * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers).count("accepted") == 1
    assert "conflict" in answers
    assert rows("select size from ledger_head") == [(2,)]
    assert rows("select count(*) from ledger_conflict") == [(1,)]
    assert rows("select first_index, n from ledger_batch order by 1") in ([(0, 1), (1, 1)], [(0, 2)])


def test_quarantined_bytes_are_kept_once(source: Source) -> None:
    item = Quarantined(position="3", body=b"\x00\xff broken", code="event-invalid", reason="not JSON")
    ledger.append(source.pk, [], [item])
    ledger.append(source.pk, [], [item])
    assert [(bytes(b), c) for b, c in rows("select body, code from ledger_quarantine")] == [
        (b"\x00\xff broken", "event-invalid")
    ]


@pytest.mark.parametrize("role", ["touchstone_web", "touchstone_store"])
@pytest.mark.parametrize(
    "deed",
    [
        "update ledger_journal set leaf = ''",
        "delete from ledger_batch",
        "truncate ledger_key",
        "insert into ledger_segment (first_index, next_index, folder, files, first_at, last_at) values (0,1,'x','{}',now(),now())",
        "update ledger_head set size = 0",
    ],
)
def test_working_roles_cannot_change_what_was_appended(source: Source, role: str, deed: str) -> None:
    ledger.append(source.pk, entries(source, "a"))
    with connection.cursor() as cursor:
        cursor.execute(f"set role {role}")
        with pytest.raises(Exception, match=r"append-only|permission denied|only grows"):
            cursor.execute(deed)
        cursor.execute("reset role")
    assert rows("select size from ledger_head") == [(1,)]


def test_even_the_owner_is_refused_by_the_triggers(source: Source) -> None:
    ledger.append(source.pk, entries(source, "a"))
    with pytest.raises(Exception, match="append-only"), connection.cursor() as cursor:
        cursor.execute("delete from ledger_journal")
    assert rows("select count(*) from ledger_journal") == [(1,)]


def test_a_lost_connection_is_an_answer_to_send_again_and_leaves_nothing_half_done(source: Source) -> None:
    batch = entries(source, "a")
    pid = rows("select pg_backend_pid()")[0][0]
    admin = psycopg.connect(
        **connection.get_connection_params() | {"dbname": connection.settings_dict["NAME"]}, autocommit=True
    )
    admin.execute("select pg_terminate_backend(%s)", [pid])
    admin.close()
    from lineage import errors

    with pytest.raises(errors.StoreUnavailable):
        ledger.append(source.pk, batch)
    assert [p.status for p in ledger.append(source.pk, batch)] == ["accepted"]
