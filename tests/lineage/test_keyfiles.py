"""The file of dedupe keys: what is written is found, and what was not is not."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage.keyfiles import form, making

HOUR = 494_000


def key(name: str, hour: int = HOUR) -> bytes:
    return hour.to_bytes(4, "big") + hashlib.sha256(name.encode()).digest()[:12]


def packed(number: int, source: int = 7, hour: int = HOUR, conflict: bool = False) -> bytes:
    content = hashlib.sha256(b"content %d" % number).digest()
    return form.pack(source, key(str(number), hour), number, conflict, content)


def made(path: Path, records: list[bytes]) -> form.KeyFile:
    making.written(path, [sorted(records)])
    return form.KeyFile(path)


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 1000])
@pytest.mark.parametrize("hour", [0, HOUR])
def test_every_key_of_a_file_is_found_with_its_index_and_no_other(tmp_path: Path, count: int, hour: int) -> None:
    with made(tmp_path / "keys", [packed(n, hour=hour) for n in range(count)]) as file:
        found = file.find(7, [key(str(n), hour) for n in range(count + 500)])
        assert {k: f.index for k, f in found.items()} == {key(str(n), hour): n for n in range(count)}
        assert file.find(8, list(found)) == {}
        assert file.find(7, [key("1", hour + 1)]) == {}


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 30)), max_size=300, unique=True),
    st.lists(st.integers(0, 300), max_size=3),
)
def test_several_files_merge_into_what_one_file_of_all_would_be(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[int, int, int]], cuts: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("merged")
    records = [packed(n, source, hour * HOUR) for source, hour, n in drawn]
    ends = [0, *sorted(cuts), len(records)]
    runs = [sorted(records[a:b]) for a, b in itertools.pairwise(ends)]
    for n, run in enumerate(runs[1:]):
        making.written(folder / f"{n}", [run])
    files = [folder / f"{n}" for n in range(len(runs) - 1)]
    said = making.merged(files, [runs[0]])(folder / "merged")
    assert said == making.written(folder / "whole", [sorted(records)])
    assert (folder / "merged").read_bytes() == (folder / "whole").read_bytes()


def test_the_first_of_a_keys_records_is_found_and_a_second_content_is_not(tmp_path: Path) -> None:
    first, second = packed(1), form.pack(7, key("1"), 9, True, bytes([1]) * 32)
    with made(tmp_path / "both", [second, first]) as file:
        assert file.find(7, [key("1")])[key("1")].index == 1
    with made(tmp_path / "second", [second]) as file:
        assert file.find(7, [key("1")]) == {}


def test_the_first_of_a_key_is_found_where_its_second_contents_fill_pages(tmp_path: Path) -> None:
    others = [form.pack(7, key("1"), 100 + n, True, n.to_bytes(32, "big")) for n in range(200)]
    before = [packed(n, source=6) for n in range(63)]
    with made(tmp_path / "keys", [packed(1), *others, *before]) as file:
        assert file.find(7, [key("1")])[key("1")].index == 1


def test_a_forgotten_content_is_gone_from_the_file_and_its_key_is_still_found(tmp_path: Path) -> None:
    making.written(tmp_path / "old", [sorted(packed(n) for n in range(100))])
    making.erased(tmp_path / "old", {5, 77})(tmp_path / "new")
    with form.KeyFile(tmp_path / "new") as file:
        found = file.find(7, [key(str(n)) for n in range(100)])
        assert {f.index for f in found.values() if form.is_forgotten(f.content)} == {5, 77}
        assert len(found) == 100
    assert hashlib.sha256(b"content 5").digest() not in (tmp_path / "new").read_bytes()


def test_the_hours_of_a_source_are_told_in_at_most_32_runs_that_cover_them_all(tmp_path: Path) -> None:
    hours = [*range(10, 20), *range(1_000, 9_000, 50), 90_000]
    said = making.written(tmp_path / "keys", [sorted(packed(n, hour=hour) for n, hour in enumerate(hours))])
    runs = said["hours"]["7"]
    assert len(runs) == 32
    assert all(any(first <= hour <= last for first, last in runs) for hour in hours)
    assert not any(first <= hour <= last for first, last in runs for hour in (25, 9_500, 89_999))


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 200])
def test_a_file_that_is_none_is_refused(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "keys").write_bytes(damage)
    with pytest.raises(form.Damaged):
        form.KeyFile(tmp_path / "keys")
