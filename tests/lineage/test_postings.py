"""Postings: what was written is found, cut files are refused, a merge is what writing it all at once makes."""

from __future__ import annotations

from pathlib import Path

import duckdb  # noqa: TID251 - the hash is compared with DuckDB's own
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lineage.extracts import postings

FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
PAIRS = st.lists(st.tuples(st.sampled_from([0, 1, 7, 2**40, 2**63, 2**64 - 1]), st.integers(100, 140)), max_size=60)


def columns(pairs: list[tuple[int, int]]) -> tuple[postings.Hashes, postings.Indexes]:
    return np.array([p[0] for p in pairs], np.uint64), np.array([p[1] for p in pairs], np.int64)


def made(path: Path, pairs: list[tuple[int, int]], order: postings.Order | None = None) -> postings.Postings:
    hashes, indexes = columns(pairs)
    postings.write(path, hashes, indexes, order(indexes) if order else None)
    return postings.Postings(path)


def backwards(indexes: postings.Indexes) -> postings.Indexes:
    return -(indexes // 2)


@FOLDER
@given(PAIRS)
def test_each_term_finds_its_records_once_and_no_others(tmp_path: Path, pairs: list[tuple[int, int]]) -> None:
    file = made(tmp_path / "a", pairs)
    for term in (0, 1, 2, 7, 2**40, 2**63, 2**64 - 1):
        expected = sorted({index for hashed, index in pairs if hashed == term})
        assert file.find(term).tolist() == expected
        assert file.count(term) == len(expected)
        assert file.spans(np.array([3, term], np.uint64)) == ([(1, *file.span(term))] if expected else [])
    found = [column.tolist() for column in file.pairs(np.array([1, 3, 7], np.uint64))]
    assert list(zip(*found, strict=True)) == sorted({pair for pair in pairs if pair[0] in (1, 7)})
    wanted = [7, 2**63, 3]
    numbers, records = file.numbered(np.array(wanted, np.uint64))
    assert list(zip(numbers.tolist(), records.tolist(), strict=True)) == [
        (number, index) for number, term in enumerate(wanted) for index in file.find(term).tolist()
    ]
    many = np.arange(20, dtype=np.uint64)
    assert file.spans(many) == [(n, *file.span(n)) for n in range(20) if file.count(n)]
    assert file.find_all(np.array(wanted, np.uint64)).tolist() == sorted({i for h, i in pairs if h in wanted})


@FOLDER
@given(PAIRS)
def test_the_records_of_a_term_ascend_by_their_order_and_by_index(tmp_path: Path, pairs: list[tuple[int, int]]) -> None:
    file = made(tmp_path / "a", pairs, backwards)
    for term in {hashed for hashed, _ in pairs}:
        mine = {index for hashed, index in pairs if hashed == term}
        assert file.find(term).tolist() == sorted(mine, key=lambda index: (-(index // 2), index))


@FOLDER
@given(
    st.lists(st.tuples(PAIRS, st.sets(st.integers(100, 140))), max_size=4), st.booleans(), st.sampled_from([3, 1 << 20])
)
def test_a_merge_is_what_writing_it_all_at_once_makes(
    tmp_path: Path, parts: list[tuple[list[tuple[int, int]], set[int]]], ordered: bool, slices: int
) -> None:
    order, kept = (backwards if ordered else None), []
    for number, (pairs, lost) in enumerate(parts):
        made(tmp_path / str(number), pairs, order)
        kept += [pair for pair in pairs if pair[1] not in lost]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postings, "SLICE", slices)
        dropped = [np.array(sorted(lost), np.int64) for _, lost in parts]
        postings.merged(tmp_path / "merged", [tmp_path / str(n) for n in range(len(parts))], dropped, order)
    at_once, merged = made(tmp_path / "once", kept, order), postings.Postings(tmp_path / "merged")
    for mine, theirs in zip(merged.between(0, 1 << 64), at_once.between(0, 1 << 64), strict=True):
        assert mine.tolist() == theirs.tolist()


def test_an_empty_file_is_one_and_finds_nothing(tmp_path: Path) -> None:
    file = made(tmp_path / "a", [])
    assert file.find(1).tolist() == [] == file.find_all(np.array([1, 2], np.uint64)).tolist()
    assert file.count(1) == 0


@pytest.mark.parametrize("far", [0, 1 << 24, (1 << 32) - 2_000])
def test_terms_of_many_records_lie_among_those_of_few_however_far_apart_they_are(tmp_path: Path, far: int) -> None:
    pairs = [(hashed, 5 + n) for hashed in range(200) for n in range(1_000 if hashed % 50 == 33 else hashed % 4 + 1)]
    pairs += [(7, far + 5), (83, far + 6)]
    file = made(tmp_path / "a", pairs)
    expected: dict[int, set[int]] = {}
    for hashed, index in pairs:
        expected.setdefault(hashed, set()).add(index)
    for hashed, indexes in expected.items():
        assert file.find(hashed).tolist() == sorted(indexes)
    assert file.find_all(np.array([33, 34, 199, 83], np.uint64)).tolist() == sorted(
        expected[33] | expected[34] | expected[199] | expected[83]
    )
    found = [column.tolist() for column in file.between(30, 90)]
    assert list(zip(*found, strict=True)) == sorted({pair for pair in pairs if 30 <= pair[0] < 90})


def test_a_file_that_is_cut_or_something_else_is_refused(tmp_path: Path) -> None:
    made(tmp_path / "a", [(n * 977, n) for n in range(200)])
    whole = (tmp_path / "a").read_bytes()
    for data in (b"", whole[:-1], whole[: len(whole) // 2], whole[4:], whole + b"0000", b"x" * len(whole)):
        (tmp_path / "b").write_bytes(data)
        with pytest.raises(postings.Damaged):
            postings.Postings(tmp_path / "b")


def test_a_term_has_the_same_hash_here_and_in_duckdb() -> None:
    terms = [
        ("tx", "prod", "app", 771),
        ("vid", "prod", None, "3/1"),
        ("row", "", "ö\n", "a\x1fb"),
        ("call", None, None, None),
    ]
    for kind, *parts in terms:
        sql = postings.hash_sql(kind, *(f"${n + 1}" for n in range(len(parts))))
        assert duckdb.execute(f"select {sql}", parts).fetchone() == (postings.hash_of(kind, *parts),)
    assert postings.hashes_of(terms).tolist() == [postings.hash_of(kind, *parts) for kind, *parts in terms]
