"""Guardrails as data: what holds in plain words, versions with who and why, who may set them, and every refusal in the log."""

from __future__ import annotations

import datetime as dt
import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.test import Client

from lineage import errors, profiles, queries, rule_words
from lineage.access import Viewer, token_hash, viewer_of
from lineage.guardrails import DEFAULT, load
from lineage.models import ApiToken, GuardrailVersion
from tests import story
from tests.lineage.test_pages import Markup, page, plain, signed_in

pytestmark = pytest.mark.slow

ALL = Viewer(email="audit@example.test", role="auditor")
RULES = 'version = 1\n\n[[rule]]\nid = "no-drop"\noutcome = "block"\ncommands = ["DROP *"]\n'
MORE = RULES + '\n[[rule]]\nid = "few-rows"\noutcome = "limit"\nverbs = ["read"]\nrows_over = 10\n'


@pytest.fixture
def security(store: str) -> Client:
    return signed_in(story.person("sec@shop.example", "security"))


def recorded() -> list[dict[str, Any]]:
    """The configuration records about guardrails, oldest first."""
    found = queries.events(ALL, "kind:decision source:touchstone", limit=200).items
    return [row for row in reversed(found) if (row["decision"]["subject"] or "").startswith("guardrails")]


def test_without_a_version_the_default_profile_is_shown_whole(store: str) -> None:
    html = page(signed_in(story.person()), "/guardrails/")
    text = plain(html)
    assert f"{len(DEFAULT.rules)} guardrails hold, version 0" in text
    assert "Nobody has set guardrails yet" in text
    for rule in DEFAULT.rules:
        assert f'id="{rule.id}"' in html
    assert "In production: what updates or deletes without a condition is blocked." in text
    assert Markup(html).risky == []
    assert "SHA-256" in page(signed_in(story.person("b@audit.example")), "/guardrails/0/")


def test_a_version_holds_from_when_it_is_set_with_who_why_and_the_difference(security: Client) -> None:
    for text, reason in ((RULES, "a first one"), (MORE, "reads were too large")):
        answer = security.post("/guardrails/set/", {"text": text.replace("\n", "\r\n"), "reason": reason})
        assert answer.status_code == 302
    assert answer.headers["Location"] == "/guardrails/2/"
    assert (profiles.current().version, profiles.current().digest) == (2, load(MORE).digest)
    assert [rule.id for rule in profiles.one(1).rules.rules] == ["no-drop"]
    text = plain(page(security, "/guardrails/"))
    assert "2 guardrails hold, version 2" in text
    assert "Set by sec@shop.example" in text
    assert "reads were too large" in text
    assert "+id = &quot;few-rows&quot;" in text
    assert "does not hold any more" in plain(page(security, "/guardrails/1/"))
    (first, second) = recorded()
    assert (second["decision"]["decided_by"], second["purpose"]) == ("sec@shop.example", "reads were too large")
    assert load(RULES).digest in second["decision"]["transition"]
    assert load(MORE).digest in second["decision"]["transition"]
    assert "+rows_over = 10" in second["statement"]
    assert DEFAULT.digest in first["decision"]["transition"]


@pytest.mark.parametrize(
    ("role", "text", "reason", "status", "code"),
    [
        ("auditor", RULES, "why", 403, "access-denied"),
        ("operator", RULES, "why", 403, "access-denied"),
        ("compliance", RULES, "why", 403, "access-denied"),
        ("security", RULES, " ", 422, "guardrails-invalid"),
        ("security", '[[rule]]\nid = "x"\noutcome = "blok"\n', "why", 422, "guardrails-invalid"),
        ("security", "version = ", "why", 422, "guardrails-invalid"),
        ("admin", DEFAULT.text, "why", 422, "guardrails-invalid"),
        ("admin", "#" * 70_000, "why", 422, "guardrails-invalid"),
    ],
)
def test_a_refused_version_changes_nothing_and_is_recorded(
    store: str, role: str, text: str, reason: str, status: int, code: str
) -> None:
    client = signed_in(story.person("p@shop.example", role))
    answer = client.post("/guardrails/set/", {"text": text, "reason": reason})
    assert answer.status_code == status
    assert GuardrailVersion.objects.count() == 0
    (record,) = recorded()
    assert (record["decision"]["transition"], record["purpose"], record["decision"]["decided_by"]) == (
        "refused", code, "p@shop.example",
    )  # fmt: skip


def test_the_database_itself_refuses_who_lost_the_right(store: str) -> None:
    viewer = viewer_of(story.person("sec@shop.example", "security"))
    story.User.objects.update(role="auditor")
    with pytest.raises(errors.AccessDenied):
        profiles.establish(viewer, RULES, "why")
    assert GuardrailVersion.objects.count() == 0
    assert [row["purpose"] for row in recorded()] == ["access-denied"]


def test_a_text_is_tried_on_what_was_recorded_and_nothing_is_set(security: Client) -> None:
    story.tell(dt.datetime.now(dt.UTC))
    file = SimpleUploadedFile("rules.toml", MORE.encode())
    answer = security.post("/guardrails/try/", {"file": file, "from": "1d", "q": "environment:production"})
    html = answer.content.decode()
    assert answer.status_code == 200
    assert "recorded statements were judged" in plain(html)
    assert "few-rows" in html
    assert Markup(html).risky == []
    assert GuardrailVersion.objects.count() == 0
    broken = security.post("/guardrails/try/", {"text": '[[rule]]\nid = "x"\noutcome = "block"\nverb = ["read"]'})
    assert broken.status_code == 422
    assert "Did you mean `verbs`?" in plain(broken.content.decode())
    assert "verb = [&quot;read&quot;]" in broken.content.decode(), "what was written is kept in the form"


def test_a_stranger_tries_them_on_nothing_of_another_team(store: str) -> None:
    story.tell(dt.datetime.now(dt.UTC))
    stranger = signed_in(story.person("x@other.example", datasources=["elsewhere"]))
    answer = stranger.post("/guardrails/try/", {"text": MORE, "from": "1d"})
    assert "0 of 0 recorded statements were judged" in plain(answer.content.decode())
    assert "Dana" not in answer.content.decode()


def test_programs_read_and_set_them_too(store: str) -> None:
    for role in ("auditor", "admin"):
        ApiToken.objects.create(user=story.person(f"{role}@x.example", role), token_hash=token_hash(role))
    client = Client()

    def ask(role: str, body: dict[str, str] | None = None) -> Any:
        more: dict[str, Any] = {"headers": {"Authorization": f"Bearer {role}"}}
        if body is None:
            return client.get("/api/v1/guardrails", **more)
        return client.post("/api/v1/guardrails", json.dumps(body), content_type="application/json", **more)

    assert ask("auditor").json()["current"]["version"] == 0
    refused = ask("auditor", {"text": RULES, "reason": "why"})
    assert (refused.status_code, refused.json()["code"]) == (403, "access-denied")
    assert ask("admin", {"text": RULES}).json()["code"] == "guardrails-invalid"
    assert GuardrailVersion.objects.count() == 0
    made = ask("admin", {"text": RULES, "reason": "why"})
    assert (made.status_code, made.json()["version"], made.json()["digest"]) == (201, 1, load(RULES).digest)
    answer = ask("auditor").json()
    assert answer["current"]["rules"][0]["sentence"] == "What is a command DROP * is blocked."
    assert [version["version"] for version in answer["versions"]] == [1, 0]
    assert Client().get("/api/v1/guardrails").status_code == 401


def test_the_command_shows_sets_and_tries(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*arguments: str) -> str:
        out = StringIO()
        call_command("guardrails", *arguments, stdout=out)
        return out.getvalue()

    file = tmp_path / "rules.toml"
    file.write_text(MORE)
    assert "version 0" in run("show")
    assert run("default") == DEFAULT.text
    monkeypatch.setenv("TOUCHSTONE_TOKEN", "nobody")
    with pytest.raises(SystemExit):
        run("set", str(file), "--reason", "why")
    refused = queries.events(ALL, "kind:decision source:touchstone purpose:token-invalid").items
    assert [row["decision"]["transition"] for row in refused] == ["refused"]
    ApiToken.objects.create(user=story.person("a@x.example", "admin"), token_hash=token_hash("good"))
    monkeypatch.setenv("TOUCHSTONE_TOKEN", "good")
    assert run("set", str(file), "--reason", "why").strip() == "1"
    assert "few-rows" in run("show", "1")
    story.tell(dt.datetime.now(dt.UTC))
    file.write_text(RULES)
    told = run("try", str(file), "--from", "2026-01-01", "--to", "2030-01-01", "--q", "environment:production")
    assert "limit → allow" in told
    assert "statements were judged" in told


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ('verbs = ["update", "delete"]\nunconditional = true\nenvironments = ["production"]',
         "In production: what updates or deletes without a condition is blocked."),
        ('who = ["agent"]\nopaque = true', "By agents: what cannot be understood is blocked."),
        ('verbs = ["read"]\nrelations = ["public.customers"]\nexcept_people = ["carol@shop.example"]',
         "But not by carol@shop.example: what reads touching public.customers is blocked."),
        ('weakens = true', "What takes away from auditing or change capture is blocked."),
    ],
)  # fmt: skip
def test_a_rule_is_said_in_plain_words(rule: str, said: str) -> None:
    (one,) = load(f'[[rule]]\nid = "x"\noutcome = "block"\n{rule}\n').rules
    assert rule_words.sentence(one) == said


def test_verdict_rule_masks_and_approval_of_a_gateways_statement_stand_on_its_pages(store: str) -> None:
    gate = story.Source.objects.create(
        name="gate", format="gateway", environment="production", datasource="orders-prod", token_hash=b"gate"
    )
    at, client = dt.datetime.now(dt.UTC), signed_in(story.person())

    def told(name: str, verdict: str, rule: str, effect: str, **more: Any) -> dict[str, Any]:
        policy = [{"id": "guardrails", "version": "0", "rule": rule, "effect": effect}]
        return story.query(name, at, story.BOT, "SELECT email FROM public.customers", "read", verdict=verdict, policy=policy,
                           session_id="gw-1", db_session_id="s-1", **more)  # fmt: skip

    masked = {"columns": ["email"], "types": [{"name": "email", "count": 120}]}
    approved = {"request_id": "ask-1", "state": "approved", "approvers": ["lea@shop.example"]}
    index = story.send(
        gate,
        told("m", "masked", "agents-masked", "mask", masked=masked),
        told("a", "approved", "agents-read-only", "approve", approval=approved),
        told("p", "pending", "agents-read-only", "approve"),
        told("b", "blocked", "no-drop", "block", error={"code": "42501"}),
        told("n", "allowed", "", "allow"),
    )
    event = page(client, f"/events/{index[0]}/")
    assert '<a href="/guardrails/0/#agents-masked">agents-masked</a>' in event
    assert "Masked: 120 email" in plain(event)
    assert "Approval ask-1: approved by lea@shop.example" in plain(page(client, f"/events/{index[1]}/"))
    assert "no rule matched" in plain(page(client, f"/events/{index[4]}/"))
    session = plain(page(client, "/sessions/orders-prod~gw-1/"))
    assert "1 blocked, 1 approved, 1 pending, 1 masked" in session
    assert "Values masked120 email" in session.replace("Values masked ", "Values masked")
    for q, count in (("verdict:masked", 1), ("masked:email", 1), ("verdict:pending", 1), ("policy:no-drop", 1)):
        assert len(queries.events(ALL, q).items) == count, q
