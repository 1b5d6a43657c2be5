"""DuckDB that is used again: each use finds it as new."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import duckdb  # noqa: TID251 - its errors are expected
import pyarrow as pa
import pytest

from lineage import engine, spare

EARLIER = pa.table({"one": [1, 2]})


@pytest.fixture(autouse=True)
def place(settings: Any, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path


def test_nothing_of_one_use_is_there_in_the_next() -> None:
    with engine._apart({"earlier": EARLIER}) as first:
        first.execute("create table made as from earlier; create schema other; set schema = 'other'")
        first.execute("create temp table passing as from earlier")
    for name in ("earlier", "made", "other.made", "passing"):
        with pytest.raises(duckdb.CatalogException):
            engine.over({}, f"from {name}")
    assert engine.over({"made": EARLIER}, "select sum(one)::int as two from made").to_pylist() == [{"two": 3}]


def test_uses_within_each_other_have_an_instance_each() -> None:
    with engine._apart({"given": EARLIER}) as outer:
        assert engine.over({"given": EARLIER.slice(1)}, "from given").num_rows == 1
        assert outer.sql("from given").to_arrow_table().num_rows == 2


def test_an_answer_that_is_not_read_to_its_end_disturbs_no_other() -> None:
    parts = engine.batches_over({"given": EARLIER}, "select range as n from range(100_000)")
    next(parts)
    parts.close()
    assert engine.over({"given": EARLIER}, "from given").equals(EARLIER)


def test_what_spilled_lies_below_the_folder_of_the_store_that_asked(settings: Any, tmp_path: Path) -> None:
    engine.over({}, "select 1 as one")
    settings.DATA_DIR = tmp_path / "other"
    told = engine.over({}, "select current_setting('temp_directory') as place").to_pylist()
    assert told == [{"place": str(tmp_path / "other" / "spill")}]


def test_what_an_idle_instance_keeps_is_given_back_and_the_next_use_makes_another() -> None:
    engine.over({}, "select 1 as one")
    with engine._apart({"given": EARLIER}) as used:
        spare.release()
        assert used.sql("from given").to_arrow_table().equals(EARLIER)
    spare.release()
    assert not any(os.getpid() in each.idle for each in spare._made)
    assert engine.over({"given": EARLIER}, "from given").equals(EARLIER)


def test_a_forked_process_makes_its_own() -> None:
    engine.over({}, "select 1 as one")
    child = os.fork()
    if not child:
        os._exit(0 if engine.over({}, "select 2 as two").to_pylist() == [{"two": 2}] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
