"""The collectors' feed: what every format shares."""

import json

import pytest

from lineage import sources
from lineage.errors import FormatUnknown
from lineage.events import Event, Quarantined
from tests.lineage.sources.golden import one, parse

CUSTODY = {
    "type": "gap",
    "subject": "slot lost",
    "first": "0/1",
    "last": 7,
    "count": 3,
    "occurred_at": "2026-11-21T01:49:32Z",
}


def line(**members) -> bytes:
    return json.dumps({"sequence": 5, "position": "p:1", **members}).encode()


@pytest.mark.parametrize("name", sorted(sources.FORMATS))
def test_a_collectors_word_about_its_feed_is_custody_in_every_format(name):
    event = one(name, line(custody=CUSTODY), feed=True)
    assert (event.kind, event.class_, event.sequence, event.source_event_id) == ("custody", "custody", 5, "feed/5")
    assert (event.custody.type, event.custody.first, event.custody.last, event.custody.count) == ("gap", "0/1", "7", 3)
    assert (event.occurred_at, event.origin.position) == ("2026-11-21T01:49:32.000000Z", "p:1")


@pytest.mark.parametrize("name", sorted(sources.FORMATS))
def test_feed_lines_against_the_protocol_are_quarantined_one_by_one(name):
    body = b"\n".join(
        [
            line(),
            line(record_base64="?"),
            line(sequence=-1, record="x"),
            line(custody={"type": "finding"}),
            line(custody={"type": "gap", "occurred_at": "x"}),
            json.dumps({"custody": CUSTODY}).encode(),
            b"torn {",
            line(custody=CUSTODY),
        ]
    )
    outputs = parse(name, body, feed=True)
    assert [type(output) for output in outputs] == [Quarantined] * 7 + [Event]
    assert [output.position for output in outputs[:7]] == [str(n) for n in range(7)]
    assert [output.sequence for output in outputs[:2]] == [5, 5]


@pytest.mark.parametrize("name", sorted(sources.FORMATS))
def test_a_feed_of_which_nothing_is_json_is_one_refusal(name):
    assert one(name, b"hello\nworld", feed=True).code == "body-unreadable"
    assert parse(name, b"", feed=True) == []


def test_text_is_refused_where_an_object_is_due_and_the_other_way_round():
    assert one("postgres-csvlog", line(record={"a": 1}), feed=True).code == "not-text"
    assert one("pgoutput", line(record="text"), feed=True).code == "pgoutput"
    assert one("events", line(record=None), feed=True).code == "event-invalid"


def test_an_unknown_format_is_an_error_that_names_the_known_ones():
    with pytest.raises(FormatUnknown) as caught:
        sources.parse("oracle", b"")
    assert "postgres-csvlog" in caught.value.fields["formats"]
