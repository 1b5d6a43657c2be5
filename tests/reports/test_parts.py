"""Acts, and what tests say of each, are the same to the byte whether they are asked at once or some records at a time."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lineage import errors
from lineage.queries import registers
from reports import meanwhile, outcomes, parts
from reports.evidence import Request
from tests.reports import made
from tests.reports.made import access, change, decision, owner, role, write

AGENT = {"who_type": "agent", "who_id": "bot", "agent_id": "bot", "agent_name": "Bot"}
TAG = {"datasource": "orders", "relation": "public.customers", "column": "email", "classes": ["personal"], "by": "eve@x",
       "from_at": made.START, "to_at": made.END, "index": 1, "assumed": False}  # fmt: skip


def population(number: int) -> list[dict[str, Any]]:
    """Statements of several lines, transactions that reach over others, changes with and without a statement, unnamed databases."""
    by = random.Random(5)
    rows = []
    for index in range(number):
        form = by.choice((access, write, write, change))
        more: dict[str, Any] = {
            "datasource": by.choice(("orders", "orders", "people", None)),
            "environment": by.choice(("prod", "prod", None)),
            "verdict": by.choice(("allowed", "allowed", "pending", "blocked")),
            "occurred_at": made.START + by.randrange(90) * (made.END - made.START) / 100,
            "ticket": by.choice((None, "T", "U")),
            **(AGENT if by.random() < 0.2 else {}),
        }
        transaction = by.choice((None, f"t{index // 9}", f"t{by.randrange(number)}", "long"))
        if form is change:
            rows.append(change(index, "", **more | {"transaction_id": transaction, "event_id": f"e{index}"}))
        else:
            named = by.choice((None, f"c{index}", f"c{by.randrange(number)}"))
            rows.append(form(index, **more, transaction_id=transaction, correlation_id=named))
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("is_shuffled", [False, True])
@pytest.mark.parametrize("kind", ["privileged-access", "change-management", "agents", "sensitive-data"])
def test_a_report_made_in_parts_has_the_same_files_as_one_made_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, is_shuffled: bool
) -> None:
    rows = population(600)
    if is_shuffled:
        random.Random(3).shuffle(rows)
    found = made.made(
        tmp_path / "inputs", rows, roles=[role("orders_api"), role("dana", "superuser")],
        owners=[owner("public.customers", "orders_api")], decisions=[decision(1, "T"), decision(2, "U", "rejected")],
        request=Request(kind, made.START, made.END), more={"tags": pa.Table.from_pylist([TAG], schema=registers.TAGS)},
    )  # fmt: skip

    def files() -> dict[str, bytes]:
        result = outcomes.evaluate(found)
        paths = [*result.derived.values(), *(outcome.answer.path for outcome in result.outcomes)]
        return {path.name: path.read_bytes() for path in paths}

    whole = files()
    assert pq.read_metadata(found.folder / "acts.parquet").num_rows > 250
    monkeypatch.setattr(parts, "RECORDS", 50)
    cut = list(parts.of(found.tables["population"]))
    assert len(cut) > 8
    assert sum(len(part.own) for part in cut) == 600 < sum(part.population.num_rows for part in cut)
    assert files() == whole


def test_parts_in_which_nothing_is_found_are_a_file_without_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "RECORDS", 1)
    found = outcomes.evaluate(made.made(tmp_path / "inputs", [access(1), access(2)]))
    file = pq.read_metadata(found.outcomes[0].answer.path)
    assert (found.counts["items"], file.num_rows, file.num_row_groups) == (0, 0, 0)


def test_what_fails_beside_other_work_is_raised_where_its_parts_are_used() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise errors.QueryTooLong

    assert list(meanwhile.ahead(range(5))) == [0, 1, 2, 3, 4]
    with pytest.raises(errors.QueryTooLong):
        list(meanwhile.ahead(failing()))
    used: list[int] = []
    with meanwhile.behind(used.append) as hand:
        for number in range(5):
            hand(number)
    assert used == [0, 1, 2, 3, 4]
    with pytest.raises(ZeroDivisionError), meanwhile.behind(lambda number: 1 // number) as hand:
        hand(0)
