"""A report over many accesses freezes those that its tests can be about, and says the same as one that froze them all."""

from __future__ import annotations

import datetime as dt
import random
import threading
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lineage import checkpoints, engine, errors, events, health, ingest, ledger, queries
from lineage.access import Viewer
from lineage.events import Event
from lineage.models import Identity, Source, SourceHealth, Tag
from reports import completing, controls, evidence, outcomes
from reports.evidence import Evidence, Request
from reports.models import Report
from reports.outcomes import Result
from tests.reports import test_issuing
from tests.reports.test_issuing import shop as shop

pytestmark = pytest.mark.slow
DAY = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)
NEXT = DAY + dt.timedelta(days=1)
AUDITOR = Viewer(email="audit@example.test", role="auditor")
ACTORS: tuple[dict[str, Any], ...] = (
    {"id": "dana@x", "type": "human", "db_user": "dana"},
    {"db_user": "root"},
    {"db_user": "shop_app"},
    {"id": "shop", "type": "service", "db_user": "shop_app"},
    {"id": "bot", "type": "agent", "db_user": "shop_app"},
    {},
)
DONE = (("read", "SELECT"), ("insert", "INSERT"), ("update", "UPDATE"), ("truncate", "TRUNCATE"), ("ddl", "ALTER TABLE"),
        ("privilege", "GRANT"), ("export", "COPY"), ("procedural", "DO"), ("read", "SET ROLE"))  # fmt: skip
KINDS = ("privileged-access", "change-management", "approvals", "agents", "sensitive-data", "log-coverage", "integrity")
TABLES = ("customers", "orders", "audit")


def said(random_: random.Random, number: int) -> dict[str, Any]:
    """One record of the day; some are parts of one statement by several, some of one transaction with row changes."""
    op, command = random_.choices(DONE, weights=(30, 4, 4, 1, 1, 1, 1, 1, 1))[0]
    one: dict[str, Any] = {
        "source_event_id": f"e{number}",
        "occurred_at": events.format_time(DAY + dt.timedelta(seconds=1000 + number)),
        "kind": "query", "op": op, "command": command, "verdict": random_.choice(("allowed", "allowed", "blocked", "error")),
        "actor": random_.choice(ACTORS), "datasource": random_.choice(("orders", "people")), "db_session_id": f"s{number % 9}",
        "resources": [{"schema": "public", "relation": random_.choice(TABLES), "columns": random_.choice(([], ["email"], ["id"]))}],
    }  # fmt: skip
    if one["actor"].get("type") == "agent" or random_.random() < 0.05:
        one |= {"agent": {"id": "bot", "name": "Bot"}} | ({"on_behalf_of": {"id": "dana@x"}} if number % 2 else {})
    if random_.random() < 0.5:
        one["correlation_id"] = f"c{random_.randrange(120)}"
    if random_.random() < 0.6:
        one["transaction"] = {"id": str(random_.randrange(60)), "outcome": "committed"}
    if random_.random() < 0.1:
        one["ticket"] = f"OPS-{random_.randrange(4)}"
    if random_.random() < 0.2:
        image = [{"column": "id", "value": str(number)}]
        one |= {
            "kind": "change",
            "op": "update",
            "command": None,
            "verdict": "allowed",
            "key": image,
            "before": image,
            "after": image,
        }
    return one


def send(source: Source, said: list[dict[str, Any]]) -> None:
    entries = [ingest.admit(source, msgspec.convert(each, Event)) for each in said]
    kept = [entry for entry in entries if isinstance(entry, ledger.Entry)]
    assert len(kept) == len(said)
    ledger.append(source.pk, kept)


@pytest.fixture
def day(store: str) -> None:
    """Seven hundred accesses of two databases, with roles, an owner, a classified column, tickets, and who answers for logins."""
    make = Source.objects.create
    log = make(name="log", format="events", environment="prod", asserts=["actor", "approval"])
    state = make(name="state", format="pgstate", environment="prod", datasource="orders")
    roles = [
        {"name": "root", "login": True, "superuser": True},
        {"name": "shop_app", "login": True},
        {"name": "keys", "login": False},
    ]
    keys = [{"schema": "public", "relation": "audit", "columns": ["id"], "owner": "root"}]
    send(
        state,
        [
            {
                "source_event_id": "roles",
                "occurred_at": events.format_time(DAY),
                "kind": "state",
                "state": {"roles": roles, "keys": keys},
            }
        ],
    )
    approvals = [
        {
            "source_event_id": f"d{n}", "occurred_at": events.format_time(DAY + dt.timedelta(seconds=n * 400)), "kind": "decision",
            "ticket": f"OPS-{n}", "decision": {"type": "approval", "decided_by": by},
            "approval": {
                "state": "approved", "approvers": [by], "requested_by": "x@x",
                "decided_at": events.format_time(DAY + dt.timedelta(seconds=n * 500)),
            },
        }
        for n, by in enumerate(("eve@x", "dana@x", "eve@x"))
    ]  # fmt: skip
    random_ = random.Random(7)
    send(log, [*approvals, *(said(random_, number) for number in range(700))])
    Tag.objects.create(
        datasource="orders", relation="public.customers", column="email", classes=["personal"], by="eve@x"
    )
    Identity.objects.create(
        datasource="orders",
        db_user="shop_app",
        person_id="shop",
        name="Shop",
        type="service",
        as_of="2026-01-01T00:00Z",
    )
    for source in (log, state):
        health.beat(source, last_sequence=0, position="", reported_at=NEXT)
    SourceHealth.objects.update(heartbeat_at=NEXT + dt.timedelta(minutes=1))
    checkpoints.checkpoint()


def made(kind: str, folder: Path) -> tuple[Evidence, Result]:
    found = evidence.collect(AUDITOR, Request(kind, DAY, NEXT), folder)
    return found, outcomes.evaluate(found)


def rows_of(found: Evidence) -> int:
    return sum(each["n"] for each in engine.over(found.tables, evidence.BY_CLASS).to_pylist())


def test_over_what_its_tests_can_be_about_a_report_says_the_same_as_over_all(
    day: None, tmp_path: Path, settings: Any
) -> None:
    fewer = 0
    for kind in KINDS:
        settings.REPORT_WHOLE = 10_000
        whole, every = made(kind, tmp_path / f"{kind}-whole")
        settings.REPORT_WHOLE = 10
        narrow, some = made(kind, tmp_path / f"{kind}-narrow")
        needs_all = any(test.members is None for test in narrow.request.tests)
        assert (whole.completeness["narrowed"], narrow.completeness["narrowed"]) == (False, not needs_all)
        assert rows_of(whole) == every.counts["accesses"] == some.counts["accesses"] > 600
        assert narrow.completeness["accesses"] == whole.completeness["accesses"]
        for one, other in zip(every.outcomes, some.outcomes, strict=True):
            assert pq.read_table(one.answer.path).equals(pq.read_table(other.answer.path)), one.test.id
            assert (one.test, one.counts(), one.sample) == (other.test, other.counts(), other.sample)
        lines = completing.left_out(narrow)
        assert sum(line["left_out"] for line in lines) == rows_of(whole) - rows_of(narrow)
        fewer += rows_of(narrow) < rows_of(whole)
    assert fewer > 4


def test_a_report_that_would_hold_too_much_is_refused_with_what_to_do(day: None, tmp_path: Path, settings: Any) -> None:
    most = evidence.ITEMS_MOST
    assert (
        evidence.items_most(controls.asked("approvals", ""))
        == evidence.items_most(controls.asked("agents", ""))
        == most
    )
    assert evidence.items_most(controls.asked("change-management", "")) == evidence.ITEMS_MOST_IN_PARTS > most
    assert evidence.narrowing(controls.asked("agents", ""), settings.REPORT_WHOLE) is None
    assert evidence.narrowing(controls.asked("integrity", ""), most * 2) == []
    with pytest.raises(
        errors.QueryTooLong, match=r"Non-human identities needs all.*shorter period, or fewer databases"
    ):
        evidence.narrowing(controls.asked("agents", ""), most + 1)
    with pytest.raises(errors.QueryTooLong, match="shorter"):
        evidence.write_batches(iter([table(0), table(3)]), tmp_path / "some.parquet", 2)


def test_completeness_that_was_refused_beside_the_population_is_asked_again_by_itself(
    day: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete, asked = queries.completeness, []

    def refused_first(*given: Any, **more: Any) -> dict[str, Any]:
        asked.append(threading.current_thread())
        if len(asked) == 1:
            raise errors.QueryTooLong
        return complete(*given, **more)

    request = Request("privileged-access", DAY, NEXT)
    expected = evidence.collect(AUDITOR, request, tmp_path / "first").completeness
    monkeypatch.setattr(queries, "completeness", refused_first)
    assert evidence.collect(AUDITOR, request, tmp_path / "second").completeness == expected
    assert [one is threading.current_thread() for one in asked] == [False, True]


def table(rows: int) -> pa.Table:
    return pa.table({"index": list(range(rows))})


def test_a_file_of_what_its_tests_can_be_about_is_checked_as_any_other(shop: test_issuing.Shop, settings: Any) -> None:
    settings.REPORT_WHOLE = 2
    test_issuing.test_each_kind_is_issued_signed_and_its_tests_run_again_from_the_file(shop, "privileged-access")
    (report,) = Report.objects.all()
    assert report.counts["population"] < report.counts["accesses"]
