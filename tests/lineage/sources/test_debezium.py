"""Debezium: envelopes, types, keys, positions, and that no record is ever a reason to stop."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import pytest

from lineage.events import Event, Quarantined, Skipped
from tests.lineage.sources.golden import one, parse

SOURCE: dict[str, Any] = {
    "version": "3.2.0.Final", "connector": "postgresql", "name": "shop", "ts_ms": 1795225772009, "snapshot": "false",
    "db": "shop", "sequence": "[\"30000000\",\"30408704\"]", "ts_us": 1795225772009748, "ts_ns": 1795225772009748000,
    "schema": "public", "table": "customers", "txId": 779, "lsn": 30408704, "xmin": None,
}  # fmt: skip
UPDATE: dict[str, Any] = {
    "before": {"id": 4711, "email": "old@shop.example", "note": None},
    "after": {"id": 4711, "email": "new@shop.example", "note": "__debezium_unavailable_value"},
    "source": SOURCE, "op": "u", "ts_ms": 1795225772400,
    "transaction": {"id": "779:30408704", "total_order": 1, "data_collection_order": 1},
}  # fmt: skip
KEYS = ["public.customers:id"]
FIELDS = [
    {"type": "int32", "optional": False, "field": "id"},
    {"type": "bytes", "optional": True, "name": "org.apache.kafka.connect.data.Decimal", "version": 1,
     "parameters": {"scale": "2", "connect.decimal.precision": "10"}, "field": "total"},
    {"type": "int64", "optional": True, "name": "io.debezium.time.MicroTimestamp", "version": 1, "field": "made_at"},
    {"type": "int32", "optional": True, "name": "io.debezium.time.Date", "version": 1, "field": "due"},
    {"type": "bytes", "optional": True, "field": "seal"},
    {"type": "boolean", "optional": True, "field": "paid"},
    {"type": "string", "optional": True, "name": "io.debezium.data.Json", "version": 1, "field": "extra"},
    {"type": "struct", "optional": True, "name": "io.debezium.data.VariableScaleDecimal", "version": 1, "field": "rate"},
    {"type": "double", "optional": True, "field": "weight"},
]  # fmt: skip
ROW = {
    "id": 7, "total": base64.b64encode((-12345).to_bytes(2, "big", signed=True)).decode(), "made_at": 1795225772009748,
    "due": 20778, "seal": "3q2+7w==", "paid": True, "extra": '{"a": 1}', "rate": {"scale": 3, "value": "MDk="}, "weight": 0.1,
}  # fmt: skip
WITH_SCHEMA = {
    "schema": {"type": "struct", "name": "shop.public.orders.Envelope", "fields": [
        {"type": "struct", "fields": FIELDS, "optional": True, "field": "before"},
        {"type": "struct", "fields": FIELDS, "optional": True, "field": "after"},
    ]},
    "payload": {"before": None, "after": ROW, "source": {**SOURCE, "table": "orders"}, "op": "c", "ts_ms": 1795225772400},
}  # fmt: skip
CLOUD = {
    "id": "name:shop;lsn:30408704;txId:779", "source": "/debezium/postgresql/shop", "specversion": "1.0",
    "type": "io.debezium.connector.postgresql.DataChangeEvent", "time": "2026-11-21T01:49:32.400Z", "datacontenttype": "application/json",
    "iodebeziumop": "u", "iodebeziumconnector": "postgresql", "iodebeziumname": "shop", "iodebeziumdb": "shop",
    "iodebeziumschema": "public", "iodebeziumtable": "customers", "iodebeziumtxid": "779", "iodebeziumlsn": "30408704",
    "iodebeziumtsms": "1795225772009", "data": {"before": UPDATE["before"], "after": UPDATE["after"]},
}  # fmt: skip
CLAIM = {
    "op": "m", "ts_ms": 1795225772400, "source": {**SOURCE, "schema": "", "table": ""},
    "message": {"prefix": "touchstone", "content": base64.b64encode(b'{"actor": "dana@shop.example"}').decode()},
}  # fmt: skip


def of(record: Any, **options: Any) -> Any:
    return one("debezium", json.dumps(record).encode(), **{"key": KEYS, **options})


def but(record: dict[str, Any], *path: str, to: Any) -> dict[str, Any]:
    changed = copy.deepcopy(record)
    holder = changed
    for name in path[:-1]:
        holder = holder[name]
    holder[path[-1]] = to
    return changed


def shown(image: Any) -> dict[str, Any]:
    return {v.column: v.value if v.state == "present" else v.state for v in image}


def test_an_update_has_its_row_key_images_and_transaction() -> None:
    found = of(UPDATE)
    assert (found.kind, found.op, found.class_, found.verdict) == ("change", "update", "write", "allowed")
    assert (found.resources[0].schema, found.resources[0].relation, found.database) == ("public", "customers", "shop")
    assert [(k.column, k.value) for k in found.key] == [("id", "4711")]
    assert shown(found.before) == {"id": "4711", "email": "old@shop.example", "note": "null"}
    assert shown(found.after) == {"id": "4711", "email": "new@shop.example", "note": "unchanged"}
    assert found.changed_columns == ("email",)
    assert (found.transaction.id, found.transaction.position, found.transaction.outcome) == (
        "779",
        "0/1D00000",
        "committed",
    )
    assert (found.occurred_at, found.occurred_at_quality) == ("2026-11-21T01:49:32.009748Z", "source")
    assert (found.datasource, found.db_system, found.actor) == ("shop", "postgresql", None)


def test_with_a_schema_values_have_their_types_and_without_one_they_stay_as_written() -> None:
    typed = of(WITH_SCHEMA, key=["public.orders:id"])
    assert shown(typed.after) == {
        "id": "7", "total": "-123.45", "made_at": "2026-11-21 01:49:32.009748", "due": "2026-11-21", "seal": "\\xdeadbeef",
        "paid": "true", "extra": '{"a": 1}', "rate": "12.345", "weight": "0.1",
    }  # fmt: skip
    assert {v.column: v.type for v in typed.after}["total"] == "org.apache.kafka.connect.data.Decimal"
    bare = of({**WITH_SCHEMA["payload"]}, key=["public.orders:id"])
    assert shown(bare.after)["total"] == ROW["total"]
    assert shown(bare.after)["rate"] == '{"scale":3,"value":"MDk="}'
    assert all(v.type is None for v in bare.after)


def test_numbers_keep_every_digit() -> None:
    raw = json.dumps(UPDATE).replace("4711", "123456789012345678901234567890.10")
    assert one("debezium", raw.encode(), key=KEYS).key[0].value == "123456789012345678901234567890.10"


def test_a_cloud_event_tells_the_same_as_the_plain_record() -> None:
    plain, cloud = of(UPDATE), of(CLOUD)
    for field in ("op", "key", "before", "after", "changed_columns", "database", "datasource", "resources"):
        assert getattr(plain, field) == getattr(cloud, field), field
    assert cloud.transaction.id == "779"
    assert cloud.occurred_at == "2026-11-21T01:49:32.009000Z"


def test_under_the_default_replica_identity_what_was_is_unknown_and_not_null() -> None:
    gone = of({**UPDATE, "op": "d", "after": None, "before": {"id": 4711, "email": None, "note": None}})
    assert shown(gone.before) == {"id": "4711", "email": "unavailable", "note": "unavailable"}
    assert gone.changed_columns == ()
    moved = of({**UPDATE, "before": {"id": 1, "email": None, "note": None}})
    assert [(k.value) for k in moved.old_key] == ["1"]
    assert moved.changed_columns == ()


def test_without_a_declared_key_the_row_is_unknown_and_nulls_before_are_too() -> None:
    found = of(UPDATE, key=[])
    assert (found.key, found.changed_columns) == ((), ())
    assert shown(found.before)["note"] == "unavailable"
    forwarded = of({"key": {"id": 4711}, "value": UPDATE}, key=[])
    assert [k.value for k in forwarded.key] == ["4711"]


def test_a_text_that_only_looks_like_the_placeholder_is_a_value_where_another_is_set() -> None:
    found = of(UPDATE, unavailable="#none#")
    assert shown(found.after)["note"] == "__debezium_unavailable_value"
    assert shown(of(but(UPDATE, "after", "note", to="#none#"), unavailable="#none#").after)["note"] == "unchanged"
    assert shown(of(but(UPDATE, "after", "note", to=["__debezium_unavailable_value"])).after)["note"] == "unchanged"


def test_a_snapshot_read_is_no_access_and_belongs_to_no_transaction() -> None:
    found = of({**UPDATE, "op": "r", "before": None, "source": {**SOURCE, "snapshot": "last"}})
    assert (found.op, found.class_, found.transaction) == ("snapshot", "read", None)


def test_a_truncate_names_its_table_and_no_row() -> None:
    found = of({**UPDATE, "op": "t", "before": None, "after": None})
    assert (found.op, found.resources[0].relation, found.key, found.before) == ("truncate", "customers", (), ())


def test_a_context_message_is_a_claim_and_another_programs_is_skipped() -> None:
    claim = of(CLAIM)
    assert (claim.kind, claim.command, claim.actor.id, claim.transaction.id) == (
        "query", "CONTEXT MESSAGE", "dana@shop.example", "779",
    )  # fmt: skip
    assert "claim" in claim.flags
    assert isinstance(of(but(CLAIM, "message", "prefix", to="_bemi")), Skipped)


@pytest.mark.parametrize(
    "body",
    [b"null", b'{"schema": {}, "payload": null}', b'{"status": "BEGIN", "id": "779:1", "ts_ms": 1}',
     b'{"status": "END", "id": "779:2", "event_count": 3, "data_collections": []}', b'{"ts_ms": 1795225772400}'],
)  # fmt: skip
def test_tombstones_transaction_boundaries_and_heartbeats_are_answered_and_not_stored(body: bytes) -> None:
    assert isinstance(one("debezium", body), Skipped)


def test_two_deliveries_of_one_change_are_the_same_and_two_rows_of_one_position_are_not() -> None:
    first = of(UPDATE)
    again = of({**UPDATE, "ts_ms": 1795225999999, "source": {**SOURCE, "sequence": '[null,"30408704"]'}})
    assert (again.source_event_id, again.origin.sha256) == (first.source_event_id, first.origin.sha256)
    other = of(but(UPDATE, "after", "id", to=4712))
    assert other.source_event_id != first.source_event_id
    assert of({**UPDATE, "unknown_member": 1}).origin.sha256 != first.origin.sha256


def test_other_databases_are_placed_by_their_own_positions() -> None:
    mysql = {"connector": "mysql", "name": "m", "db": "shop", "table": "orders", "ts_ms": 0, "gtid": "3e11:7", "file": "binlog.000003",
             "pos": 154, "row": 0, "thread": 7, "query": "UPDATE orders SET paid = 1"}  # fmt: skip
    found = of({**UPDATE, "source": mysql})
    assert (found.transaction.id, found.transaction.position, found.db_session_id) == (
        "3e11:7",
        "binlog.000003:154:0",
        "7",
    )
    assert (found.statement.text, found.occurred_at_quality) == ("UPDATE orders SET paid = 1", "processing_time")
    assert found.changed_columns == ("email", "note") or found.changed_columns == ("email",)
    mongo = {
        "connector": "mongodb",
        "name": "m",
        "db": "shop",
        "collection": "orders",
        "ts_ms": 1795225772009,
        "ord": 1,
    }
    found = of({"op": "u", "before": None, "after": '{"_id": 7, "paid": true}', "source": mongo,
                "updateDescription": {"updatedFields": '{"paid": true}', "removedFields": ["due"]}})  # fmt: skip
    assert ([k.value for k in found.key], found.changed_columns) == (["7"], ("paid", "due"))
    ddl = of({"source": {**mysql, "table": ""}, "databaseName": "shop", "ddl": "ALTER TABLE orders ADD note text",
              "tableChanges": [{"type": "ALTER", "id": '"shop"."orders"'}], "ts_ms": 1795225772400})  # fmt: skip
    assert (ddl.kind, ddl.op, ddl.resources[0].relation, ddl.database) == ("query", "ddl", "orders", "shop")


def test_hostile_records_are_each_answered_for_and_none_is_lost() -> None:
    deep = b'{"op": "c", "after": ' + b"[" * 10_000 + b"]" * 10_000 + b"}"
    good = json.dumps(UPDATE).encode()
    doubled = good[:-1] + b', "op": "d"}'
    outputs = parse(
        "debezium",
        b"\n".join([good, deep, b'{"op": NaN}', b'{"op": "\xff"}', doubled, b"[1]", b"7", good[:40]]),
        key=KEYS,
    )
    assert [type(o) for o in outputs] == [Event] + [Quarantined] * 7
    assert outputs[1].body == deep
    assert one("debezium", b"\xff\xfe not json").code == "not-json"
    assert one("debezium", b"[" * 10_000).code == "not-json"
    assert parse("debezium", b"") == []


def test_a_value_of_a_megabyte_a_nul_and_a_clock_an_hour_off_are_kept_and_said() -> None:
    long = of(but(UPDATE, "after", "email", to="x" * 1_000_000))
    assert {v.column: v.state for v in long.after}["email"] == "truncated"
    assert "truncated" in long.flags
    nul = of(but(UPDATE, "after", "email", to="a\0b"))
    assert shown(nul.after)["email"] == "a\u2400b"
    assert "nul_removed" in nul.flags
    late = of(but(UPDATE, "source", "ts_ns", to=1795225772009748000 + 3600 * 10**9))
    assert late.occurred_at == "2026-11-21T02:49:32.009748Z"
    assert of(but(UPDATE, "source", "ts_ns", to=10**40)).occurred_at == "2026-11-21T01:49:32.009748Z"
