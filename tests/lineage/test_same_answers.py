"""Every question gets the same answer all in the tail, all sealed, half and half, and merged, wherever the log was cut."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from lineage import access, checkpoints, engine, errors, fsck, ingest, joining, queries, reported, segments
from lineage.access import Viewer
from lineage.engine import Question
from lineage.extracts import OVERRIDES, fresh, opening, storing
from lineage.models import Identity, Source
from lineage.queries import Subject, Window, cited, summing, taken, tasks
from lineage.search import questions
from tests import extracts, merges
from tests.lineage import whole_log
from tests.lineage.sources import test_teleport as teleport
from tests.lineage.test_queries import ALL, STRANGER, Feed, emit

pytestmark = pytest.mark.slow

BEFORE = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)
MIDDLE = dt.datetime(2026, 11, 20, 10, 0, 8, tzinfo=dt.UTC)
SINCE, UNTIL = dt.datetime(2026, 11, 1, tzinfo=dt.UTC), dt.datetime(2026, 12, 1, tzinfo=dt.UTC)
UPDATE = "update customers set email = 'b@x' where id = 4711"
BEGAN = 0x6B00F8AC
BEHIND = f"{BEGAN:x}.{0x7F28:x}"
AGENT: dict[str, Any] = {
    "actor": {"id": "report-bot", "name": "Report bot", "email": "bot@shop.example", "type": "agent", "db_user": "app"},
    "on_behalf_of": {"id": "dana@shop.example"}, "agent": {"id": "report-bot", "name": "report-bot", "run_id": "run-7"},
}  # fmt: skip


class Told:
    """A log in which every kind of join has its two sides on two sides of some cut, either side first."""

    def __init__(self) -> None:
        self.feed = Feed()
        self.gate = Source.objects.create(name="gate", format="gateway", environment="prod")
        self.proxy = Source.objects.create(
            name="tp", format="teleport", environment="prod", datasource="orders", asserts=["actor", "approval"],
            token_hash=access.token_hash("tp"),
        )  # fmt: skip
        Identity.objects.create(
            datasource="orders", db_user="bob", person_id="bob@x", name="Bob", type="human", as_of="2026-01-01T00:00Z"
        )
        self.cuts: list[int] = []
        for part in (self.first_sides, self.second_sides, self.other_sides, self.rest):
            part()
            self.cuts.append(self.feed.change("0", key="0") + 1)

    def through(self, text: str, xid: str | None = None, **more: Any) -> None:
        """A statement as the gateway tells it."""
        told: dict[str, Any] = {
            "kind": "query", "op": "update", "verdict": "allowed", "datasource": "orders", "session_id": "gw-1",
            "db_session_id": "s-1", "statement": {"text": text, "state": "whole"}, "correlation_id": f"st-{self.feed.count}.1",
        }  # fmt: skip
        self.feed.send(self.gate, **(told | AGENT | ({"transaction": {"id": xid}} if xid else {}) | more))

    def behind(self, sid: str, **more: Any) -> None:
        """What the proxy says of a session of its own."""
        at = f"{dt.datetime.fromtimestamp(BEGAN + 1, dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
        record = {
            **teleport.START,
            "uid": f"{sid}-{self.feed.count}",
            "sid": sid,
            "time": at,
            "db_user": "app",
            "postgres_pid": 0x7F28,
        }
        self.feed.count += 1
        (item,) = ingest.accept(self.proxy, json.dumps(record | more).encode()).items
        assert item.index is not None, item

    def first_sides(self) -> None:
        feed = self.feed
        feed.statement(UPDATE, xid="77")
        feed.change("78")
        feed.statement("select * from customers where id = 1", op="read", vid="9/1")
        feed.claim("90", "dana@shop.example", ticket="OPS-42")
        feed.statement(emit("ceo@shop.example"), user="mallory", op="read", xid="91")
        feed.statement(emit("lea@shop.example"), user="orders_api", op="read", xid="92")
        self.through(UPDATE, "80", purpose="monthly figures", ticket="OPS-42", rows={"affected": 1})
        feed.statement("select 1 from customers", user="app", session="s-2", op="read")
        feed.statement(UPDATE, user="app", xid="85", session=BEHIND)
        feed.statement("rollback", user="bob", xid="86", op="other", command="ROLLBACK")

    def second_sides(self) -> None:
        feed = self.feed
        feed.change("77")
        feed.statement(UPDATE, user="omar", xid="78", client={"app": "psql", "ip": "10.0.0.7"})
        feed.statement(UPDATE, vid="9/1", xid="79")
        feed.statement(emit("dana@shop.example", ticket="OPS-42"), user="orders_api", op="read", xid="90")
        feed.claim("91", "ceo@shop.example")
        feed.claim("92", "lea@shop.example")
        feed.change("80")
        feed.statement(UPDATE, user="app", session="s-1", xid="80")
        self.through("select 1 from customers", op="read", db_session_id="s-2", session_id="gw-2")
        self.behind("tp-1")
        feed.change("85")

    def other_sides(self) -> None:
        feed = self.feed
        feed.claim("90", "omar@shop.example")
        self.through("delete from customers where id = 5", "80", op="delete", ticket="OPS-3")
        self.through("select 2 from customers", op="read", db_session_id="s-2", session_id="gw-2", purpose="another")
        feed.statement("select 2 from customers", user="app", session="s-2", op="read")
        feed.statement(UPDATE, user="orders_api", xid="92", vid="9/7")
        feed.change("92", key="4712")
        feed.change("86", key="4713")
        self.behind("tp-1", event="db.session.query", code="TDB02I", db_query=UPDATE)

    def rest(self) -> None:
        feed = self.feed
        feed.statement("select pg_sleep(1)", user="app", session=BEHIND, op="read", vid="9/7")
        feed.statement("select email from customers where id = 4711", op="read")
        self.behind("tp-2", user="omar@shop.example")
        feed.statement("grant select on customers to omar", op="privilege", command="GRANT")


class Unproxied(Told):
    """The same without what a proxy of sessions says: with that, extracts are not used."""

    def behind(self, sid: str, **more: Any) -> None: ...


class Watched(Unproxied):
    """The same with a look after each part, of which the first lies in an extract."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.stale: list[int] = []
        super().__init__()

    def look(self) -> None:
        with Question() as question:
            assert question.opened is not None
            assert question.opened.stand is not None
            assert question.rows("select * from activity order by all") == whole(question.size)
            assert question.opened.told is not None
            self.stale.append(len(question.opened.told.stale))

    def second_sides(self) -> None:
        checkpoints.checkpoint()
        assert segments.seal()
        assert extracts.everything() == 1
        self.look()
        # From here on what is newer is made of what was made before.
        self.monkeypatch.delattr(fresh, "make")
        super().second_sides()
        self.look()

    def other_sides(self) -> None:
        super().other_sides()
        self.look()

    def rest(self) -> None:
        super().rest()
        self.look()


VIEWS = ("activity", "touches", "raw_events", "raw_touches")


def tables(
    size: int | None, views: tuple[str, ...] = (*VIEWS, "gateway_transactions", "gateway_sessions")
) -> dict[str, Any]:
    """What every question is asked of."""
    with Question(as_of=size) as question:
        return {name: question.rows(f"select * from {name} order by all") for name in views}


def whole(size: int) -> list[dict[str, Any]]:
    """Activity as joins over all records make it."""
    with Question(as_of=size, joined=False) as question:
        cursor, snap = question.cursor, question.snapshot
        for name in ("identities", "context_roles", "conflicted"):
            cursor.register(name, getattr(snap, name))
        cursor.execute("create schema whole;" + reported.enter("whole"))
        try:
            cursor.execute(whole_log.EVERYTHING)
            return question.rows("select * from activity order by all")
        finally:
            cursor.execute("drop schema whole cascade")


ORDERS = Viewer("orders@audit.example", "auditor", ("orders",), ("prod",))
W, CUSTOMERS = Window(SINCE, UNTIL), ("orders", "public.customers")
POINTED = (
    "session:gw-1",
    "session:orders~s-bob",
    "run:run-7",
    "datasource:orders kind:change (transaction:80 or transaction:91)",
    "text:CUSTOMERS -op:update",
)
"""Searches of which look-ups find the records."""


def exported(q: str, by: str, most: int = 100) -> list[Any]:
    """What an export of a search holds, and says of it."""
    whole = queries.Whole(ALL, q, Window(), by, UNTIL, None, most)
    return [whole.total, whole.span, whole.schema.names, *whole.pieces()]


def approved(viewer: Viewer, window: Window) -> list[queries.Answer]:
    """All tickets on one page, then one on each page."""
    found = [queries.approvals(viewer, "", window), queries.approvals(viewer, "", window, 1)]
    while found[-1].next:
        found.append(queries.approvals(viewer, "", window, 1, found[-1].next))
    return found


ASKED: Mapping[str, Callable[[], Any]] = {
    "accesses": lambda: queries.accesses(ALL, SINCE, UNTIL),
    "approvals": lambda: [
        approved(viewer, of) for viewer in (ALL, ORDERS, STRANGER) for of in (Window(), W, Window(until=MIDDLE), Window(MIDDLE))
    ],
    "chain": lambda: [
        queries.chain(ALL, *start)  # type: ignore[arg-type]
        for start in (("row", *CUSTOMERS, "4711"), ("row", *CUSTOMERS, "4712"), ("ticket", "OPS-42"), ("session", "orders~gw-1"),
                      *(("record", str(index)) for index in (0, 2, 6, 8, 11)))
    ],
    "column": lambda: queries.column(ALL, *CUSTOMERS, "email", W),
    "columns": lambda: queries.columns(ALL, *CUSTOMERS),
    "completeness": lambda: queries.completeness(ALL, SINCE, UNTIL),
    "completions": lambda: [queries.completions(ALL, "actor", ""), queries.completions(ALL, "ticket", "O")],
    "conduct": lambda: [
        queries.conduct(ALL, who, window)
        for who in ("report-bot", "bob@x", "dana@shop.example")
        for window in (W, Window(), Window(UNTIL - dt.timedelta(days=20)))
    ],
    "control_facts": lambda: queries.control_facts(ALL, SINCE, UNTIL),
    "datasources": lambda: queries.datasources(ALL),
    "decided": lambda: [queries.decided(viewer, ["OPS-42", "OPS-3", "none"]) for viewer in (ALL, STRANGER)],
    "event": lambda: [queries.event(ALL, index) for index in (0, 8, 20)],
    "events": lambda: [
        queries.events(ALL, q, limit=100) for q in ("", "actor:dana", "kind:change", "flag:suspected_forgery", "text:UPDATE", *POINTED)
    ] + [exported(q, "event", most) for most in (5, 100) for q in ("op:update", "-op:read since:40d", *POINTED)],
    "exact_total": lambda: [queries.exact_total(ALL, "", W, by) for by in ("event", "touch", "session", "identity", "relation")],
    "findings": lambda: queries.findings(ALL, W),
    "pressing": lambda: queries.pressing(ALL, W, 10),
    "firsts": lambda: queries.firsts(ALL),
    "found": lambda: queries.found(ALL, W),
    "gaps": lambda: queries.gaps(ALL, W),
    "holders": lambda: queries.holders(ALL, *CUSTOMERS),
    "identities": lambda: [queries.identities(ALL, q) for q in ("", *POINTED)],
    "identity": lambda: [queries.identity(ALL, who) for who in ("report-bot", "bob@x", "dana@shop.example")],
    "kinds_counted": lambda: [queries.kinds_counted(ALL, q, W) for q in ("relation:customers", *POINTED)],
    "overview": lambda: queries.overview(ALL, W),
    "population": lambda: [
        list(queries.population(ALL, SINCE, UNTIL, members=members)) for members in (None, [["class = 'write'"]], [])
    ],
    "relation": lambda: queries.relation(ALL, *CUSTOMERS),
    "relations": lambda: queries.relations(ALL),
    "released": lambda: queries.released(ALL, SINCE, UNTIL),
    "rights_held": lambda: queries.rights_held(ALL, SINCE, UNTIL),
    "registered": lambda: queries.registered(ALL, SINCE, UNTIL),
    "row": lambda: [queries.row(ALL, *CUSTOMERS, key) for key in ("4711", "4712", "4713")],
    "run": lambda: queries.run(ALL, "run-7"),
    "search_counts": lambda: [queries.search_counts(ALL, q, W, by) for q in ("", *POINTED) for by in ("event", "touch")],
    "session": lambda: [queries.session(ALL, f"orders~{name}") for name in ("gw-1", "gw-2", "s-bob", "s-omar")],
    "session_facets": lambda: queries.session_facets(ALL),
    "sessions": lambda: queries.sessions(ALL),
    "sessions_faceted": lambda: queries.sessions_faceted(ALL),
    "source_hours": lambda: queries.source_hours(ALL, SINCE, SINCE + dt.timedelta(days=1)),
    "tallied": lambda: [
        queries.tallied(ALL, {one.id: one.q for one in questions.QUESTIONS}, [(SINCE, until), (BEFORE, SINCE)], place)
        for until, place in ((UNTIL, None), (UNTIL, "prod"), (UNTIL - dt.timedelta(days=1), None))
    ],
    "touched": lambda: [queries.touched(ALL, Subject(identity="report-bot"), by) for by in ("statements", "rows", "tables")],
    "touches": lambda: [queries.touches(ALL, q, limit=100) for q in ("", *POINTED)]
    + [exported(q, "touch") for q in ("", *POINTED)],
    "undoing": lambda: [queries.undoing(ALL, one) for one in (Subject(identity="omar"), Subject(identity="bob@x"), Subject(run="run-7"))],
}  # fmt: skip
ELSEWHERE = {
    "alarms", "between", "checkpoint", "checkpoint_chain", "checkpoints", "classified", "dry_run", "finding", "integrity", "inventory",
    "login_history", "logins", "own_reads", "owners", "quarantined", "quarantined_item", "supply", "tag_history", "tags", "tags_of",
    "tickets",
}  # fmt: skip
"""Functions that answer from what no records say, or from records that join with nothing."""


def plain(answer: Any) -> Any:
    """An answer as one can compare it, without the moment at which it was asked."""
    if isinstance(answer, (pa.Table, pa.RecordBatch)):
        return answer.to_pylist()
    if isinstance(answer, dict):
        return {name: plain(value) for name, value in answer.items() if name not in ("coverage", "seconds")}
    if isinstance(answer, (list, tuple)):
        return [plain(value) for value in answer]
    if isinstance(answer, queries.Answer):
        return plain(msgspec.structs.asdict(answer))
    return answer


def asked() -> dict[str, Any]:
    answers = {}
    for name, ask in ASKED.items():
        try:
            answers[name] = plain(ask())
        except errors.NotFound as error:
            answers[name] = error.code
    return answers


@pytest.mark.parametrize(("least", "states"), [(joining.LEAST, "1 3"), (1, "0 2")], ids=["made whole", "made in parts"])
def test_every_question_gets_the_same_answer_in_the_tail_sealed_half_and_half_and_merged(
    store: str, monkeypatch: pytest.MonkeyPatch, least: int, states: str
) -> None:
    monkeypatch.setattr(joining, "LEAST", least)
    monkeypatch.setattr(joining, "GROWTH", 0.01)
    told = Told()
    size, earlier = told.cuts[-1], told.cuts[1] + 3
    expected, answers = {n: tables(n) for n in (size, earlier)}, asked() if least > 1 else {}
    for n in (size, earlier):
        assert expected[n]["activity"] == whole(n)
    assert not [name for name, answer in answers.items() if answer in ("not-found", [], {})]
    checkpoints.checkpoint()
    for part in map(int, states.split()):
        monkeypatch.setattr(segments, "SEGMENT_MOST", told.cuts[part] - segments.sealed_to())
        assert segments.seal()
        assert {n: tables(n) for n in (size, earlier)} == expected, part
        now = asked() if part == 1 else answers
        assert {name: now[name] == answer for name, answer in answers.items()} == dict.fromkeys(answers, True)
        settled = engine._here().joins.settled
        assert (settled and settled.size) == (told.cuts[0] if least == 1 else None)
    assert merges.everything()
    for settled_to in (told.cuts[0], segments.sealed_to()):
        assert {n: tables(n) for n in (size, earlier)} == expected
        settled = engine._here().joins.settled
        assert (settled and settled.size) == (settled_to if least == 1 else None)
        engine._here().forget(None)
    assert list(fsck.check()) == []


def test_every_question_gets_the_same_answer_from_extracts_overridden_and_merged(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Unproxied()
    sizes = (told.cuts[-1], told.cuts[1] + 3)
    expected, answers = {n: tables(n, VIEWS) for n in sizes}, asked()
    checkpoints.checkpoint()
    for part in range(4):
        monkeypatch.setattr(segments, "SEGMENT_MOST", told.cuts[part] - segments.sealed_to())
        assert segments.seal()
        assert {n: tables(n, VIEWS) for n in sizes} == expected, part
        assert extracts.everything() == 1
        assert {n: tables(n, VIEWS) for n in sizes} == expected, part
        now = asked() if part == 1 else answers
        assert {name: now[name] == answer for name, answer in answers.items()} == dict.fromkeys(answers, True)
    assert any(OVERRIDES in one.files for one in storing.manifest())
    assert list(fsck.check()) == []
    assert extracts.merged()
    assert extracts.spans() == [(0, sizes[0])]
    assert {n: tables(n, VIEWS) for n in sizes} == expected
    monkeypatch.setattr(taken, "TAKEN_MOST", 0)
    monkeypatch.setattr(summing, "SPAN", 3)
    again = "completeness", "overview"
    assert [plain(ASKED[name]()) for name in again] == [answers[name] for name in again]
    with Question() as question:
        assert question.opened is not None
        assert cited.page(question, ALL, Window(), None, 1) is not None
        assert tasks.told(question, ALL, Window(), ["OPS-42"])
    assert list(fsck.check()) == []


def test_what_is_told_between_two_questions_joins_what_the_first_one_knew(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "WORTH", 0)
    watched = Watched(monkeypatch)
    assert watched.stale[0] == 0
    assert 0 < watched.stale[1] < watched.stale[2] <= watched.stale[3]


def test_no_function_of_queries_is_left_out_of_what_is_asked() -> None:
    functions = {name for name in queries.__all__ if callable(getattr(queries, name)) and name[0].islower()}
    assert functions == {*ASKED, *ELSEWHERE}
