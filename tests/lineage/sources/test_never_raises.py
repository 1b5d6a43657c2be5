"""Whatever bytes arrive, each format answers with outputs that the model accepts, and never raises."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage import events, sources
from lineage.events import Event, Quarantined, Skipped
from tests.lineage.sources import golden
from tests.lineage.sources import test_debezium as debezium
from tests.lineage.sources import test_hoop as hoop
from tests.lineage.sources import test_teleport as teleport
from tests.lineage.sources.test_native_events import QUERY
from tests.lineage.sources.test_pgoutput import change, message
from tests.lineage.sources.test_pgstate import SNAPSHOT

NATIVE = {
    **QUERY, "actor": {"id": "a", "roles": ["r"]}, "statement": {"text": "select 1"}, "rows": {"returned": 1},
    "after": [{"column": "c", "value": "v"}], "resources": [{"relation": "t", "access": "read"}],
}  # fmt: skip
ITEMS = {
    "events": [NATIVE, {**QUERY, "kind": "session", "session": {"phase": "start"}}],
    "gateway": [NATIVE, {**QUERY, "kind": "session", "session": {"phase": "end"}}],
    "pgoutput": [
        change("update", old_kind="full", old=["1", "a", None], new=["1", "b", {"state": "unchanged"}]),
        message(b'{"actor": "dana"}'),
    ],
    "pgstate": [SNAPSHOT],
    "debezium": [debezium.UPDATE, debezium.WITH_SCHEMA, debezium.CLOUD, debezium.CLAIM],
    "teleport": [teleport.START, teleport.QUERY, teleport.END, teleport.REQUEST, *teleport.PREPARED],
    "hoop": [hoop.SESSION, hoop.HOOK, hoop.CLOSED],
}
FILES = {
    "postgres-csvlog": ("postgresql-15.csv", "prefix-full.csv"),
    "postgres-jsonlog": ("postgresql-15.json", "prefix-full.json"),
    "postgres-stderr": ("postgresql-15.log", "prefix-full.log", "prefix-rds.log", "prefix-app.log"),
}
PREFIXES = st.sampled_from([golden.DEFAULT, golden.RDS, golden.WITH_APPLICATION, golden.EVERYTHING, "%m [%p] "])
HOSTILE = [b"\0", b"\xff", b'"', b'""', b"\n", b"\t", b",", b"{", b"[", b"\\u0000", b"\\ud800", b"LOG:  AUDIT: ", b"99999999999999999999",
           b"null", b"1e999", b"-1", b"'", b" UTC", b"9999-12-31T23:59:59.999999-14:00"]  # fmt: skip


def bodies(name: str) -> list[bytes]:
    if name in FILES:
        return [golden.read(file) for file in FILES[name]]
    return [b"\n".join(msgspec.json.encode(item) for item in ITEMS[name])]


def check(name: str, body: bytes, **options) -> None:
    for output in sources.parse(name, body, **options):
        assert isinstance(output, Event | Quarantined | Skipped)
        if isinstance(output, Event):
            assert events.decode_event(events.encode(output)) == output
            assert output.source_event_id


@pytest.mark.parametrize("name", sorted(sources.FORMATS))
@given(body=st.binary(max_size=400), feed=st.booleans(), prefix=st.text(max_size=12), zone=st.text(max_size=12))
@settings(max_examples=150, deadline=None)
def test_any_bytes_and_any_options_give_outputs(name, body, feed, prefix, zone):
    check(name, body, feed=feed, line_prefix=prefix, timezone=zone)


@pytest.mark.parametrize("name", sorted(sources.FORMATS))
@given(data=st.data(), feed=st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_mutated_real_body_gives_outputs(name, data, feed):
    body = bytearray(data.draw(st.sampled_from(bodies(name))))
    start = data.draw(st.integers(0, max(0, len(body) - 4000)))
    body = body[start : start + 4000]
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(body)))
        length = data.draw(st.sampled_from([0, 1, 7, 200]))
        body[place : place + length] = data.draw(st.sampled_from(HOSTILE) | st.binary(max_size=8))
    if feed:
        body = bytearray(golden.feed_of([bytes(part) for part in bytes(body).split(b"\n")]))
    check(name, bytes(body), feed=feed, line_prefix=data.draw(PREFIXES), timezone="Europe/Berlin")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8), lambda inner: st.lists(inner, max_size=3)
)  # fmt: skip


@pytest.mark.parametrize("name", sorted(ITEMS))
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_an_item_with_members_of_any_type_gives_one_output(name, data):
    item = json.loads(json.dumps(data.draw(st.sampled_from(ITEMS[name]))))
    for _ in range(data.draw(st.integers(1, 3))):
        holder = item
        nested = [value for value in item.values() if isinstance(value, dict) and value]
        if nested and data.draw(st.booleans()):
            holder = data.draw(st.sampled_from(nested))
        holder[data.draw(st.sampled_from(sorted(holder)))] = data.draw(JSON)
    body = json.dumps(item).encode()
    assert len(list(sources.parse(name, b"[" + body + b"]"))) == 1
    check(name, body)


@pytest.mark.parametrize("name", sorted(FILES))
@given(text=st.text(alphabet=st.characters(codec="utf-8"), max_size=300))
@settings(max_examples=100, deadline=None)
def test_an_audit_record_around_any_text_gives_one_output(name, text):
    if name == "postgres-stderr":
        raw = ("2026-11-21 04:56:09.852 UTC [15408] alice@shop LOG:  AUDIT: " + text.replace("\n", "\n\t")).encode()
    elif name == "postgres-csvlog":
        raw = golden.csv_line("AUDIT: " + text)
    else:
        raw = json.dumps(
            {"timestamp": "2026-11-21 04:56:09.852 UTC", "error_severity": "LOG", "message": "AUDIT: " + text}
        ).encode()
    body = golden.feed_of([raw])
    assert len(list(sources.parse(name, body, feed=True, line_prefix=golden.DEFAULT))) == 1
    check(name, body, feed=True, line_prefix=golden.DEFAULT)
