"""Decoded logical replication: row images and their states, keys, claims, canaries."""

import base64
import hashlib

import msgspec

from lineage import events
from lineage.events import Event, Quarantined, Skipped
from tests.lineage.sources import golden
from tests.lineage.sources.golden import one, parse

COLUMNS = [{"name": "id", "type": "bigint"}, {"name": "email", "type": "text"}, {"name": "note", "type": "text"}]
RELATION = {"schema": "public", "name": "customers", "replica_identity": "default", "columns": COLUMNS, "key": ["id"]}
UNCHANGED = {"state": "unchanged"}
UNAVAILABLE = {"state": "unavailable"}


def change(kind, **members):
    item = {
        "type": kind,
        "system_identifier": "7301",
        "timeline": 1,
        "database": "shop",
        "xid": 742,
        "commit_lsn": "0/1A2B3C8",
        "commit_at": "2026-11-21T01:49:32.009748Z",
        "ordinal": 3,
        "of": 5,
        "relation": RELATION,
        "old_kind": None,
        "old": None,
        "new": None,
    }
    return {**item, **members}


def message(content: bytes, prefix="touchstone", **members):
    told = {"prefix": prefix, "transactional": True, "content_base64": base64.b64encode(content).decode()}
    return change("message", relation=None, message=told, **members)


def of(item, **options):
    return one("pgoutput", msgspec.json.encode(item), **options)


def values(image):
    return {value.column: value.value if value.state == "present" else value.state for value in image}


def test_an_insert_names_key_row_transaction_and_its_identity():
    event = of(change("insert", new=["4711", "a@b.c", None]))
    assert (event.kind, event.class_, event.op, event.verdict) == ("change", "write", "insert", "allowed")
    assert (values(event.key), values(event.after)) == (
        {"id": "4711"},
        {"id": "4711", "email": "a@b.c", "note": "null"},
    )
    assert (event.before, event.old_key, event.changed_columns) == ((), (), ())
    assert (event.transaction.id, event.transaction.position, event.transaction.outcome) == (
        "742",
        "0/1A2B3C8",
        "committed",
    )
    assert (event.source_event_id, event.occurred_at) == ("7301/1/0/1A2B3C8/3", "2026-11-21T01:49:32.009748Z")
    assert [(r.schema, r.relation, r.access) for r in event.resources] == [("public", "customers", "write")]
    assert event.key[0].type == "bigint"


def test_an_update_with_the_default_identity_does_not_guess_what_changed():
    event = of(change("update", new=["4711", "new", UNCHANGED]))
    assert values(event.after) == {"id": "4711", "email": "new", "note": "unchanged"}
    assert (event.before, event.changed_columns, event.old_key) == ((), (), ())


def test_an_update_with_both_images_names_what_changed():
    event = of(change("update", old_kind="full", old=["4711", "old", "long"], new=["4711", "new", UNCHANGED]))
    assert event.changed_columns == ("email",)
    assert values(event.before)["email"] == "old"


def test_a_changed_key_keeps_the_old_one():
    event = of(change("update", old_kind="key", old=["4711", None, None], new=["4712", "new", "n"]))
    assert (values(event.key), values(event.old_key)) == ({"id": "4712"}, {"id": "4711"})
    assert values(event.before) == {"id": "4711", "email": "unavailable", "note": "unavailable"}


def test_a_delete_by_key_says_that_the_other_columns_are_not_known():
    event = of(change("delete", old_kind="key", old=["4711", UNAVAILABLE, UNAVAILABLE]))
    assert (values(event.key), event.after) == ({"id": "4711"}, ())
    assert values(event.before) == {"id": "4711", "email": "unavailable", "note": "unavailable"}


def test_a_key_that_was_not_sent_again_is_taken_from_the_old_image():
    relation = {**RELATION, "key": ["note"], "replica_identity": "full"}
    event = of(
        change("update", relation=relation, old_kind="full", old=["1", "a", "long key"], new=["1", "b", UNCHANGED])
    )
    assert (values(event.key), event.old_key) == ({"note": "long key"}, ())


def test_a_composite_key_keeps_its_own_order():
    event = of(change("insert", relation={**RELATION, "key": ["email", "id"]}, new=["1", "a", None]))
    assert [value.column for value in event.key] == ["email", "id"]


def test_a_truncate_has_no_row():
    event = of(change("truncate"))
    assert (event.op, event.key, event.before, event.after) == ("truncate", (), (), ())


def test_a_table_without_a_key_has_none():
    assert of(change("insert", relation={**RELATION, "key": []}, new=["1", "a", None])).key == ()


def test_numbers_keep_every_digit():
    event = of(change("insert", new=["12345678901234567890123", "0.10000000000000000001", None]))
    assert values(event.after)["id"] == "12345678901234567890123"
    assert values(event.after)["email"] == "0.10000000000000000001"


def test_a_long_value_is_truncated_to_its_head():
    event = of(change("insert", new=["1", "é" * 20_000, None]))
    assert (event.after[1].state, len(event.after[1].value.encode())) == ("truncated", 1024)
    assert event.flags == ("truncated",)


def test_an_image_beyond_its_limit_loses_its_longest_values_and_keeps_its_key():
    columns = [{"name": f"c{n}", "type": "text"} for n in range(64)]
    relation = {**RELATION, "columns": columns, "key": ["c0"]}
    event = of(change("insert", relation=relation, new=["4711"] + ["x" * (16_000 - n) for n in range(63)]))
    assert sum(len(value.value) for value in event.after) <= events.IMAGE_LIMIT_BYTES
    assert (values(event.key), event.after[63].state, event.after[1].state) == ({"c0": "4711"}, "present", "truncated")


def test_a_value_that_the_collector_cut_is_truncated_and_still_compared():
    head = {"state": "truncated", "value": "abc", "length": 9_000_000, "sha256": "aa"}
    other = {**head, "sha256": "bb"}
    event = of(change("update", old_kind="full", old=["1", head, head], new=["1", other, head]))
    assert (event.changed_columns, event.after[1].state, event.after[1].value) == (("email",), "truncated", "abc")


def test_nul_and_invalid_utf8_are_shown_and_flagged():
    assert of(change("insert", new=["1", "a\0b", None])).after[1].value == "a\u2400b"
    raw = msgspec.json.encode(change("insert", new=["1", "caf?", None])).replace(b"caf?", b"caf\xe9")
    event = one("pgoutput", golden.feed_of([raw]), feed=True)
    assert (event.after[1].value, event.flags) == ("caf\ufffd", ("invalid_utf8",))
    assert event.origin.sha256 == hashlib.sha256(raw).hexdigest()


def test_a_claim_names_person_agent_purpose_and_ticket_and_is_flagged():
    said = {
        "actor": "dana@shop.example",
        "actor_type": "human",
        "on_behalf_of": "ana@shop.example",
        "agent": {"id": "bot", "run_id": "r1"},
        "purpose": "refund",
        "ticket": "OPS-42",
        "session_id": "s1",
    }
    event = of(message(msgspec.json.encode(said)))
    assert (event.kind, event.op, event.command, event.flags) == ("query", "other", "CONTEXT MESSAGE", ("claim",))
    assert (event.actor.id, event.actor.email, event.actor.type) == ("dana@shop.example", "dana@shop.example", "human")
    assert (event.on_behalf_of.id, event.agent.run_id, event.ticket, event.purpose) == (
        "ana@shop.example",
        "r1",
        "OPS-42",
        "refund",
    )
    assert (event.session_id, event.transaction.id, event.statement) == ("s1", "742", None)


def test_a_claim_that_cannot_be_read_is_kept_with_its_text():
    for content in (b"not json", b'{"actor": 5}', b"{}", b"\xff\xfe", b"[" * 100_000):
        event = of(message(content))
        assert event.flags[:2] == ("claim", "claim_unreadable")
        assert event.actor is None
        assert event.statement.length > 0


def test_an_unknown_actor_type_is_not_an_actor_type():
    assert of(message(b'{"actor": "x", "actor_type": "root"}')).actor.type is None


def test_a_canary_comes_back_as_custody():
    event = of(message(b"123e4567", prefix="touchstone_canary", xid=0, commit_at=None))
    assert (event.kind, event.custody.type, event.custody.detail) == ("custody", "canary", "123e4567")
    assert (event.transaction.id, event.occurred_at, event.occurred_at_quality) == (None, None, "unknown")


def test_messages_of_other_programs_are_skipped():
    assert isinstance(of(message(b"{}", prefix="other")), Skipped)


def test_items_against_the_protocol_are_quarantined_without_their_values():
    wrong = [
        change("insert"),
        change("delete"),
        change("insert", new=["secret"]),
        change("insert", new=["1", 5, None]),
        change("insert", relation=None, new=["secret"]),
        change("upsert"),
        change("insert", new=["1", "2", {"state": "secret"}]),
        change("insert", relation={**RELATION, "key": ["nowhere"]}, new=["1", "secret", None]),
        change("insert", commit_at="secret", new=["1", "2", None]),
        change("message", message=None),
        message(b"x") | {"message": {"prefix": "touchstone", "content_base64": "?"}},
        change("insert", system_identifier="7" * 600, new=["1", "2", None]),
        change("insert", commit_at="0001-01-01T00:00:00+14:00", new=["1", "2", "3"]),
        [],
        None,
        5,
    ]
    outputs = parse("pgoutput", msgspec.json.encode(wrong))
    assert [type(output) for output in outputs] == [Quarantined] * len(wrong)
    assert not [output for output in outputs if "secret" in output.reason]
    assert [output.position for output in outputs] == [str(n) for n in range(len(wrong))]


def test_a_doubled_key_is_quarantined():
    raw = msgspec.json.encode(change("insert", new=["1", "2", "3"]))[:-1] + b',"xid":9}'
    assert one("pgoutput", raw).code == "doubled-key"


def test_lines_arrays_single_objects_and_feeds_are_the_same_items():
    items = [change("insert", ordinal=n, new=[str(n), "a", None]) for n in (1, 2)]
    lines = b"\n".join(msgspec.json.encode(item) for item in items)
    bodies = [parse("pgoutput", body) for body in (lines, msgspec.json.encode(items), lines + b"\n\n")]
    bodies.append(parse("pgoutput", golden.feed_of(items), feed=True))
    hashes = [[event.origin.sha256 for event in outputs if isinstance(event, Event)] for outputs in bodies]
    assert hashes == [hashes[0]] * 4
    assert len(set(hashes[0])) == 2
