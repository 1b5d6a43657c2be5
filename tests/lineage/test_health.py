"""The keeper's look: what is missing, silent, weakened or contradicted, said once when it begins and once when it ends."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import msgspec
import pytest

from lineage import checkpoints, events, health, ingest, ledger, queries, segments
from lineage.access import Viewer
from lineage.events import Event, HeaderCount, Skipped
from lineage.health.numbers import Numbers
from lineage.models import Source, SourceHealth

pytestmark = pytest.mark.slow

ALL = Viewer(email="audit@example.test", role="auditor")
NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
LONG_AGO = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
AUDITED = [{"name": "pgaudit.log", "value": "all"}, {"name": "pgaudit.log_rows", "value": "on"}]
TABLE: dict[str, Any] = {
    "schema": "public", "relation": "orders", "published": True, "kind": "table", "persistence": "permanent", "replica_identity": "full",
}  # fmt: skip
PUBLISHED: dict[str, Any] = {
    "name": "touchstone",
    "all_tables": True,
    "operations": ["insert", "update", "delete", "truncate"],
}


class Shop:
    """One database with a log source, a change source and a state source, as its collectors would send them."""

    def __init__(self) -> None:
        self.sources = {
            name: Source.objects.create(name=name, format=form, environment="prod", datasource="orders")
            for name, form in (
                ("log", "postgres-csvlog"),
                ("wal", "pgoutput"),
                ("state", "pgstate"),
                ("desk", "events"),
            )
        }
        self.numbers: dict[str, int] = {}
        self.started = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)

    def at(self, seconds: float) -> str:
        return events.format_time(self.started + dt.timedelta(seconds=seconds))

    def send(self, name: str, seconds: float, number: int | None = None, **fields: Any) -> int:
        self.numbers[name] = number or self.numbers.get(name, 0) + 1
        base = {"source_event_id": f"{self.numbers[name]}/{seconds}", "sequence": self.numbers[name],
                "occurred_at": self.at(seconds), "occurred_at_quality": "source", "database": "shop"}  # fmt: skip
        entry = ingest.admit(self.sources[name], msgspec.convert(base | fields, Event))
        assert isinstance(entry, ledger.Entry)
        return ledger.append(self.sources[name].pk, [entry])[0].index

    def line(self, seconds: float, text: str, xid: str | None = None, vid: str = "", **fields: Any) -> int:
        command = fields.pop("command", text.split()[0].upper())
        op = fields.pop("op", {"UPDATE": "update", "SELECT": "read", "ALTER TABLE": "ddl"}.get(command, "other"))
        rows: dict[str, Any] = {"rows": {"affected": fields.pop("affected", 1)}} if op == "update" else {}
        transaction = {"vid": vid or f"3/{seconds}"} | ({"id": xid} if xid else {})
        return self.send(
            "log", seconds, kind="query", op=op, command=command, verdict=fields.pop("verdict", "allowed"),
            actor={"db_user": "bob"}, db_session_id="s1", correlation_id=f"s1/{seconds}.1", transaction=transaction,
            statement={"text": text, "state": "whole"}, **rows, **fields,
            resources=[{"schema": "public", "relation": fields.pop("table", "orders")}] if op == "update" else [],
        )  # fmt: skip

    def change(self, seconds: float, xid: str) -> int:
        return self.send(
            "wal", seconds, kind="change", op="update", verdict="allowed", transaction={"id": xid, "outcome": "committed"},
            resources=[{"schema": "public", "relation": "orders"}], key=[{"column": "id", "value": "1"}],
        )  # fmt: skip

    def state(self, seconds: float, **told: Any) -> int:
        whole = {"mode": "snapshot", "settings": AUDITED, "keys": [TABLE], "published": [PUBLISHED]} | told
        return self.send("state", seconds, kind="state", op="snapshot", state=whole)

    def later(self, seconds: float = 60) -> None:
        """Both sides have told of something after everything else."""
        self.line(seconds, "select 1")
        self.change(seconds, f"9{seconds:.0f}")
        self.line(seconds, "update orders set v = 1", f"9{seconds:.0f}")

    def look(self, seconds: float = 3600, alive_since: dt.datetime = LONG_AGO) -> int:
        """A look at a time so many seconds from now."""
        return health.look(alive_since, dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds))


@pytest.fixture
def shop(store: str) -> Shop:
    return Shop()


def told(*types: str) -> list[dict[str, Any]]:
    """The custody records of these types that the store wrote, oldest first."""
    found = queries.events(ALL, "kind:custody source:touchstone", limit=500).items
    return [row["custody"] for row in reversed(found) if row["custody"]["type"] in types]


def findings() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for item in queries.findings(ALL).items:
        found.setdefault(item["rule"], []).append(item["sentence"])
    return found


# Numbers


def test_numbers_that_come_out_of_order_late_or_anew_are_accounted_for() -> None:
    numbers = Numbers()
    assert numbers.take([(1, 5), (8, 9)], NOW) == []
    assert [(gap.first, gap.last) for gap in numbers.missing] == [(6, 7)]
    assert numbers.take([(6, 6), (10, 12)], NOW) == []
    assert [(gap.first, gap.last, gap.gap_first) for gap in numbers.missing] == [(7, 7, 6)]
    numbers.forgive([7])
    assert numbers.missing == []
    assert numbers.take([(3, 4), (5, 6)], NOW) == [(12, 3)]
    assert numbers.high == 6


def test_a_missing_number_is_a_gap_after_the_grace_time_and_closed_when_it_comes(shop: Shop) -> None:
    shop.line(1, "select 1")
    shop.send("log", 2, number=4, kind="query", op="read")
    shop.look(0)
    assert told("gap") == []
    assert shop.look() == 1
    (gap,) = told("gap")
    assert (gap["first"], gap["last"], gap["count"], gap["transition"]) == ("2", "3", 2, "begins")
    assert shop.look() == 0
    shop.send("log", 3, number=2, kind="query", op="read")
    assert shop.look() == 0
    shop.send("log", 4, number=3, kind="query", op="read")
    assert shop.look() == 1
    assert [gap["transition"] for gap in told("gap")] == ["begins", "ends"]
    assert shop.look() == 0
    assert findings()["gap"] == ["A gap in what log reports: log: 2 of the items numbered 2 to 3 did not arrive."]


def test_a_skipped_or_quarantined_number_is_not_missing(shop: Shop) -> None:
    shop.line(1, "select 1")
    ledger.append(shop.sources["log"].pk, [], [], [Skipped(position="0", reason="no access", sequence=2)])
    shop.send("log", 2, number=3, kind="query", op="read")
    shop.look(0)
    assert shop.look() == 0


def test_numbers_that_begin_anew_are_told_at_once(shop: Shop) -> None:
    for second in range(1, 6):
        shop.line(second, "select 1")
    shop.look(0)
    shop.send("log", 10, number=2, kind="query", op="read")
    assert shop.look(0) == 1
    assert "begin anew at 2; they had come to 5" in told("gap")[0]["detail"]


# What lasts


def beat(source: Source, **more: Any) -> None:
    health.beat(source, last_sequence=1, position="", reported_at=dt.datetime.now(dt.UTC), **more)


def test_silence_begins_once_survives_a_restart_and_ends_with_the_next_heartbeat(shop: Shop) -> None:
    beat(shop.sources["log"])
    assert shop.look(100) == 0
    assert shop.look(200) == 1
    assert shop.look(300) == 0
    # a keeper that began a moment ago has not listened long enough to say, and does not unsay it either
    assert shop.look(400, alive_since=dt.datetime.now(dt.UTC) + dt.timedelta(seconds=399)) == 0
    beat(shop.sources["log"])
    assert shop.look(0) == 1
    begun, ended = told("silence")
    assert (begun["transition"], ended["transition"], ended["first"]) == ("begins", "ends", begun["first"])
    assert len(findings()["silence"]) == 1


def test_a_store_that_was_away_calls_nobody_silent(shop: Shop) -> None:
    beat(shop.sources["log"])
    assert shop.look(1000, alive_since=dt.datetime.now(dt.UTC) + dt.timedelta(seconds=900)) == 0


def test_a_source_that_beats_rarely_is_given_three_times_its_interval(shop: Shop) -> None:
    beat(shop.sources["log"])
    SourceHealth.objects.update(usual_seconds=300)
    assert shop.look(800) == 0
    assert shop.look(1000) == 1


def test_a_source_that_never_beats_is_not_called_silent(shop: Shop) -> None:
    shop.line(1, "select 1")
    assert shop.look(100_000) == 0


def test_a_collector_that_does_not_reach_its_database_is_silent_too(shop: Shop) -> None:
    beat(shop.sources["wal"], detail={"reader": "disconnected"})
    now = dt.datetime.now(dt.UTC)
    SourceHealth.objects.update(reader_since=now - dt.timedelta(seconds=200))
    assert shop.look(0) == 1
    assert "does not reach its database" in told("silence")[0]["detail"]
    beat(shop.sources["wal"], detail={"reader": "connected"})
    assert shop.look(0) == 1


def test_a_wrong_clock_is_told_once_and_its_end(shop: Shop) -> None:
    now = dt.datetime.now(dt.UTC)
    for hours in (1, 1):
        health.beat(shop.sources["log"], last_sequence=1, position="", reported_at=now + dt.timedelta(hours=hours))
        shop.look(0)
    assert [c["transition"] for c in told("clock_skew")] == ["begins"]
    assert "clock-skew" in findings()
    beat(shop.sources["log"])
    shop.look(0)
    assert [c["transition"] for c in told("clock_skew")] == ["begins", "ends"]


@pytest.mark.parametrize(("off", "count"), [(3600, 1), (-3600, 1), (5, 0)])
def test_the_database_clock_is_held_against_the_time_in_a_canary(shop: Shop, off: int, count: int) -> None:
    emitted = int((shop.started + dt.timedelta(seconds=10 - off)).timestamp())
    shop.line(10, f"select 'touchstone-canary 0123456789abcdef-{emitted}'", flags=["canary"])
    assert shop.look(0) == count


# States


def test_a_weakened_state_begins_and_ends_and_is_a_finding_with_before_and_after(shop: Shop) -> None:
    shop.state(1)
    assert shop.look(0) == 0
    shop.state(2, keys=[TABLE | {"replica_identity": "nothing"}])
    assert shop.look(0) == 1
    shop.state(3, keys=[TABLE | {"replica_identity": "nothing"}], settings=[*AUDITED, {"name": "x", "value": "y"}])
    assert shop.look(0) == 0
    shop.state(4)
    assert shop.look(0) == 1
    begun, ended = told("finding")
    assert (begun["subject"], begun["transition"], ended["transition"]) == ("capture-weakened", "begins", "ends")
    assert findings()["capture-weakened"] == [
        "Capture was weakened: table public.orders: replica identity full → replica identity nothing."
    ]


def test_what_was_weakened_and_restored_between_two_looks_is_told_both_times(shop: Shop) -> None:
    shop.state(1)
    shop.state(2, settings=[AUDITED[1], {"name": "pgaudit.log", "value": "none"}])
    shop.state(3)
    assert shop.look(0) == 2
    assert [c["transition"] for c in told("finding")] == ["begins", "ends"]


def sending(*names: str) -> list[dict[str, Any]]:
    tables = [{"schema": "public", "relation": name, "columns": [], "row_filter": None} for name in names]
    return [PUBLISHED | {"all_tables": False, "tables": tables}]


def test_each_table_that_a_publication_no_longer_sends_is_told(shop: Shop) -> None:
    keys = [TABLE | {"relation": name} for name in ("a", "b", "c")]
    for seconds, names in enumerate((("a", "b", "c"), ("c",), ("a",), ("a", "b", "c")), 1):
        shop.state(seconds, keys=keys, published=sending(*names))
    shop.look(0)
    told_of = [(c["first"][-1], c["transition"]) for c in told("finding")]
    begun = [name for name, transition in told_of if transition == "begins"]
    assert sorted(begun) == ["a", "b", "c"]
    assert sorted(told_of) == [(name, transition) for name in "abc" for transition in ("begins", "ends")]


def test_what_was_weakened_and_is_weakened_further_is_told_again(shop: Shop) -> None:
    for seconds, value in enumerate(("all", "ddl,role,write", "none"), 1):
        shop.state(seconds, settings=[AUDITED[1], {"name": "pgaudit.log", "value": value}])
        shop.look(0)
    assert [c["transition"] for c in told("finding")] == ["begins", "begins"]
    assert "ddl,role,write → none" in told("finding")[1]["detail"]
    shop.state(4)
    shop.look(0)
    assert [c["transition"] for c in told("finding")] == ["begins", "begins", "ends"]


def test_a_lost_slot_is_a_finding_of_its_own(shop: Shop) -> None:
    slot = {"name": "touchstone", "plugin": "pgoutput", "wal_status": "reserved", "confirmed_lsn": "0/10"}
    shop.state(1, slots=[slot])
    shop.state(2)
    shop.look(0)
    assert findings()["slot-lost"] == ["The replication slot was lost: slot touchstone: at 0/10 → gone."]


# One database's sources against each other


def test_rows_that_the_log_tells_of_and_change_capture_does_not(shop: Shop) -> None:
    shop.state(1)
    shop.line(10, "update orders set v = 1", "801", affected=3)
    shop.line(11, "update orders set v = 2", "802")
    shop.change(11, "802")
    assert shop.look() == 0, "the change may still come: nothing later has"
    shop.later()
    assert shop.look() == 1
    assert shop.look() == 0
    (finding,) = told("finding")
    assert (finding["subject"], finding["first"], finding["count"]) == ("rows-not-captured", "801", 3)
    assert "bob wrote 3 rows of public.orders" in findings()["rows-not-captured"][0]


def uncovered(shop: Shop, why: str) -> None:
    if why == "no state":
        return
    table = {"unlogged": {"persistence": "unlogged"}, "view": {"kind": "view"}, "another table": {"relation": "others"}}
    filtered = [{"schema": "public", "relation": "orders", "row_filter": "(id > 5)"}]
    publication: dict[str, dict[str, Any]] = {
        "inserts only": {"operations": ["insert"]}, "unpublished": {"all_tables": False}, "another's publication": {"name": "replica"},
        "rows filtered": {"all_tables": False, "tables": filtered},
    }  # fmt: skip
    settings = [AUDITED[1], {"name": "pgaudit.log", "value": "write"}] if why == "no misc class" else AUDITED
    shop.state(
        1, keys=[TABLE | table.get(why, {})], settings=settings, published=[PUBLISHED | publication.get(why, {})]
    )


@pytest.mark.parametrize(
    "why",
    ["covered", "no state", "unpublished", "inserts only", "rows filtered", "another's publication", "unlogged", "view", "another table",
     "no misc class"],
)  # fmt: skip
def test_what_change_capture_need_not_tell_is_not_missed(shop: Shop, why: str) -> None:
    uncovered(shop, why)
    shop.line(10, "update orders set v = 1", "801")
    shop.line(70, "select 1")
    shop.send("wal", 70, kind="custody", custody={"type": "canary", "subject": "wal", "detail": "c"})
    assert shop.look() == (why == "covered")


@pytest.mark.parametrize(
    ("ending", "verdict"),
    [("ROLLBACK", "allowed"), ("select 1/0", "error"), ("", ""), ("SAVEPOINT a", "allowed")],
)
def test_a_transaction_that_may_not_have_committed_is_not_judged(shop: Shop, ending: str, verdict: str) -> None:
    shop.state(1)
    shop.line(9, "BEGIN", vid="3/1")
    shop.line(10, "update orders set v = 1", "801", vid="3/1")
    if ending:
        shop.line(11, ending, vid="3/1", verdict=verdict)
    if ending.startswith("SAVEPOINT"):
        shop.line(12, "COMMIT", "801", vid="3/1")
    shop.later()
    assert shop.look() == 0


def test_an_explicit_transaction_is_judged_by_its_commit(shop: Shop) -> None:
    shop.state(1)
    shop.line(9, "BEGIN", vid="3/1")
    shop.line(10, "update orders set v = 1", "801", vid="3/1")
    shop.line(11, "COMMIT", "801", vid="3/1")
    shop.later()
    assert shop.look() == 1


def test_changes_of_which_no_statement_is_told(shop: Shop) -> None:
    shop.state(1)
    shop.change(10, "801")
    assert shop.look() == 0, "the log has not told beyond it"
    shop.later()
    assert shop.look() == 1
    assert shop.look() == 0
    assert "Transaction 801 changed 1 rows of public.orders" in findings()["changes-without-statement"][0]


def test_a_late_half_is_waited_for_by_the_time_it_arrives_too(shop: Shop) -> None:
    shop.state(1)
    shop.later()
    assert shop.look(0) == 0
    shop.change(30, "801")
    assert shop.look(10) == 0, "it came only now, however old it is"
    assert shop.look(100) == 1


def test_without_pgaudit_no_statement_is_expected(shop: Shop) -> None:
    shop.state(1, settings=[AUDITED[0], {"name": "pgaudit.log_rows", "value": "off"}])
    shop.change(10, "801")
    shop.later()
    assert shop.look() == 0


def test_a_canary_that_only_change_capture_brought(shop: Shop) -> None:
    name = "0123456789abcdef-" + str(int(shop.started.timestamp()) + 10)
    other = name.replace("0123", "9999")
    for each in (name, other):
        shop.send(
            "wal", 10, kind="custody", custody={"type": "canary", "subject": "wal", "detail": each}, flags=["canary"]
        )
    shop.line(10, f"select 'touchstone-canary {other}'", flags=["canary"])
    shop.later()
    assert shop.look() == 1
    assert name in findings()["canary-missing"][0]


def mark(version: str) -> list[dict[str, str]]:
    return [{"object": "table public.orders", "version": version, "content": "same"}]


def test_a_row_of_the_catalog_written_by_a_transaction_that_nobody_told_of(shop: Shop) -> None:
    shop.state(1, marks=mark("700"))
    shop.state(20, marks=mark("801"))
    shop.later()
    assert shop.look() == 1
    assert "may have been changed and changed back" in findings()["capture-weakened"][0]


def test_a_row_of_the_catalog_that_a_told_statement_wrote_is_nothing_more(shop: Shop) -> None:
    shop.state(1, marks=mark("700"))
    shop.line(10, "grant select on orders to public", "801", command="GRANT")
    shop.state(20, marks=mark("801"))
    shop.later()
    assert shop.look() == 0


# The coverage answer


def covered(name: str, viewer: Viewer = ALL, **window: Any) -> queries.Coverage:
    (found,) = [c for c in queries.events(viewer, window=queries.Window(**window)).coverage if c.source == name]
    return found


def moment(shop: Shop, seconds: float) -> dt.datetime:
    return shop.started + dt.timedelta(seconds=seconds)


def test_a_silence_is_told_with_its_times_in_the_windows_that_it_touches(shop: Shop, settings: Any) -> None:
    settings.SILENCE_SECONDS = 60
    source = shop.sources["log"]
    beat(source)
    now = dt.datetime.now(dt.UTC)
    SourceHealth.objects.filter(source=source).update(heartbeat_at=now - dt.timedelta(minutes=30))
    assert covered("log").state == "silent", "before the log tells of it, too"
    shop.look(0)
    SourceHealth.objects.filter(source=source).update(usual_seconds=None)
    begun = covered("log")
    assert (begun.state, begun.spans[0].to_at, len(begun.spans)) == ("silent", None, 1)
    assert begun.detail == f"Silent since {begun.spans[0].from_at:%Y-%m-%d %H:%M:%S} UTC: no heartbeat and no record."
    beat(source)
    shop.look(0)
    ended = covered("log")
    assert ended.state == "silent"
    assert ended.spans[0].to_at is not None
    assert covered("log", until=begun.spans[0].from_at).state == "complete"


def test_from_and_to_keep_to_the_window_and_to_the_viewers_times(shop: Shop) -> None:
    for second in (10, 20, 30, 40):
        shop.line(second, "select 1")
    narrow = Viewer("a@x", "auditor", from_at=moment(shop, 15), until_at=moment(shop, 35))
    found = covered("log", narrow)
    assert (found.from_at, found.to_at) == (moment(shop, 20), moment(shop, 30))
    found = covered("log", since=moment(shop, 25))
    assert (found.from_at, found.to_at) == (moment(shop, 30), moment(shop, 40))


def test_a_source_of_no_one_database_is_shown_to_a_narrow_viewer_only_where_it_reports(shop: Shop) -> None:
    Source.objects.filter(name="desk").update(datasource="")
    shop.sources["desk"].refresh_from_db()
    shop.send("desk", 1, kind="query", op="read", datasource="orders")

    def names(*datasources: str) -> set[str]:
        return {c.source for c in queries.events(Viewer("a@x", "auditor", datasources=datasources)).coverage}

    assert "desk" in names("orders")
    assert names("elsewhere") == set()


def test_a_weakened_setting_is_on_the_source_that_it_weakens(shop: Shop) -> None:
    shop.line(1, "select 1")
    shop.change(1, "7")
    for name in ("log", "wal", "state"):
        beat(shop.sources[name])
    shop.state(2)
    shop.state(3, settings=[AUDITED[1], {"name": "pgaudit.log", "value": "none"}])
    shop.look(0)
    assert (covered("log").state, covered("wal").state, covered("state").state) == ("weakened", "complete", "complete")
    assert "pgaudit.log: all → none" in covered("log").detail
    shop.line(5, "alter publication p drop table orders")
    assert covered("wal").state == "weakened"


def test_a_backlog_that_does_not_move_is_late(shop: Shop) -> None:
    for _ in range(2):
        beat(shop.sources["log"], detail={"spooled": 50})
    assert covered("log").state == "complete"
    SourceHealth.objects.update(waiting_since=dt.datetime.now(dt.UTC) - dt.timedelta(minutes=5))
    late = covered("log")
    assert (late.state, "49 records wait" in late.detail) == ("late", True)
    beat(shop.sources["log"], detail={"spooled": 1})
    assert covered("log").state == "complete"


# Counts


def seal() -> None:
    checkpoints.checkpoint()
    segments.seal()


def test_what_was_sealed_is_counted_once_by_source_and_class(shop: Shop) -> None:
    for second in range(3):
        shop.line(second, "select 1")
    shop.change(1, "7")
    seal()
    assert health.commit_counts() == 4
    (custody,) = told("count_commitment")
    said = msgspec.convert(custody["counts"], tuple[HeaderCount, ...])
    assert [(c.source_id, c.class_, c.count) for c in said] == [("log", "read", 3), ("wal", "write", 1)]
    assert (custody["first"], custody["last"], custody["count"]) == ("0", "3", 4)
    assert health.commit_counts() is None
    seal()
    assert health.commit_counts() is None, "a range of commitments alone waits"
    shop.line(9, "select 1")
    seal()
    assert health.commit_counts() == 6
    assert [(c["first"], c["last"]) for c in told("count_commitment")] == [("0", "3"), ("4", "5")]
    assert list(health.disagreements()) == []


def test_a_commitment_that_the_leaves_do_not_bear_out_is_found(shop: Shop) -> None:
    shop.line(1, "select 1")
    wrong = events.Custody(
        type="count_commitment",
        first="0",
        last="0",
        count=2,
        counts=(HeaderCount(source_id="log", class_="read", count=2),),
    )
    ledger.record(Event(kind="custody", custody=wrong))
    ((index, sentence),) = health.disagreements()
    assert index == 1
    assert "committed to 2 of source log, class read; 1 are stored" in sentence


def test_two_keepers_at_once_tell_nothing_twice(shop: Shop) -> None:
    shop.line(1, "select 1")
    shop.send("log", 2, number=4, kind="query", op="read")
    shop.look(0)
    from lineage.health import memory

    stale = memory.read()
    shop.line(5, "select 2")
    assert shop.look() == 1
    assert memory.write(stale, stale.index_to - 1) is False
    assert json.loads(json.dumps(told("gap")))[0]["count"] == 2
