"""Statements as they lie folded: a file of them finds the records whose statements have some words, as DuckDB does."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lineage import instance
from lineage.extracts import Making, folded, texts
from lineage.extracts.folded import BLOCK, STRETCH, Folded, Words
from lineage.extracts.postings import Damaged
from lineage.extracts.texts import HAS

FIRST = 3 * STRETCH - 700
ODD = (
    "İstanbul",
    "STRASSE ẞ ß",
    "\u212a\u212b \u03a3\u03c2",
    "ǅungla Ǆ",
    "Ⱥ ⱥ Ⱦ",
    "a\0b",
    "",
    "x",
    "\U00010400",
    "Äh\u0308re",
)
WORDS = (
    *(["İ"], ["i"], ["ß"], ["ẞ"], ["k"], ["\u212b"], ["Σ"], ["ς"], ["Ǆ"], ["ⱥ"], ["\0"], ["a\0B"], ["\U00010428"], ["ÄH\u0308"]),
    *(["SELECT"], ["where ID = 71"], ["where id = 7", "NAME"], ["name", "absent"], ["e"], ["no such words at all"], ["long text"]),
    *([f"{'y' * 20}Z"], ["strasse", "ß"], ["orders_11", "id, name"], ["\n"], ["1\nfrom"]),
)  # fmt: skip


@pytest.fixture(scope="module")
def log() -> Any:
    """DuckDB with `given`: two stretches and a little of records, of which every third has no statement."""
    drawn = random.Random(7)
    statements: list[str | None] = []
    for number in range(STRETCH // 8):
        table, key = f"orders_{drawn.randrange(30)}", drawn.randrange(900)
        text = f"Select id, name\nFROM {table} where ID = {key}" if number % 7 else drawn.choice(ODD)
        statements.append(None if number % 3 == 2 else text)
    statements[100] = f"{'y' * 3 * BLOCK}z long text"
    database = instance.connect()
    # So far apart that they lie in three stretches.
    indexes = FIRST + 16 * np.arange(len(statements)) + np.arange(len(statements)) % 3
    database.register("given", pa.table({"index": indexes, "statement": pa.array(statements, pa.string())}))
    return database


def written(log: Any, folder: Path, first: int, following: int) -> Folded:
    folder.mkdir()
    log.execute(f"create or replace temp view made as from given where index < {following}")
    folded.write(Making(folder, first, following, log, folder, None))
    return Folded(folder / folded.FILE)


def found(log: Any, file: Folded, words: list[str]) -> list[int]:
    sought = Words([texts._folded(lambda: log, word) for word in words])
    return [index for number in file.numbers for index in file.find(number, sought).tolist()]


def test_words_are_found_as_the_database_finds_them_also_where_files_are_merged(log: Any, tmp_path: Path) -> None:
    end = FIRST + 2 * STRETCH + 800
    bounds = [FIRST, FIRST + 500, FIRST + 40_000, FIRST + 41_000, end]
    whole = written(log, tmp_path / "whole", FIRST, end)
    assert len(whole.numbers) == 3
    parts = [tmp_path / str(start) for start in bounds[:-1]]
    for part, start, following in zip(parts, bounds, bounds[1:], strict=False):
        written(log, part, start, following)
    merged = tmp_path / "merged"
    merged.mkdir()
    folded.merge(Making(merged, FIRST, end, log, merged, None, tuple(parts)))
    assert (merged / folded.FILE).read_bytes() == (tmp_path / "whole" / folded.FILE).read_bytes()
    for words in WORDS:
        condition = " and ".join([HAS] * len(words))
        asked = log.execute(f"select index from given where {condition} order by index", words).fetchall()
        assert found(log, whole, words) == [index for (index,) in asked], words
    assert sum(bool(found(log, whole, words)) for words in WORDS) > 20


def test_blocks_that_cannot_have_the_words_are_not_read(
    log: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, read = written(log, tmp_path / "some", FIRST, FIRST + 2 * STRETCH), list[int]()
    of = folded._Blocks.read
    monkeypatch.setattr(folded._Blocks, "read", lambda blocks, place: read.append(place) or of(blocks, place))
    assert not found(log, file, ["no such words at all"])
    assert len(read) < 3
    assert found(log, file, ["id"])
    assert len(read) > 12


def test_records_without_statements_make_a_file_of_nothing(log: Any, tmp_path: Path) -> None:
    assert written(log, tmp_path / "none", 0, FIRST).numbers == {}


def test_a_damaged_file_of_statements_is_refused_when_it_is_opened_or_read(log: Any, tmp_path: Path) -> None:
    file = written(log, tmp_path / "some", FIRST, FIRST + 2 * STRETCH)
    path, (begin, end) = tmp_path / "some" / folded.FILE, next(iter(file.numbers.values()))
    whole = path.read_bytes()
    for data in (b"", whole[:-1], whole[: len(whole) // 2], whole[50:]):
        path.write_bytes(data)
        with pytest.raises(Damaged):
            Folded(path)
    middle = (begin + end) // 2
    for data in (
        b"\xff" * 4 + whole[4:],
        bytes(100) + whole[100:],
        whole[:middle] + bytes(400) + whole[middle + 400 :],
    ):
        path.write_bytes(data)
        with pytest.raises(Damaged):
            found(log, Folded(path), ["e"])
