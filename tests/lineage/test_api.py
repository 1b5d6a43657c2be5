"""Ingest and questions over HTTP: every answer, every refusal."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import logging
from typing import Any

import pytest
import zstandard
from django.core.management import call_command
from django.db import connection
from django.test import Client

from lineage import access, checkpoints, health, tree
from lineage.models import ApiToken, Source, User

pytestmark = pytest.mark.slow

HOST = {"HTTP_HOST": "127.0.0.1"}
SECRET = "tsi_secret"


@pytest.fixture
def client(store: str) -> Client:
    Source.objects.create(
        name="shop",
        format="events",
        environment="prod",
        datasource="orders",
        asserts=["actor"],
        token_hash=access.token_hash(SECRET),
    )
    return Client(headers={"authorization": f"Bearer {SECRET}"})


def reader(role: str = "auditor", **scope: Any) -> Client:
    user = User.objects.create(email=f"{role}{len(scope)}@example.test", role=role, **scope)
    ApiToken.objects.create(user=user, token_hash=access.token_hash(f"tsu_{user.pk}"))
    return Client(headers={"authorization": f"Bearer tsu_{user.pk}"})


def item(number: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "kind": "query", "op": "read", "source_event_id": f"e{number}", "occurred_at": "2026-11-20T10:00:00Z",
        "verdict": "allowed", "datasource": "orders", "actor": {"id": "alice@shop.example", "type": "human"},
        "resources": [{"schema": "public", "relation": "customers"}], **more,
    }  # fmt: skip


def post(client: Client, body: Any, path: str = "/api/v1/ingest/events", **more: Any) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post(path, raw, content_type="application/json", **more)


def size() -> int:
    return tree.head()


def test_a_batch_is_answered_item_by_item_with_a_receipt(client: Client) -> None:
    answer = post(client, [item(1), item(2), item(1), {"kind": "nonsense"}]).json()
    assert [i["status"] for i in answer["items"]] == ["accepted", "accepted", "duplicate", "quarantined"]
    assert [i.get("index") for i in answer["items"][:3]] == [0, 1, 0]
    assert (answer["accepted"], answer["duplicate"], answer["quarantined"]) == (2, 1, 1)
    assert answer["receipt"].startswith("touchstone receipt v1\n")


def test_the_same_batch_again_adds_nothing(client: Client) -> None:
    post(client, [item(1), item(2)])
    again = post(client, [item(1), item(2)]).json()
    assert (again["duplicate"], again["receipt"], size()) == (2, None, 2)


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("zstd", zstandard.compress)])
def test_compressed_bodies_are_read(client: Client, encoding: str, pack: Any) -> None:
    assert (
        post(client, pack(json.dumps([item()]).encode()), headers={"content-encoding": encoding}).json()["accepted"]
        == 1
    )


def test_a_decompression_bomb_is_refused(client: Client) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    answer = post(client, bomb, headers={"content-encoding": "gzip"})
    assert (answer.status_code, answer.json()["code"], size()) == (413, "body-too-large", 0)


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"headers": {"authorization": "Bearer wrong"}}, 401, "token-invalid"),
        ({"headers": {"content-encoding": "br"}}, 415, "encoding-unknown"),
        ({"path": "/api/v1/ingest/cloudtrail"}, 404, "format-unknown"),
        ({"path": "/api/v1/ingest/pgoutput"}, 403, "access-denied"),
        ({"body": b"\xff\x00 not json"}, 400, "body-unreadable"),
        ({"body": b"x" * 11_000_000}, 413, "body-too-large"),
        ({"body": [item(n) for n in range(10_001)]}, 413, "body-too-large"),
    ],
)
def test_what_cannot_be_taken_is_refused_with_code_and_advice(
    client: Client, change: dict[str, Any], status: int, code: str
) -> None:
    arguments = {"body": [item()], **change}
    answer = post(client, **arguments)
    body = answer.json()
    assert (answer.status_code, body["code"]) == (status, code)
    assert len(body["message"]) > 20
    assert size() == 0


def test_strict_refuses_the_whole_batch_and_stores_nothing(client: Client) -> None:
    answer = post(client, [item(1), {"kind": "nonsense"}], path="/api/v1/ingest/events?strict=1")
    with connection.cursor() as cursor:
        cursor.execute("select count(*) from ledger_quarantine")
        assert (answer.status_code, size(), cursor.fetchone()[0]) == (422, 0, 0)


def test_one_bad_item_does_not_stop_the_others_and_its_bytes_are_kept(client: Client) -> None:
    answer = post(
        client, b'{"kind":"query","source_event_id":"a"}\nnot json\n{"kind":"query","source_event_id":"b"}\n'
    ).json()
    assert [i["status"] for i in answer["items"]] == ["accepted", "quarantined", "accepted"]
    with connection.cursor() as cursor:
        cursor.execute("select body from ledger_quarantine")
        assert bytes(cursor.fetchone()[0]) == b"not json"


def test_a_megabyte_of_statement_is_kept_as_head_length_and_hash(client: Client) -> None:
    post(client, [item(1, statement={"text": "select '" + "x" * 1_000_000 + "'"})])
    found = reader().get("/api/v1/events/0").json()["groups"]["statement"]["statement"]
    assert (found["state"], found["length"], len(found["text"])) == ("truncated", 1_000_009, 1024)


def test_hostile_text_survives_as_text(client: Client) -> None:
    post(
        client,
        [
            item(
                1,
                resources=[{"schema": '"; drop', "relation": "<script>"}],
                statement={"text": "select '\u2400<script>'"},
            )
        ],
    )
    assert reader().get("/api/v1/events").json()["items"][0]["relations"] == ['"; drop.<script>']


def test_an_empty_answer_says_how_complete_it_is(client: Client) -> None:
    answer = reader().get("/api/v1/events").json()
    assert answer["items"] == []
    assert answer["total"] == {"value": 0, "exact": True}
    assert answer["coverage"][0]["state"] == "unknown"


def test_no_token_is_401_and_no_rows(client: Client) -> None:
    assert Client().get("/api/v1/events").status_code == 401
    assert client.get("/api/v1/events").status_code == 401


def test_a_stranger_gets_an_empty_list(client: Client) -> None:
    post(client, [item()])
    assert reader(datasources=["elsewhere"]).get("/api/v1/events").json()["items"] == []


def test_each_read_is_in_the_log_before_it_is_answered(client: Client) -> None:
    post(client, [item()])
    auditor = reader()
    auditor.get("/api/v1/events?q=relation:customers")
    (read,) = auditor.get("/api/v1/events?q=kind:decision").json()["items"]
    assert read["decision"]["type"] == "evidence_read"
    assert read["purpose"] == "q=relation:customers"


def test_a_read_that_cannot_be_recorded_is_not_answered(client: Client) -> None:
    post(client, [item()])
    auditor = reader()
    with connection.cursor() as cursor:
        cursor.execute("alter table ledger_batch add constraint nothing_more check (n < 0) not valid")
    answer = auditor.get("/api/v1/events")
    assert (answer.status_code, answer.json()["code"]) == (503, "evidence-read-unrecorded")


def test_a_csv_cell_that_looks_like_a_formula_is_defused(client: Client) -> None:
    post(client, [item(1, actor={"id": "=cmd()", "type": "human"})])
    text = reader().get("/api/v1/events?format=csv").content.decode()
    assert "'=cmd()" in text


@pytest.mark.parametrize("form", ["json", "csv", "ndjson", "parquet"])
def test_lists_come_in_each_format(client: Client, form: str) -> None:
    post(client, [item()])
    assert reader().get(f"/api/v1/touches?format={form}").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "events?q=colour:red",
        "events?limit=x",
        "events?cursor=%00",
        "events?since=yesterday",
        "events?format=xml",
        "proof/inclusion?index=9",
    ],
)
def test_a_question_that_cannot_be_understood_is_400(client: Client, path: str) -> None:
    assert reader().get(f"/api/v1/{path}").status_code == 400


def test_proofs_and_checkpoint_are_served(client: Client) -> None:
    post(client, [item(n) for n in range(5)])
    auditor = reader()
    checkpoints.checkpoint()
    assert auditor.get("/checkpoint").content.startswith(b"touchstone.local/log\n5\n")
    assert len(auditor.get("/api/v1/proof/inclusion?index=2&size=5").json()["proof"]) == 3


def test_probes_and_schema_answer_without_a_token(client: Client) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/log/key", "/api/schema"):
        assert Client().get(path).status_code == 200
    assert "Event" in Client().get("/api/schema").json()["components"]["schemas"]


def test_a_heartbeat_is_noted_and_a_wrong_clock_recorded(client: Client) -> None:
    beat = {"last_sequence": 7, "position": "x:1", "at": "2026-01-01T00:00:00Z"}
    assert post(client, beat, path="/api/v1/heartbeat").json() == {"ok": True}
    health.look(dt.datetime.now(dt.UTC))
    found = reader("admin").get("/api/v1/events?q=kind:custody").json()["items"]
    assert {e["custody"]["type"] for e in found} == {"heartbeat", "clock_skew"}


def test_no_statement_or_row_value_reaches_a_server_log(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    post(
        client,
        [item(1, statement={"text": "select 'MARKER-VALUE'"}), {"kind": "x", "statement": {"text": "MARKER-VALUE"}}],
    )
    post(client, b"MARKER-VALUE not json")
    reader().get("/api/v1/events")
    reader("security").get("/api/v1/events?q=colour:MARKER-VALUE")
    assert "MARKER-VALUE" not in caplog.text


def test_commands_print_the_token_alone_and_record_the_change(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("source", "add", "log", "--format", "postgres-csvlog", "--datasource", "orders")
    token = capsys.readouterr().out
    assert token.count("\n") == 1
    assert (
        Client(headers={"authorization": f"Bearer {token.strip()}"}).post("/api/v1/ingest/postgres-csvlog").status_code
        == 200
    )
    call_command("ask", "kind:decision", "--format", "csv")
    assert "source log" in capsys.readouterr().out
