"""The whole way: a client's statement is held by a real gateway, decided in the store, and run once."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from lineage import gateways, held, rights
from lineage.access import Viewer
from lineage.models import GatewayDatabase, GatewaySession, HeldStatement
from tests.enforcement.gateway.running import Running, until
from tests.enforcement.gateway.test_desk import SEVERIN, url
from tests.lineage import desk as story

pytestmark = pytest.mark.slow

__all__ = ["url"]
RULES = """version = 1
[[rule]]
id = "deletes"
title = "A delete needs another person"
outcome = "approve"
verbs = ["delete"]
rows_over = 5
"""
DELETE = "delete from orders where id <= 3"


@pytest.fixture
def gateway(url: str, make_gateway: Callable[..., Running], tmp_path: Path) -> Running:
    """A gateway that belongs to the store and goes by its guardrails."""
    rights.call("select gateway_set_rules(%s, %s, 'first')", RULES, story.SEVERIN)
    token = tmp_path / "token"
    token.write_text("gate")
    token.chmod(0o600)
    made = make_gateway(gateway=f'store = "{url}"\ntoken_file = "{token}"')
    until(lambda: made.gateway.rules.version == 1)
    return made


def waiting() -> HeldStatement:
    found: HeldStatement = until(lambda: HeldStatement.objects.filter(state="requested").first())
    return found


def count(gateway: Running) -> int:
    return int(gateway.shop.run("select count(*) from orders")[0][0])


def test_a_held_statement_runs_once_after_another_person_approved_it(gateway: Running) -> None:
    with gateway.connect() as client:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="needs another person") as told:
            client.execute(DELETE)
        asked = waiting()
        assert asked.request_id in (told.value.diag.message_hint or "")
        assert "dana@shop.example" in asked.involved
        assert asked.estimated_rows is not None
        assert [effect["verb"] for effect in asked.effects if effect["verb"] == "delete"] == ["delete"]
        held.decide(SEVERIN, asked.request_id, "approved", "looked at it")
        until(lambda: asked.digest in gateway.gateway.liaison.desk._decided)  # type: ignore[union-attr]
        assert client.execute(DELETE).rowcount == 3
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            client.execute(DELETE)
    assert count(gateway) == 197
    until(lambda: HeldStatement.objects.get(pk=asked.request_id).state == "used")
    (ran,) = [one for one in gateway.queries("delete from orders") if one["verdict"] == "approved"]
    assert (ran["approval"]["request_id"], ran["approval"]["approvers"]) == (asked.request_id, [story.SEVERIN])


def test_what_waits_in_a_transaction_goes_on_when_it_is_approved(gateway: Running) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with gateway.connect(autocommit=False) as client, ThreadPoolExecutor(1) as pool:
        client.execute("select 1")
        running = pool.submit(client.execute, DELETE)
        asked = waiting()
        assert asked.in_transaction
        held.decide(SEVERIN, asked.request_id, "approved", "looked at it")
        assert running.result(60).rowcount == 3
        client.commit()
    assert count(gateway) == 197


def test_the_values_of_a_prepared_statement_reach_who_decides_and_are_what_runs(gateway: Running) -> None:
    text = "delete from orders where id = any(array[%s::int, %s::int]) and (id::text <> %s or %b::timestamptz is null)"
    born = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    with gateway.connect() as client:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            client.execute(text, [2, None, "nobody", born])
        asked = waiting()
        assert asked.parameters is not None
        first, second, third, fourth = asked.parameters
        assert [one["value"] for one in (first, second, third)] == ["2", None, "nobody"]
        assert (fourth["binary"], fourth["value"][:2], len(fourth["value"])) == (True, "\\x", 18)
        held.decide(SEVERIN, asked.request_id, "approved", "looked at it")
        until(lambda: asked.digest in gateway.gateway.liaison.desk._decided)  # type: ignore[union-attr]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            client.execute(text, [3, None, "nobody", born])
        assert client.execute(text, [2, None, "nobody", born]).rowcount == 1
    assert count(gateway) == 199


def test_what_a_prepared_statement_does_is_shown_and_approved_with_its_execute(gateway: Running) -> None:
    prepared = "delete from orders where id <= $1 and customer_id <> 4711"
    with gateway.connect() as client:
        client.execute(f"prepare p (int) as {prepared}", prepare=False)
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="needs another person"):
            client.execute("execute p(3)", prepare=False)
        asked = waiting()
        assert (asked.statement.startswith("execute p(3)\n"), prepared in asked.statement) == (True, True)
        shown = "execute p(?); prepare p (int) as delete from orders where id <= $1 and customer_id <> ?"
        assert asked.redacted == shown
        assert asked.estimated_rows is not None
        held.decide(SEVERIN, asked.request_id, "approved", "looked at it")
        until(lambda: asked.digest in gateway.gateway.liaison.desk._decided)  # type: ignore[union-attr]
    with gateway.connect() as client:
        client.execute("prepare p (int) as delete from orders where id >= $1", prepare=False)
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="needs another person"):
            client.execute("execute p(3)", prepare=False)
        assert count(gateway) == 200
        client.execute("deallocate p", prepare=False)
        client.execute(f"prepare p (int) as {prepared}", prepare=False)
        assert client.execute("execute p(3)", prepare=False).rowcount == 3
    assert count(gateway) == 197


def test_a_rejection_reaches_the_client_with_its_reason(gateway: Running) -> None:
    with gateway.connect() as client:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            client.execute(DELETE)
        asked = waiting()
        held.decide(SEVERIN, asked.request_id, "rejected", "ask the owner first")
        until(lambda: asked.digest in gateway.gateway.liaison.desk._decided)  # type: ignore[union-attr]
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="ask the owner first"):
            client.execute(DELETE)
    assert count(gateway) == 200


def test_more_rows_than_were_approved_are_rolled_back(gateway: Running) -> None:
    with gateway.connect() as client:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            client.execute(DELETE)
        asked = waiting()
        held.decide(SEVERIN, asked.request_id, "approved", "two at most", row_cap=2)
        until(lambda: asked.digest in gateway.gateway.liaison.desk._decided)  # type: ignore[union-attr]
        with pytest.raises(psycopg.Error):
            client.execute(DELETE)
    assert count(gateway) == 200


def test_a_live_session_is_seen_and_ended_from_the_store(gateway: Running) -> None:
    client = gateway.connect()
    client.execute("select 1")
    seen: GatewaySession = until(lambda: GatewaySession.objects.filter(statements__gte=1).first())
    assert (seen.actor["email"], seen.account) == ("dana@shop.example", "app")
    assert GatewayDatabase.objects.get().name == "shop"
    gateways.kill(Viewer(story.SEVERIN, "security"), seen.pk, "runs wild")
    until(lambda: not GatewaySession.objects.exists())
    with pytest.raises(psycopg.OperationalError):
        client.execute("select 1")
