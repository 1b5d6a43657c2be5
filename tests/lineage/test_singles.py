"""Counted records one by one: a file of them gives back what was written, of the time that is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lineage.extracts import singles
from lineage.extracts.numbering import DENSE, Numbers, numbered
from lineage.extracts.postings import Damaged
from lineage.extracts.singles import Singles


def some(count: int, seed: int) -> Singles:
    drawn = np.random.default_rng(seed)
    indexes = 10_000_000_000 + np.sort(drawn.choice(5 * count, count, replace=False))
    # Nearly in order of time, as records come; one source was late.
    times = np.cumsum(drawn.integers(0, 10_000_000, count)) + drawn.integers(-60_000_000, 1, count) - 2 * 10**15
    times[count // 2] = 7
    return Singles(
        indexes,
        times,
        drawn.integers(0, 1 << 20, count),
        drawn.integers(0, 9, count),
        indexes[:1] + np.zeros(count, int),
    )


def test_records_are_found_by_time_as_they_were_written(tmp_path: Path) -> None:
    written = [some(10_000, 1), some(3, 2)]
    (tmp_path / singles.FILE).write_bytes(b"".join(singles.content(written)))
    file, every = singles.File(tmp_path), singles.together(written)
    middle = int(np.median(every.times))
    for since, until in ((None, None), (middle, middle + 3_600_000_000), (7, 8), (None, middle), (8, None)):
        kept = np.ones(len(every.times), bool) if since is None else every.times >= since
        kept &= np.ones(len(every.times), bool) if until is None else every.times < until
        expected, found = singles.chosen(every, kept), file.between(since, until)
        assert all((one == other).all() for one, other in zip(expected, found, strict=True))


def test_no_records_are_a_file_too(tmp_path: Path) -> None:
    (tmp_path / singles.FILE).write_bytes(b"".join(singles.content([])))
    assert not len(singles.File(tmp_path).between(None, None).indexes)


def test_a_damaged_file_is_refused_when_it_is_opened_or_read(tmp_path: Path) -> None:
    path = tmp_path / singles.FILE
    whole = b"".join(singles.content([some(9_000, 3)]))
    for data in (b"", whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(data)
        with pytest.raises(Damaged):
            singles.File(tmp_path)
    path.write_bytes(b"\0" * 100 + whole[100:])
    with pytest.raises(Damaged):
        singles.File(tmp_path).between(None, None)


@pytest.mark.parametrize("many", [3, 3_000])
def test_rows_have_one_number_when_all_their_values_are_equal(many: int) -> None:
    drawn = np.random.default_rng(4)
    texts = pa.array([None if one == 0 else f"t{one}" for one in drawn.integers(0, many, 5_000).tolist()])
    flags = pa.array([None if one == 2 else bool(one) for one in drawn.integers(0, 3, 5_000).tolist()])
    columns = [texts, flags, pa.array(texts.to_pylist()[::-1]), texts, pa.array([*texts.to_pylist()[1:], "x"])]
    assert many < 10 or len(texts.dictionary_encode().dictionary) ** 4 > DENSE
    numbers = Numbers()
    found = numbered(columns, numbers)
    rows = list(zip(*(column.to_pylist() for column in columns), strict=True))
    assert [list(numbers.of)[number] for number in found.tolist()] == rows
    assert (numbered(columns, numbers) == found).all()
