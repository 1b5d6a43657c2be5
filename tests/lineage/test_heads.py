"""The head of a session, counted in Python as in SQL."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from lineage import engine
from lineage.queries import heads
from lineage.queries.ask import STATEMENT_COUNT


def record(index: int, event_id: str, correlation_id: str | None) -> dict[str, Any]:
    return dict.fromkeys(heads.NEEDED) | {
        "index": index, "event_id": event_id, "correlation_id": correlation_id, "kind": "query", "op": "select", "flags": [],
    }  # fmt: skip


def test_a_correlation_id_that_is_another_records_id_makes_no_one_statement_of_two() -> None:
    rows = [record(1, "a", None), record(2, "b", "a"), record(3, "c", "a"), record(4, "d", None)]
    kinds = {"index": pa.int64(), "flags": pa.list_(pa.string())}
    table = pa.table({
        name: pa.array([row[name] for row in rows], kinds.get(name, pa.string())) for name in heads.NEEDED
    })  # fmt: skip
    counted = engine.over({"records": table}, f"select {STATEMENT_COUNT} as n from records").to_pylist()
    assert [{"n": heads.head(rows)["statements"]}] == counted == [{"n": 3}]
