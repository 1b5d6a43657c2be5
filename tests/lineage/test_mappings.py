"""Whose login is whose: a mapping of today leaves yesterday as it was; who may say it, and what is refused."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import transaction
from django.test import Client

from lineage import errors, mappings, queries, tagging
from lineage.access import Viewer
from lineage.mappings import Person
from lineage.models import Identity
from tests import story

pytestmark = pytest.mark.slow

NOW = dt.datetime.now(dt.UTC)
ALL = Viewer("audit@example.test", "auditor")
CARLA = Viewer("carla@example.test", "compliance")
STRANGER = Viewer("x@else.example", "compliance", ("elsewhere",))
DANA, OMAR = Person("dana@shop.example", "Dana Reyes", "dana@shop.example"), Person("omar@shop.example", "Omar")
LOGIN = ("orders-prod", "shared_rw")


def ran(desk: Any, name: str, at: dt.datetime) -> None:
    story.send(desk, {"kind": "query", "op": "read", "source_event_id": name, "occurred_at": at.isoformat(),
                      "actor": {"db_user": "shared_rw"},
                      "verdict": "allowed", "statement": {"text": "select 1 from orders"}})  # fmt: skip


def who() -> list[tuple[str, str]]:
    return [(row["who_name"], row["attribution"]) for row in reversed(queries.events(ALL, "kind:query").items)]


def test_a_mapping_of_today_does_not_rewrite_yesterday(store: str) -> None:
    desk = story.source()
    ran(desk, "old", NOW - dt.timedelta(days=40))
    ran(desk, "yesterday", NOW - dt.timedelta(days=1))
    assert who() == [("shared_rw", "db_login")] * 2
    mappings.establish(CARLA, *LOGIN, DANA, NOW - dt.timedelta(days=30), "the register of January")
    assert who() == [("shared_rw", "db_login"), ("Dana Reyes", "mapped_login")]
    mappings.establish(CARLA, *LOGIN, OMAR, None, "Dana left")
    ran(desk, "today", dt.datetime.now(dt.UTC))
    assert who() == [("shared_rw", "db_login"), ("Dana Reyes", "mapped_login"), ("Omar", "mapped_login")]
    mappings.establish(CARLA, *LOGIN, Person(mappings.NOBODY), None, "the account is shared again")
    ran(desk, "later", dt.datetime.now(dt.UTC))
    assert [name for name, _ in who()] == ["shared_rw", "Dana Reyes", "Omar", "shared_rw"]
    told = queries.login_history(ALL)
    assert [(t["by"], t["login"], t["reason"]) for t in told] == [
        ("carla@example.test", "orders-prod shared_rw", why)
        for why in ("the account is shared again", "Dana left", "the register of January")
    ]  # fmt: skip
    assert "dana@shop.example → omar@shop.example" in told[1]["transition"]
    assert told[0]["transition"].startswith("removed")
    assert [row["person_id"] for row in queries.logins(ALL)] == ["", OMAR.id, DANA.id]
    assert (queries.logins(STRANGER), queries.login_history(STRANGER)) == ([], [])


@pytest.mark.parametrize(
    ("viewer", "person", "from_at", "reason", "code"),
    [
        (CARLA, OMAR, NOW - dt.timedelta(days=10), "late", "mapping-invalid"),
        (CARLA, OMAR, NOW - dt.timedelta(days=90), "early", "mapping-invalid"),
        (CARLA, OMAR, None, " ", "mapping-invalid"),
        (CARLA, OMAR._replace(type="robot"), None, "why", "mapping-invalid"),
        (CARLA, OMAR._replace(name="\0"), None, "why", "mapping-invalid"),
        (CARLA, OMAR._replace(name="x" * 201), None, "why", "mapping-invalid"),
        (STRANGER, OMAR, None, "why", "not-found"), (ALL, OMAR, None, "why", "access-denied"),
    ],
)  # fmt: skip
def test_what_may_not_be_said_changes_nothing_and_is_recorded(
    store: str, viewer: Viewer, person: Person, from_at: dt.datetime | None, reason: str, code: str
) -> None:
    mappings.establish(CARLA, *LOGIN, DANA, NOW - dt.timedelta(days=30), "first")
    with pytest.raises(errors.TouchstoneError) as refused:
        mappings.establish(viewer, *LOGIN, person, from_at, reason)
    assert refused.value.code == code
    assert [row["person_id"] for row in queries.logins(ALL)] == [DANA.id]
    newest = queries.login_history(ALL)[0]
    assert (newest["by"], newest["transition"], newest["reason"]) == (viewer.email, "refused", code)


def test_an_import_says_only_what_is_new_and_never_goes_behind_what_is_known(store: str, tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    head = "datasource,db_user,id,name,email,type\n"
    file.write_text(
        f"{head}orders-prod,shared_rw,dana@shop.example,Dana Reyes,dana@shop.example,human\norders-prod,api,api,api,,service\n"
    )
    call_command("reference", "import", "identities", str(file), "--as-of", "2026-01-01T00:00:00Z")
    call_command("reference", "import", "identities", str(file), "--as-of", "2026-02-01T00:00:00Z")
    assert Identity.objects.count() == 2
    file.write_text(f"{head}orders-prod,shared_rw,omar@shop.example,Omar,,human\n")
    for behind in ("2026-01-01T00:00:00Z", "2025-06-01T00:00:00Z"):
        with pytest.raises(SystemExit):
            call_command("reference", "import", "identities", str(file), "--as-of", behind)
    assert Identity.objects.count() == 2
    call_command("reference", "import", "identities", str(file), "--as-of", "2026-03-01T00:00:00Z")
    assert [row["person_id"] for row in queries.logins(ALL, db_user="shared_rw")] == [
        "omar@shop.example",
        "dana@shop.example",
    ]


def test_the_page_lists_says_and_ends_for_those_who_may(store: str, client: Client) -> None:
    for email, role in (("carla@shop.example", "compliance"), ("alice@audit.example", "auditor")):
        story.person(email, role)
    assert client.login(username="carla@shop.example", password=story.PASSWORD)
    given = {
        "datasource": "orders-prod",
        "db_user": story.HOSTILE,
        "person": "dana@shop.example",
        "name": story.HOSTILE,
        "type": "human",
        "reason": "r",
    }
    assert client.post("/logins/", given).status_code == 302
    page = client.get("/logins/").content.decode()
    assert "1 login is known to be somebody’s" in page.replace("&#x27;", "’")
    assert "<script>alert" not in page
    assert client.post("/logins/", {**given, "from": "yesterday"}).status_code == 422
    assert client.post("/logins/", {**given, "person": ""}).status_code == 422
    assert (
        client.post(
            "/logins/", {"datasource": "orders-prod", "db_user": story.HOSTILE, "end": "1", "reason": "left"}
        ).status_code
        == 302
    )
    assert [row["person_id"] for row in queries.logins(ALL)] == ["", "dana@shop.example"]
    assert client.login(username="alice@audit.example", password=story.PASSWORD)
    page = client.get("/logins/").content.decode()
    assert "Say whose a login is" not in page
    assert client.post("/logins/", given).status_code == 403
    assert len(queries.logins(ALL)) == 2


def test_what_was_planned_and_never_held_is_replaced_and_stands_in_the_record(store: str) -> None:
    plan = NOW + dt.timedelta(days=300)
    mappings.establish(CARLA, *LOGIN, OMAR, plan, "a slip of the year")
    for far in (NOW + dt.timedelta(days=400), dt.datetime.max.replace(tzinfo=dt.UTC)):
        with pytest.raises(errors.MappingInvalid, match="within a year"):
            mappings.establish(CARLA, *LOGIN, OMAR, far, "far")
    assert [row["from_at"] for row in queries.logins(ALL)] == [plan]
    mappings.establish(CARLA, *LOGIN, DANA, NOW - dt.timedelta(days=30), "the register")
    assert [row["person_id"] for row in queries.logins(ALL)] == [DANA.id]
    newest = queries.login_history(ALL)[0]
    assert f"planned omar@shop.example, Omar, human from {plan:%Y-%m-%dT%H:%MZ} → nothing" in newest["transition"]
    mappings.establish(CARLA, *LOGIN, OMAR, plan, "Dana leaves")
    mappings.establish(CARLA, *LOGIN, OMAR, NOW + dt.timedelta(days=1), "Dana leaves tomorrow")
    assert [row["person_id"] for row in queries.logins(ALL)] == [OMAR.id, DANA.id]
    mappings.establish(CARLA, *LOGIN, DANA, None, "Dana stays")
    assert {row["person_id"] for row in queries.logins(ALL)} == {DANA.id}
    with transaction.atomic():
        assert not mappings.keep(*LOGIN, DANA, dt.datetime.now(dt.UTC), "import")
        assert [mappings.keep(*LOGIN, OMAR, plan, "import") for _ in range(2)] == [True, False]


def test_logins_and_tags_are_seen_within_databases_and_environments_alone(store: str) -> None:
    for name, environment in (("orders", "production"), ("orders eu", "europe")):
        story.source(f"feed-{environment}", environment, name)
        mappings.establish(CARLA, name, "rw", DANA, None, f"of {name}")
        tagging.establish(CARLA, name, "public.t", "mail", "email", "addresses")
    narrowed = (
        {"datasources": ("orders",)},
        {"environments": ("production",)},
        {"datasources": ("orders", "orders eu"), "environments": ("production",)},
    )
    for scope in narrowed:
        viewer = Viewer("v@example.test", "compliance", **scope)
        assert [row["datasource"] for row in queries.logins(viewer)] == ["orders"]
        assert [row["login"] for row in queries.login_history(viewer)] == ["orders rw"]
        assert [row["datasource"] for row in queries.tags(viewer)] == ["orders"]
        assert len(queries.tag_history(viewer, "orders", "public.t")) == 1
        assert queries.tag_history(viewer, "orders eu", "public.t") == []
        with pytest.raises(errors.NotFound):
            mappings.establish(viewer, "orders eu", "rw", OMAR, None, "why")
        with pytest.raises(errors.NotFound):
            tagging.establish(viewer, "orders eu", "public.t", "mail", "none", "why")
    nowhere = Viewer("v@example.test", "compliance", environments=("nowhere",))
    assert (queries.logins(nowhere), queries.login_history(nowhere), queries.tags(nowhere)) == ([], [], [])
    assert len(queries.logins(ALL)) == len(queries.tags(ALL)) == 2
    assert [row["datasource"] for row in queries.datasources(ALL).items if row["environment"] == "touchstone"] == []
