"""Dedupe at any age: keys leave PostgreSQL for sealed files, and nothing that a source may notice changes."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
import time_machine
from django.db import connection, connections

from lineage import errors, fsck, ingest, keeper, ledger, segments
from lineage.events import Event, Statement
from lineage.keyfiles import form, leaving
from lineage.models import Source
from tests import merges

pytestmark = pytest.mark.slow
AT = dt.datetime(2026, 11, 21, 4, tzinfo=dt.UTC)


@pytest.fixture(autouse=True)
def at_once(settings: Any) -> None:
    settings.KEY_SECONDS = 0


@pytest.fixture
def source(store: str) -> Source:
    return Source.objects.create(name="shop", format="events", environment="prod", datasource="orders")


def entries(source: Source, *ids: str, text: str = "select 1", at: dt.datetime | None = AT) -> list[ledger.Entry]:
    found = []
    for each in ids:
        event = Event(
            kind="query", op="read", source_event_id=each, occurred_at=at.strftime("%Y-%m-%dT%H:%M:%S.%fZ") if at else None,
            statement=Statement(text=f"{text} -- {each}", state="whole"),
        )  # fmt: skip
        entry = ingest.admit(source, event)
        assert isinstance(entry, ledger.Entry)
        found.append(entry)
    return found


def send(source: Source, *ids: str, **more: Any) -> list[tuple[str, int]]:
    return [(p.status, p.index) for p in ledger.append(source.pk, entries(source, *ids, **more))]


def rows(sql: str, *values: Any) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall()


def seal() -> None:
    keeper.once()
    with keeper.lock():
        segments.seal()


def seal_and_leave() -> None:
    seal()
    leaving.leave()
    assert rows("select count(*) from ledger_key") == [(0,)]


@pytest.mark.parametrize("at", [AT, None], ids=["with a time", "without a time"])
def test_a_key_that_has_left_is_a_duplicate_with_the_index_it_has(source: Source, at: dt.datetime | None) -> None:
    send(source, "a", "b", at=at)
    seal_and_leave()
    assert send(source, "b", "c", "a", at=at) == [("duplicate", 1), ("accepted", 2), ("duplicate", 0)]
    assert rows("select size from ledger_head") == [(3,)]


def test_a_batch_of_which_the_first_half_has_left_is_known_whole(source: Source) -> None:
    send(source, "a", "b", "c", "d")
    seal()
    assert rows("select ledger_leave_keys(0, 2)") == [(2,)]
    assert rows("select count(*) from ledger_key") == [(2,)]
    assert send(source, "a", "b", "c", "d", "e") == [
        ("duplicate", 0), ("duplicate", 1), ("duplicate", 2), ("duplicate", 3), ("accepted", 4),
    ]  # fmt: skip


def test_other_content_for_a_key_that_has_left_is_kept_once_and_both_are_flagged(source: Source) -> None:
    send(source, "a", "b")
    seal_and_leave()
    assert send(source, "b", text="select 2") == [("conflict", 2)]
    assert send(source, "b", text="select 2") == [("conflict", 2)]
    seal_and_leave()
    assert send(source, "b", text="select 2") == [("conflict", 2)]
    assert send(source, "b", "b", text="select 3") == [("conflict", 3), ("conflict", 3)]
    assert send(source, "b") == [("duplicate", 1)]
    from lineage.engine import Question

    with Question() as question:
        flagged = question.rows(
            "select index from activity where list_contains(flags, 'duplicate_conflict') order by index"
        )
    assert [row["index"] for row in flagged] == [1, 2, 3]
    assert list(fsck.check()) == []


def test_keys_stay_until_their_file_is_published_and_they_are_old_enough(source: Source, settings: Any) -> None:
    send(source, "a")
    assert leaving.leave() == 0
    seal()
    settings.KEY_SECONDS = 3600
    assert leaving.leave() == 0
    assert rows("select count(*) from ledger_key") == [(1,)]
    settings.KEY_SECONDS = 0
    assert leaving.leave() == 1


@pytest.mark.parametrize(
    "deed",
    [
        "delete from ledger_key",
        "delete from ledger_key where ordinal = 1",
        "update ledger_key set content = content",
        "update ledger_keys_left set spans = '{[0,9)}', version = 9",
        "delete from ledger_keys_left",
        "truncate ledger_key, ledger_keys_left",
    ],
)
def test_no_key_goes_another_way_not_even_by_the_owner(source: Source, deed: str) -> None:
    send(source, "a", "b")
    with pytest.raises(Exception, match=r"append-only|only when a sealed file"), connection.cursor() as cursor:
        cursor.execute(deed)
    assert rows("select count(*) from ledger_key") == [(2,)]


def test_what_has_left_is_never_said_to_be_back(source: Source) -> None:
    send(source, "a", "b")
    seal_and_leave()
    with pytest.raises(Exception, match="only when a sealed file"), connection.cursor() as cursor:
        cursor.execute("update ledger_keys_left set spans = '{}', version = version + 1")


def test_a_worker_whose_key_leaves_while_it_waits_to_insert_it_finds_it_in_the_file(
    source: Source, server: Callable[..., dict[str, Any]]
) -> None:
    send(source, "a", "b")
    seal()
    answers: list[Any] = []

    def resend() -> None:
        try:
            answers.extend(send(source, "b", "c"))
        finally:
            connections.close_all()

    with psycopg.connect(**server(dbname=connection.settings_dict["NAME"])) as keeping:
        keeping.execute("lock table ledger_key in access exclusive mode")
        worker = threading.Thread(target=resend)
        worker.start()
        while keeping.execute("select count(*) from pg_locks where not granted").fetchone() == (0,):
            time.sleep(0.01)
        # It has looked into the files, where nothing was yet.
        assert keeping.execute("select ledger_leave_keys(0, 100)").fetchone() == (2,)
    worker.join()
    assert answers == [("duplicate", 1), ("accepted", 2)]
    assert rows("select size from ledger_head") == [(3,)]


def test_two_workers_with_an_old_and_a_new_key_in_either_order_make_one_leaf_each(source: Source) -> None:
    send(source, "old")
    seal_and_leave()
    answers: list[tuple[str, int]] = []

    def work(ids: tuple[str, str]) -> None:
        try:
            answers.extend(send(source, *ids))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work, args=(ids,)) for ids in [("old", "new"), ("new", "old")] * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [("accepted", 1)] + [("duplicate", 0)] * 6 + [("duplicate", 1)] * 5
    assert rows("select size from ledger_head") == [(2,)]


def test_a_keeper_that_dies_while_keys_leave_leaves_them_where_they_were(
    source: Source, server: Callable[..., dict[str, Any]]
) -> None:
    send(source, "a", "b")
    seal()
    with psycopg.connect(**server(dbname=connection.settings_dict["NAME"]), autocommit=True) as admin:
        dying = psycopg.connect(**server(dbname=connection.settings_dict["NAME"]))
        assert dying.execute("select ledger_leave_keys(0, 100)").fetchone() == (2,)
        admin.execute("select pg_terminate_backend(%s)", [dying.info.backend_pid])
        dying.close()
    assert send(source, "a", "b") == [("duplicate", 0), ("duplicate", 1)]
    seal_and_leave()
    assert send(source, "a", "b") == [("duplicate", 0), ("duplicate", 1)]


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_an_hour_off_finds_old_keys_as_before(source: Source, hours: int) -> None:
    send(source, "a", "b")
    seal_and_leave()
    with time_machine.travel(dt.datetime.now(dt.UTC) + dt.timedelta(hours=hours), tick=True):
        assert send(source, "a", "c") == [("duplicate", 0), ("accepted", 2)]
        seal_and_leave()
    assert send(source, "a", "b", "c") == [("duplicate", 0), ("duplicate", 1), ("duplicate", 2)]


def test_a_source_that_sends_a_year_again_in_reverse_is_answered_as_the_first_time(source: Source) -> None:
    def day(number: int) -> dict[str, Any]:
        return {"at": AT - dt.timedelta(days=number, hours=number % 24)}

    first = {}
    for number in range(0, 365, 5):
        ids = [f"{number}-{n}" for n in range(4)]
        first[number] = send(source, *ids, **day(number))
        if number % 60 == 55:
            seal_and_leave()
    assert len(rows("select 1 from ledger_segment")) == 6
    for number in reversed(first):
        again = send(source, *(f"{number}-{n}" for n in range(4)), f"{number}-late", **day(number))
        assert [index for _, index in again[:4]] == [index for _, index in first[number]]
        assert [status for status, _ in again] == ["duplicate"] * 4 + ["accepted"]
    assert rows("select size from ledger_head") == [(5 * len(first),)]


def test_keys_are_found_in_merged_files_also_those_that_were_sealed_before_there_were_files_of_keys(
    source: Source, server: Callable[..., dict[str, Any]]
) -> None:
    for name in ("a", "b", "c"):
        send(source, name, f"{name}2", at=AT if name != "b" else None)
        seal()
    with psycopg.connect(**server("postgres", dbname=connection.settings_dict["NAME"]), autocommit=True) as root:
        root.execute("set session_replication_role = replica")
        root.execute("update ledger_segment set files = files - 'keys' where first_index = 2")
    leaving.leave()
    assert rows("select spans::text from ledger_keys_left") == [("{[0,2),[4,6)}",)]
    assert send(source, "a", "c2") == [("duplicate", 0), ("duplicate", 5)]
    assert send(source, "b", at=None) == [("duplicate", 2)]
    merges.everything()
    assert rows("select first_index, next_index from ledger_segment") == [(0, 6)]
    leaving.leave()
    assert rows("select spans::text, (select count(*) from ledger_key) from ledger_keys_left") == [("{[0,6)}", 0)]
    assert send(source, "a", "c2") == [("duplicate", 0), ("duplicate", 5)]
    assert send(source, "b", "b2", at=None) == [("duplicate", 2), ("duplicate", 3)]
    assert list(fsck.check()) == []


def test_a_file_of_keys_that_cannot_be_read_refuses_what_it_may_hold_and_nothing_else(source: Source) -> None:
    send(source, "a")
    seal_and_leave()
    ((folder,),) = rows("select folder from ledger_segment")
    path = segments.storage().path(folder, "keys")
    whole = path.read_bytes()
    path.unlink()
    with pytest.raises(errors.StoreUnavailable):
        send(source, "b")
    assert send(source, "b", at=AT + dt.timedelta(hours=1)) == [("accepted", 1)]
    path.write_bytes(whole[:100])
    with pytest.raises(errors.StoreUnavailable):
        send(source, "b")
    path.write_bytes(whole)
    assert send(source, "a") == [("duplicate", 0)]


def faults() -> str:
    return "\n".join(fsck.check())


def test_fsck_finds_a_key_that_is_another_or_gone_also_when_the_manifest_is_made_to_fit(
    source: Source, server: Callable[..., dict[str, Any]]
) -> None:
    send(source, "a", "b", "c")
    seal_and_leave()
    assert faults() == ""
    ((folder,),) = rows("select folder from ledger_segment")
    path = segments.storage().path(folder, "keys")
    (records,) = form.parts(path)
    ((other,),) = [[entry.key for entry in entries(source, "x")]]
    for changed, fault in (
        (records[1:], "has no key."),
        ([*records[:2], form.pack(source.pk, other, int.from_bytes(records[2][20:28], "big"), False, records[2][32:])],
         "has another key than the one that follows from it."),
    ):  # fmt: skip
        forged(path, sorted(changed), server)
        assert fault in faults()
    forged(path, records, server)
    assert faults() == ""


def forged(path: Any, records: list[bytes], server: Callable[..., dict[str, Any]]) -> None:
    """Another key file, and the manifest made to fit, by whoever owns the machine."""
    import msgspec

    from lineage.keyfiles import making

    path.unlink()
    said = making.added(path, lambda place: making.written(place, [records]))
    with psycopg.connect(**server("postgres", dbname=connection.settings_dict["NAME"]), autocommit=True) as root:
        root.execute("set session_replication_role = replica")
        root.execute(
            "update ledger_segment set files = jsonb_set(files, '{keys}', %s::jsonb)",
            [msgspec.json.encode(said).decode()],
        )


def test_fsck_says_when_keys_have_left_and_no_file_holds_them(
    source: Source, server: Callable[..., dict[str, Any]]
) -> None:
    send(source, "a", "b")
    seal_and_leave()
    with psycopg.connect(**server("postgres", dbname=connection.settings_dict["NAME"]), autocommit=True) as root:
        root.execute("set session_replication_role = replica")
        root.execute("update ledger_segment set files = files - 'keys'")
    assert "The keys of the records {[0,2)} have left the database, and no sealed file holds them." in faults()


def test_a_range_whose_keys_have_left_is_never_published_without_them(source: Source) -> None:
    send(source, "a", "b")
    seal_and_leave()
    with connection.cursor() as cursor:
        cursor.execute("alter table ledger_segment disable trigger append_only")
        with pytest.raises(Exception, match="lie only in sealed files"):
            cursor.execute("update ledger_segment set files = files - 'keys'")
