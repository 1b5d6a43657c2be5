"""What a report's SQL answers, compared with what is attached some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lineage.errors import PackInvalid
from lineage.verify import reruns

ROWS = 3 * reruns.BATCH_ROWS + 7
ORDERED = "select number, word from numbers order by number"


def parquet(table: pa.Table) -> reruns.Table:
    out = pa.BufferOutputStream()
    pq.write_table(table, out, row_group_size=1_000)
    return reruns.read("numbers.parquet", out.getvalue().to_pybytes())


def numbers(changed: int | None = None, rows: int = ROWS) -> pa.Table:
    words = [f"word {number}" if number != changed else "another" for number in range(rows)]
    return pa.table({"number": pa.array(range(rows)), "word": words})


def again(sql: str = ORDERED) -> Iterator[Any]:
    return reruns.answer("numbers.sql", sql, {"numbers": parquet(numbers())})


def test_a_table_is_compared_over_all_its_parts_and_told_where_it_differs_first() -> None:
    assert reruns.difference(parquet(numbers()), again()) == ""
    for row in (0, reruns.BATCH_ROWS, ROWS - 1):
        assert reruns.difference(parquet(numbers(changed=row)), again()) == f"column word, first in row {row + 1}"
    fewer = reruns.difference(parquet(numbers(rows=ROWS - 1)), again())
    more = reruns.difference(parquet(numbers(rows=ROWS + 1)), again())
    assert fewer == f"{ROWS - 1} rows, and {ROWS} when made again"
    assert more == f"{ROWS + 1} rows, and {ROWS} when made again"
    assert reruns.difference(parquet(numbers()), again("select word from numbers")) == "other columns"
    assert reruns.difference(parquet(numbers()), again(ORDERED.replace("word", "[word] as word", 1))) == (
        "columns of other types"
    )


def test_what_fails_while_an_answer_is_read_is_told_of_the_file_that_fails() -> None:
    late = f"select case when number > {ROWS - 2} then cast(word as int) end as number from numbers"
    with pytest.raises(
        PackInvalid, match=r"numbers\.sql does not run on the attached tables: Conversion Error"
    ) as told:
        list(again(late))
    assert not isinstance(told.value, reruns.Stopped)


def test_records_of_a_table_are_counted_where_all_are_different() -> None:
    assert reruns.different(parquet(numbers()), "number") == ROWS
    assert reruns.different(parquet(pa.concat_tables([numbers(), numbers(rows=1)])), "number") is None
