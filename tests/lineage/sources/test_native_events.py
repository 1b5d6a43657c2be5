"""Native events: what a source may say, and what only the store may."""

import json

import msgspec
import pytest

from lineage.events import STORE_FIELDS, STORE_ONLY_DECISIONS, Event, Quarantined
from tests.lineage.sources.golden import feed_of, one, parse

QUERY = {"kind": "query", "source_event_id": "e1", "op": "read", "occurred_at": "2026-11-21T01:49:32.009748Z"}


def of(**changes):
    return one("events", json.dumps({**QUERY, **changes}).encode())


def refused(**changes):
    output = of(**changes)
    assert isinstance(output, Quarantined)
    assert json.loads(output.body)["kind"]
    return output


def test_an_event_is_taken_as_it_is_with_its_class_and_the_hash_of_the_item():
    event = of(actor={"email": "dana@shop.example", "type": "human"}, ticket="OPS-42")
    assert (event.actor.email, event.ticket, event.class_) == ("dana@shop.example", "OPS-42", "read")
    assert (event.occurred_at, event.occurred_at_quality) == (QUERY["occurred_at"], "source")


def test_the_hash_does_not_depend_on_spaces_or_the_order_of_keys():
    compact = msgspec.json.encode(dict(reversed(QUERY.items())))
    assert one("events", compact).origin.sha256 == of().origin.sha256


def test_times_of_other_offsets_and_precisions_are_brought_to_one_form():
    event = of(occurred_at="2026-11-21T03:49:32.0097481+02:00", approval={"decided_at": "2026-11-21T01:00:00Z"})
    assert (event.occurred_at, event.approval.decided_at) == (
        "2026-11-21T01:49:32.009748Z",
        "2026-11-21T01:00:00.000000Z",
    )


@pytest.mark.parametrize(
    "text", ["yesterday", "2026-11-21T01:49:32", "2026-02-30T01:49:32.009748Z", "0001-01-01T00:00:00+14:00"]
)
def test_a_time_without_zone_or_outside_the_calendar_is_refused(text):
    assert refused(occurred_at=text).code == "time"


def test_an_event_without_an_identity_is_refused():
    assert "source_event_id" in refused(source_event_id=None).reason
    assert refused(source_event_id="x" * 600).code == "event-invalid"


@pytest.mark.parametrize("name", STORE_FIELDS)
def test_what_only_the_store_sets_is_refused(name):
    assert refused(**{name: "x"}).code == "store-field"


@pytest.mark.parametrize("kind", sorted(STORE_ONLY_DECISIONS))
def test_decisions_that_only_the_store_writes_are_refused(kind):
    assert refused(kind="decision", op=None, decision={"type": kind}).code == "store-only"


def test_a_source_speaks_only_of_its_own_feed():
    assert of(kind="custody", custody={"type": "gap"}).custody.type == "gap"
    for kind in ("finding", "alarm", "export", "access", "key_rotation", "triage"):
        assert refused(kind="custody", custody={"type": kind}).code == "store-only"


def test_kind_and_content_must_fit():
    assert refused(kind="decision").code == "event-invalid"
    assert refused(kind="session").code == "event-invalid"
    assert refused(decision={"type": "approval"}).code == "event-invalid"
    assert of(kind="decision", op=None, decision={"type": "approval", "subject": "x"}).class_ == "decision"


def test_a_reason_names_the_place_and_never_the_value():
    for changes in (
        {"op": "secret"},
        {"rows": {"returned": "secret"}},
        {"secret 4711": 1},
        {"resources": [{"access": "secret"}]},
    ):
        assert "secret" not in refused(**changes).reason
    assert "`$.op`" in refused(op="secret").reason
    assert "unknown field `statment`" in refused(statment="x").reason


def test_floats_and_numbers_beyond_the_model_are_refused():
    for number in (1.5, 2**53, 12345678901234567890, -1, 1e3):
        assert refused(rows={"returned": number}).code == "event-invalid"


def test_deep_nesting_is_refused_and_brackets_in_text_are_not_nesting():
    body = b'{"kind":"query","source_event_id":"1","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert one("events", body).code in ("too-deep", "body-unreadable")
    nested = b'{"kind":"query","source_event_id":"1","x":' + b"[" * 70 + b"]" * 70 + b"}"
    assert one("events", nested).code == "too-deep"
    assert isinstance(of(purpose="[" * 500), Event)


def test_a_doubled_key_is_refused():
    for spaces in ("", "  "):
        said = '{"kind":SP"query","source_event_id":SP"1","source_event_id":SP"2"}'.replace("SP", spaces)
        assert one("events", said.encode()).code == "doubled-key"


def test_what_a_text_looks_like_doubles_no_key():
    assert isinstance(
        one("events", b'{"kind": "query",  "source_event_id": "caf\\u00e9", "purpose": "\\"a\\": 1, \\"a\\": 2"}'),
        Event,
    )


def test_what_is_deep_is_said_to_be_before_anything_else_that_is_wrong_with_it():
    nested = b'{"kind":"nonsense","purpose":"%b\\u0000","x":' % (b"y" * 2_000) + b"[" * 70 + b"]" * 70 + b"}"
    assert one("events", nested).code == "too-deep"


def test_size_alone_keeps_no_event_out():
    event = of(
        purpose="p" * 5000,
        actor={"name": "n" * 600},
        statement={"text": "select '" + "x" * 100_000 + "'"},
        after=[{"column": "c", "value": "v" * 20_000}],
        parameters=[{"position": 1, "value": "v" * 20_000}],
    )
    assert (len(event.purpose), len(event.actor.name), event.flags) == (1024, 512, ("truncated",))
    assert (event.statement.state, event.statement.length) == ("truncated", 100_009)
    assert (event.after[0].state, event.parameters[0].state) == ("truncated", "truncated")


def test_a_statement_that_the_source_cut_keeps_its_length_and_hash():
    event = of(statement={"text": "select", "state": "truncated", "length": 9_000_000, "sha256": "ab"})
    assert (event.statement.length, event.statement.sha256, event.statement.state) == (9_000_000, "ab", "truncated")


def test_a_statements_hash_is_the_stores_own():
    assert of(statement={"text": "select 1", "sha256": "wrong"}).statement.sha256 != "wrong"


def test_nul_is_replaced_visibly():
    event = of(purpose="a\0b")
    assert (event.purpose, event.flags) == ("a\u2400b", ("nul_removed",))


def test_one_bad_item_does_not_stop_the_others():
    outputs = parse("events", json.dumps([QUERY, 5, {"kind": "x"}, {**QUERY, "source_event_id": "e2"}]).encode())
    assert [type(output) for output in outputs] == [Event, Quarantined, Quarantined, Event]
    lines = parse("events", b"\n".join([json.dumps(QUERY).encode(), b"{torn", b"", b"\xff"]))
    assert [type(output) for output in lines] == [Event, Quarantined, Quarantined]


def test_a_body_of_which_nothing_is_json_is_one_refusal():
    for body in (b"hello", b"<xml/>\n<more/>", b"[1,", b"\xff\xfe"):
        assert (one("events", body).code, one("events", body).position) == ("body-unreadable", "body")
    assert parse("events", b"") == parse("events", b"\n\n") == []


def test_a_feed_sets_sequence_and_position():
    event = one("events", feed_of([QUERY], first=9), feed=True)
    assert (event.sequence, event.origin.position) == (9, "log:9")
