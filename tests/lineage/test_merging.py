"""Merging: many small segments become few large ones, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from django.core.management import call_command
from django.db import DatabaseError
from hypothesis import given
from hypothesis import settings as tried
from hypothesis import strategies as st

from lineage import erasures, errors, fsck, keeper, locks, merging, queries, rowgroups, segments, tree
from lineage.access import Viewer
from tests import merges, story
from tests.elsewhere import elsewhere
from tests.lineage import forgetting

ALL = Viewer(email="audit@example.test", role="admin")
SECRET = "Zebedee-Q7"


# which neighbours


def settled(sizes: list[int]) -> tuple[list[int], int]:
    """What becomes of segments that are sealed one after the other; and how many records were written in merges."""
    there: list[int] = []
    written = 0
    for size in sizes:
        there.append(size)
        while ends := merging.chosen(there):
            merged = sum(there[slice(*ends)])
            assert merged <= merging.EVENTS_MOST
            there[slice(*ends)] = [merged]
            written += merged
    return there, written


@tried(max_examples=40)
@given(st.lists(st.sampled_from([1, 7, 300, 5_000, 20_000, 200_000]), min_size=1, max_size=700))
def test_segments_stay_few_and_each_record_is_written_anew_a_few_times(sizes: list[int]) -> None:
    there, written = settled(sizes)
    assert sum(there) == sum(sizes)
    assert len(there) <= 100 + 2 * sum(sizes) // merging.EVENTS_MOST
    # Each merge makes its records' segment four times as large as it was, the last one twice.
    assert written <= 13 * sum(sizes)


def test_equal_segments_are_merged_sixteen_to_one_up_to_the_most_that_one_may_hold() -> None:
    there, written = settled([20_000] * 4_096)
    assert there[:6] == [merging.EVENTS_MOST] * 6
    assert len(there) < 30
    assert written < 4 * sum(there)


def test_few_small_or_very_large_neighbours_are_left_alone() -> None:
    assert merging.chosen([5] * 15) is None
    assert merging.chosen([9_000_000, 9_000_000]) is None
    assert merging.chosen([1_000, *[5] * 15]) is None
    assert merging.chosen([1_000, *[5] * 16]) == (1, 17)


# what becomes of them


@pytest.fixture
def pair(store: str, settings: Any) -> tuple[Viewer, Viewer]:
    """Two people of compliance, over two segments of three records, each with the secret."""
    settings.GRACE_SECONDS, settings.WAL_HOURS = -settings.QUERY_SECONDS, 0
    two = forgetting.people()
    source = story.source()
    for key in ("4711", "9"):
        forgetting.send(SECRET, source, key)
        seal()
    forgetting.act_as("store")
    return two


def seal() -> None:
    keeper.once()
    with keeper.lock():
        segments.seal()


def folders() -> list[str]:
    return [folder for _, _, folder, _ in segments.manifest()]


@pytest.mark.slow
def test_a_merge_keeps_every_record_byte_for_byte_and_the_old_files_for_their_readers(
    pair: tuple[Viewer, Viewer], settings: Any
) -> None:
    settings.GRACE_SECONDS = 60
    before, old = list(segments.records(range(6))), folders()
    derived = [[rows(folder, name) for folder in old] for name in merging.DERIVED]
    created = forgetting.rows("select max(created_at), min(first_at), max(last_at) from ledger_segment")
    assert merges.everything() == 1
    ((first, following, folder, files),) = segments.manifest()
    assert (first, following) == (0, 6)
    assert list(segments.records(range(6))) == before
    assert [rows(folder, name) for name in merging.DERIVED] == [[*one, *other] for one, other in derived]
    assert forgetting.rows("select max(created_at), min(first_at), max(last_at) from ledger_segment") == created
    assert set(files) == {*merging.SCHEMAS, "facts", "heard", "keys"}
    assert list(fsck.check()) == []
    forgetting.locked(segments.sweep)
    assert forgetting.locked(segments.remove_replaced) == 0
    assert segments.storage().names() == {*old, folder}
    settings.GRACE_SECONDS = -settings.QUERY_SECONDS
    assert forgetting.locked(segments.remove_replaced) == 2
    assert segments.storage().names() == {folder}
    assert list(segments.records(range(6))) == before


def rows(folder: str, name: str) -> Any:
    return pq.read_table(segments.storage().path(folder, name)).to_pylist()


@pytest.mark.slow
def test_no_footer_of_a_sealed_file_states_a_value_that_an_erasure_could_take(
    pair: tuple[Viewer, Viewer], tmp_path: Path
) -> None:
    merges.everything()
    forgetting.locked(erasures.execute, approved(pair))
    files = [pq.ParquetFile(path).metadata for path in tmp_path.glob("segments/*/*.parquet")]
    assert len(files) > 3 * len(merging.SCHEMAS)
    groups = [file.row_group(n) for file in files for n in range(file.num_row_groups)]
    columns = [group.column(n) for group in groups for n in range(group.num_columns)]
    found = {c.path_in_schema for c in columns if c.statistics}
    assert {"index", "occurred_at", "received_at"} <= found <= set(rowgroups.STATED)


@pytest.mark.slow
def test_what_reads_on_while_its_files_are_merged_away_misses_nothing(pair: tuple[Viewer, Viewer]) -> None:
    records, leaves = segments.records(range(6)), segments.leaves(0, 6)
    begun = [next(records).index, next(leaves)[0]]
    walked = segments.walk()
    assert next(walked)[:2] == (0, 3)
    merges.everything()
    forgetting.locked(segments.remove_replaced)
    assert begun == [0, 0]
    assert [record.index for record in records] == [index for index, _ in leaves] == [1, 2, 3, 4, 5]
    assert [found[:2] for found in walked] == [(0, 6)]


@pytest.mark.slow
def test_the_command_merges_what_is_due_and_says_so(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    source = story.source()
    for n in range(16):
        story.send(source, *forgetting.items("x", str(n))[1:2])
        seal()
    call_command("merge")
    call_command("merge")
    assert capsys.readouterr().out.splitlines() == [
        "merged: 1 times, 16 segments before, 1 now",
        "merged: 0 times, 1 segments before, 1 now",
    ]
    assert queries.events(ALL, "kind:change").total.value == 16


@pytest.mark.slow
def test_only_who_holds_the_lock_and_the_right_can_merge_and_only_neighbours(pair: tuple[Viewer, Viewer]) -> None:
    story.send(story.source("more"), *forgetting.items("x", "1"))
    seal()
    one, two, three = folders()
    sql = "select ledger_merge(%s, 'new', '{}')"
    with pytest.raises(DatabaseError, match="lock of merges"):
        forgetting.rows(sql, [one, two])
    with locks.alone(locks.MERGE):
        with pytest.raises(DatabaseError, match="neighbours"):
            forgetting.rows(sql, [one, three])
        for wrong in ([one, "unknown"], [one], [one, one]):
            with pytest.raises(DatabaseError, match="not what was read"):
                forgetting.rows(sql, wrong)
        forgetting.act_as("web")
        with pytest.raises(DatabaseError, match="permission denied"):
            forgetting.rows(sql, [one, two])
    assert folders() == [one, two, three]


@pytest.mark.slow
def test_a_file_that_was_changed_is_not_merged_as_if_it_were_ours(pair: tuple[Viewer, Viewer]) -> None:
    before = folders()
    path = segments.storage().path(before[1], "touches")
    pq.write_table(pq.read_table(path).slice(1), path)
    with merges.eager(), pytest.raises(errors.LedgerBroken, match="Segment 3: its file touches was changed"):
        merging.merge()
    assert folders() == before
    assert segments.storage().names() == set(before)


@pytest.mark.slow
def test_leaves_that_are_not_the_signed_ones_are_not_merged(pair: tuple[Viewer, Viewer]) -> None:
    before = folders()
    path = tree.hashes().path
    path.write_bytes(path.read_bytes()[: 4 * 32] + b"x" * 64)
    with merges.eager(), pytest.raises(errors.LedgerBroken, match="not those that were signed"):
        merging.merge()
    assert folders() == before
    assert segments.storage().names() == set(before)


# beside erasures


def approved(pair: tuple[Viewer, Viewer], query: str = "key:4711") -> int:
    number = erasures.request(pair[0], query, ["statement", "change"], reason="asked", ground="GDPR 17").number
    erasures.approve(pair[1], number)
    return number


def holders(data: Path) -> set[str]:
    """Segment folders in whose files the secret stands."""
    found = data.glob("segments/*/*.parquet")
    return {path.parent.name for path in found if SECRET in repr(pq.read_table(path).to_pylist())}


@pytest.mark.slow
def test_an_erasure_of_what_was_merged_reaches_the_files_that_were_merged_too(
    pair: tuple[Viewer, Viewer], tmp_path: Path
) -> None:
    merges.everything()
    (merged,) = folders()
    assert len(holders(tmp_path)) == 3
    leaves = dict(segments.leaves(0, 6))
    forgetting.locked(erasures.execute, approved(pair, "key:4711 or key:9"))
    assert erasures.still(erasures.one(1))[0].what == "3 replaced folders of sealed files"
    with pytest.raises(DatabaseError, match="old files"):
        forgetting.rows("select ledger_finish_erasure(1)")
    assert forgetting.locked(erasures.run_due) == 0
    assert holders(tmp_path) == set()
    assert merged not in folders()
    assert dict(segments.leaves(0, 6)) == leaves
    assert list(fsck.check()) == []


@pytest.mark.slow
def test_a_merge_that_an_erasure_overtakes_begins_again_and_keeps_no_value(
    pair: tuple[Viewer, Viewer], tmp_path: Path
) -> None:
    number = approved(pair, "key:4711 or key:9")
    with locks.alone(locks.MERGE):
        parts = [merging.Segment(*row) for row in segments.manifest()]
        name, files = merging._written(parts)
        forgetting.locked(erasures.execute, number)
        with pytest.raises(merging.Changed):
            merging._publish(parts, "select ledger_merge(%s, %s, %s)", name, files)
    assert name not in segments.storage().names()
    merges.everything()
    assert forgetting.locked(erasures.run_due) == 0
    assert holders(tmp_path) == set()
    assert list(fsck.check()) == []


@pytest.mark.slow
def test_an_erasure_is_complete_only_after_the_merge_that_was_at_work_and_its_remains_are_gone(
    pair: tuple[Viewer, Viewer], tmp_path: Path
) -> None:
    number = approved(pair, "key:4711 or key:9")
    with elsewhere(
        locks.MERGE, lambda: merging._written([merging.Segment(*row) for row in segments.manifest()])
    ) as made:
        forgetting.locked(erasures.execute, number)
        assert forgetting.locked(erasures.finish, number) is False
        assert made()[0] in segments.storage().names()
    # That process is gone now, without a word.
    assert forgetting.locked(erasures.finish, number) is True
    assert holders(tmp_path) == set()


@pytest.mark.slow
def test_of_two_that_merge_one_does_and_what_a_killed_one_left_is_swept(
    pair: tuple[Viewer, Viewer], tmp_path: Path
) -> None:
    before = set(folders())
    with elsewhere(
        locks.MERGE, lambda: merging._written([merging.Segment(*row) for row in segments.manifest()])
    ) as made:
        with pytest.raises(errors.StoreUnavailable), locks.alone(locks.MERGE):
            pass
        assert forgetting.locked(segments.sweep) is False
        assert segments.storage().names() == before | {made()[0]}
    assert merges.everything() == 1
    assert made()[0] not in segments.storage().names()


@pytest.mark.slow
def test_a_record_erased_from_a_large_segment_is_derived_again_and_the_others_stay(pair: tuple[Viewer, Viewer]) -> None:
    merges.everything()
    before = {name: rows(folders()[0], name) for name in merging.DERIVED}
    forgetting.locked(erasures.execute, approved(pair))
    after = {name: rows(folders()[0], name) for name in merging.DERIVED}
    for name in merging.DERIVED:
        assert [row for row in after[name] if row["index"] not in (0, 1)] == [
            row for row in before[name] if row["index"] not in (0, 1)
        ]
    assert [row["statement"] for row in after["events"][:2]] == [None, None]
    assert list(fsck.check()) == []


ASKED: dict[str, Callable[[], Any]] = {
    "events": lambda: queries.events(ALL, "", limit=1000).items,
    "touches": lambda: queries.touches(ALL, "", limit=1000).items,
    "row": lambda: queries.row(ALL, "orders-prod", "public.customers", "4711"),
    "relation": lambda: queries.relation(ALL, "orders-prod", "public.orders"),
    "relations": lambda: queries.relations(ALL, "").items,
    "identities": lambda: queries.identities(ALL, "").items,
    "identity": lambda: queries.identity(ALL, "dana@shop.example"),
    "sessions": lambda: queries.sessions(ALL, "").items,
    "overview": lambda: queries.overview(ALL),
    "chain": lambda: queries.chain(ALL, "record", "1"),
}


@pytest.mark.slow
def test_every_answer_is_the_same_before_and_after_a_merge(told_in_parts: None) -> None:
    assert len(folders()) > 5
    before = {name: repr(ask()) for name, ask in ASKED.items()}
    assert merges.everything() > 0
    assert len(folders()) == 1
    assert {name: repr(ask()) for name, ask in ASKED.items()} == before
