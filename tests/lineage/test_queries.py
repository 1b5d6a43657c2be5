"""What the one reader answers: joins, rows, sessions, scope; the same in the tail, sealed, and half and half."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from lineage import checkpoints, errors, events, fsck, health, ingest, ledger, queries, segments
from lineage.access import Viewer
from lineage.events import Event
from lineage.models import Identity, Source
from tests import merges

pytestmark = pytest.mark.slow

ALL = Viewer(email="audit@example.test", role="auditor")
STRANGER = Viewer(email="x@other.test", role="auditor", datasources=("elsewhere",))
OPERATOR = Viewer(email="ops@example.test", role="operator")


class Feed:
    """Events as a log source and a change-capture source of one database would send them."""

    def __init__(self) -> None:
        self.log = Source.objects.create(name="log", format="postgres-csvlog", environment="prod", datasource="orders")
        self.wal = Source.objects.create(
            name="wal", format="pgoutput", environment="prod", datasource="orders", context_roles=["orders_api"]
        )
        self.count = 0

    def send(self, source: Source, **fields: Any) -> int:
        self.count += 1
        base = {
            "source_event_id": f"e{self.count}",
            "occurred_at": f"2026-11-20T10:00:{self.count % 60:02d}.000000Z",
            "sequence": self.count,
        }
        entry = ingest.admit(source, msgspec.convert(base | fields, Event))
        assert isinstance(entry, ledger.Entry)
        return ledger.append(source.pk, [entry])[0].index

    def statement(self, text: str, user: str = "bob", xid: str | None = None, **fields: Any) -> int:
        return self.send(
            self.log,
            kind="query", op=fields.pop("op", "update"), verdict=fields.pop("verdict", "allowed"),
            actor={"db_user": user}, db_session_id=fields.pop("session", f"s-{user}"), correlation_id=f"c{self.count}",
            transaction={"vid": fields.pop("vid", f"3/{self.count}"), **({"id": xid} if xid else {})},
            statement={"text": text, "state": "whole"}, **fields,
        )  # fmt: skip

    def change(self, xid: str, key: str = "4711", op: str = "update", was: str = "a@x", now: str = "b@x") -> int:
        image = {"before": [value("id", key), value("email", was)], "after": [value("id", key), value("email", now)]}
        if op == "insert":
            image.pop("before")
        return self.send(
            self.wal,
            kind="change", op=op, verdict="allowed", transaction={"id": xid, "outcome": "committed"},
            resources=[{"schema": "public", "relation": "customers"}], key=[value("id", key)],
            changed_columns=["email"], **image,
        )  # fmt: skip

    def claim(self, xid: str, actor: str, **more: Any) -> int:
        return self.send(
            self.wal,
            kind="query", op="other", command="CONTEXT MESSAGE", transaction={"id": xid}, flags=["claim"],
            actor={"id": actor, "type": "human"}, **more,
        )  # fmt: skip


def value(column: str, text: str) -> dict[str, str]:
    return {"column": column, "value": text}


def emit(actor: str, **more: str) -> str:
    return f"select pg_logical_emit_message(true, 'touchstone', '{json.dumps({'actor': actor, **more})}')"


@pytest.fixture
def feed(store: str) -> Feed:
    return Feed()


def seal_now() -> None:
    checkpoints.checkpoint()
    segments.seal()


@pytest.fixture(params=["tail", "merged", "half"])
def settle(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Puts what was sent so far where the parameter says: called with "early" half-way and with "late" at the end."""

    def move(when: str) -> None:
        if request.param == "merged" or (request.param == "half" and when == "early"):
            seal_now()
        if request.param == "merged" and when == "late":
            merges.everything()

    return move


def test_a_change_is_joined_to_the_login_of_its_transaction_and_says_why(
    feed: Feed, settle: Callable[[str], None]
) -> None:
    Identity.objects.create(
        datasource="orders",
        db_user="bob",
        person_id="bob@shop.example",
        name="Bob Lee",
        type="human",
        as_of="2026-01-01T00:00Z",
    )
    line = feed.statement("update customers set email = 'b@x' where id = 4711", xid="77", rows={"affected": 1})
    settle("early")
    feed.change("77")
    settle("late")
    row = queries.row(ALL, "orders", "public.customers", "4711")
    (changed,) = row["changed"]
    assert (changed["who_name"], changed["who_type"], changed["attribution"]) == ("Bob Lee", "human", "mapped_login")
    assert changed["attribution_index"] == line
    assert changed["session"] == "orders~s-bob"
    assert {d["column"]: d["changed"] for d in changed["diff"]} == {"id": False, "email": True}
    assert row["uncertain"] == []


def test_the_change_may_come_before_its_line(feed: Feed, settle: Callable[[str], None]) -> None:
    feed.change("78")
    settle("early")
    feed.statement("update customers set email = 'b@x' where id = 4711", xid="78")
    settle("late")
    assert queries.row(ALL, "orders", "public.customers", "4711")["changed"][0]["who_name"] == "bob"


def test_lines_without_transaction_id_share_it_through_session_and_virtual_id(
    feed: Feed, settle: Callable[[str], None]
) -> None:
    feed.statement("select * from customers where id = 1", op="read", vid="9/1")
    settle("early")
    feed.statement("update customers set email = 'b@x' where id = 4711", vid="9/1", xid="80")
    settle("late")
    found = queries.events(ALL, "op:read").items
    assert [e["transaction_id"] for e in found] == ["80"]


def test_a_claim_is_believed_when_a_listed_role_emitted_it(feed: Feed, settle: Callable[[str], None]) -> None:
    claim = feed.claim("90", "dana@shop.example", ticket="OPS-42")
    feed.change("90")
    settle("early")
    feed.statement(emit("dana@shop.example", ticket="OPS-42"), user="orders_api", op="read", xid="90")
    settle("late")
    (changed,) = queries.row(ALL, "orders", "public.customers", "4711")["changed"]
    assert (changed["who_id"], changed["attribution"], changed["attribution_index"]) == (
        "dana@shop.example",
        "context_message",
        claim,
    )
    assert changed["ticket"] == "OPS-42"
    assert "suspected_forgery" not in changed["flags"]


def test_a_claim_by_another_role_is_not_believed_and_flagged(feed: Feed, settle: Callable[[str], None]) -> None:
    feed.claim("91", "ceo@shop.example")
    feed.statement(emit("ceo@shop.example"), user="mallory", op="read", xid="91")
    settle("early")
    feed.change("91")
    settle("late")
    (changed,) = queries.row(ALL, "orders", "public.customers", "4711")["changed"]
    assert (changed["who_id"], changed["attribution"]) == ("mallory", "db_login")
    assert "suspected_forgery" in changed["flags"]
    assert "false-claim" in {f["rule"] for f in queries.findings(ALL).items}


def test_a_claim_without_its_line_stays_a_claim(feed: Feed) -> None:
    feed.claim("92", "ceo@shop.example")
    feed.change("92")
    (changed,) = queries.row(ALL, "orders", "public.customers", "4711")["changed"]
    assert (changed["who_id"], changed["claimed"], changed["attribution"]) == (None, True, "none")


def test_parallel_updates_of_one_table_never_get_a_wrong_statement(feed: Feed) -> None:
    for n in range(20):
        feed.change(str(200 + n), key=str(n))
    for n in range(19, -1, -1):
        feed.statement(f"update customers set email = 'x' where id = {n}", user=f"u{n}", xid=str(200 + n))
    for n in range(20):
        (changed,) = queries.row(ALL, "orders", "public.customers", str(n))["changed"]
        assert changed["db_user"] == f"u{n}"


def test_reads_are_by_key_or_could_have_or_neither(feed: Feed, settle: Callable[[str], None]) -> None:
    feed.change("1", op="insert")
    feed.statement("select * from customers where id = 4711", op="read", user="by-key")
    settle("early")
    feed.statement("select * from customers", op="read", user="scan")
    feed.statement("select * from customers where id = 5", op="read", user="other-key")
    settle("late")
    row = queries.row(ALL, "orders", "public.customers", "4711")
    assert [r["db_user"] for r in row["read"]] == ["by-key"]
    assert [r["db_user"] for r in row["could_have_read"]] == ["scan"]


def test_a_session_shows_its_statements_with_the_changes_they_made(feed: Feed, settle: Callable[[str], None]) -> None:
    feed.statement("update customers set email = 'b@x' where id = 4711", xid="77")
    settle("early")
    feed.change("77")
    settle("late")
    answer = queries.session(ALL, "orders~s-bob")
    assert answer["session"]["rows_changed"] == 1
    assert [len(step["changes"]) for step in answer["steps"]] == [1]
    assert [s["session"] for s in queries.sessions(ALL).items] == ["orders~s-bob"]


def test_what_a_source_may_not_assert_is_kept_flagged_and_not_believed(feed: Feed) -> None:
    native = Source.objects.create(name="native", format="events", environment="prod", datasource="orders")
    index = feed.send(
        native, kind="query", op="read", actor={"id": "ceo@shop.example", "type": "human"}, verdict="allowed"
    )
    event = queries.event(ALL, index)
    assert event["who_id"] is None
    assert "unauthorised_assertion" in event["flags"]
    assert event["groups"]["actor"]["actor"]["id"] == "ceo@shop.example"


def test_a_stranger_sees_nothing_anywhere(feed: Feed) -> None:
    index = feed.statement("update customers set email = 'b@x' where id = 4711", xid="77")
    feed.change("77")
    for question in (
        queries.events,
        queries.touches,
        queries.sessions,
        queries.identities,
        queries.relations,
        queries.approvals,
    ):
        assert question(STRANGER).items == []
    for call in (
        lambda: queries.event(STRANGER, index),
        lambda: queries.session(STRANGER, "orders~s-bob"),
        lambda: queries.identity(STRANGER, "bob"),
        lambda: queries.row(STRANGER, "orders", "public.customers", "4711"),
        lambda: queries.relation(STRANGER, "orders", "public.customers"),
    ):
        with pytest.raises(errors.NotFound):
            call()
    assert queries.findings(STRANGER).items == []
    assert queries.overview(STRANGER)["events"] == 0


def test_an_operator_sees_shapes_and_no_values(feed: Feed) -> None:
    feed.statement("update customers set email = 'secret@x' where id = 4711", xid="77")
    feed.change("77", was="secret@x")
    for index in (0, 1):
        assert "secret@x" not in str(queries.event(OPERATOR, index))
    assert "secret@x" not in str(queries.row(OPERATOR, "orders", "public.customers", "4711"))


def test_paging_goes_on_where_it_stopped_even_while_the_log_grows(feed: Feed) -> None:
    for n in range(5):
        feed.statement(f"select * from customers where id = {n}", op="read")
    first = queries.events(ALL, limit=2)
    feed.statement("select * from customers where id = 99", op="read")
    second = queries.events(ALL, limit=2, cursor=first.next)
    third = queries.events(ALL, limit=2, cursor=second.next)
    assert [e["index"] for e in first.items + second.items + third.items] == [4, 3, 2, 1, 0]
    assert third.next is None


def test_a_missing_sequence_number_is_a_gap_in_every_answer(feed: Feed, settings: Any) -> None:
    feed.statement("select * from customers where id = 1", op="read")
    feed.count += 1
    feed.statement("select * from customers where id = 2", op="read")
    settings.COVERAGE_GRACE_SECONDS = 0
    health.look(dt.datetime.now(dt.UTC))
    (log,) = [c for c in queries.events(ALL).coverage if c.source == "log"]
    assert log.state == "gap"
    assert "1 of the items numbered 2 to 2 did not arrive" in log.detail


def test_fsck_agrees_with_what_was_sealed(feed: Feed) -> None:
    for n in range(300):
        feed.change(str(n), key=str(n))
    seal_now()
    feed.change("999")
    checkpoints.checkpoint()
    assert list(fsck.check()) == []
    assert events.parse_time(json.loads(queries.event(ALL, 3)["leaf"])["received_at"])
