"""The exchange: what a gateway may say, what it is told, live sessions and their end."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from lineage import access, errors, gateways, held
from lineage.access import Viewer
from lineage.engine import Question
from lineage.models import DeclaredCatalog, GatewayDatabase, GatewayKill, GatewaySession, HeldStatement, Source, Tag
from tests import story
from tests.lineage import desk, forgetting

pytestmark = pytest.mark.slow

COLUMN = {"name": "email", "type": "text", "classes": ["email"]}
CATALOG = {"relations": [{"schema": "public", "name": "customers", "columns": [COLUMN]}]}


@pytest.fixture
def gate(store: str) -> Source:
    made = desk.source()
    forgetting.act_as("web")
    return made


def test_what_a_gateway_declares_is_kept_and_required_databases_are_configuration_records(gate: Source) -> None:
    desk.exchange(databases=[desk.database(catalog=CATALOG, other_accounts=["collector"])])
    desk.exchange(databases=[desk.database(other_accounts=["collector"])])
    kept = GatewayDatabase.objects.get()
    assert (kept.host, kept.port, kept.other_accounts) == ("gw", 6432, ["collector"])
    assert kept.required_since is not None
    assert DeclaredCatalog.objects.get().relations == CATALOG["relations"]
    desk.exchange(databases=[desk.database(required=False)])
    desk.exchange(databases=[])
    assert not GatewayDatabase.objects.exists()
    assert [t for _, t, _ in forgetting.decisions("configuration")] == [
        "required, besides collector", "not required", "not declared any more"
    ]  # fmt: skip


def test_since_when_a_database_is_required_does_not_move(gate: Source) -> None:
    desk.exchange()
    since = GatewayDatabase.objects.get().required_since
    desk.exchange(databases=[desk.database(port=6433)])
    assert GatewayDatabase.objects.get().required_since == since


@pytest.mark.parametrize(
    "foreign",
    [
        {"databases": [desk.database(environment="staging")]},
        {"databases": [desk.database(datasource="payroll")]},
        {"sessions": [{**desk.live(), "datasource": "payroll"}]},
        {"held": [desk.hold(environment="staging")]},
    ],
)
def test_a_gateway_speaks_for_its_tokens_environment_and_database_alone(gate: Source, foreign: dict[str, Any]) -> None:
    for _ in range(2):
        answer = desk.post(**foreign)
        assert answer.status_code == 403
        assert answer.json()["code"] == "access-denied"
    assert [model.objects.count() for model in (GatewayDatabase, GatewaySession, HeldStatement)] == [0, 0, 0]
    assert [(s, t) for s, t, _ in forgetting.decisions("configuration")] == [("gateway gw", "refused")]


def test_other_tokens_and_broken_messages_are_refused(gate: Source) -> None:
    story.source("desk")
    assert desk.post(token="desk").status_code == 403
    assert desk.post(token="nobody").status_code == 401
    for broken in (
        {"gateway": ""},
        {"held": [desk.hold(digest="x")]},
        {"nonsense": 1},
        {"sessions": [desk.live()] * 5_001},
    ):
        assert desk.post(**broken).status_code == 400
    assert not GatewaySession.objects.exists()


def test_live_sessions_are_those_of_the_last_exchange_in_the_viewers_scope(gate: Source) -> None:
    desk.exchange(sessions=[desk.live("s-1"), desk.live("s-2")])
    desk.exchange(sessions=[desk.live("s-2", statements=9)])
    (kept,) = GatewaySession.objects.all()
    behalf = kept.on_behalf_of or {}
    assert (kept.session_id, kept.statements, behalf["id"], kept.environment) == ("s-2", 9, "dana", "production")
    assert gateways.live(Viewer("a@x.example", "auditor", datasources=("shop",))).count() == 1
    for other in (
        Viewer("a@x.example", "auditor", datasources=("other",)), Viewer("a@x.example", "auditor", environments=("staging",)),
        Viewer("w@x.example", "witness"),
    ):  # fmt: skip
        assert gateways.live(other).count() == 0


def test_an_idle_session_is_not_written_again(gate: Source) -> None:
    one = desk.live()
    desk.exchange(sessions=[one])
    before = GatewaySession.objects.get().last_seen_at
    desk.exchange(sessions=[one])
    assert GatewaySession.objects.get().last_seen_at == before


@pytest.mark.parametrize("role", ["security", "operator", "admin"])
def test_a_session_is_ended_with_a_reason_and_the_order_stands_until_it_is_gone(gate: Source, role: str) -> None:
    forgetting.act_as("owner")
    viewer = access.viewer_of(story.person("kim@desk.example", role))
    forgetting.act_as("web")
    desk.exchange()
    gateways.kill(viewer, GatewaySession.objects.get().pk, "runs wild")
    for _ in range(2):
        assert desk.exchange()["kills"] == [{"session_id": "s-1", "by": "kim@desk.example", "reason": "runs wild"}]
    assert desk.exchange(sessions=[])["kills"] == []
    assert GatewayKill.objects.get().ended_at is not None
    assert forgetting.decisions("revoke")[-1][:2] == ("s-1", "session ended")


def test_an_auditor_a_stranger_and_a_silent_person_end_no_session(gate: Source) -> None:
    desk.exchange()
    number = GatewaySession.objects.get().pk
    with pytest.raises(errors.AccessDenied):
        gateways.kill(Viewer("alice@audit.example", "auditor"), number, "x")
    with pytest.raises(errors.NotFound):
        gateways.kill(Viewer("s@x.example", "security", environments=("staging",)), number, "x")
    with pytest.raises(errors.QueryInvalid):
        gateways.kill(Viewer("s@x.example", "security"), number, " ")
    assert desk.exchange()["kills"] == []
    assert [(s, t) for s, t, _ in forgetting.decisions("revoke")] == [(f"session {number}", "refused")] * 3


def test_tags_are_told_when_they_change(gate: Source) -> None:
    desk.exchange()
    first = desk.exchange()
    assert first["tags"] == []
    assert desk.exchange(tags=first["tags_state"])["tags"] is None
    Tag.objects.create(datasource="shop", relation="public.customers", column="note", classes=["secret"], by="ada")
    Tag.objects.create(datasource="payroll", relation="public.pay", column="iban", classes=["iban"], by="ada")
    second = desk.exchange(tags=first["tags_state"])
    assert [tag["column"] for tag in second["tags"]] == ["note"]
    assert desk.exchange(tags=second["tags_state"])["tags"] is None


def test_imported_tags_are_one_record_and_reach_the_gateway_and_none_takes_a_class_away(
    gate: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.exchange()
    forgetting.act_as("owner")
    file = tmp_path / "tags.csv"
    head = "datasource,relation,column,classes\n"

    def bring(text: str) -> None:
        file.write_text(head + text)
        call_command("reference", "import", "tags", str(file), "--as-of", "2026-11-21T00:00:00Z")

    bring("shop,public.customers,note,secret health\nshop,public.customers,email,none\n")
    assert "2 tags as of" in capsys.readouterr().out
    told = desk.exchange()
    assert {tag["column"]: tag["classes"] for tag in told["tags"]} == {"note": ["health", "secret"], "email": ["none"]}
    bring("shop,public.customers,note,none\n")
    again = desk.exchange(tags=told["tags_state"])
    assert {tag["column"]: tag["classes"] for tag in again["tags"]} == {"note": ["none"], "email": ["none"]}
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    for wrong in (
        "shop,customers,note,pay",
        "shop,public.customers,note,none pay",
        "shop,public.customers,note,",
        "shop,public.c,n,P!",
    ):
        with pytest.raises(SystemExit):
            bring(f"shop,public.customers,phone,phone\n{wrong}\n")
        assert "Line 3" in capsys.readouterr().err
    assert Tag.objects.count() == 2
    with Question() as question:
        rows = question.rows("select purpose from raw_events where decision_subject = 'reference tags' order by index")
    assert len(rows) == 2
    assert rows[1]["purpose"] == f"sha256={digest}"


def test_two_gateways_of_one_source_do_not_decide_for_each_other(gate: Source) -> None:
    severin = Viewer(desk.SEVERIN, "security")
    forgetting.act_as("owner")
    story.person(desk.SEVERIN, "security")
    forgetting.act_as("web")
    desk.exchange(held=[desk.hold()])
    held.decide(severin, "req-1", "approved", "yes")
    assert desk.exchange(gateway="other")["decisions"] == []
    used = {"request_id": "req-1", "digest": desk.hold()["digest"], "state": "used", "at": desk.now()}
    assert desk.exchange(gateway="other", done=[used])["refused"][0]["code"] == "not-found"
    assert HeldStatement.objects.get().state == "approved"


def test_an_exchange_without_news_costs_few_questions(gate: Source) -> None:
    sessions = [desk.live(f"s-{n}") for n in range(200)]
    desk.exchange(sessions=sessions)
    with CaptureQueriesContext(connection) as asked:
        desk.exchange(sessions=sessions)
    # Three, and a fourth where seconds went by since the gateway was last written down.
    assert len([q for q in asked if not q["sql"].startswith(("SAVEPOINT", "RELEASE", "BEGIN", "COMMIT"))]) <= 4


def test_neither_nul_nor_a_session_told_twice_makes_a_gateway_deaf(gate: Source) -> None:
    sessions = [desk.live(), desk.live(app="a\0b")]
    assert desk.exchange(sessions=sessions, held=[desk.hold(statement="select '\0'")])["refused"] == []
    assert GatewaySession.objects.get().app == "a\u2400b"
    assert HeldStatement.objects.get().statement == "select '\u2400'"
