"""The desk against a running store: what waits, what is decided, what is used once, and what a restart knows."""

from __future__ import annotations

import datetime as dt
import hashlib
import socketserver
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref import simple_server

import msgspec
import pytest
from django.core.wsgi import get_wsgi_application
from django.db import connections

from enforcement.gateway import exchange, uses
from enforcement.gateway.desk import EXCHANGE_SECONDS, Desk
from enforcement.gateway.exchange import Answered, Keys, Kill, Notice, Rules, Tags
from enforcement.gateway.session.outputs import Hold
from enforcement.shipper import Store
from lineage import exchanged, gateways, held, rights
from lineage.access import Viewer
from lineage.models import DeclaredCatalog, GatewaySession, HeldStatement
from tests.enforcement.gateway.running import until
from tests.lineage import desk as story
from tests.lineage import forgetting

pytestmark = pytest.mark.slow

SEVERIN = Viewer(story.SEVERIN, "security")


class Quiet(simple_server.WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


class Threads(socketserver.ThreadingMixIn, simple_server.WSGIServer):
    daemon_threads = True

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            connections.close_all()


@pytest.fixture
def url(store: str) -> Iterator[str]:
    """A store that answers, with the source `gate` and people who decide."""
    story.source()
    story.people()
    forgetting.act_as("web")
    with simple_server.make_server("127.0.0.1", 0, get_wsgi_application(), Threads, Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(10)


def made(url: str, folder: Path, told: list[Notice] | None = None) -> Desk:
    notices: list[Notice] = [] if told is None else told
    one = Desk(Store(url, "gate", "gateway"), "gw", folder, notices.append, "1")
    one.declare([database()])
    one.see([live()])
    return one


def database(**more: Any) -> exchanged.Database:
    return exchanged.Database(name="shop", datasource="shop", environment="production", **more)


def live(session_id: str = "s-1") -> exchanged.Live:
    return exchanged.Live(
        session_id=session_id,
        actor=exchanged.Person(id="report-bot", type="agent"),
        on_behalf_of=exchanged.Person(id="dana", email="dana@shop.example", type="human"),
        datasource="shop",
        environment="production",
        started_at=dt.datetime.now(dt.UTC),
    )


def asked(
    request_id: str = "req-1", statement: str = "delete from customers", wait: float | None = None, **more: Any
) -> Hold:
    given: dict[str, Any] = {
        "request_id": request_id, "digest": hashlib.sha256(statement.encode("utf-8", "replace")).hexdigest(), "session_id": "s-1",
        "statement_id": "st-1", "requested_by": "report-bot", "on_behalf_of": "dana", "agent": None, "datasource": "shop",
        "environment": "production", "database": "shop", "account": "app", "purpose": None, "ticket": None,
        "redacted": statement, "statement": statement, "effects": ({"verb": "delete", "relation": "customers"},),
        "estimated_rows": 9, "plan": None, "rule": "bulk", "rule_version": 0, "sentence": "Ask.", "in_transaction": wait is not None,
        "hold_until": None if wait is None else time.time() + wait, "row_cap": 50,
    }  # fmt: skip
    return Hold(**given | more)


def test_values_that_nobody_could_judge_are_rejected_and_nobody_is_asked(url: str, tmp_path: Path) -> None:
    desk = made(url, tmp_path)
    half = exchanged.Parameter(position=1, value="x" * (exchanged.STATEMENT_MOST // 2 + 1))
    told = desk.hold(asked(parameters=(half, half)), live())
    assert told.state == "rejected"
    assert "nobody can judge them" in (told.reason or "")
    assert desk.exchange()
    assert not HeldStatement.objects.exists()


def test_a_statement_waits_is_approved_runs_once_and_is_asked_for_again(url: str, tmp_path: Path) -> None:
    desk = made(url, tmp_path)
    assert desk.hold(asked(), live()).state == "pending"
    assert desk.hold(asked("req-2"), live()).request_id == "req-1"
    assert desk.exchange()
    assert HeldStatement.objects.get().involved == ["dana", "dana@shop.example", "report-bot"]
    held.decide(SEVERIN, "req-1", "approved", "yes", row_cap=20)
    assert desk.exchange()
    used = desk.hold(asked("req-3"), live())
    assert (used.state, used.request_id, used.row_cap, used.by) == ("approved", "req-1", 20, story.SEVERIN)
    assert desk.hold(asked("req-4"), live()).state == "pending"
    assert desk.exchange()
    assert {h.request_id: h.state for h in HeldStatement.objects.all()} == {"req-1": "used", "req-4": "requested"}


def test_a_session_that_waits_in_its_transaction_is_told_and_that_is_the_use(url: str, tmp_path: Path) -> None:
    told: list[Notice] = []
    desk = made(url, tmp_path, told)
    desk.hold(asked(wait=600), live())
    desk.hold(asked(wait=600, session_id="s-2", statement_id="st-2"), live("s-2"))
    desk.exchange()
    held.decide(SEVERIN, "req-1", "approved", "yes")
    told.clear()
    desk.exchange()
    (answer,) = told
    assert isinstance(answer, Answered)
    assert (answer.session_id, answer.statement_id, answer.decided.state) == ("s-1", "st-1", "approved")
    desk.exchange()
    assert HeldStatement.objects.get().state == "used"


@pytest.mark.parametrize("gone", ["left", "late"])
def test_an_approval_that_finds_nobody_waiting_is_kept_for_the_next_run(url: str, tmp_path: Path, gone: str) -> None:
    told: list[Notice] = []
    desk = made(url, tmp_path, told)
    desk.hold(asked(wait=600 if gone == "left" else 0.5), live())
    if gone == "left":
        desk.leave("s-1")
    desk.exchange()
    held.decide(SEVERIN, "req-1", "approved", "yes")
    desk.exchange()
    assert not [one for one in told if isinstance(one, Answered)]
    assert desk.hold(asked("req-2"), live()).state == "approved"


def test_a_rejection_is_told_once_with_its_reason_and_the_next_run_asks_anew(url: str, tmp_path: Path) -> None:
    desk = made(url, tmp_path)
    desk.hold(asked(), live())
    desk.exchange()
    held.decide(SEVERIN, "req-1", "rejected", "too wide")
    desk.exchange()
    no = desk.hold(asked("req-2"), live())
    assert (no.state, no.reason, no.by) == ("rejected", "too wide", story.SEVERIN)
    assert desk.hold(asked("req-3"), live()).request_id == "req-3"


def test_an_approval_past_its_time_is_told_as_expired_and_not_used(url: str, tmp_path: Path) -> None:
    desk = made(url, tmp_path)
    desk.hold(asked(), live())
    desk.exchange()
    held.decide(SEVERIN, "req-1", "approved", "yes")
    desk.exchange()
    desk._decided = {
        digest: msgspec.structs.replace(one, expires_at=dt.datetime.now(dt.UTC))
        for digest, one in desk._decided.items()
    }
    assert desk.hold(asked("req-2"), live()).state == "expired"
    assert uses.Uses(tmp_path / "used.jsonl").waiting() == []


def test_a_restart_before_the_store_was_told_uses_no_approval_twice(url: str, tmp_path: Path) -> None:
    first = made(url, tmp_path)
    first.hold(asked(), live())
    first.exchange()
    held.decide(SEVERIN, "req-1", "approved", "yes")
    first.exchange()
    assert first.hold(asked(), live()).state == "approved"
    again = made(url, tmp_path)
    assert again.exchange()
    assert HeldStatement.objects.get().state == "used"
    assert again.hold(asked("req-2"), live()).state == "pending"


def test_a_restart_learns_of_an_approval_that_was_not_used(url: str, tmp_path: Path) -> None:
    first = made(url, tmp_path)
    first.hold(asked(), live())
    first.exchange()
    held.decide(SEVERIN, "req-1", "approved", "yes")
    again = made(url, tmp_path)
    again.exchange()
    assert again.hold(asked("req-2"), live()).state == "approved"


def test_what_cannot_be_written_down_is_not_used(url: str, tmp_path: Path) -> None:
    desk = made(url, tmp_path)
    desk.hold(asked(), live())
    desk.exchange()
    held.decide(SEVERIN, "req-1", "approved", "yes")
    desk.exchange()
    (tmp_path / "used.jsonl").unlink()
    (tmp_path / "used.jsonl").mkdir()
    no = desk.hold(asked("req-2"), live())
    assert no.state == "rejected"
    assert "nothing ran" in (no.reason or "")
    (tmp_path / "used.jsonl").rmdir()
    assert desk.hold(asked("req-3"), live()).state == "approved"


def test_a_withdrawn_request_is_no_longer_decided(url: str, tmp_path: Path) -> None:
    desk = made(url, tmp_path)
    question = asked(wait=600)
    desk.hold(question, live())
    desk.exchange()
    desk.withdraw("req-1", question.digest, "s-1")
    desk.exchange()
    assert HeldStatement.objects.get().state == "withdrawn"
    assert desk.hold(asked("req-2"), live()).request_id == "req-2"


def test_a_request_that_the_store_refuses_ends_the_wait(url: str, tmp_path: Path) -> None:
    told: list[Notice] = []
    desk = made(url, tmp_path, told)
    story.exchange(gateway="other", held=[story.hold("req-1")])
    desk.hold(asked(wait=600), live())
    desk.exchange()
    answers = [one for one in told if isinstance(one, Answered)]
    assert [one.decided.state for one in answers] == ["rejected"]


def test_a_request_that_the_store_has_lost_is_told_again(url: str, tmp_path: Path) -> None:
    desk = made(url, tmp_path)
    desk.hold(asked(), live())
    desk.exchange()
    forgetting.act_as("owner")
    HeldStatement.objects.all().delete()
    forgetting.act_as("web")
    desk.exchange()
    desk.exchange()
    assert HeldStatement.objects.get().statement == "delete from customers"


def test_what_nobody_could_judge_is_rejected_at_once(tmp_path: Path) -> None:
    desk = Desk(Store("http://127.0.0.1:9", "gate", "gateway"), "gw", tmp_path, print)
    assert "Split it" in (desk.hold(asked(statement="x" * 300_000), live()).reason or "")
    for number in range(20):
        assert desk.hold(asked(f"req-{number}", f"select {number}"), live()).state == "pending"
    assert desk.hold(asked("req-20", "select 20"), live()).state == "rejected"
    assert desk.hold(asked("req-21", "select 21", requested_by="dana"), live()).state == "pending"


def test_without_the_store_statements_wait_and_the_last_known_rules_hold(url: str, tmp_path: Path) -> None:
    told: list[Notice] = []
    desk = made(url, tmp_path, told)
    rights.call("select gateway_set_rules('version = 1', %s, 'first')", story.SEVERIN)
    desk.exchange()
    assert {type(one) for one in told} == {Rules, Tags, Keys}
    told.clear()
    desk.exchange()
    assert told == []
    without = made("http://127.0.0.1:9", tmp_path, told)
    assert not without.exchange()
    assert without.rules is not None
    assert (without.rules.version, without.rules.text) == (1, "version = 1")
    assert without.keys == desk.keys
    assert without.hold(asked(), live()).state == "pending"
    assert told == []


def test_a_session_is_ordered_to_end_until_it_is_gone(url: str, tmp_path: Path) -> None:
    told: list[Notice] = []
    desk = made(url, tmp_path, told)
    desk.exchange()
    gateways.kill(SEVERIN, GatewaySession.objects.get().pk, "runs wild")
    for _ in range(2):
        told.clear()
        desk.exchange()
        assert told == [Kill("s-1", story.SEVERIN, "runs wild")]
    desk.see([])
    told.clear()
    desk.exchange()
    assert told == []


def test_a_catalog_goes_out_when_it_has_changed_and_again_where_it_did_not_arrive(url: str, tmp_path: Path) -> None:
    column = exchanged.Column(name="email", classes=("email",))
    catalog = exchanged.Catalog(relations=(exchanged.Relation(schema="public", name="customers", columns=(column,)),))
    desk = made(url, tmp_path)
    desk.declare([database(catalog=catalog)])
    assert desk._message().databases[0].catalog == catalog
    desk.exchange()
    assert desk._message().databases[0].catalog is None
    assert DeclaredCatalog.objects.get().relations[0]["columns"][0]["classes"] == ["email"]


def test_a_catalog_that_is_too_large_keeps_what_is_classed() -> None:
    columns = tuple(exchanged.Column(name=f"c{n}", type="text" * 20) for n in range(60))
    many = [exchanged.Relation(schema="public", name=f"t{n}", columns=columns) for n in range(1_000)]
    many.append(
        exchanged.Relation(schema="public", name="p", columns=(exchanged.Column(name="email", classes=("email",)),))
    )
    less = exchange.slim(exchanged.Catalog(relations=tuple(many)))
    assert less is not None
    assert [one.name for one in less.relations] == ["p"]


def test_texts_that_json_or_the_store_cannot_hold_do_not_stop_the_exchange(url: str, tmp_path: Path) -> None:
    desk = made(url, tmp_path)
    desk.hold(asked(statement="select '\0\ud800'", plan="\udcff\0", purpose="p" * 5_000), live())
    assert desk.exchange()
    assert HeldStatement.objects.get().statement == "select '�?'"


def test_large_statements_go_out_over_several_exchanges(url: str, tmp_path: Path) -> None:
    desk = made(url, tmp_path)
    for number in range(6):
        desk.hold(asked(f"req-{number}", f"select '{number}{'x' * 200_000}'"), live())
    for _ in range(4):
        assert desk.exchange()
    assert HeldStatement.objects.count() == 6


def test_a_foreign_answer_is_no_answer(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = Desk(Store(url, "not the token", "gateway"), "gw", tmp_path, print)
    for _ in range(2):
        assert not wrong.exchange()
    assert capsys.readouterr().err.count("answered 401") == 1


def test_the_thread_tells_news_at_once_and_ends_with_a_last_exchange(url: str, tmp_path: Path) -> None:
    desk = made(url, tmp_path)
    desk.start()
    desk.hold(asked(), live())
    until(HeldStatement.objects.exists)
    question = asked()
    desk.withdraw("req-1", question.digest)
    desk.stop()
    assert HeldStatement.objects.get().state == "withdrawn"


def test_while_nobody_is_there_the_store_is_asked_less_often_and_the_first_session_is_told_at_once(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("enforcement.gateway.desk.IDLE_SECONDS", 3600.0)
    desk = made(url, tmp_path)
    desk.see([])
    desk.start()
    until(lambda: desk._pause() == 3600.0)
    desk.see([live()])
    until(GatewaySession.objects.exists)
    assert desk._pause() == EXCHANGE_SECONDS
    desk.see([])
    until(lambda: not GatewaySession.objects.exists())
    assert desk._pause() == 3600.0
    desk.hold(asked(), live())
    until(HeldStatement.objects.exists)
    assert desk._pause() == EXCHANGE_SECONDS, "a decision about it must not come late"
    desk.stop()


def test_a_database_whose_catalog_is_not_known_holds_up_no_others(url: str, tmp_path: Path) -> None:
    desk = made(url, tmp_path)
    away = exchanged.Database(name="away", datasource="shop", environment="production")
    known = msgspec.structs.replace(away, name="known", catalog=exchanged.Catalog())
    desk.declare([away, known])
    for _ in range(2):
        assert desk.exchange()
    assert [kept.database.name for kept in DeclaredCatalog.objects.all()] == ["known"]


def test_a_line_of_uses_that_a_crash_cut_is_no_use_and_harms_no_other(tmp_path: Path) -> None:
    path = tmp_path / "used.jsonl"
    first = uses.Uses(path)
    first.add("req-1", "0" * 64)
    path.write_bytes(path.read_bytes() + b'{"request_id": "req-2", "dig')
    second = uses.Uses(path)
    second.add("req-3", "1" * 64)
    second.told(["req-1"])
    third = uses.Uses(path)
    assert [third.has(f"req-{n}") for n in (1, 2, 3)] == [True, False, True]
    assert [done.request_id for done in third.waiting()] == ["req-3"]
