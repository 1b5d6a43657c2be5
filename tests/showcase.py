"""Every page, and a store in which each of them has something to show: for looking at them and for checks that hold for all."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

from django.test import Client

from lineage import access, erasures, holds, ingest, mappings, rechecks, saved, tagging
from lineage.access import Viewer
from lineage.findings import judging, receivers, triage
from lineage.models import ApiToken, Source, User
from lineage.search import questions
from reports import periods, recipients, review_plans, schedules
from reports.models import Delivery, Report, Status
from reports.review_models import Act, SignOff
from reports.review_plans import Step
from tests import story
from tests.lineage import desk

READER, ADMIN, KEEPER = "alice@audit.example", "ada@admin.example", "carla@compliance.example"
PAGES = {
    "overview": "/",
    "first-time": "/overview/first/?since=24h",
    "search": "/search",
    "search-records": "/search?q=relation:customers",
    "search-rows": "/search?q=relation:customers&by=touch",
    "search-sessions": "/search?q=dana&by=session",
    "search-identities": "/search?q=op:read&by=identity",
    "search-tables": "/search?q=op:*&by=relation",
    "search-quarter": f"/search/quarter/?quarter={questions.quarter_of(dt.datetime.now(dt.UTC)).name}",
    "search-saved": "/search/saved/",
    "search-nothing": "/search?q=relation:nowhere",
    "search-fault": "/search?q=relatoin:x",
    "sessions": "/sessions/",
    "session": "/sessions/orders-prod~s-omar@shop.example/",
    "session-long": "/sessions/orders-prod~s-orders-api/",
    "identities": "/identities/",
    "identity": "/identities/dana@shop.example/",
    "agent": "/identities/report-bot/",
    "tables": "/tables/",
    "table": "/tables/orders-prod/public.payments/",
    "row": "/tables/orders-prod/public.payments/rows/9001/",
    "row-read": "/tables/orders-prod/public.customers/rows/4711/",
    "tags": "/tables/orders-prod/public.customers/tags/",
    "databases": "/databases/",
    "findings": "/findings/",
    "findings-all": "/findings/?state=all",
    "finding": "/findings/1/",
    "finding-rules": "/findings/rules/",
    "finding-receivers": "/findings/receivers/",
    "approvals": "/approvals/",
    "held": "/approvals/held/req-1/",
    "reports": "/reports/",
    "report-verify": "/reports/verify/",
    "report-new": "/reports/new/?kind=privileged-access&from=2026-01-01&to=2027-01-01",
    "integrity": "/integrity/",
    "erasures": "/integrity/erasures/",
    "record": "/events/1/",
    "live": "/sessions/live/",
    "live-session": "/sessions/live/1/",
    "guardrails": "/guardrails/",
    "guardrails-try": "/guardrails/try/",
    "guardrails-version": "/guardrails/0/",
    "connect": "/connect/",
    "saved": "/search/saved/",
    "quarter": "/search/quarter/",
    "run": "/runs/run-7/",
    "touched": "/touched/?identity=report-bot",
    "undo": "/undo/?identity=omar@shop.example",
    "lineage-record": "/lineage/record/2/",
    "lineage-ticket": "/lineage/ticket/OPS-42/",
    "checkpoints": "/integrity/checkpoints/",
    "gaps": "/integrity/gaps/",
    "quarantine": "/integrity/quarantine/",
    "pack": "/integrity/pack/",
    "checkpoint": "/integrity/checkpoints/156/",
    "quarantine-item": "/integrity/quarantine/1/",
    "recheck": "/integrity/checks/1/",
    "erasure": "/integrity/erasures/1/",
    "report": "/reports/1/",
    "report-failed": "/reports/2/",
    "schedules": "/reports/schedules/",
    "schedule": "/reports/schedules/1/",
    "report-calendar": "/reports/calendar/",
    "report-awaiting": "/reports/3/",
    "sign-offs": "/reports/sign-off/",
    "saved-change": "/search/saved/1/",
    "lineage-session": "/lineage/session/orders-prod~s-omar@shop.example/",
    "lineage-row": "/lineage/row/orders-prod/public.payments/rows/9001/",
    "logins": "/logins/",
    "account": "/account/",
    "access-sources": "/access/sources/",
    "access": "/access/",
    "access-seat": "/access/seats/1/",
    "access-tokens": "/access/tokens/",
    "sign-in": "/accounts/login/?why=seat-ended",
    "preferences": "/preferences/",
    "unknown-page": "/nowhere",
    "refused-window": "/?since=yesterday-ish",
}
"""Name to address; a new page stands here too (tests/browser/test_craft_in_browser.py)."""
ADMIN_PAGES = (
    "held",
    "live",
    "live-session",
    "guardrails",
    "guardrails-try",
    "erasures",
    "approvals",
    "reports",
    "report-awaiting",
    "sign-offs",
    "finding",
    "finding-rules",
    "finding-receivers",
    "access",
    "access-seat",
    "access-tokens",
    "access-sources",
    "account",
    "logins",
    "quarantine-item",
    "recheck",
    "erasure",
    "tags",
    "databases",
    "schedules",
    "schedule",
)
"""Pages that show an administrator more than a reader."""
NO_PAGES = {
    "overview/live/": "a part of the overview, fetched again",
    "sessions/live/rows/": "a part of the live sessions",
    "approvals/live/": "a part of the approvals",
    "integrity/seal/": "a part of the bar above every page",
    "integrity/checks/<int:number>/live/": "a part of a check",
    "search/complete": "JSON for the search box",
    "search/export": "a file",
    "undo/script.sql": "a file",
    "integrity/quarantine/<int:number>/bytes": "a file",
    "reports/policy": "a file",
    r"reports/^(?P<report_id>\d+)/file\.(?P<form>pdf|json|zip)$": "a file",
    "reports/<int:report_id>/<slug:test_id>.csv": "a file",
    "accounts/openid/": "leads to the provider",
    "accounts/openid/callback/": "leads on from the provider",
    "checkpoint": "a signed note",
    "tile/<path:name>": "hashes",
    "tile/entries/<path:name>": "leaves",
    "log/key": "a key",
    "healthz": "for machines",
    "readyz": "for machines",
    "metrics": "for machines",
    "api/schema": "for machines",
}
"""Addresses that are read and yet show no page of their own, and why."""


def people() -> None:
    """An auditor, an administrator and compliance, who see everything."""
    story.person(READER)
    story.person(ADMIN, "admin")
    story.person(KEEPER, "compliance")


def tell(now: dt.datetime) -> dict[str, int]:
    """The story with a gateway, two live sessions and two held statements beside it."""
    names = story.tell(now)
    carla = Viewer(KEEPER, "compliance")
    for column in ("email", "phone"):
        tagging.establish(carla, "orders-prod", "public.customers", column, "contact", "how to reach people")
    ada = Viewer(ADMIN, "admin")
    webhook = {
        "name": "on call",
        "kind": "webhook",
        "address": "http://127.0.0.1:9/x",
        "severity": "low",
        "is_on": True,
    }
    receivers.establish(ada, webhook, "on call wants to know")
    judging.judge(now + dt.timedelta(minutes=1))
    triage.establish(ada, 1, "owner", ADMIN, "")
    triage.establish(ada, 2, "verdict", "accepted", "planned in CHG-7")
    nightly = {"name": "Agents, last day", "q": "type:agent", "by": "event", "since": "24h"}
    saved.save(Viewer(READER, "auditor"), nightly, is_shared=True)
    desk.source()
    desk.exchange(
        sessions=[desk.live(), desk.live("s-2", purpose="month end")],
        held=[desk.hold(), desk.hold("req-2", in_transaction=True)],
    )
    keep(now)
    return names


def keep(now: dt.datetime) -> None:
    """What has a page of its own beside the records: a bad item, a check, an erasure, reports, a token, a login."""
    desk_source = Source.objects.get(name="desk")
    bad = {"kind": "quary", "occurred_at": "yesterday", "actor": {"id": "dana@shop.example"}}
    ingest.accept(desk_source, json.dumps([bad]).encode())
    ada, carla = Viewer(ADMIN, "admin"), Viewer(KEEPER, "compliance")
    rechecks.ask(ada)
    erasures.request(
        carla, "relation:customers key:4711", ["change"], reason="The customer asked", ground="GDPR Article 17"
    )
    holds.add(carla, "relation:salaries", "Lawsuit 7 O 114/26")
    mappings.establish(carla, "orders-prod", "rita_rw", mappings.Person("rita@shop.example"), None, "login register")
    start = (now - dt.timedelta(days=30)).replace(hour=0, minute=0, second=0, microsecond=0)
    asked: dict[str, Any] = {"kind": "privileged-access", "period_from": start, "period_to": now, "created_by": READER}
    Report.objects.create(**asked)
    Report.objects.create(**asked, status=Status.FAILED, reasons=["The store had no room for the file."])
    sign_off(now, asked)
    plan(now)
    ApiToken.objects.create(
        user=User.objects.get(email=READER),
        name="nightly export",
        token_hash=access.token_hash("shown"),
        expires_at=now + dt.timedelta(days=90),
    )


def plan(now: dt.datetime) -> None:
    """Schedules with what was due for a while: done, failed, waiting and left out; one that is paused."""
    carla = Viewer(KEEPER, "compliance")
    berlin = periods.rhythm("weekly", "Europe/Berlin")
    weekly = schedules.add(carla, "Privileged, every week", "privileged-access", "weekly", rhythm=berlin,
                           scope=("production", ("orders-prod",)), now=now - dt.timedelta(days=70))  # fmt: skip
    schedules.queue_due(now)
    made = list(Report.objects.filter(schedule=weekly).order_by("period_to"))
    for at, report in enumerate(made[:-1]):
        report.status = Status.FAILED if at == 3 else Status.DRAFT if at == 5 else Status.FINAL
        report.issued_at = report.period_to + dt.timedelta(days=4 if at == 6 else 1)
        report.reasons = [
            "" if report.status == Status.FINAL else "Source log was last heard before the period's end."
        ][: at in (3, 5)]
        report.save()
    monthly = schedules.add(
        carla, "Changes, every month", "change-management", "monthly", now=now - dt.timedelta(days=95)
    )
    schedules.pause(carla, monthly.pk)
    recipients.add(carla, weekly.pk, READER, attaches=True)
    recipients.add(carla, weekly.pk, "on call", attaches=False)
    Delivery.objects.create(
        report=made[0], recipient=recipients.of(weekly)[0], message_id="msg_4c1d", tries=1, answer="taken by the mail server",
        next_at=now, told_at=now,
    )  # fmt: skip
    Delivery.objects.create(
        report=made[0],
        recipient=recipients.of(weekly)[1],
        message_id="msg_77ab",
        tries=2,
        answer="HTTP 503",
        next_at=now,
        body="{}",
    )


def sign_off(now: dt.datetime, asked: dict[str, Any]) -> None:
    """What is asked for, and a report that one has signed, that waits late for the next, and then for a third."""
    sam = story.person("sam@shop.example", "security")
    steps = (Step("preparer", KEEPER, 2), Step("owner", ADMIN, 5, sam.email))
    review_plans.establish(
        Viewer(ADMIN, "admin"), "privileged-access", None, steps, if_empty=True, reason="SOC 2, CC4.1"
    )
    report = Report.objects.create(
        **asked, status=Status.AWAITING, issued_at=now - dt.timedelta(days=6), sha256="5e" * 32
    )
    common = {"report": report, "plan_by": ADMIN, "signed_in": {"by": "openid", "issuer": "https://idp.example", "subject": "u-17",
              "methods": "pwd, otp"}}  # fmt: skip
    SignOff.objects.create(
        **common, position=1, part="preparer", person=KEEPER, due_at=now - dt.timedelta(days=4), act=Act.SIGNED, acted_by=KEEPER,
        acted_at=now - dt.timedelta(days=5), words="I looked at each of the 3 deviations and asked the people named.",
        seen_sha256="a1" * 32, sha256="5e" * 32,
    )  # fmt: skip
    SignOff.objects.create(
        **common, position=2, part="owner", person=ADMIN, second=sam.email, due_at=now - dt.timedelta(days=1),
        escalated_at=now - dt.timedelta(hours=20),
    )  # fmt: skip
    SignOff.objects.create(
        **common,
        position=3,
        part="approver",
        person="dana@shop.example",
        barred=["dana@shop.example"],
        due_at=now + dt.timedelta(days=3),
    )


def thousand(now: dt.datetime) -> None:
    """A thousand records more, of an hour."""
    busy = story.source("busy", datasource="orders-prod")
    sql = "SELECT id, total FROM public.orders WHERE id = {}"
    for start in range(0, 1000, 250):
        items: list[dict[str, Any]] = [
            story.query(
                f"t{n}", now - dt.timedelta(seconds=n * 3), story.API, sql.format(n), "read", rows={"returned": 1}
            )
            for n in range(start, start + 250)
        ]
        story.send(busy, *items)


ODD = {
    "markup": '=HYPERLINK("http://evil.example")<script>alert(1)</script><img src=x onerror=alert(2)>"; drop table x; --\'&',
    "signs": "\u202eשלום\u202c مرحبا\u2067 a\x00b\x1b[31m\x07 \U0001f9e8\U0001f469\u200d\U0001f469\u200d\U0001f467",
    "long": "unbroken" * 120,
}
"""Formula, markup, script and quotes; writing from right to left, NUL, control signs and emoji; one word without end."""
ODD_PLACE = "odd place"
WIDE_COLUMNS = 500
WHOLE_STATEMENT = 64 * 1024


def hostile(now: dt.datetime) -> list[int]:
    """Records that carry hostile text in every field that a source can fill; the indexes of some of every kind."""
    bad = story.source("odd feed", "production", ODD_PLACE)
    indexes = []
    for n, (name, text) in enumerate(ODD.items()):
        actor = {part: text[:200] for part in ("id", "name", "email", "db_user")} | {"type": "human"}
        more = {
            "ticket": text[:200], "purpose": text, "on_behalf_of": {"id": text[:200]}, "agent": {"id": text[:200], "name": text[:200]},
            "client": {"app": text[:100], "ip": text[:40]}, "transaction": {"id": f"{n}{text[:50]}"}, "db_session_id": f"{n}{text[:100]}",
        }  # fmt: skip
        at = now - dt.timedelta(minutes=n + 1)
        indexes += story.send(
            bad,
            story.query(f"{name}-q", at, actor, f"SELECT '{text}'", "read", **more, error={"code": text[:40], "message": text},
                        resources=[{"schema": "public", "relation": text[:100], "columns": [text[:60]]}]),
            story.change(f"{name}-c", at, actor, text[:100], text[:100], "update", before={text[:60]: text},
                         after={text[:60]: text + "x"}, **more),
        )  # fmt: skip
    wide = {f"column_{n}_{'wide' * (n % 9)}": f"{n} ={ODD['signs']}" for n in range(WIDE_COLUMNS)}
    sql = "SELECT '" + "x" * (WHOLE_STATEMENT - 60) + "' FROM public.everything WHERE id = 7"
    indexes += story.send(
        bad,
        story.query("whole", now, story.DANA, sql, "read"),
        story.change(
            "wide", now, story.DANA, "everything", "7", "update", before=wide, after=wide | {"column_0_": "new"}
        ),
    )
    return indexes


def cookie(email: str, address: str) -> dict[str, Any]:
    """The cookie of a signed-in person, for a browser: the true sign-in takes 0.3 s."""
    client = Client()
    client.force_login(User.objects.get(email=email))
    return {"name": "sessionid", "value": client.cookies["sessionid"].value, "url": address}
