"""Samples: nobody picks them, anybody draws them again, and a nonce counts only after the population's hash was shown."""

from __future__ import annotations

import datetime as dt
import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st

from lineage import errors
from reports import attachments, outcomes, sampling
from reports.evidence import Evidence, Request
from reports.sampling import Plan
from tests.reports import made
from tests.reports.made import access, write

NAMES = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), unique=True, max_size=90)
SIZES = st.one_of(st.sampled_from(sorted(sampling.PRESETS)), st.integers(1, sampling.SIZE_MOST).map(str))


@given(NAMES, SIZES, st.text(max_size=9), st.text(max_size=9))
def test_each_run_of_time_gives_one_item_and_the_runs_are_the_whole_population(
    items: list[str], size: str, engagement: str, nonce: str
) -> None:
    engagement, nonce = (text.encode(errors="replace").decode() for text in (engagement, nonce))
    sample = sampling.draw("t", items, Plan(engagement, nonce, size))
    assert sample.size == len(sample.picks) == sampling.size_of(size, len(items))
    assert (sample.size == 0) is (not items)
    covered = [place for pick in sample.picks for place in range(pick.first, pick.last + 1)]
    assert covered == list(range(1, len(items) + 1))[: len(covered)]
    assert not sample.picks or len(covered) == len(items)
    assert all(pick.item in items[pick.first - 1 : pick.last] for pick in sample.picks)
    lengths = {pick.last - pick.first + 1 for pick in sample.picks}
    assert not lengths or max(lengths) - min(lengths) <= 1


@given(NAMES.filter(lambda names: len(names) > 1 and all(names)))
def test_another_engagement_nonce_test_or_item_is_another_seed(items: list[str]) -> None:
    first = sampling.draw("t", items, Plan("a", "b"))
    others = [
        sampling.draw("t", items, Plan("ab", "")),
        sampling.draw("t", items, Plan("a", "c")),
        sampling.draw("u", items, Plan("a", "b")),
        sampling.draw("t", items[1:], Plan("a", "b")),
        sampling.draw("t", [items[0] + items[1], *items[2:]], Plan("a", "b")),
    ]
    assert len({first.seed, *(other.seed for other in others)}) == 6
    assert sampling.draw("t", items, Plan("a", "b")) == first


@pytest.mark.parametrize(
    ("size", "population", "expected"),
    [
        ("by-population", 10, 10), ("by-population", 11, 8), ("by-population", 50, 8), ("by-population", 51, 15),
        ("by-population", 250, 15), ("by-population", 251, 25), ("attest", 12, 12), ("attest", 25, 19), ("attest", 40, 20),
        ("attest", 65, 25), ("attest", 66, 29), ("annual", 9, 1), ("daily", 9, 9), ("daily", 900, 25), ("7", 900, 7),
        ("1000", 12, 12), ("by-population", 0, 0),
    ],
)  # fmt: skip
def test_a_preset_says_how_many_of_so_many(size: str, population: int, expected: int) -> None:
    assert sampling.size_of(size, population) == expected


@pytest.mark.parametrize(
    "plan",
    [
        Plan(size="0"), Plan(size="1001"), Plan(size="-1"), Plan(size="²"), Plan(size="many"), Plan(size="9" * 5000),
        Plan("two\nlines"), Plan("x" * 101), Plan(nonce="x" * 201), Plan(nonce="\u202eback"), Plan("nul\x00"),
    ],
)  # fmt: skip
def test_a_plan_that_could_be_read_in_two_ways_is_refused(plan: Plan) -> None:
    with pytest.raises(errors.SampleInvalid) as refused:
        sampling.checked(plan)
    assert refused.value.code == "sample-invalid"


def test_only_tested_items_are_drawn_and_the_order_of_rows_does_not_matter() -> None:
    at = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)
    rows = [
        {"item": f"i{n}", "occurred_at": at + dt.timedelta(seconds=n // 3), "tested": n % 5 != 0} for n in range(300)
    ]
    sample = sampling.drawn("t", pa.Table.from_pylist(rows), Plan("e", "n", "30"))
    random.Random(4).shuffle(rows)
    assert sampling.drawn("t", pa.Table.from_pylist(rows), Plan("e", "n", "30")) == sample
    assert (sample.population, sample.size) == (240, 30)
    assert not [item for item in sample.items if int(item[1:]) % 5 == 0]


def script() -> str:
    """The script that docs/sampling.md gives to auditors."""
    text = (settings.BASE_DIR / "docs/sampling.md").read_text(encoding="utf-8")
    (found,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return str(found)


def kept(tmp_path: Path, population: list[dict[str, Any]], **asked: str) -> Evidence:
    """Evidence whose tests were run, with the files from which a sample is drawn again."""
    request = Request("change-management", made.START, made.END, "prod", **asked)
    found = made.made(tmp_path / "inputs", population, request=request)
    result = outcomes.evaluate(found)
    attachments.write_sample(found.folder, result)
    return found


def test_the_script_of_the_documentation_draws_the_same_sample_and_notices_another_one(tmp_path: Path) -> None:
    evil = 'x"; drop table items; --\n\u202e\U0001f600'
    population = [
        write(n, correlation_id=f"{evil}{n}", occurred_at=made.START + dt.timedelta(seconds=n // 4))
        for n in range(1, 90)
    ]
    folder = kept(tmp_path, [*population, access(99)], engagement="SOC2-2026 é", nonce="4 2 6 1").folder
    assert len([line for line in script().splitlines() if line.strip()]) <= 16

    def run() -> str:
        done = subprocess.run(
            [sys.executable, "-I", "-c", script()], cwd=folder, capture_output=True, text=True, check=True
        )
        return done.stdout

    assert run().splitlines() == [
        "schema-and-rights-changes 0 items 0 drawn as told",
        "direct-data-changes 89 items 15 drawn as told",
    ]
    told = json.loads((folder / "sample.json").read_bytes())
    told["samples"][1]["picks"][3]["item"] = told["samples"][1]["picks"][4]["item"]
    (folder / "sample.json").write_text(json.dumps(told))
    assert run().splitlines()[1].endswith("NOT AS TOLD")
