"""A native item that is written as the model writes it is read at once: the same event and hash as the longer way."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage.events import Event, Quarantined
from lineage.sources import events, feed
from tests.lineage.sources.golden import parse
from tests.lineage.sources.test_native_events import QUERY

FULL = {
    **QUERY, "class": "read", "sequence": 7, "bytes_returned": 0, "flags": ["a"], "purpose": "Ünïcode ✓ and \\ \" \n \x1f",
    "actor": {"email": "dana@shop.example", "type": "human", "roles": ["a", "b"]}, "client": {"ip": "10.0.0.7", "port": 5432},
    "approval": {"state": "approved", "decided_at": "2026-11-21T01:00:00.000000Z"}, "policy": [{"id": "p"}, {}],
    "resources": [{"relation": "orders", "columns": ["id"]}], "error": {"code": "42501"}, "rows": {"returned": 3},
    "statement": {"text": "select 1", "state": "whole"}, "parameters": [{"position": 1, "value": "x"}],
    "after": [{"column": "c", "value": "v"}, {"column": "d", "state": "null"}],
}  # fmt: skip
SESSION = {**QUERY, "kind": "session", "session": {"phase": "start", "mfa": True, "started_at": QUERY["occurred_at"]}}
ODD = [b'"flags":[],', b'"ticket":null,', b'"ticket":"a","ticket":"b",', b'"sequence":1e2,', b'"sequence":1.0,', b'"sequence":-0,',
       b'"ticket":"\\u0041",', b'"ticket":"\\/",', b'"ticket":"\\u0000",', b'"ticket":"\x7f",', b'"ticket":"\xff",', b'"environment":"x",',
       b'"source":{},', b'"unknown":1,', b'"bytes_returned":9007199254740992,', b'"ticket":"\\ud800",', b" ", b'"session":{"phase":"end"},',
       b'"occurred_at":"2026-02-30T01:49:32.009748Z",', b'"occurred_at":"2026-11-21T01:49:32Z",', b'"source_event_id":"",',
       b'"approval":{"decided_at":"2026-02-30T01:49:32.009748Z"},', b'"parameters":[{"position":1,"state":"present"}],']  # fmt: skip


def both(raw: bytes) -> tuple[Event | Quarantined, Event | Quarantined]:
    """What the shorter and the longer way make of an item."""
    item = feed.Item(0, raw)
    return events.event(item, events.straight(raw)), events.event(item)


@pytest.mark.parametrize("members", [QUERY, FULL, SESSION])
@pytest.mark.parametrize("indent", [None, 2])
def test_an_item_in_the_models_form_is_read_at_once_with_and_without_blanks(members, indent):
    compact = msgspec.json.encode(members)
    for raw in (
        compact,
        msgspec.json.format(compact, indent=indent or 0),
        json.dumps(members, ensure_ascii=False).encode(),
    ):
        short, long = both(raw)
        assert isinstance(short, Event)
        assert short == long
        assert events.straight(raw)


@pytest.mark.parametrize("odd", ODD)
def test_an_item_that_is_written_otherwise_is_what_the_longer_way_makes_of_it(odd):
    for members in (QUERY, FULL, SESSION):
        compact = msgspec.json.encode(members)
        raw = b"{" + odd + compact[1:]
        short, long = both(raw)
        assert short == long


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_changed_item_is_what_the_longer_way_makes_of_it(data):
    raw = bytearray(msgspec.json.encode(data.draw(st.sampled_from([QUERY, FULL, SESSION]))))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(
            st.sampled_from([b"", b"0", b"1e2", b"\\", b'"', b",", b"null", b"\xc3", b" "])
        )
    short, long = both(bytes(raw))
    assert short == long


def test_no_letter_is_shorter_than_the_model_writes_it():
    for code in [*range(0x20, 0xD800), *range(0xE000, 0x11000), 0x1F600, 0x10FFFF]:
        letter = chr(code)
        assert letter in '"\\' or len(msgspec.json.encode(letter)) == len(letter.encode()) + 2, hex(code)
    for code in range(0x20):
        written = msgspec.json.encode(chr(code))
        assert len(written) == (4 if chr(code) in "\b\t\n\f\r" else 8), hex(code)


def test_the_model_holds_nothing_that_can_be_written_shorter_than_it_writes_it():
    """Texts, whole numbers, truths, lists and objects of the model: no other kind of number, and nothing untyped."""
    seen, left = set(), [Event]
    while left:
        kind = left.pop()
        if kind in seen:
            continue
        seen.add(kind)
        info = msgspec.inspect.type_info(kind) if isinstance(kind, type) else kind
        for field in info.fields:
            parts = [field.type]
            while parts:
                part = parts.pop()
                if isinstance(part, msgspec.inspect.StructType):
                    left.append(part.cls)
                elif isinstance(part, msgspec.inspect.UnionType):
                    parts += part.types
                elif isinstance(part, msgspec.inspect.VarTupleType):
                    parts.append(part.item_type)
                else:
                    assert isinstance(part, ALLOWED), (kind, field.name, part)
    assert len(seen) > 20


ALLOWED = (
    msgspec.inspect.StrType, msgspec.inspect.IntType, msgspec.inspect.BoolType, msgspec.inspect.NoneType, msgspec.inspect.LiteralType,
)  # fmt: skip


def test_a_body_of_items_in_another_form_is_read_whole():
    items = [
        {**QUERY, "source_event_id": str(n), "occurred_at": "2026-11-21T01:49:32Z"}
        for n in range(3 * events.MISSES_MOST)
    ]
    items.append({**QUERY, "source_event_id": "last"})
    found = parse("events", json.dumps(items).encode())
    assert [each.source_event_id for each in found] == [each["source_event_id"] for each in items]
