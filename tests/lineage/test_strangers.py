"""Who gets what at every address: a viewer of another team, a seat that has ended, nobody, and each role (docs/access.md)."""

from __future__ import annotations

import datetime as dt
import io
import json
import re
import zipfile
from collections.abc import Iterator
from typing import Any

import pyarrow.parquet as pq
import pytest
from django.db import connection
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from lineage import access, checkpoints, erasures, holds, ingest, mappings, rechecks, saved, tagging, tree
from lineage.finding_models import Finding
from lineage.findings import judging, receivers
from lineage.models import ApiToken, GatewaySession, User
from reports import schedules
from reports.models import Report, Status
from tests import addresses, story
from tests.addresses import ADDRESSES, EVERYBODY, OPEN, READERS, SOURCE, Address
from tests.lineage import desk

pytestmark = pytest.mark.slow

WORD = "zqxjv"
"""Stands in every name, key, statement, address and ticket of the one team; no random token holds it."""
WANDA = {
    "id": f"{WORD}-wanda",
    "name": f"{WORD} Wanda",
    "email": f"{WORD}-wanda@a.example",
    "type": "human",
    "db_user": f"{WORD}w",
}
ZOE = {"id": "zoe@hr.example", "name": "Zoe", "type": "human", "db_user": "zoe"}
BOT = {"id": f"{WORD}-bot", "name": f"{WORD}-bot", "type": "agent"}
HOME, TABLE = f"{WORD}-orders", f"public.{WORD}_payments"
STRANGER, EXPIRED = "stranger@hr.example", "expired@audit.example"
ELSEWHERE = "elsewhere@hr.example"
"""Narrowed by environment alone."""
FORGETTER = f"{WORD}-carla@a.example"


def furnish(now: dt.datetime) -> dict[str, Any]:
    """Two teams' databases; what the first has of everything that has an address, by the names that the paths use."""
    feed = story.source(f"{WORD}-feed", f"{WORD}-env", HOME)
    update = f"update {TABLE} set note = '{WORD}' where id = '{WORD}-9'"
    more = {
        "transaction": {"id": "801"},
        "ticket": f"{WORD}-42",
        "purpose": f"{WORD} refund",
        "agent": {"id": BOT["id"], "name": BOT["name"], "run_id": f"{WORD}-run"},
    }
    index, *_ = story.send(
        feed,
        story.query("q1", now, WANDA, update, "update", rows={"affected": 1}, **more),
        story.query("q2", now, WANDA, f"select * from {TABLE} where id = '{WORD}-9'", "read", rows={"returned": 1}),
        story.change("c1", now, WANDA, f"{WORD}_payments", f"{WORD}-9", "update", before={"note": WORD}, after={"note": "2"}, **more),
        story.query("q3", now, WANDA, f"select * from public.{WORD}_salaries", "read", verdict="blocked",
                    error={"code": "42501", "message": f"permission denied for {WORD}_salaries"}),
        {"kind": "decision", "source_event_id": "d1", "ticket": f"{WORD}-42",
         "decision": {"type": "approval", "subject": WANDA["id"], "decided_by": f"{WORD}-lea@a.example"},
         "approval": {"request_id": f"{WORD}-42", "state": "approved", "approvers": [f"{WORD}-lea@a.example"],
                      "requested_by": WANDA["id"], "reason": f"{WORD} refund"}},
    )  # fmt: skip
    story.send(
        story.source("hr", "production", "hr-prod"), story.query("z1", now, ZOE, "select * from public.staff", "read")
    )
    ingest.accept(feed, json.dumps([{"kind": WORD}]).encode())
    checkpoints.checkpoint()
    return {
        "index": index, "session": f"{HOME}~s-{WANDA['id']}", "identity": WANDA["id"], "datasource": HOME, "relation": TABLE,
        "key": f"{WORD}-9", "run": f"{WORD}-run", "item": asked("select id from ledger_quarantine"), "size": tree.head(),
        "check": rechecks.ask(access.Viewer("root@command-line", "admin")), "report": _report(now),
        "schedule": _schedule(), **_desk(), **_forgetting(),
    }  # fmt: skip


def asked(sql: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return int(cursor.fetchone()[0])


def _report(now: dt.datetime) -> int:
    return Report.objects.create(
        kind="privileged-access", period_from=now, period_to=now, datasources=[HOME], status=Status.FAILED,
        reasons=[f"{WORD} failed"], created_by=FORGETTER,
    ).pk  # fmt: skip


def _schedule() -> int:
    made = schedules.add(
        access.Viewer(FORGETTER, "compliance"),
        f"{WORD} monthly",
        "privileged-access",
        "monthly",
        scope=(f"{WORD}-env", (HOME,)),
    )
    return made.pk


def _desk() -> dict[str, Any]:
    """A gateway of the first team with a live session and a held statement."""
    desk.source(f"{WORD}-gate", f"{WORD}-env", HOME)
    there = {"datasource": HOME, "environment": f"{WORD}-env", "database": f"{WORD}-shop"}
    place = desk.database(name=f"{WORD}-shop", datasource=HOME, environment=f"{WORD}-env")
    live = desk.live(
        f"{WORD}-s",
        actor=BOT,
        on_behalf_of={name: WANDA[name] for name in ("id", "name", "email", "type")},
        agent=None,
        **there,
    )
    held = desk.hold(
        f"{WORD}-req", session_id=f"{WORD}-s", requested_by=BOT["id"], on_behalf_of=WANDA["id"], agent="", ticket=f"{WORD}-42",
        statement=f"delete from {TABLE}", redacted=f"delete from {TABLE}", effects=[], **there,
    )  # fmt: skip
    answer = desk.post(f"{WORD}-gate", gateway=f"{WORD}-gw", databases=[place], sessions=[live], held=[held])
    assert answer.status_code == 200, answer.content
    return {"live": GatewaySession.objects.get().pk, "held": f"{WORD}-req", "place": f"{WORD}-shop"}


def _forgetting() -> dict[str, Any]:
    carla = access.viewer_of(story.person(FORGETTER, "compliance", datasources=[HOME]))
    mappings.establish(carla, HOME, f"{WORD}-rw", mappings.Person(f"{WORD}-rita"), None, f"{WORD} register")
    tagging.establish(carla, HOME, TABLE, f"{WORD}_note", "email", f"{WORD} addresses")
    hold = holds.add(carla, f"relation:{WORD}_salaries", f"{WORD} lawsuit")
    asked = erasures.request(carla, f"relation:{TABLE}", ["change"], reason=f"{WORD} asked", ground="Article 17")
    kept = saved.save(
        carla,
        {
            "name": f"{WORD} refunds",
            "q": f"ticket:{WORD}-42",
            "by": "event",
            "since": "",
            "until": "",
            "environment": "",
        },
        True,
    )
    receivers.establish(access.Viewer("root@command-line", "admin"), {
        "name": f"{WORD} pager", "kind": "mail", "address": f"{WORD}@a.example", "severity": "low", "is_on": True,
        "datasources": [HOME],
    }, "on call")  # fmt: skip
    judging.judge(timezone.now() + dt.timedelta(minutes=10))
    finding = Finding.objects.filter(datasource=HOME).order_by("id").values_list("id", flat=True)[0]
    return {"finding": finding, "hold": hold, "erasure": asked.number, "saved": kept.pk, "ticket": f"{WORD}-42"}


@pytest.fixture(scope="module")
def made(shared_store: str) -> dict[str, Any]:
    """One store for all: what is refused changes nothing, and what is read adds records of reads alone."""
    found = furnish(timezone.now())
    for role in EVERYBODY:
        story.person(f"{role}@everybody.example", role)
    story.person(STRANGER, "admin", datasources=["hr-prod"], environments=["production"])
    story.person(ELSEWHERE, "admin", environments=["production"])
    story.person(EXPIRED, "admin", ends_at=timezone.now() - dt.timedelta(days=1))
    for user in User.objects.all():
        ApiToken.objects.create(user=user, token_hash=access.token_hash(user.email))
    carla = User.objects.get(email=FORGETTER)
    return found | {"seat": carla.pk, "token": ApiToken.objects.get(user=carla).pk}


def filled(value: Any, made: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {name: filled(one, made) for name, one in value.items()}
    return value.format(**made) if isinstance(value, str) else value


def asks(email: str, address: Address, made: dict[str, Any]) -> Any:
    """The answer to somebody: by token at the API, signed in on pages, as nobody for ""."""
    client = Client()
    if email and address.is_api:
        client = Client(headers={"authorization": f"Bearer {email}"})
    elif email:
        client.force_login(User.objects.get(email=email))
    path = address.path.format(**made)
    if address.post is None:
        return client.get(path)
    body = filled(address.post, made)
    return (
        client.post(path, json.dumps(body), content_type="application/json")
        if address.is_api
        else client.post(path, body)
    )


def said(answer: Any) -> str:
    """All that an answer tells, headers too; ZIP and Parquet files opened."""
    body = answer.getvalue()
    if body[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(body)) as files:
            body = b"\n".join(name.encode() + files.read(name) for name in files.namelist())
    if body[:4] == b"PAR1":
        body = json.dumps(pq.read_table(io.BytesIO(body)).to_pylist(), default=str).encode()
    return (body.decode("utf-8", "replace") + str(answer.headers)).lower()


def routes(patterns: Any, before: str = "") -> Iterator[str]:
    for one in patterns:
        if isinstance(one, URLResolver):
            yield from routes(one.url_patterns, before + str(one.pattern))
        elif isinstance(one, URLPattern):
            yield before + str(one.pattern)


def needs_a_viewer(address: Address) -> bool:
    return address.kind not in (OPEN, SOURCE)


def stands_alone(address: Address) -> bool:
    return needs_a_viewer(address) and not address.is_again


def for_each(kinds: Any = needs_a_viewer) -> Any:
    return pytest.mark.parametrize("address", [a for a in ADDRESSES if kinds(a)], ids=str)


def test_every_address_stands_in_the_table_with_what_it_is() -> None:
    there = set(routes(get_resolver().url_patterns))
    told = {address.route for address in ADDRESSES}
    assert there - told == set(), "add a line to tests/addresses.py for these"
    assert told - there == set(), "these are no addresses any more: take their lines out of tests/addresses.py"


@for_each()
def test_a_viewer_of_another_team_finds_no_object_and_reads_no_word(made: dict[str, Any], address: Address) -> None:
    answer = asks(STRANGER, address, made)
    assert answer.status_code in address.expected, said(answer)[:600]
    text = said(answer)
    for name in re.findall(r"[?&]\w+=\{(\w+)\}", address.path):
        text = text.replace(str(made[name]).lower(), "")  # said back to who asked for it
    if address.route == "account/":
        text = text.split("what you read lately")[0]  # below stands what the stranger asked above, in their own words
    assert WORD not in text, text[max(0, text.find(WORD) - 200) : text.find(WORD) + 200]


BY_DATABASE = (
    "logins/",
    "tables/<name:datasource>/<name:relation>/tags/",
    "databases/",
    "tables/",
    "findings/",
    "connect/",
)


def test_a_viewer_of_another_environment_reads_no_word_of_what_is_kept_by_database(made: dict[str, Any]) -> None:
    for address in (a for a in ADDRESSES if a.route in BY_DATABASE):
        answer = asks(ELSEWHERE, address, made)
        assert answer.status_code in address.expected, (str(address), said(answer)[:300])
        assert WORD not in said(answer), str(address)
    tag = {"column": "x", "classes": "email", "reason": "r"}
    login = {"datasource": HOME, "db_user": "x", "person": "x", "type": "human", "reason": "r"}
    for route, post in ((BY_DATABASE[1], tag), ("logins/", login)):
        path = "/tables/{datasource}/{relation}/tags/" if post is tag else "/logins/"
        assert asks(ELSEWHERE, addresses.at(route, path, post=post), made).status_code == 404
    assert asked(f"select count(*) from lineage_tag where datasource = '{HOME}'") == 1
    assert asked(f"select count(*) from lineage_identity where datasource = '{HOME}'") == 1


@for_each(
    lambda a: (
        stands_alone(a) and a.kind != addresses.SHARED and a.post is None and not a.stranger and "compliance" in a.roles
    )
)
def test_what_a_stranger_does_not_get_is_there_for_its_own_team(made: dict[str, Any], address: Address) -> None:
    answer = asks(FORGETTER, address, made)
    if address.path in ("/reports/{report}/file.json", "/reports/{report}/privileged-access.csv"):
        return  # it failed, so it has no file
    assert answer.status_code == 200, said(answer)[:600]
    assert address.kind == addresses.LIST or WORD in said(answer)


@for_each()
def test_a_seat_that_has_ended_and_nobody_get_nothing(made: dict[str, Any], address: Address) -> None:
    for email, why in ((EXPIRED, "seat-ended"), ("", "")):
        answer = asks(email, address, made)
        if answer.status_code == 302:
            assert answer["Location"].startswith("/accounts/login/")
            assert ("why=seat-ended" in answer["Location"]) == bool(why)
        else:
            assert answer.status_code == 401, said(answer)[:300]
            assert not why or answer.json()["code"] == why
        assert WORD not in said(answer).replace("%20", "").split("location")[0]


@for_each(stands_alone)
def test_each_role_gets_what_the_page_on_access_says(made: dict[str, Any], address: Address) -> None:
    for role in EVERYBODY:
        if role in address.roles and (address.post is not None or (role in READERS and role != "operator")):
            continue  # done for real in the tests of that deed; what an auditor reads is asked above
        answer = asks(f"{role}@everybody.example", address, made)
        if role not in address.roles:
            assert answer.status_code == 403, (role, answer.status_code)
            assert WORD not in said(answer)
        else:
            assert answer.status_code not in (401, 403, 500), (role, said(answer)[:300])


@for_each(lambda a: a.kind == SOURCE)
def test_what_sources_send_is_not_taken_from_a_viewers_token(made: dict[str, Any], address: Address) -> None:
    before = tree.head()
    for email in (STRANGER, "admin@everybody.example", ""):
        assert asks(email, address, made).status_code in (400, 401)
    assert tree.head() == before


@for_each(lambda a: a.kind == OPEN)
def test_what_is_open_to_all_names_nobody(made: dict[str, Any], address: Address) -> None:
    answer = asks("", address, made)
    assert answer.status_code in (address.stranger or (200, 302))
    assert WORD not in said(answer)
