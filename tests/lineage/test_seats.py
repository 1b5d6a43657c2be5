"""Seats and tokens: who is let in, with what scope, until when; who may change it, and what is recorded of it."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from lineage import access, api_tokens, errors, feeds, queries, seats
from lineage.access import Viewer
from lineage.models import ApiToken, SignInAttempt, Source, User
from tests import story

pytestmark = pytest.mark.slow

NEW_YEAR = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
HOUSE = Viewer(email="root@command-line", role="admin")
ADA = Viewer(email="ada@admin.example", role="admin")


def recorded(kind: str = "configuration") -> list[dict[str, Any]]:
    """The store's own decisions, newest first."""
    items = queries.events(HOUSE, "environment:touchstone kind:decision", limit=100).items
    return [item for item in items if item["decision"]["type"] == kind]


def noticed() -> list[str]:
    """What was noted of tries to sign in, oldest first, with whose seat."""
    items = queries.events(HOUSE, "environment:touchstone kind:custody", limit=100).items
    return [f"{i['who_id']}: {i['custody']['detail']}" for i in reversed(items) if i["custody"]["type"] == "access"]


def bearing(token: str) -> Client:
    return Client(headers={"authorization": f"Bearer {token}"})


def token_of(user: User, **wanted: Any) -> str:
    viewer = access.viewer_of(user)
    return api_tokens.make(viewer, user, api_tokens.Wanted(name="nightly", **wanted))


def expired(user: User) -> None:
    User.objects.filter(pk=user.pk).update(ends_at=timezone.now() - DAY)


def test_an_expired_seat_gets_nothing_and_its_refusal_is_recorded_once_an_hour(store: str) -> None:
    user = story.person(ends_at=timezone.now() + DAY)
    session, program = Client(), bearing(token_of(user))
    session.force_login(user)
    assert (session.get("/").status_code, program.get("/api/v1/events").status_code) == (200, 200)
    expired(user)
    refused = program.get("/api/v1/events")
    assert (refused.status_code, refused.json()["code"]) == (401, "seat-ended")
    assert program.post("/api/v1/connect", "{}", content_type="application/json").status_code == 401
    assert program.get("/checkpoint").status_code == 401
    led = session.get("/search?q=dana")
    assert (led.status_code, led["Location"]) == (302, "/accounts/login/?next=%2Fsearch%3Fq%3Ddana&why=seat-ended")
    assert "Your seat has ended" in session.get(led["Location"]).content.decode()
    entered = session.post("/accounts/login/", {"username": user.email, "password": story.PASSWORD})
    assert entered.status_code == 401
    assert "Your seat has ended" in entered.content.decode()
    assert session.get("/").status_code == 302
    assert [r["decision"]["transition"] for r in recorded("evidence_read")].count("401 seat-ended") == 1
    assert noticed() == [f"{user.email}: sign-in refused: the seat has ended"]


def test_the_time_of_records_bounds_records_and_not_the_seat(store: str) -> None:
    user = story.person(until_at=timezone.now() - 30 * DAY)
    assert access.is_open(user)
    assert bearing(token_of(user)).get("/api/v1/events").status_code == 200


def test_an_auditors_seat_ends_by_itself_and_nobody_elses(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("user", "add", "ann@audit.example", "--role", "auditor", "--until", "2026-01-01")
    call_command("user", "add", "bob@audit.example", "--role", "auditor", "--ends", "2099-01-01")
    call_command("user", "add", "sec@shop.example", "--role", "security")
    ann, bob, sec = (User.objects.get(email=f"{e}.example") for e in ("ann@audit", "bob@audit", "sec@shop"))
    assert ann.ends_at is not None
    assert dt.timedelta(days=89) < ann.ends_at - timezone.now() <= dt.timedelta(days=90)
    assert ann.until_at == dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    assert (bob.ends_at, sec.ends_at) == (dt.datetime(2099, 1, 1, tzinfo=dt.UTC), None)
    call_command("user", "change", "bob@audit.example", "--ends", "")
    bob.refresh_from_db()
    assert bob.ends_at is None
    newest = recorded()[0]
    assert newest["decision"]["transition"] == "changed: ends 2099-01-01T00:00Z → nothing"
    assert json.loads(newest["statement"])["old"]["ends"] == "2099-01-01T00:00:00Z"
    with pytest.raises(SystemExit):
        call_command("user", "change", "bob@audit.example", "--ends", "2001-01-01")
    assert "access-invalid" in capsys.readouterr().err


def test_each_change_of_a_seat_is_one_record_with_old_and_new_value(store: str) -> None:
    user, password = seats.add(ADA, "dana@shop.example", seats.Wanted(role="security", datasources=("orders-prod",)))
    assert user.check_password(password)
    seats.change(ADA, user, seats.Wanted(role="operator", datasources=("orders-prod", "hr")))
    seats.reset_password(ADA, user)
    seats.close(ADA, user)
    seats.reopen(ADA, user)
    told = [(r["who_id"], r["decision"]["subject"], r["decision"]["transition"]) for r in reversed(recorded())]
    assert told == [
        (ADA.email, "user dana@shop.example", "added: role security; databases orders-prod; environments everything; "
         "groups nothing; active yes"),
        (ADA.email, "user dana@shop.example", "changed: role security → operator; databases orders-prod → orders-prod, hr"),
        (ADA.email, "user dana@shop.example", "changed: password as it was → new"),
        (ADA.email, "user dana@shop.example", "changed: active yes → no"),
        (ADA.email, "user dana@shop.example", "changed: active no → yes"),
    ]  # fmt: skip
    assert password not in json.dumps(recorded(), default=str)


def test_only_administrators_who_see_everything_change_seats_tokens_of_others_and_sources(store: str) -> None:
    user = story.person("dana@shop.example", "member")
    service, _ = seats.add(HOUSE, "importer", seats.Wanted(role="service"))
    before = len(recorded())
    viewers = [
        Viewer(email=f"{role}@x.example", role=role) for role in ("auditor", "security", "compliance", "operator")
    ]
    viewers.append(Viewer(email="part@x.example", role="admin", datasources=("orders-prod",)))
    for viewer in viewers:
        for attempt in (
            lambda v: seats.add(v, "new@shop.example", seats.Wanted(role="admin")),
            lambda v: seats.change(v, user, seats.Wanted(role="admin")),
            lambda v: seats.close(v, user),
            lambda v: seats.reset_password(v, user),
            lambda v: api_tokens.make(v, service, api_tokens.Wanted(name="x")),
            lambda v: feeds.add(v, feeds.Wanted(name="x", format="events")),
            lambda v: feeds.revoke(v, "x"),
        ):
            with pytest.raises(errors.AccessDenied):
                attempt(viewer)
    refusals = recorded()[: len(recorded()) - before]
    assert len(refusals) == 7 * len(viewers)
    assert {(r["decision"]["transition"], r["purpose"]) for r in refusals} == {("refused", "access-denied")}
    user.refresh_from_db()
    assert (user.role, user.is_active, User.objects.count(), Source.objects.filter(name="x").count()) == (
        "member",
        True,
        2,
        0,
    )


def test_nobody_changes_their_own_seat_and_the_last_administrator_stays(store: str) -> None:
    ada, bea = story.person(ADA.email, "admin"), story.person("bea@admin.example", "admin")
    story.person("part@admin.example", "admin", datasources=["orders-prod"])
    for change in (lambda: seats.close(ADA, ada), lambda: seats.change(ADA, ada, seats.Wanted(role="security")),
                   lambda: seats.reset_password(ADA, ada)):  # fmt: skip
        with pytest.raises(errors.AccessDenied):
            change()
    seats.close(ADA, bea)
    ends = timezone.now() + DAY
    for wanted in (
        seats.Wanted(role="security"),
        seats.Wanted(role="admin", ends_at=ends),
        seats.Wanted(role="admin", datasources=("x",)),
    ):
        with pytest.raises(errors.AccessDenied, match="last administrator"):
            seats.change(HOUSE, ada, wanted)
    with pytest.raises(errors.AccessDenied, match="last administrator"):
        seats.close(HOUSE, ada)
    ada.refresh_from_db()
    assert (ada.role, ada.is_active, ada.ends_at) == ("admin", True, None)
    assert recorded()[0]["decision"]["transition"] == "refused"


@pytest.mark.parametrize(
    ("email", "wanted"),
    [
        ("no address", {"role": "auditor"}),
        ("<script>@x", {"role": "auditor"}),
        ("dana@shop.example", {"role": "king"}),
        ("a b", {"role": "service"}),
        ("dana@shop.example", {"role": "auditor", "groups": ("admin",)}),
        ("dana@shop.example", {"role": "auditor", "datasources": ("a\0b",)}),
        ("dana@shop.example", {"role": "auditor", "environments": ("x" * 201,)}),
        ("dana@shop.example", {"role": "auditor", "ends_at": NEW_YEAR}),
        ("dana@shop.example", {"role": "auditor", "from_at": NEW_YEAR + DAY, "until_at": NEW_YEAR}),
        ("ADA@admin.example", {"role": "auditor"}),
    ],
)  # fmt: skip
def test_a_seat_that_cannot_be_is_refused_by_name(store: str, email: str, wanted: dict[str, Any]) -> None:
    story.person(ADA.email, "admin")
    with pytest.raises(errors.AccessInvalid):
        seats.add(ADA, email, seats.Wanted(**wanted))
    assert User.objects.count() == 1
    assert [(r["decision"]["transition"], r["purpose"]) for r in recorded()] == [("refused", "access-invalid")]


def test_a_token_narrows_its_owner_and_is_never_wider_also_when_the_owner_is_narrowed_later(store: str) -> None:
    told = story.tell(timezone.now())
    user = story.person(datasources=["orders-prod", "shop-simulated"])
    narrow, whole = token_of(user, datasources=("orders-prod",)), token_of(user)
    fix = f"/api/v1/events/{told['fix']}"
    assert bearing(narrow).get(fix).status_code == 200
    places = {i["datasource"] for i in bearing(narrow).get("/api/v1/events?limit=1000").json()["items"]}
    assert places == {"orders-prod"}
    assert "shop-simulated" in bearing(whole).get("/api/v1/events?limit=1000").content.decode()
    with pytest.raises(errors.AccessInvalid, match="never wider"):
        token_of(user, datasources=("hr-prod",))
    seats.change(HOUSE, user, seats.Wanted(role="auditor", datasources=("shop-simulated",)))
    assert bearing(narrow).get("/api/v1/events").json()["code"] == "seat-ended"
    assert bearing(whole).get(fix).status_code == 404
    seats.change(HOUSE, user, seats.Wanted(role="auditor"))
    assert bearing(narrow).get(fix).status_code == 200
    viewer = access.viewer_of_token(token_of(user, until_at=timezone.now() - 300 * DAY, environments=("production",)))
    assert (viewer.environments, viewer.is_narrowed) == (("production",), True)


def test_a_token_ends_is_revoked_by_its_owner_or_an_administrator_and_says_when_it_was_used(store: str) -> None:
    user, other = story.person(), story.person("eve@audit.example")
    ending, kept = token_of(user, expires_at=timezone.now() + DAY), token_of(user)
    assert set(ApiToken.objects.values_list("used_at", flat=True)) == {None}
    assert bearing(ending).get("/api/v1/events").status_code == 200
    number = ApiToken.objects.get(token_hash=access.token_hash(ending)).pk
    used = ApiToken.objects.get(pk=number).used_at
    assert used is not None
    assert bearing(ending).get("/api/v1/events").status_code == 200
    assert ApiToken.objects.get(pk=number).used_at == used, "to the hour, not at each use"
    ApiToken.objects.filter(pk=number).update(expires_at=timezone.now() - DAY)
    assert bearing(ending).get("/api/v1/events").json()["code"] == "seat-ended"
    mine = ApiToken.objects.get(token_hash=access.token_hash(kept)).pk
    with pytest.raises(errors.NotFound):
        api_tokens.revoke(access.viewer_of(other), mine)
    assert bearing(kept).get("/api/v1/events").status_code == 200
    api_tokens.revoke(access.viewer_of(user), mine)
    assert bearing(kept).get("/api/v1/events").json()["code"] == "token-invalid"
    transitions = [r["decision"]["transition"] for r in recorded()]
    assert transitions[0].startswith("removed: name nightly")
    assert "refused" in transitions
    assert kept not in json.dumps(recorded(), default=str)
    with pytest.raises(errors.AccessInvalid):
        token_of(user, expires_at=timezone.now() + 400 * DAY)
    with pytest.raises(errors.AccessDenied, match="people make their own"):
        api_tokens.make(ADA, user, api_tokens.Wanted(name="as her"))


def test_the_commands_change_seats_tokens_and_sources_through_the_same_records(
    store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("user", "add", "dana@shop.example", "--role", "security", "--datasource", "orders-prod")
    ends = f"{timezone.now() + DAY:%Y-%m-%dT%H:%M}"
    scope = ("--datasource", "orders-prod", "--expires", ends)
    call_command("token", "add", "dana@shop.example", "--name", "laptop", *scope)
    token = capsys.readouterr().out.split()[-1]
    assert access.viewer_of_token(token).datasources == ("orders-prod",)
    call_command("token", "list")
    number = capsys.readouterr().out.split("\t")[0]
    call_command("token", "revoke", number)
    call_command("source", "add", "shop", "--format", "events", "--environment", "prod", "--asserts", "actor")
    call_command("source", "revoke", "shop")
    call_command("user", "close", "dana@shop.example")
    call_command("user", "list")
    assert "dana@shop.example\tSecurity · orders-prod\tclosed" in capsys.readouterr().out
    said = [(r["decision"]["subject"], r["decision"]["transition"].split(":")[0]) for r in reversed(recorded())]
    assert said == [
        ("user dana@shop.example", "added"), (f"token {number} of dana@shop.example", "added"),
        (f"token {number} of dana@shop.example", "removed"), ("source shop", "added"), ("source shop", "removed"),
        ("user dana@shop.example", "changed"),
    ]  # fmt: skip
    assert recorded()[1]["decision"]["transition"] == (
        "removed: format events; environment prod; database any; asserts actor; context_roles nothing"
    )


def test_sign_in_is_put_off_after_ten_tries_for_an_address_and_recorded(store: str) -> None:
    user, other = story.person(), story.person("eve@audit.example")
    client = Client()
    tries = [client.post("/accounts/login/", {"username": user.email, "password": f"guess {n}"}) for n in range(12)]
    assert [t.status_code for t in tries] == [401] * 10 + [429] * 2
    assert 0 < int(tries[-1]["Retry-After"]) <= 15 * 60
    right = {"username": user.email, "password": story.PASSWORD}
    assert client.post("/accounts/login/", right).status_code == 429, "the right password is put off too"
    assert Client().post("/accounts/login/", right | {"username": other.email}).status_code == 302
    assert noticed() == [f"{user.email}: sign-in refused: the password is another one, or the seat is closed"] * 10 + [
        f"{user.email}: sign-in put off: too many tries",
        f"{other.email}: signed in by password",
    ]
    SignInAttempt.objects.update(at=timezone.now() - dt.timedelta(minutes=16))
    assert client.post("/accounts/login/", right).status_code == 302
    assert not any(story.PASSWORD.encode() in bytes(key) for key in SignInAttempt.objects.values_list("key", flat=True))


def test_tries_from_one_place_are_put_off_whatever_addresses_they_name_and_name_nobody_unknown(
    store: str, settings: Any
) -> None:
    settings.TRUSTED_PROXIES = 1
    client, outside = Client(), {"x-forwarded-for": "203.0.113.9, 198.51.100.7"}
    story.person()
    now = timezone.now()
    from lineage import sign_in

    key = sign_in._key("address", "198.51.100.7")
    SignInAttempt.objects.bulk_create(SignInAttempt(key=key, at=now) for _ in range(49))
    right = {"username": story.person("dana@audit.example").email, "password": story.PASSWORD}
    for _ in range(2):
        assert client.post("/accounts/login/", right, headers=outside).status_code == 302, "who comes in does not count"
    asked = {"username": "hunter2@nowhere.example", "password": "x\0y"}
    assert client.post("/accounts/login/", asked, headers=outside).status_code == 401
    assert client.post("/accounts/login/", asked, headers=outside).status_code == 429
    elsewhere = {"x-forwarded-for": "203.0.113.9, 198.51.100.8"}
    assert client.post("/accounts/login/", asked, headers=elsewhere).status_code == 401
    assert all("hunter2" not in line for line in noticed())
    assert len([line for line in noticed() if "signed in" not in line]) == 3
    assert noticed()[:2] == ["dana@audit.example: signed in by password"] * 2
