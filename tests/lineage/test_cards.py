"""Cards: what was written is read again, whatever it says and however the files are put together."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lineage import rowgroups
from lineage.extracts import cards, columns, packing, stacks
from lineage.extracts.blocks import TOUCHED, Layout
from lineage.extracts.cards import Card, Cards
from lineage.extracts.postings import Damaged

FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
NAMES = (
    "index occurred_at environment datasource event_id received_at attribution_index statement redacted fingerprint "
    "relations keys columns outcome claimed"
).split()
TEXT = st.one_of(st.none(), st.text(alphabet="a?'1,=é \x00", max_size=6))
TEXTS = st.one_of(st.none(), st.lists(TEXT, max_size=2))
NAMED = st.one_of(st.none(), st.lists(st.text(alphabet="a,=", max_size=3), max_size=2))
IDS = st.one_of(
    TEXT, st.uuids().map(str), st.uuids().map(lambda one: str(one).upper()), st.uuids().map(lambda one: one.hex)
)
PRINTS = st.one_of(TEXT, st.sampled_from(["9bd4267fb53c28dc", "9BD4267FB53C28DC", "abc", ""]))
TIMES = st.one_of(
    st.none(), st.integers(-(10**15), 4 * 10**15), st.integers(1_762_451_332_800_914, 1_762_451_999_999_999)
)
TOUCHES = st.lists(st.tuples(TEXT, TEXT, TEXT, TEXT, TEXT, TEXT, NAMED, TEXTS, NAMED).map(list), max_size=2)


@st.composite
def contents(draw: st.DrawFn) -> tuple[int | None, list[Any], list[list[Any]]]:
    """Time, the columns behind the place, touches; half of the lists say what the touches say."""
    touches = draw(TOUCHES)
    for touch in touches:
        if draw(st.booleans()):
            touch[7] = [f"{name}={touch[2]}" for name in touch[6] or ()]
    redacted = draw(TEXT)
    statement = redacted.replace("?", draw(st.sampled_from(["1", "'?'", "", "a?a"]))) if redacted else draw(TEXT)
    told = draw(st.booleans())
    following = (
        (list(dict.fromkeys(t[1] for t in touches)), list(dict.fromkeys(t[2] for t in touches)), draw(TEXTS))
        if told
        else (draw(TEXTS), draw(TEXTS), draw(TEXTS))
    )
    row = [draw(IDS), draw(TIMES), draw(st.one_of(st.none(), st.integers(0, 10**9))), statement, redacted, draw(PRINTS)]
    return draw(TIMES), [*row, *following, draw(TEXT), draw(st.booleans())], touches


MADE = st.dictionaries(st.integers(0, 120), st.tuples(contents(), TEXT, TEXT, st.integers(0, 63)), max_size=12)


def made(some: dict[int, Any], least: int = 1_000) -> list[Card]:
    found = []
    for index, ((at, row, touches), environment, datasource, marks) in sorted(some.items()):
        content = [least + index, at, environment, datasource, *row], [list(touch) for touch in touches]
        found.append(Card(least + index, at, (environment, datasource), marks, content))
    return found


def read(path: Path) -> list[Card]:
    file = Cards(path)
    return list(file.cards(np.arange(file.count)))


def plain(number: int) -> Card:
    """One of many that are much alike."""
    at = None if number % 97 == 5 else 1_762_451_332_800_914 + number * 7_000_003
    text = f"select a from public.t_{number % 7} where id = {number}"
    row = [
        f"019a5a49-2050-7f88-ae7f-{number:012x}",
        at,
        number,
        text,
        text[: text.rindex(" ")] + " ?",
        f"{number % 9:016x}",
    ]
    touches = [
        ["db", f"public.t_{number % 7}", str(number), "read", "read", "parsed", ["id"], [f"id={number}"], ["a", "id"]]
    ]
    content = [
        number,
        at,
        "production",
        "db",
        *row,
        [f"public.t_{number % 7}"],
        [str(number)],
        ["a", "id"],
        "unknown",
        False,
    ]
    return Card(number, at, ("production", "db"), number % 64, (content, touches))


NUMBERS = ("index", "occurred_at", "received_at", "attribution_index")
LISTS = ("relations", "keys", "columns", "key_columns", "pairs", "touch_columns")


def table(names: tuple[str, ...], rows: list[list[Any]]) -> pa.Table:
    kinds = {
        **dict.fromkeys(NUMBERS, pa.int64()),
        **dict.fromkeys(LISTS, pa.list_(pa.string())),
        "claimed": pa.bool_(),
    }
    columns = [pa.array([row[n] for row in rows], kinds.get(name, pa.string())) for n, name in enumerate(names)]
    return pa.Table.from_arrays(columns, list(names))


def packed(path: Path, some: list[Card], ends: list[int]) -> bytes:
    """The file of these cards out of columns; the records come of a file whose row groups have these ends."""
    rows = [card.content[0] for card in some]
    touches = [[card.record, *touch] for card in some for touch in card.content[1]]
    records = path.with_suffix(".parquet")
    with pq.ParquetWriter(records, table(tuple(NAMES), []).schema) as file:
        for start, end in itertools.pairwise([0, *sorted(ends), len(rows)]):
            file.write_table(table(tuple(NAMES), rows[start:end]))
    marks = np.array([card.marks for card in some], np.int64)
    places = cards.Places()
    blocks = packing.packed(
        Layout(NAMES), places, rowgroups.groups(records), table(("index", *TOUCHED), touches), marks
    )
    cards.write_packed(path, NAMES, places, blocks)
    return path.read_bytes()


@FOLDER
@given(MADE, st.lists(st.integers(0, 12), max_size=2))
def test_cards_made_of_columns_are_the_same_bytes(tmp_path: Path, some: dict[int, Any], ends: list[int]) -> None:
    every = made(some)
    cards.write(tmp_path / "a", NAMES, iter(every))
    assert packed(tmp_path / "b", every, [min(end, len(every)) for end in ends]) == (tmp_path / "a").read_bytes()


def test_many_cards_made_of_columns_are_the_same_bytes(tmp_path: Path) -> None:
    every = [plain(number) for number in range(packing.PART + 400)]
    cards.write(tmp_path / "a", NAMES, iter(every))
    assert packed(tmp_path / "b", every, [5_003, packing.PART + 5]) == (tmp_path / "a").read_bytes()


@FOLDER
@given(MADE)
def test_what_was_written_is_read_again(tmp_path: Path, some: dict[int, Any]) -> None:
    expected = made(some)
    cards.write(tmp_path / "a", NAMES, iter(expected))
    assert read(tmp_path / "a") == expected
    asked = np.arange(990, 1_130)
    file = Cards(tmp_path / "a")
    assert file.contents(asked) == {card.record: card.content for card in expected}
    there = file.directory(asked)
    assert there.indexes.tolist() == [card.record for card in expected]
    assert there.times.tolist() == [cards.NO_TIME if card.at is None else card.at for card in expected]
    assert [file.places[place] for place in there.places.tolist()] == [card.place for card in expected]
    assert there.marks.tolist() == [card.marks for card in expected]
    for start, end in itertools.product((0, 990, 1_000, 1_030, 1_130), repeat=2):
        between = file.directory(np.arange(start, end))
        assert [column.tolist() for column in file.between(start, end)] == [column.tolist() for column in between]
        assert [column.tolist() for column in there.between(start, end)] == [column.tolist() for column in between]


@FOLDER
@given(
    st.lists(st.tuples(MADE, st.sets(st.integers(0, 120), max_size=9)), min_size=1, max_size=4),
    st.sampled_from([1, 2, 16]),
)
def test_a_merge_holds_each_record_that_is_not_dropped_once(
    tmp_path: Path, parts: list[tuple[dict[int, Any], set[int]]], size: int
) -> None:
    kept: dict[int, Any] = {}
    paths, dropped = [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cards, "BLOCK", size)
        patch.setattr(stacks, "BLOCK", size)
        patch.setattr(stacks, "SMALL", size // 2)
        for number, (some, lost) in enumerate(parts):
            lost |= {index for later, _ in parts[number + 1 :] for index in later}
            paths.append(tmp_path / str(number))
            dropped.append(np.array(sorted(1_000 + index for index in lost), np.int64))
            cards.write(paths[-1], NAMES, iter(made(some)))
            kept |= {index: one for index, one in some.items() if index not in lost}
        stacks.merged(tmp_path / "merged", paths, dropped)
    assert read(tmp_path / "merged") == made(kept)


def test_many_records_are_compressed_with_a_dictionary_and_merged_block_by_block(tmp_path: Path) -> None:
    parts = [range(5_000), range(5_000, 9_999)]
    for number, some in enumerate(parts):
        cards.write(tmp_path / str(number), NAMES, map(plain, some))
    again = plain(77)._replace(marks=63)
    cards.write(tmp_path / "2", NAMES, iter([again]))
    stacks.merged(tmp_path / "merged", [tmp_path / n for n in "012"], [np.array([77, 4_000]), None, None])
    file = Cards(tmp_path / "merged")
    assert file.dictionary is not None
    assert (tmp_path / "merged").stat().st_size < 40 * 10_000
    expected = [again if n == 77 else plain(n) for n in range(9_999) if n != 4_000]
    assert read(tmp_path / "merged") == expected
    asked = np.array([9_998, 4_000, 77, 4_001, 20_000])
    assert file.positions(asked).tolist() == [9_997, -1, 77, 4_000, -1]
    assert file.contents(asked) == {n: plain(n).content for n in (77, 4_001, 9_998)}


def test_a_file_of_cards_that_is_cut_or_something_else_is_refused(tmp_path: Path) -> None:
    cards.write(tmp_path / "a", NAMES, map(plain, range(100)))
    whole = (tmp_path / "a").read_bytes()
    for data in (b"", whole[:-1], whole[: len(whole) // 2], whole[4:], whole + b"0000", b"x" * len(whole)):
        (tmp_path / "b").write_bytes(data)
        with pytest.raises(Damaged):
            Cards(tmp_path / "b")
    (tmp_path / "b").write_bytes(whole[:40] + b"\xff" + whole[41:])
    with pytest.raises(Damaged):
        Cards(tmp_path / "b").contents(np.arange(100))


@given(st.lists(st.one_of(st.just(columns.NO_TIME), st.integers(-(2**62), 2**62), st.integers(0, 2**48)), max_size=9))
def test_times_of_any_length_come_back(moments: list[int]) -> None:
    since, (low, high) = columns.times(np.array(moments, np.int64))
    assert columns.times_of(low, high, since).tolist() == moments


def test_a_statement_is_left_out_only_where_its_redacted_form_gives_it_again() -> None:
    layout = Layout(NAMES)
    for statement, redacted in (
        ("a = ?", "a = ?"),
        ("a = 1 -- x", "a = ?"),
        ("a?b1", "a??b?"),
        ("", "?"),
        ("a", "?a?"),
    ):
        row = [7, None, None, None, "x", None, None, statement, redacted, None, None, None, None, None, None]
        assert layout.unpacked(layout.packed([(row, [])]), [(7, None, (None, None))], [0]) == [(row, [])]
