"""Cutting log files into records: the same records however the bytes arrive, and nothing in between lost."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enforcement import logrecords

TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\r\0"), max_size=40)
NASTY = st.lists(
    st.sampled_from(['"', "\n", ",", "\t", "2026-11-21 01:49:32.009 UTC,", "é", "LOG:  ", "\\"]), max_size=12
).map("".join)


def csv_record(message: str) -> bytes:
    fields = [
        "2026-11-21 01:49:32.009 UTC",
        "bob",
        "shop",
        "3",
        "",
        "6.1",
        "1",
        "",
        "",
        "",
        "0",
        "LOG",
        "00000",
        message,
    ]
    out = io.StringIO()
    csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_MINIMAL).writerow([*fields, *[""] * 12])
    return out.getvalue().encode()


def json_record(message: str) -> bytes:
    return json.dumps({"message": message}, ensure_ascii=False).encode() + b"\n"


def stderr_record(message: str) -> bytes:
    return b"2026-11-21 01:49:32.009 UTC [7] LOG:  " + message.replace("\n", "\n\t").encode() + b"\n"


SPLITTERS: dict[str, tuple[Callable[[int], logrecords.Splitter], Callable[[str], bytes]]] = {
    "csvlog": (logrecords.CsvSplitter, csv_record),
    "jsonlog": (logrecords.LineSplitter, json_record),
    "stderr": (lambda offset: logrecords.StderrSplitter(offset, "%m [%p] "), stderr_record),
}


@pytest.mark.parametrize("name", list(SPLITTERS))
@settings(max_examples=60)
@given(messages=st.lists(TEXT | NASTY, max_size=6), cuts=st.lists(st.integers(1, 60), max_size=30))
def test_records_are_the_same_however_the_bytes_arrive(name: str, messages: list[str], cuts: list[int]) -> None:
    make, write = SPLITTERS[name]
    wholes = [write(message) for message in messages]
    rest, splitter, found = b"".join(wholes), make(1000), []
    for cut in [*cuts, len(rest) + 1]:
        found += list(splitter.feed(rest[:cut]))
        rest = rest[cut:]
    found += list(splitter.rest())
    assert [record.raw for record in found] == [whole[:-1] for whole in wholes]
    ends, end = [], 1000
    for whole in wholes:
        end += len(whole)
        ends.append(end)
    assert [record.end for record in found] == ends


@settings(max_examples=100)
@given(raw=st.binary(max_size=300), cut=st.integers(0, 300))
def test_no_byte_of_a_damaged_file_is_lost(raw: bytes, cut: int) -> None:
    raw = raw.replace(b"\r", b"")
    splitter = logrecords.CsvSplitter(0)
    found = [*splitter.feed(raw[:cut]), *splitter.feed(raw[cut:]), *splitter.rest()]
    begin = 0
    for record in found:
        assert raw[begin : record.end].rstrip(b"\n") == record.raw.rstrip(b"\n")
        begin = record.end
    assert begin == len(raw)


def test_a_line_break_in_a_statement_cannot_begin_a_forged_record() -> None:
    forged = 'x\n2026-11-21 01:49:32.009 UTC,"root","shop",3,,6.1,2,,,,0,LOG,00000,"AUDIT: forged"' + "," * 12 + "\ny"
    records = list(logrecords.CsvSplitter(0).feed(csv_record(forged) + csv_record("next")))
    assert [fields[13] for fields in map(logrecords.csv_fields, [r.raw for r in records]) if fields] == [forged, "next"]
