"""Sources that people already have, over HTTP: what they may say, what never stops them, and how they get in."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from lineage import access, queries
from lineage.access import Viewer
from lineage.models import Source
from tests.lineage.sources import test_debezium as debezium
from tests.lineage.sources import test_hoop as hoop
from tests.lineage.sources import test_teleport as teleport

pytestmark = pytest.mark.slow

ALL = Viewer(email="audit@example.test", role="auditor")


def sender(format_name: str, *asserts: str, datasource: str = "orders-prod") -> Client:
    Source.objects.create(
        name=f"my-{format_name}",
        format=format_name,
        environment="prod",
        datasource=datasource,
        asserts=list(asserts),
        token_hash=access.token_hash(f"tsi_{format_name}"),
    )
    return Client(headers={"authorization": f"Bearer tsi_{format_name}"})


def post(client: Client, format_name: str, body: Any, query: str = "") -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post(f"/api/v1/ingest/{format_name}{query}", raw, content_type="application/json")


def test_no_record_of_debezium_is_ever_answered_with_anything_but_2xx(store: str) -> None:
    client = sender("debezium")
    broken = [
        b"",
        b"null",
        b"\xff\xfe",
        b"{",
        b"[1, 2",
        b'{"op": NaN}',
        b'{"op": "c"}',
        b"[" * 20_000,
        b'{"op": "x", "source": 3}',
        b"7",
    ]
    answers = [post(client, "debezium", body) for body in broken]
    assert {answer.status_code for answer in answers} == {200}
    assert sum(answer.json()["quarantined"] for answer in answers) == len(broken) - 2
    batch = [debezium.UPDATE, {"op": "c"}, None, debezium.WITH_SCHEMA]
    answer = post(client, "debezium", batch, "?key=public.customers:id&key=public.orders:id")
    assert [i["status"] for i in answer.json()["items"]] == ["accepted", "quarantined", "skipped", "accepted"]
    again = post(client, "debezium", {**debezium.UPDATE, "ts_ms": 1795225999999}, "?key=public.customers:id")
    assert again.json()["items"][0]["status"] == "duplicate"
    whole = queries.row(ALL, "orders-prod", "public.customers", "4711", queries.Window())
    assert "4711" in json.dumps(whole, default=str)
    assert queries.events(ALL, "op:update").total.value == 1


def test_what_a_snapshot_read_of_a_row_is_no_change_of_it(store: str) -> None:
    client = sender("debezium")
    for op in ("r", "u"):
        post(client, "debezium", {**debezium.UPDATE, "op": op}, "?key=public.customers:id")
    whole = queries.row(ALL, "orders-prod", "public.customers", "4711", queries.Window())
    assert [change["op"] for change in whole["changed"]] == ["update"]
    assert sorted(touch["access"] for touch in queries.touches(ALL, "relation:customers").items) == [
        "changed",
        "snapshot",
    ]


def test_a_proxy_names_people_only_where_its_token_may(store: str) -> None:
    silent = sender("teleport")
    assert post(silent, "teleport", [teleport.START, teleport.QUERY]).json()["accepted"] == 2
    told = queries.events(ALL, "kind:query").items[0]
    assert "unauthorised_assertion" in told["flags"]
    assert told["attribution"] == "none"
    trusted = sender("hoop", "actor", "approval", "policy")
    assert post(trusted, "hoop", hoop.SESSION).json()["accepted"] == 1
    told = queries.events(ALL, "kind:query verdict:approved").items[0]
    assert (told["who_id"], told["attribution"], told["flags"]) == ("dana@shop.example", "asserted_by_proxy", [])
    assert told["relations"] == ["customers"]
    assert queries.events(ALL, "actor:dana@shop.example").total.value == 1


def test_a_sender_that_only_knows_oauth_gets_its_own_token_and_nothing_else(store: str) -> None:
    sender("debezium")
    form = {"grant_type": "client_credentials", "client_id": "my-debezium", "client_secret": "tsi_debezium"}
    basic = base64.b64encode(b"my-debezium:tsi_debezium").decode()
    for body, headers in ((form, {}), ({"grant_type": "client_credentials"}, {"authorization": f"Basic {basic}"})):
        answer = Client(headers=headers).post("/api/v1/token", body)
        assert (answer.status_code, answer.json()["access_token"], answer.json()["token_type"]) == (
            200,
            "tsi_debezium",
            "Bearer",
        )
        assert answer["Cache-Control"] == "no-store"
    wrong = [
        ({**form, "client_secret": "tsi_other"}, 401), ({**form, "client_id": "other"}, 401), ({**form, "client_secret": ""}, 401),
        ({**form, "grant_type": "password"}, 400),
    ]  # fmt: skip
    assert [Client().post("/api/v1/token", body).status_code for body, _ in wrong] == [status for _, status in wrong]
    assert (
        Client(headers={"authorization": "Basic %%%"})
        .post("/api/v1/token", {"grant_type": "client_credentials"})
        .status_code
        == 401
    )
    Source.objects.update(revoked_at=timezone.now())
    assert Client().post("/api/v1/token", form).status_code == 401
