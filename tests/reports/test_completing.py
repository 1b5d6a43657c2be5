"""The page on completeness and accuracy: computed from a real store, each line from what the log holds."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from lineage import checkpoints, queries, segments
from lineage.events import Custody, Event, HeaderCount
from lineage.health import commit_counts
from lineage.ledger import record
from lineage.models import Source
from reports import completing, evidence, outcomes, standing, unshown
from reports.evidence import Evidence, Request
from reports.models import Status
from tests.reports import made
from tests.reports.made import access, silent, write
from tests.reports.test_issuing import AUDITOR, DAY, NEXT, STRANGER, Shop, shop

__all__ = ["shop"]
pytestmark = pytest.mark.slow


def collected(tmp_path: Path, name: str = "inputs") -> Evidence:
    checkpoints.checkpoint()
    return evidence.collect(AUDITOR, Request("privileged-access", DAY, NEXT, "prod"), tmp_path / name)


def test_the_counts_that_the_log_committed_to_are_held_against_what_is_found(shop: Shop, tmp_path: Path) -> None:
    assert collected(tmp_path, "before").completeness["commitments"]["not_yet"] == 10
    segments.seal()
    assert commit_counts() is not None
    found = collected(tmp_path).completeness["commitments"]
    assert (found["commitments"], found["accesses"], found["not_yet"], found["differing"]) == (1, 10, 0, 0)
    forged = (HeaderCount(source_id="log", class_="ddl", count=7),)
    record(Event(kind="custody", custody=Custody(type="count_commitment", first="0", last="4", count=7, counts=forged)))
    against = collected(tmp_path, "forged")
    assert against.completeness["commitments"]["differing"] > 0
    status, reasons = standing.state(against)
    assert status == Status.BLOCKED
    assert reasons[-1].endswith("counts of records that the log committed to are not borne out by what is found.")


def test_statements_are_held_against_captured_changes_only_where_there_is_change_capture(
    shop: Shop, tmp_path: Path
) -> None:
    Source.objects.create(name="log2", format="postgres-csvlog", environment="prod", datasource="ledger")
    shop.numbers["log2"] = 0
    shop.log = Source.objects.get(name="log2")
    shop.statement("update entries set x = 1", 20, "update", xid="90", rows={"affected": 5})
    found = collected(tmp_path)
    match = found.completeness["reconciliation"]
    assert (match["agree"], match["reported_more"], match["without_second"]) == (2, 0, 1)
    assert standing.contradictions(found) == []
    shop.log = Source.objects.get(name="log")
    shop.statement("update customers set email = ''", 21, "update", xid="91", rows={"affected": 5})
    against = collected(tmp_path, "more")
    assert standing.contradictions(against) == [
        "In 1 transactions the statements report more rows than were captured as changes."
    ]
    by_source = {one["source"]: one for one in against.completeness["fields_by_source"]}
    assert by_source["log2"]["of"] == 1
    assert sum(one["of"] for one in by_source.values()) == against.completeness["fields"][0]["of"]
    nothing = queries.completeness(STRANGER, DAY, NEXT)
    assert (nothing["fields_by_source"], nothing["hearing"], nothing["gateway"]["sessions"]) == ([], [], 0)


def test_sessions_of_the_gateway_and_canaries_are_counted_on_both_sides(shop: Shop, tmp_path: Path) -> None:
    name = f"{'ab' * 8}-{int(DAY.timestamp()) + 36_000}"
    gate = Source.objects.create(name="gate", format="gateway", environment="prod", datasource="orders")
    person: dict[str, Any] = {"id": "dana@shop.example", "type": "human"}
    told = {"session_id": "g-1", "db_session_id": "s-dana", "actor": person}
    shop.send(gate, 30, kind="session", session={"phase": "start"}, **told)
    untold = standing.contradictions(collected(tmp_path, "untold"))
    assert untold[-1] == "Sessions of the gateway of which the server's log tells statements and the gateway none: 1."
    shop.send(gate, 30, kind="query", op="read", verdict="allowed", **told)
    own = {"session_id": "g-2", "db_session_id": "s-gw", "actor": {"id": "gateway gw", "type": "system"}}
    shop.send(gate, 30, kind="session", session={"phase": "start"}, **own)
    shop.statement("explain (format json) delete from customers", 31, "delete", "gw")
    for source in (shop.wal, shop.state):
        shop.send(source, 31, kind="custody", custody={"type": "canary", "subject": source.name, "detail": name})
    assert standing.contradictions(collected(tmp_path)) == []
    found = collected(tmp_path, "again").completeness
    assert found["gateway"]["sessions"] == 2
    assert found["gateway"]["statements"] == 1
    shop.statement("explain (analyze, format json) delete from customers", 32, "delete", "gw")
    assert standing.contradictions(collected(tmp_path, "not its own work"))[-1].endswith("the gateway none: 1.")
    assert (found["canaries"]["captured"], found["canaries"]["logged"], found["canaries"]["both"]) == (1, 0, 0)


def test_outages_are_listed_with_their_end_cause_and_what_arrived_later(tmp_path: Path) -> None:
    later = made.START + dt.timedelta(minutes=30)
    outages = [silent(later, None, arrived=None, state="weakened", cause="pgaudit.log: all → none")]
    outages.append(silent(made.START, later, arrived=3, cause="<b>log</b> is silent"))
    found = made.made(tmp_path / "inputs", [access(1)], hearing=[made.heard("log", "statements", outages=outages)])
    told = completing.section(found)["outages"]
    assert [(one["state"], one["from_at"], one["to_at"], one["arrived"]) for one in told] == [
        ("silent", "2026-11-20 10:00:00", "2026-11-20 10:30:00", 3),
        ("weakened", "2026-11-20 10:30:00", "not over", "–"),
    ]
    assert told[0]["cause"] == "<b>log</b> is silent"


def test_what_cannot_be_shown_is_counted_in_all_accesses_and_among_the_items_tested(tmp_path: Path) -> None:
    population = [
        access(1, attribution="none"),
        write(2, attribution="none", client_ip=None),
        write(3, opaque=True, transaction_id=None, **{"class": "write"}),
        write(4, attribution="none", verdict="blocked"),
        access(5, db_user="root"),
    ]
    unknown = {"unattributed": 3, "opaque": 1, "reads_without_key": 2, "writes_without_transaction": 1}
    roles = [made.role("root", "superuser")]
    found = made.made(tmp_path / "inputs", population, unknown=unknown, roles=roles)
    words = dict(unshown.UNKNOWN)
    told = {
        one["words"]: (one["count"], one["items"]) for one in unshown.lines(found, outcomes.evaluate(found).outcomes)
    }
    assert told == {
        words["unattributed"]: (3, 1),
        words["opaque"]: (1, 1),
        words["reads_without_key"]: (2, None),
        words["writes_without_transaction"]: (1, 1),
        words["superuser"]: (1, 1),
    }


def test_records_say_how_late_they_came(shop: Shop, tmp_path: Path) -> None:
    sources = {one["name"]: one for one in collected(tmp_path).completeness["sources"]}
    assert 0 < sources["log"]["lag_ms_half"] <= sources["log"]["lag_ms_95"] <= sources["log"]["lag_ms_most"]
