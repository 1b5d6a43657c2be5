"""Whoever sees only a part sets nothing that holds for the whole installation: refused, recorded, and nothing changed."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from lineage import access, errors, feeds, profiles, rechecks, retention
from lineage.access import Viewer
from lineage.engine import Question
from lineage.findings import ruling
from lineage.models import ApiToken, Role, User
from reports import requests, schedules
from tests import story

pytestmark = pytest.mark.slow

NOW = timezone.now()
NARROWED: dict[str, dict[str, Any]] = {
    "databases": {"datasources": ["orders-prod"]},
    "environments": {"environments": ["production"]},
    "window": {"until_at": NOW + dt.timedelta(days=365)},
}
HOUSE = Viewer("root@command-line", Role.ADMIN)
RULES = 'version = 1\n\n[[rule]]\nid = "no-drop"\noutcome = "block"\ncommands = ["DROP *"]\n'
RECEIVER = {"name": "pager", "kind": "mail", "address": "oncall@shop.example", "severity": "low", "is_on": "1", "reason": "x",
            "datasources": "orders-prod", "environments": "production"}  # fmt: skip
SOURCE = {"name": "new", "format": "events", "environment": "production", "datasource": "orders-prod"}
POSTED: dict[str, tuple[str, dict[str, Any]]] = {
    "guardrails": ("/guardrails/set/", {"text": RULES, "reason": "x"}),
    "rules of findings": ("/findings/rules/", {"reason": "x"}),
    "receivers": ("/findings/receivers/", RECEIVER),
    "a seat": ("/access/", {"email": "new@shop.example", "role": "auditor", "datasources": "orders-prod"}),
    "a seat's role": ("/access/seats/{seat}/", {"do": "change", "role": "admin"}),
    "a seat's end": ("/access/seats/{seat}/", {"do": "close"}),
    "a seat's password": ("/access/seats/{seat}/", {"do": "password"}),
    "a service's token": ("/access/seats/{service}/", {"do": "token", "name": "x"}),
    "another's token": ("/access/tokens/{token}/revoke/", {}),
    "a source": ("/access/sources/", SOURCE),
    "a source's end": ("/access/sources/", {"do": "revoke", "name": "desk"}),
    "another's check": ("/integrity/checks/{check}/cancel/", {}),
}
"""What is posted on pages. Schedules and erasures reach as far as who asks for them, and have their own test below."""
KEPT = (
    "lineage_guardrailversion", "lineage_findingrules", "lineage_receiver", "lineage_user", "lineage_apitoken", "lineage_source",
    "ledger_retention", "integrity_check", "reports_schedule",
)  # fmt: skip


def kept() -> dict[str, str]:
    """A mark of all that is set, by table."""
    with connection.cursor() as cursor:
        marks = {}
        for table in KEPT:
            cursor.execute(f"select coalesce(md5(string_agg(t::text, '|' order by t::text)), '') from {table} t")
            marks[table] = cursor.fetchone()[0]
    return marks


def refusals(email: str) -> list[str]:
    """The codes of what the log says this person was refused."""
    with Question() as question:
        rows = question.rows("select decision, purpose from raw_events where decision is not null order by index")
    said = [json.loads(row["decision"]) | {"purpose": row["purpose"]} for row in rows]
    mine = [one for one in said if one.get("decided_by") == email]
    return [one["transition"] if one["type"] == "evidence_read" else one["purpose"] for one in mine]


@pytest.fixture(scope="module")
def made(shared_store: str) -> dict[str, int]:
    """What there is to be changed, and for each narrowing an administrator with it; what is refused changes none of it."""
    story.tell(NOW)
    seat, service = story.person("lea@shop.example", "auditor"), story.person("robot", "service")
    token = ApiToken.objects.create(user=seat, token_hash=access.token_hash("lea"))
    story.person("ada@shop.example", "admin")
    for name, scope in NARROWED.items():
        narrow = story.person(f"{name}@shop.example", "admin", **scope)
        ApiToken.objects.create(user=narrow, token_hash=access.token_hash(name), used_at=NOW)
    wide = story.person("wide@shop.example", "admin")
    ApiToken.objects.create(
        user=wide, token_hash=access.token_hash("narrow token"), environments=["production"], used_at=NOW
    )
    ada = access.viewer_of(User.objects.get(email="ada@shop.example"))
    policy = retention.propose(ada, "", 365, reason="a year", ground="law")
    return {"seat": seat.pk, "service": service.pk, "token": token.pk, "check": rechecks.ask(HOUSE), "policy": policy}


def refused(email: str, deed: Callable[[], Any]) -> None:
    """The deed is refused, nothing is changed by it, and the log says so."""
    before, told = kept(), len(refusals(email))
    deed()
    assert kept() == before
    new = refusals(email)[told:]
    assert any(("access-denied" in one or "not-found" in one) for one in new), new


def as_typed(value: Any) -> str:
    return " ".join(value) if isinstance(value, tuple) else str(value)


@pytest.mark.parametrize("what", POSTED)
def test_who_sees_a_part_sets_nothing_that_holds_for_all(made: dict[str, int], what: str) -> None:
    path, given = POSTED[what]
    if what == "rules of findings":
        given = given | {one.name: as_typed(one.default) for one in ruling.current().thresholds}
    for name in NARROWED:
        client = Client()
        client.force_login(User.objects.get(email=f"{name}@shop.example"))

        def deed(client: Client = client) -> None:
            assert client.post(path.format(**made), given).status_code in (403, 404)

        refused(f"{name}@shop.example", deed)


def test_nor_by_the_api_nor_with_a_narrowed_token_of_who_sees_everything(made: dict[str, int]) -> None:
    body = json.dumps({"text": RULES, "reason": "x"})
    for email, token in [*((f"{name}@shop.example", name) for name in NARROWED), ("wide@shop.example", "narrow token")]:
        client = Client(headers={"authorization": f"Bearer {token}"})

        def deed(client: Client = client) -> None:
            answer = client.post("/api/v1/guardrails", body, content_type="application/json")
            assert (answer.status_code, answer.json()["code"]) == (403, "access-denied")

        refused(email, deed)


def test_a_retention_policy_is_proposed_approved_and_stopped_only_by_who_sees_everything(made: dict[str, int]) -> None:
    number = made["policy"]
    for name in NARROWED:
        viewer = access.viewer_of(User.objects.get(email=f"{name}@shop.example"))
        deeds: list[Callable[[], Any]] = [
            lambda viewer=viewer: retention.propose(viewer, "", 1, reason="x", ground="x"),
            lambda viewer=viewer: retention.approve(viewer, number),
            lambda viewer=viewer: retention.stop(viewer, number),
        ]  # fmt: skip
        for each in deeds:

            def deed(each: Callable[[], Any] = each) -> None:
                with pytest.raises((errors.AccessDenied, errors.NotFound)):
                    each()

            refused(viewer.email, deed)


def test_a_schedule_reaches_no_further_than_who_makes_it_and_others_are_not_shown(made: dict[str, int]) -> None:
    form = {"name": "narrow", "kind": "privileged-access", "cadence": "monthly", "environment": "staging"}
    for name in ("environments", "window"):
        client = Client()
        client.force_login(User.objects.get(email=f"{name}@shop.example"))

        def deed(client: Client = client) -> None:
            assert client.post("/reports/schedules/", form).status_code == 403

        refused(f"{name}@shop.example", deed)
    schedules.add(HOUSE, "everything", "privileged-access", "monthly")
    schedules.add(HOUSE, "orders", "privileged-access", "monthly", scope=("production", ("orders-prod",)))
    seen = {
        name: {one.name for one in requests.visible_schedules(access.viewer_of(User.objects.get(email=f"{name}@shop.example")))}
        for name in NARROWED
    }  # fmt: skip
    assert seen == {"databases": {"orders"}, "environments": {"orders"}, "window": set()}
    assert {one.name for one in requests.visible_schedules(HOUSE)} == {"everything", "orders"}


def test_the_narrowed_may_set_none_of_it_by_the_words_of_the_code(made: dict[str, int]) -> None:
    """The pages show these forms to nobody who would be refused."""
    for name in NARROWED:
        viewer = access.viewer_of(User.objects.get(email=f"{name}@shop.example"))
        asked = rechecks.one(made["check"])
        assert [profiles.may(viewer), ruling.may(viewer), rechecks.may_end(viewer, asked)] == [False] * 3
        assert feeds.may_look(viewer)
