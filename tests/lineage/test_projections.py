"""What is derived of a record: the same whatever stands beside it, from members as the log holds them."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage import commitment, events, projections
from lineage.events import GROUPS, Event
from lineage.projections import fields
from tests.lineage.test_commitment import EVENTS

SALTS = {group: bytes(16) for group in GROUPS}
KEPT = ("delegation", "decision", "approval", "policy", "masked", "state", "custody", "parameters")
TEXTS = st.sampled_from(
    ["select a, b from t where id = 5", "update x.t set a = 'x' where id in (1, 2)", "nonsense", "set pgaudit.log = 'none'"]
)  # fmt: skip


def row(index: int, event: Event) -> tuple[int, bytes, list[bytes | None]]:
    leaf, groups = commitment.commit(event, SALTS)
    return index, leaf, list(groups.values())


def asked(event: Event, text: str, kind: Any) -> Event:
    """Nearly every record is an access here, with a text that says something."""
    if event.statement is not None and event.statement.text is not None:
        event = msgspec.structs.replace(event, statement=events.Statement(text=text, state="whole"))
    return msgspec.structs.replace(event, kind=kind)


RECORDS = st.builds(
    asked, EVENTS, TEXTS, st.sampled_from(["query", "change", "query", "change", "custody", "decision"])
)


@settings(max_examples=60)
@given(st.lists(RECORDS, min_size=2, max_size=4))
def test_a_record_has_the_same_rows_alone_and_among_others(told: list[Event]) -> None:
    rows = [row(index, event) for index, event in enumerate([*told, *told[:1]])]
    together = projections.tables(rows)
    alone = [projections.tables([each]) for each in rows]
    for place, table in enumerate(together):
        table.validate(full=True)
        assert table.equals(pa.concat_tables([each[place] for each in alone]))


@settings(max_examples=60)
@given(RECORDS)
def test_members_that_are_kept_say_what_was_reported_in_the_same_words(event: Event) -> None:
    table, _ = projections.tables([row(0, event)])
    reported = json.loads(events.encode(event))
    for name in KEPT:
        text = table[name][0].as_py()
        assert (json.loads(text) if text else None) == (reported.get(name) or None)
        assert not text or text.encode() == events.encode(reported[name])


@settings(max_examples=40)
@given(RECORDS, st.sampled_from(GROUPS))
def test_a_record_without_a_group_reads_as_if_nothing_of_it_had_been_reported(event: Event, gone: events.Group) -> None:
    leaf, groups = commitment.commit(event, SALTS)
    erased = [None if group == gone else data for group, data in groups.items()]
    without = [data for group, data in groups.items() if group != gone]
    for made, expected in zip(
        projections.tables([(0, leaf, erased)]), projections.tables([(0, leaf, without)]), strict=True
    ):
        assert made.equals(expected)


def test_no_records_make_empty_tables_with_all_columns() -> None:
    made = projections.tables([])
    assert [table.schema for table in made] == [projections.EVENTS, projections.TOUCHES]
    assert [table.num_rows for table in made] == [0, 0]


@pytest.mark.parametrize("data", [b"", b"[]", b'{"nobody_s_field":1}', b'{"op"', b'{"op":5}'])
def test_bytes_that_are_no_group_are_refused(data: bytes) -> None:
    leaf, _ = commitment.commit(Event(kind="query"), SALTS)
    with pytest.raises(msgspec.DecodeError):
        projections.tables([(0, leaf, [data])])


def _parts(kind: Any) -> Iterator[type[msgspec.Struct]]:
    for each in (kind, *typing.get_args(kind)):
        if isinstance(each, type) and issubclass(each, msgspec.Struct):
            yield each
        elif each is not kind:
            yield from _parts(each)


def _names(model: type[msgspec.Struct]) -> dict[str, Any]:
    hints = typing.get_type_hints(model)
    return {field.encode_name: hints[field.name] for field in msgspec.structs.fields(model)}


def _missing(read: type[msgspec.Struct], model: type[msgspec.Struct]) -> Iterator[str]:
    """Members that are read and that the event model does not have."""
    told = _names(model)
    for name, kind in _names(read).items():
        if name not in told:
            yield f"{model.__name__}.{name}"
        elif (inner := next(_parts(kind), None)) and (outer := next(_parts(told[name]), None)):
            yield from _missing(inner, outer)


def test_every_member_that_is_read_is_one_of_the_event_model() -> None:
    groups = (fields.ActorGroup, fields.ActionGroup, fields.StatementGroup, fields.ChangeGroup)
    assert [name for group in groups for name in _missing(group, Event)] == ["Event.error_code", "Event.error_message"]
    assert list(_missing(fields.Head, Event)) == []
    for read in (
        fields.Resource,
        fields.Decision,
        fields.Custody,
        fields.Approval,
        fields.Policy,
        fields.Masked,
        fields.Parameter,
    ):
        assert list(_missing(read, getattr(events, read.__name__))) == []
