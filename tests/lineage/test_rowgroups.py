"""Parquet in parts: what is written is what is read, however the columns are written."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks._history import Plan, chunk
from lineage import facts, projections, records, rowgroups
from lineage.rowgroups import Rows, Writer

SCHEMAS = {
    "leaves": records.LEAVES, "disclosures": records.DISCLOSURES, "events": projections.EVENTS,
    "touches": projections.TOUCHES, "facts": facts.SCHEMA,
}  # fmt: skip
TIMES = st.integers(-62_000_000_000, 250_000_000_000).map(
    lambda s: dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=s)
)


def values(kind: pa.DataType) -> st.SearchStrategy[Any]:
    if pa.types.is_list(kind):
        return st.none() | st.lists(values(kind.value_type), max_size=3)
    if pa.types.is_struct(kind):
        return st.fixed_dictionaries({field.name: values(field.type) for field in kind})
    if pa.types.is_timestamp(kind):
        return st.none() | TIMES
    if pa.types.is_integer(kind):
        return st.none() | st.integers(-(2**63), 2**63 - 1)
    if pa.types.is_boolean(kind):
        return st.none() | st.booleans()
    return st.none() | (st.binary(max_size=20) if pa.types.is_binary(kind) else st.text(max_size=20))


@pytest.mark.parametrize("name", list(SCHEMAS)[:4])
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_what_is_written_is_read_again_by_any_reader(name: str, data: st.DataObject, tmp_path: Path) -> None:
    schema = SCHEMAS[name]
    rows = data.draw(st.lists(st.fixed_dictionaries({f.name: values(f.type) for f in schema}), max_size=4))
    table, path = pa.Table.from_pylist(rows, schema=schema), tmp_path / f"{name}.parquet"
    with Writer(path, schema) as file:
        for part in table.to_batches():
            file.add(part)
    assert pq.read_table(path).cast(schema).equals(table)
    assert file.rows == len(rows)


def test_rows_of_given_records_are_found_also_where_a_record_lies_in_two_row_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rowgroups, "ROWS_MOST", 4)
    schema, path = pa.schema([("index", pa.int64()), ("group", pa.string())]), tmp_path / "rows.parquet"
    rows = [{"index": index, "group": group} for index in range(5, 25) if index % 7 for group in "abc"]
    with Writer(path, schema) as file:
        for row in rows:
            file.add(pa.Table.from_pylist([row], schema=schema))
    assert pq.read_metadata(path).num_row_groups > len(rows) // 5
    for wanted in ([], [4], [5], [6, 12, 13, 24], list(range(30)), [7, 14, 25]):
        found = [row for part in rowgroups.holding(path, wanted) for row in part.to_pylist()]
        assert found == [row for row in rows if row["index"] in wanted]


@pytest.mark.parametrize("name", ["leaves", "disclosures", "events"])
def test_the_files_of_large_segments_are_smaller_and_hold_the_same(name: str, tmp_path: Path) -> None:
    schema = SCHEMAS[name]
    words = [msgspec.json.encode(event).decode() for told in chunk(Plan(4_000), 0).values() for event in told]
    said = {"disclosures": "value", "events": "statement"}.get(name, "leaf")
    table = pa.Table.from_pylist(
        [{"index": n, said: text if name == "events" else text.encode()} for n, text in enumerate(words)], schema=schema
    )
    sizes = []
    for records_in_all in (0, rowgroups.LARGE_RECORDS):
        path = tmp_path / f"{records_in_all}.parquet"
        with Writer(path, schema, records_in_all) as file:
            file.add(table)
        sizes.append(path.stat().st_size)
        assert pq.read_table(path).cast(schema).equals(table)
    assert sizes[1] < sizes[0] or name == "leaves"


@pytest.mark.parametrize("name", SCHEMAS)
def test_columns_of_which_hardly_a_value_comes_twice_have_no_dictionary_and_the_others_have(
    name: str, tmp_path: Path
) -> None:
    path = tmp_path / f"{name}.parquet"
    example = {"index": 1, "salt": b"a", "event_id": "b", "group": "actor", "source_event_id": "c", "kind": "query"}
    with Writer(path, SCHEMAS[name]) as file:
        file.add(
            pa.Table.from_pylist(
                [{k: v for k, v in example.items() if k in SCHEMAS[name].names}] * 3, schema=SCHEMAS[name]
            )
        )
    group = pq.read_metadata(path).row_group(0)
    for column in (group.column(n) for n in range(group.num_columns)):
        is_plain = column.path_in_schema in rowgroups.WRITTEN
        kind = str(column.physical_type)
        assert column.has_dictionary_page == (not is_plain and kind != "BOOLEAN"), column.path_in_schema
        assert not is_plain or rowgroups.WRITTEN[column.path_in_schema] in column.encodings


def test_rows_are_given_range_after_range_each_once(tmp_path: Path) -> None:
    path = tmp_path / "leaves.parquet"
    with Writer(path, records.LEAVES) as file:
        for start in range(0, 9_000, 3_000):
            file.add(pa.table({"index": range(start, start + 3_000), "leaf": [b"x"] * 3_000}, schema=records.LEAVES))
    rows = Rows(path)
    found = [rows.below(end)["index"].to_pylist() for end in (0, 1, 2_500, 2_500, 8_999, 20_000, 30_000)]
    assert [len(part) for part in found] == [0, 1, 2_499, 0, 6_499, 1, 0]
    assert [index for part in found for index in part] == list(range(9_000))
