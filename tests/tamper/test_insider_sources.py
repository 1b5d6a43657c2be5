"""The insider between the sources and the log: drops, stops, invents, resends, reorders, dates back, floods."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import msgspec
import pytest
from django.test import Client

from lineage import access, checkpoints, engine, errors, health, ingest, ledger, packfile, queries, segments, tree
from lineage.commitment import parse_leaf
from lineage.events import Event, HeaderCount, format_time
from lineage.models import Source
from tests.lineage.test_health import LONG_AGO, Shop, findings, told
from tests.tamper.insider import ADMIN, Insider, failed, faults, judged, pack, policy

pytestmark = pytest.mark.slow

HOUR = dt.timedelta(hours=1)


def look(later: dt.timedelta = HOUR) -> int:
    return health.look(LONG_AGO, dt.datetime.now(dt.UTC) + later)


def found(rule: str) -> list[str]:
    return [item["sentence"] for item in queries.findings(ADMIN).items if item["rule"] == rule]


# drops items before they are numbered


def test_an_item_dropped_on_its_way_in_leaves_a_gap_in_the_sources_numbers(insider: Insider) -> None:
    insider.number += 2  # two items that the source sent and the insider did not pass on
    insider.add(1)
    assert look(dt.timedelta(0)) == 0
    assert look() == 1
    assert found("gap") == ["A gap in what shop reports: shop: 2 of the items numbered 7 to 8 did not arrive."]


def test_an_item_taken_out_of_the_database_after_its_receipt_is_a_gap_and_a_broken_promise(insider: Insider) -> None:
    insider.add(2)
    insider.act("delete from ledger_journal j using ledger_batch b where b.batch = j.batch and b.first_index = 6")
    insider.act("delete from ledger_batch where first_index = 6")
    insider.act("update ledger_head set size = 6")
    insider.sign()
    look(dt.timedelta(0))
    look()
    assert found("gap") == ["A gap in what shop reports: shop: 2 of the items numbered 7 to 8 did not arrive."]
    assert failed(pack("index:>=0"), policy(), receipts=tuple(insider.receipts)) == (1, ["receipts"])


def test_from_a_source_without_numbers_and_receipts_nobody_misses_it(insider: Insider) -> None:
    insider.add(1, sequence=None)
    insider.number += 1
    insider.add(1, sequence=None)
    assert look() == 0


def test_a_gap_that_the_keeper_was_made_to_forget_is_counted_again_from_the_leaves(insider: Insider) -> None:
    insider.number += 2
    insider.add(1)
    look(dt.timedelta(0))
    insider.act("delete from coverage_missing")
    assert look() == 0
    checkpoints.checkpoint()
    leaves = packfile.read(pack("source:shop index:>=0")).leaves
    assert [parse_leaf(leaf).sequence for leaf in leaves.values()] == [1, 2, 3, 4, 5, 6, 9]


# stops accepting, or stops a source


def test_a_source_that_is_stopped_is_silent_and_goes_on_with_a_gap(insider: Insider) -> None:
    health.beat(insider.source, last_sequence=6, position="", reported_at=dt.datetime.now(dt.UTC))
    assert look(dt.timedelta(0)) == 0
    assert look() == 1
    assert "shop is silent since" in found("silence")[0]
    insider.number += 40
    insider.add(1)
    look()
    look(2 * HOUR)
    assert "40 of the items numbered 7 to 46 did not arrive." in found("gap")[0]


# invents records


def test_records_that_no_source_sent_have_no_counterpart_and_no_number(store: str) -> None:
    shop = Shop()
    shop.state(1)
    for name, fields in (
        ("wal", {"kind": "change", "op": "update", "transaction": {"id": "801", "outcome": "committed"},
                 "resources": [{"schema": "public", "relation": "orders"}], "key": [{"column": "id", "value": "1"}]}),
        ("log", {"kind": "query", "op": "update", "command": "UPDATE", "transaction": {"id": "802", "vid": "3/7"},
                 "actor": {"db_user": "bob"}, "db_session_id": "s1", "correlation_id": "s1/7.1", "rows": {"affected": 1},
                 "resources": [{"schema": "public", "relation": "orders"}],
                 "statement": {"text": "update orders set v = 1", "state": "whole"}}),
    ):  # fmt: skip
        base = {"source_event_id": f"invented-{name}", "occurred_at": shop.at(10), "occurred_at_quality": "source",
                "database": "shop", "verdict": "allowed"}  # fmt: skip
        entry = ingest.admit(shop.sources[name], msgspec.convert(base | fields, Event))
        assert isinstance(entry, ledger.Entry)
        ledger.append(shop.sources[name].pk, [entry])
    shop.later()
    shop.look()
    assert "Transaction 801 changed 1 rows of public.orders" in findings()["changes-without-statement"][0]
    assert "bob wrote 1 rows of public.orders" in findings()["rows-not-captured"][0]
    with engine.Question() as question:
        unnumbered = question.rows(
            "select index from raw_events where sequence is null and kind in ('change', 'query')"
        )
    assert [row["index"] for row in unnumbered] == [1, 2]


# resends or reorders


def test_an_item_that_comes_again_has_its_first_place_and_with_other_content_stands_beside_it(insider: Insider) -> None:
    insider.source.token_hash = access.token_hash("tsi_shop")
    insider.source.save()
    door = Client(headers={"authorization": "Bearer tsi_shop"})

    def post(text: str) -> dict[str, Any]:
        item = {"kind": "query", "op": "read", "source_event_id": "once", "occurred_at": "2026-11-21T04:00:00.000000Z",
                "statement": {"text": text, "state": "whole"}}  # fmt: skip
        return dict(door.post("/api/v1/ingest/events", json.dumps([item]), content_type="application/json").json())

    first, again, other = post("select 1"), post("select 1"), post("select 2")
    assert (first["accepted"], again["duplicate"], other["conflict"]) == (1, 1, 1)
    assert again["items"][0]["index"] == first["items"][0]["index"] == 6
    assert other["items"][0]["index"] == 7
    assert set(found("conflict")) == {"shop sent two different records under one id; both are kept."}


def test_records_reordered_before_or_after_their_checkpoint_do_not_stand_where_they_were_promised(
    insider: Insider,
) -> None:
    row = ("leaf", "actor", "actor_salt", "action", "action_salt", "statement", "statement_salt")
    insider.add(2)
    insider.swap(6, 7, *row)
    checkpoints.checkpoint()
    assert faults() == ""
    code, states, said = judged(pack("index:>=6"), policy(), receipts=tuple(insider.receipts))
    assert (code, states["receipts"], states["disclosures"]) == (1, "fail", "pass")
    assert "Promised but missing: place 6" in said["receipts"]
    insider.swap(1, 2, *row)
    assert "The checkpoint of 6 does not match the stored records." in faults()
    assert insider.refused(segments.seal) == "log-rewritten"


# backdates


def test_a_source_whose_clock_is_wrong_is_a_finding(insider: Insider) -> None:
    insider.add(1, occurred_at=format_time(dt.datetime.now(dt.UTC) + HOUR))
    assert found("clock-skew") == ["The clock of shop is wrong."]
    health.beat(insider.source, last_sequence=7, position="", reported_at=dt.datetime.now(dt.UTC) - HOUR)
    look(dt.timedelta(0))
    assert [custody["transition"] for custody in told("clock_skew")] == ["begins"]


# floods the log


def test_a_flood_is_cut_into_batches_and_counted_by_source(insider: Insider) -> None:
    size = tree.head()
    item = {"kind": "query", "op": "read", "occurred_at": "2026-11-21T04:00:00.000000Z"}
    flood = Source.objects.create(name="flood", format="events", environment="prod", datasource="orders")
    many = [item | {"source_event_id": str(n)} for n in range(10_001)]
    with pytest.raises(errors.BodyTooLarge):
        ingest.accept(flood, json.dumps(many).encode())
    assert tree.head() == size
    ingest.accept(flood, json.dumps(many[:300]).encode())
    checkpoints.checkpoint()
    segments.seal()
    assert health.commit_counts() is not None
    (custody,) = told("count_commitment")
    said = {(c.source_id, c.class_): c.count for c in msgspec.convert(custody["counts"], tuple[HeaderCount, ...])}
    assert said == {("flood", "read"): 300, ("shop", "read"): 6}
