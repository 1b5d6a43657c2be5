"""jsonlog, against csvlog of the same server."""

import hashlib

import msgspec

from lineage.events import Event, Quarantined
from tests.lineage.sources import golden
from tests.lineage.sources.golden import one, only_events, parse

RECORD = {
    "timestamp": "2026-11-21 04:35:20.553 UTC", "user": "alice", "dbname": "shop", "pid": 10065, "remote_host": "127.0.0.1",
    "remote_port": 34164, "session_id": "6b011f88.2751", "line_num": 13, "vxid": "3/65", "txid": 743,
    "error_severity": "LOG", "message": "AUDIT: SESSION,8,1,READ,SELECT,TABLE,public.customers,select 1,<none>,1",
    "application_name": "psql", "backend_type": "client backend",
}  # fmt: skip


def as_json(**changes) -> bytes:
    return msgspec.json.encode({**RECORD, **changes})


def test_csvlog_and_jsonlog_of_one_server_give_the_same_events():
    for name in ("postgresql-15", "prefix-full"):
        from_csv = parse("postgres-csvlog", golden.read(f"{name}.csv"))
        from_json = parse("postgres-jsonlog", golden.read(f"{name}.json"))
        assert [type(output) for output in from_csv] == [type(output) for output in from_json]
        for one_, other in zip(from_csv, from_json, strict=True):
            if isinstance(one_, Event):
                assert msgspec.structs.replace(one_, origin=None) == msgspec.structs.replace(other, origin=None)


def test_invalid_utf8_of_an_sql_ascii_database_is_kept_and_flagged():
    found = [e for e in only_events("postgres-jsonlog", golden.read("prefix-full.json")) if "invalid_utf8" in e.flags]
    assert [e.statement.text for e in found] == ["select 'caf\ufffd \ufffd';"]


def test_a_key_that_comes_twice_is_flagged_and_the_bytes_are_what_is_hashed():
    raw = as_json()[:-1] + b',"user":"mallory"}'
    event = one("postgres-jsonlog", raw)
    assert "doubled_key" in event.flags
    assert event.origin.sha256 == hashlib.sha256(raw).hexdigest()


def test_nul_is_replaced_visibly():
    event = one("postgres-jsonlog", as_json(user="ali\0ce"))
    assert (event.actor.db_user, event.flags) == ("ali\u2400ce", ("nul_removed",))


def test_the_order_of_keys_and_spaces_do_not_change_the_hash():
    spaced = msgspec.json.format(as_json(), indent=1).replace(b"\n", b"")
    backwards = msgspec.json.encode(dict(reversed(RECORD.items())))
    assert len({one("postgres-jsonlog", raw).origin.sha256 for raw in (as_json(), spaced, backwards)}) == 1


def test_a_feed_carries_the_object_or_its_bytes():
    outputs = parse(
        "postgres-jsonlog", golden.feed_of([RECORD, as_json().replace(b"select 1", b"select '\xff'")]), feed=True
    )
    assert [output.flags for output in outputs] == [(), ("invalid_utf8",)]
    assert [output.origin.position for output in outputs] == ["log:1", "log:2"]


def test_a_torn_last_line_is_quarantined_and_the_others_are_read():
    outputs = parse("postgres-jsonlog", as_json() + b"\n" + as_json()[:200])
    assert isinstance(outputs[0], Event)
    assert isinstance(outputs[1], Quarantined)
    assert outputs[1].body == as_json()[:200]


def test_a_forged_record_is_a_finding():
    event = one("postgres-jsonlog", as_json(statement="do $$ begin raise log 'AUDIT: …'; end $$"))
    assert (event.kind, event.custody.type) == ("custody", "finding")


def test_members_of_another_type_do_no_harm():
    event = one("postgres-jsonlog", as_json(user=5, dbname=["x"], remote_port="x", txid=12345678901234567890))
    assert (event.actor.db_user, event.database, event.client.port) == ("5", None, None)
    assert event.transaction.id == "12345678901234567890"


def test_deep_nesting_and_other_json_are_quarantined():
    deep = as_json()[:-1] + b',"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    codes = [output.code for output in parse("postgres-jsonlog", deep + b"\n[1]\n{}")]
    assert codes == ["too-deep", "not-an-object", "not-a-log-record"]
