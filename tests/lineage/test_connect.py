"""Tokens for gateways: who gets one, by page, API and command; what it says; that giving and refusing are records."""

from __future__ import annotations

import datetime as dt
import json
import re
import shlex
from io import StringIO
from typing import Any

import jwt
import psycopg.conninfo
import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.utils import timezone

from enforcement.gateway import identity
from enforcement.gateway.identity import Verifier
from lineage import access, connecting, connection_lines, errors, keys, rotation
from lineage.engine import Question
from lineage.models import ApiToken, Gateway, GatewayDatabase, Identity, Role, User
from tests import story
from tests.lineage import forgetting

pytestmark = pytest.mark.slow

MINUTE = dt.timedelta(minutes=1)
DANA, STRANGER, OTTO = "dana@shop.example", "sam@else.example", "otto@ops.example"


@pytest.fixture
def people(store: str) -> dict[str, User]:
    """An auditor, an operator and a stranger of another team, and a gateway in front of two databases."""
    declare("shop", "orders-prod")
    declare("hr", "hr-prod")
    return {
        DANA: story.person(DANA, "auditor", datasources=["orders-prod"], groups=["dba"]),
        OTTO: story.person(OTTO, "operator"),
        STRANGER: story.person(STRANGER, "auditor", datasources=["warehouse"]),
    }


def declare(name: str, datasource: str, environment: str = "production", host: str = "gw.example") -> GatewayDatabase:
    source = story.Source.objects.filter(name="gate").first() or story.source("gate", environment, "")
    gateway, _ = Gateway.objects.get_or_create(source=source, name="gw1", defaults={"seen_at": timezone.now()})
    return GatewayDatabase.objects.create(
        gateway=gateway, name=name, datasource=datasource, environment=environment, host=host, port=6432
    )


def api_token(user: User) -> dict[str, Any]:
    ApiToken.objects.create(user=user, token_hash=access.token_hash(f"tsu_{user.email}"))
    return {"headers": {"Authorization": f"Bearer tsu_{user.email}"}}


def ask(user: User, **wanted: Any) -> Any:
    return Client().post("/api/v1/connect", json.dumps(wanted), content_type="application/json", **api_token(user))


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def grants() -> list[dict[str, Any]]:
    """The records of tokens given and refused, in order."""
    with Question() as question:
        return question.rows(
            "select * from raw_events where decision_type = 'grant' order by index",
        )


def said(grant: dict[str, Any]) -> tuple[str, str]:
    told = json.loads(grant["decision"])
    assert told["decided_by"] == grant["actor_id"]
    return told["subject"], re.sub(r"until .*Z", "until", told["transition"])


def who(token: str) -> identity.Identity:
    """As a gateway takes it."""
    return Verifier([identity.store_issuer(connecting.jwks())]).verify(token, timezone.now())


def test_a_person_gets_a_token_that_says_who_they_are_and_for_which_database(people: dict[str, User]) -> None:
    Identity.objects.create(
        datasource="*", db_user="dana", person_id="u-7", name="Dana Reyes", email=DANA, as_of=timezone.now()
    )
    answer = ask(people[DANA], database="shop", purpose="close the month", ticket="OPS-42")
    assert answer.status_code == 200
    assert answer["Cache-Control"] == "private, no-store"
    told = answer.json()
    found = who(told["token"])
    assert (found.id, found.email, found.name, found.type) == (DANA, DANA, "Dana Reyes", "human")
    assert (found.roles, found.databases) == (("auditor", "dba"), ("orders-prod",))
    assert (found.claims_purpose, found.claims_ticket) == ("close the month", "OPS-42")
    assert dt.timedelta() < found.expires_at - timezone.now() <= 15 * MINUTE
    assert (told["host"], told["port"], told["user"], told["database"]) == ("gw.example", 6432, DANA, "shop")


def test_what_was_given_is_a_record_without_the_token(people: dict[str, User]) -> None:
    token = ask(
        people[DANA], database="shop", purpose="why", ticket="OPS-42", agent={"id": "bot", "run_id": "r-1"}
    ).json()["token"]
    (grant,) = grants()
    assert said(grant) == ("connect to shop as bot", "token until")
    assert (grant["datasource"], grant["environment"], grant["purpose"], grant["ticket"]) == (
        "orders-prod", "production", "why", "OPS-42",
    )  # fmt: skip
    assert (grant["agent_id"], grant["agent_run"]) == ("bot", "r-1")
    assert grant["correlation_id"] == who(token).token_id
    assert not any(part in str(grant) for part in token.split("."))


def test_an_agent_gets_in_in_its_own_name_and_for_the_person_who_asked(people: dict[str, User]) -> None:
    agent = {"id": "report-bot", "name": "Report bot", "version": "3", "run_id": "r-9", "model": "m-1"}
    told = ask(people[DANA], database="shop", agent=agent).json()
    found = who(told["token"])
    assert (found.id, found.type, told["user"]) == ("report-bot", "agent", "report-bot")
    assert found.on_behalf_of is not None
    assert found.on_behalf_of.email == DANA
    assert found.agent is not None
    assert {name: getattr(found.agent, name) for name in agent} == agent


REFUSED: list[tuple[str, dict[str, Any], int, str]] = [
    (STRANGER, {"database": "shop"}, 404, "not-found"), (DANA, {"database": "hr"}, 404, "not-found"),
    (DANA, {"database": "nowhere"}, 404, "not-found"), (DANA, {}, 400, "query-invalid"),
    (DANA, {"database": "shop", "minutes": 61}, 400, "query-invalid"),
    (DANA, {"database": "shop", "minutes": 0}, 400, "query-invalid"),
    (DANA, {"database": "shop", "minutes": True}, 400, "query-invalid"),
    (DANA, {"database": "shop", "role": "admin"}, 400, "query-invalid"),
    (DANA, {"database": "shop", "purpose": "a\nb"}, 400, "query-invalid"),
    (DANA, {"database": "shop", "agent": {"name": "x"}}, 400, "query-invalid"),
    (DANA, {"database": "shop", "agent": {"id": "carol@shop.example"}}, 400, "query-invalid"),
    (DANA, {"database": "shop", "agent": {"id": "nightly"}}, 403, "access-denied"),
    (DANA, {"database": "shop", "agent": {"id": "U-9"}}, 403, "access-denied"),
]  # fmt: skip


def test_what_is_not_allowed_is_refused_and_the_refusal_is_a_record(people: dict[str, User]) -> None:
    User.objects.create(email="nightly", role=Role.SERVICE)
    Identity.objects.create(datasource="*", db_user="c", person_id="u-9", name="Carol", as_of=timezone.now())
    bearers = {email: api_token(people[email]) for email in (DANA, STRANGER)}
    for email, wanted, status, code in REFUSED:
        answer = Client().post("/api/v1/connect", json.dumps(wanted), content_type="application/json", **bearers[email])
        assert (answer.status_code, answer.json()["code"]) == (status, code), wanted
        assert "token" not in answer.json()
    torn = Client().post("/api/v1/connect", "{", content_type="application/json", **bearers[DANA])
    assert torn.status_code == 400
    recorded = [(one["actor_id"], said(one)[1]) for one in grants()]
    assert recorded == [(email, f"refused {code}") for email, _, _, code in REFUSED] + [(DANA, "refused query-invalid")]
    assert said(grants()[0])[0] == "connect to shop"


def ask_again(user: User, database: str) -> Any:
    ApiToken.objects.filter(user=user).delete()
    return ask(user, database=database)


def test_a_scope_of_environments_and_times_holds(people: dict[str, User]) -> None:
    now = timezone.now()
    scopes: list[tuple[dict[str, Any], int]] = [
        ({"environments": ["staging"]}, 404), ({"environments": ["production"]}, 200),
        ({"until_at": now - MINUTE}, 403), ({"from_at": now + 5 * MINUTE}, 403), ({"until_at": now + 5 * MINUTE}, 200),
    ]  # fmt: skip
    for number, (scope, status) in enumerate(scopes):
        answer = ask(story.person(f"p{number}@shop.example", "auditor", **scope), database="shop")
        assert answer.status_code == status, scope
    assert who(answer.json()["token"]).expires_at <= now + 5 * MINUTE
    assert len(grants()) == len(scopes)


def test_nobody_gets_a_token_without_signing_in_or_after_they_left_and_no_witness(people: dict[str, User]) -> None:
    assert Client().post("/api/v1/connect", "{}", content_type="application/json").status_code == 401
    people[DANA].is_active = False
    people[DANA].save()
    assert ask(people[DANA], database="shop").status_code == 401
    assert Client().get("/connect/")["Location"].startswith("/accounts/login/")
    assert grants() == []
    witness = story.person("wit@else.example", "witness")
    assert ask(witness, database="shop").status_code == 403
    assert said(grants()[0]) == ("connect to shop", "refused access-denied")
    assert signed_in(witness).get("/connect/").status_code == 403


def test_a_service_has_a_name_and_an_api_token_and_reads_no_records(
    people: dict[str, User], capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("user", "add", "nightly-import", "--role", "service", "--datasource", "orders-prod", "--group", "jobs")
    bearer = {"headers": {"Authorization": f"Bearer {capsys.readouterr().out.strip()}"}}
    for number, kind in enumerate(("human", "service")):
        Identity.objects.create(
            datasource="*", db_user=f"import{number}", person_id="nightly-import", name=f"Nightly {kind}", type=kind, as_of=timezone.now()
        )  # fmt: skip
    body = json.dumps({"database": "shop", "minutes": 720})
    told = Client().post("/api/v1/connect", body, content_type="application/json", **bearer).json()
    found = who(told["token"])
    assert (found.id, found.type, found.email, found.roles) == ("nightly-import", "service", None, ("service", "jobs"))
    assert found.name == "Nightly service", "the imported name, and not another's of the same id"
    assert found.expires_at - timezone.now() > 700 * MINUTE
    assert grants()[0]["actor_type"] == "service"
    for address in ("/api/v1/events", "/connect/", "/search"):
        assert Client().get(address, **bearer).status_code == 403
    assert not User.objects.get(email="nightly-import").has_usable_password()
    with pytest.raises(SystemExit):
        call_command("user", "add", "dana@shop.example", "--role", "service")
    assert "letters, digits" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        call_command("user", "add", "eve@shop.example", "--role", "auditor", "--group", "admin")
    assert "cannot be a group" in capsys.readouterr().err
    assert not User.objects.filter(email="eve@shop.example").exists()


def test_a_member_signs_in_connects_and_sees_no_records(
    people: dict[str, User], capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("user", "add", "mia@shop.example", "--role", "member", "--datasource", "orders-prod")
    client, password = Client(), capsys.readouterr().out.strip()
    entered = client.post("/accounts/login/", {"username": "mia@shop.example", "password": password})
    assert entered["Location"] == "/connect/"
    page = client.get("/connect/").content.decode()
    assert "shop · production" in page
    assert "hr-prod" not in page
    for hidden in ("/search", "/integrity/", "/guardrails/", "/reports/", "All environments"):
        assert hidden not in page, hidden
    given = client.post("/connect/", {"database": "shop", "purpose": "orders"}).content.decode()
    found = who(re.search(r"eyJ[\w.-]+", given)[0])  # type: ignore[index]
    assert (found.email, found.type, found.roles) == ("mia@shop.example", "human", ("member",))
    for address in (
        "/",
        "/search",
        "/tables/",
        "/findings/",
        "/integrity/",
        "/guardrails/",
        "/sessions/live/",
        "/reports/",
    ):
        refused = client.get(address)
        assert refused.status_code == 403, address
        assert "works on databases and reads no records" in refused.content.decode(), address
    for address in ("/api/v1/events", "/api/v1/touches", "/api/v1/findings", "/api/v1/guardrails"):
        assert Client().get(address, **api_token(User.objects.get(email="mia@shop.example"))).status_code == 403
        ApiToken.objects.all().delete()
    assert "403 access-denied" in {str(one[1]) for one in forgetting.decisions("evidence_read")}
    assert (
        access.viewer_of(User.objects.get(email="mia@shop.example")).scope()[0]
        == "false and list_contains(?, datasource)"
    )


def test_a_token_that_cannot_be_recorded_is_not_given(people: dict[str, User]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("alter table ledger_head add constraint stuffed check (size < 0) not valid")
    with pytest.raises(errors.StoreUnavailable):
        connecting.issue(access.viewer_of(people[DANA]), {"database": "shop"})


def test_the_keys_are_public_and_a_replaced_one_counts_until_its_time_is_over(people: dict[str, User]) -> None:
    old = ask(people[DANA], database="shop").json()["token"]
    rotation.rotate("gateway", overlap=dt.timedelta(hours=12), who=OTTO)
    new = ask_again(people[DANA], "shop").json()["token"]
    listed = Client().get("/api/v1/gateway/keys").json()
    assert (listed["issuer"], listed["audience"]) == ("touchstone.local/log", "touchstone-gateway")
    assert [set(key) for key in listed["keys"]] == [{"kty", "crv", "use", "alg", "kid", "x"}] * 2
    assert {jwt.get_unverified_header(token)["kid"] for token in (old, new)} == {key["kid"] for key in listed["keys"]}
    assert who(old).id == who(new).id == DANA
    over = timezone.now() - MINUTE
    keys.write_publics("gateway", [one._replace(until=over) if one.until else one for one in keys.publics("gateway")])
    assert len(connecting.jwks()["keys"]) == 1
    with pytest.raises(identity.TokenRefused, match="key-unknown"):
        who(old)
    assert len(list((keys.path("gateway").parent).glob("gateway*.key"))) == 1


def test_the_command_prints_one_line_that_a_shell_and_libpq_read(
    people: dict[str, User], monkeypatch: pytest.MonkeyPatch
) -> None:
    api_token(people[DANA])
    monkeypatch.setenv("TOUCHSTONE_TOKEN", f"tsu_{DANA}")
    out = StringIO()
    call_command("connect", "shop", "--as-agent", "report-bot", "--agent-name", "Report bot", "--run", "r-1",
                 "--minutes", "5", "--purpose", "month's end", "--ticket", "OPS-42", stdout=out)  # fmt: skip
    line = out.getvalue()
    assert line.count("\n") == 1
    assert '" sslmode' not in line
    environment, program, info = shlex.split(line)
    name, _, token = environment.partition("=")
    assert (name, program) == ("PGPASSWORD", "psql")
    assert psycopg.conninfo.conninfo_to_dict(info) == {
        "host": "gw.example", "port": "6432", "dbname": "shop", "user": "report-bot", "sslmode": "verify-full",
    }  # fmt: skip
    found = who(token)
    assert (found.id, found.name, found.claims_purpose, found.claims_ticket) == (
        "report-bot", "Report bot", "month's end", "OPS-42",
    )  # fmt: skip
    assert found.expires_at - timezone.now() <= 5 * MINUTE


def test_the_command_refuses_whom_it_does_not_know_and_says_so_in_the_log(
    people: dict[str, User], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOUCHSTONE_TOKEN", "tsu_nobody")
    with pytest.raises(SystemExit):
        call_command("connect", "shop")
    told = capsys.readouterr()
    assert (told.out, told.err[:13]) == ("", "token-invalid")
    assert [json.loads(one["decision"])["transition"] for one in grants()] == ["refused"]


def test_names_that_mean_something_to_a_shell_stay_names() -> None:
    lines = connection_lines.lines("::1", 6432, 'sh\'op "x" $(id) `id`', "o'hara@shop.example")
    _, info = shlex.split(lines["psql"])
    assert psycopg.conninfo.conninfo_to_dict(info)["dbname"] == 'sh\'op "x" $(id) `id`'
    assert lines["psql"].startswith("psql '")
    assert "[::1]:6432/sh%27op%20%22x%22" in lines["jdbc"]
    assert "o%27hara%40shop.example@[::1]:6432" in lines["sqlalchemy"]


def test_the_page_shows_what_is_open_to_each_viewer_and_the_token_once(people: dict[str, User]) -> None:
    dana, otto, stranger = (signed_in(people[email]) for email in (DANA, OTTO, STRANGER))
    page = dana.get("/connect/").content.decode()
    assert "1 database open to you" in page
    assert "gw1/shop" in page
    assert "gw1/hr" not in page
    declare("far", "orders-prod", host="")
    assert "2 databases open" in otto.get("/connect/").content.decode()
    empty = stranger.get("/connect/").content.decode()
    assert "No gateway has declared a database in your scope" in empty
    assert '<form method="post" action="/connect/"' not in empty
    answer = dana.post(
        "/connect/", {"database": "gw1/shop", "purpose": "<b>why</b>", "minutes": "5", "agent_id": "bot"}
    )
    shown = answer.content.decode()
    assert answer["Cache-Control"] == "private, no-store"
    token = re.search(r"PGPASSWORD=(\S+) psql", shown)
    assert token is not None
    assert who(token[1]).claims_purpose == "<b>why</b>"
    for text in ("psycopg.connect(", "create_engine(", "jdbc:postgresql://gw.example:6432/shop", "data-countdown"):
        assert text in shown
    assert token[1] not in dana.get("/connect/").content.decode()
    assert otto.post("/connect/", {"database": "gw1/hr"}).status_code == 200
    assert [said(one)[0] for one in grants()] == ["connect to gw1/shop as bot", "connect to gw1/hr"]


def test_a_refusal_on_the_page_is_a_page_and_a_record(people: dict[str, User]) -> None:
    stranger = signed_in(people[STRANGER])
    answer = stranger.post("/connect/", {"database": "gw1/shop"})
    assert answer.status_code == 404
    assert b"PGPASSWORD" not in answer.content
    assert signed_in(people[DANA]).post("/connect/", {"database": "gw1/shop", "minutes": "soon"}).status_code == 400
    assert [said(one) for one in grants()] == [
        ("connect to gw1/shop", "refused not-found"), ("connect to a database", "refused query-invalid"),
    ]  # fmt: skip
    forged = Client(enforce_csrf_checks=True)
    forged.force_login(people[DANA])
    assert forged.post("/connect/", {"database": "gw1/shop"}).status_code == 403
    assert len(grants()) == 2
