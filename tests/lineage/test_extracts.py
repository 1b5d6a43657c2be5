"""Extracts: made of what is sealed, merged, left and made anew, and gone with an erasure; the log is what it was."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.core.management import call_command
from django.db import DatabaseError, connections
from django.test import Client

from lineage import engine, erasures, fsck, locks, queries, rowgroups, segments
from lineage.access import Viewer
from lineage.engine import Question
from lineage.extracts import OVERRIDES, RECORDS, Extract, keeping, making, opening, reading, storing
from lineage.extracts import merging as merged_extracts
from lineage.models import Source
from tests import extracts, story
from tests.elsewhere import elsewhere
from tests.lineage import forgetting
from tests.lineage.test_merging import approved, seal

pytestmark = pytest.mark.slow
SECRET = "Zebedee-Q7"


@pytest.fixture
def pair(store: str, settings: Any) -> tuple[Viewer, Viewer]:
    """Two people of compliance, over two segments and two extracts of three records, each with the secret."""
    settings.GRACE_SECONDS, settings.WAL_HOURS = -settings.QUERY_SECONDS, 0
    two = forgetting.people()
    source = story.source()
    for key in ("4711", "9"):
        forgetting.send(SECRET, source, key)
        seal()
        assert extracts.everything() == 1
    forgetting.act_as("store")
    return two


def names() -> set[str]:
    return segments.extracts().names()


def holders(data: Path) -> set[str]:
    """Folders of extracts in whose files the secret stands."""
    found = data.glob("extracts/*/*.parquet")
    return {path.parent.name for path in found if SECRET in repr(pq.read_table(path).to_pylist())}


def opened() -> bool:
    with Question() as question:
        return question.opened is not None


def test_what_the_store_itself_said_since_is_there_as_of_every_size(pair: tuple[Viewer, Viewer]) -> None:
    def assert_same(size: int) -> None:
        with Question(as_of=size) as one, Question(as_of=size, tables=True) as other:
            assert (one.opened is not None, other.opened) == (True, None)
            found, expected = (each.rows("select * from activity order by index") for each in (one, other))
            assert len(expected) == size
            assert found == expected

    for number in range(7, 10):
        forgetting.read(pair[0], "x")
        for size in (number, 7, number, 6):
            assert_same(size)
    seal()
    assert_same(9)
    forgetting.read(pair[0], "y")
    forgetting.send("another", Source.objects.get(name="desk"), "12")
    forgetting.read(pair[0], "z")
    for size in (14, 13, 10, 9, 14):
        assert_same(size)
    assert extracts.everything() == 1
    for size in (14, 9):
        assert_same(size)


# erasure


def test_an_erasure_takes_every_extract_at_once_and_is_complete_when_their_folders_are_gone(
    pair: tuple[Viewer, Viewer], tmp_path: Path
) -> None:
    old = names()
    assert holders(tmp_path) == old
    assert opened()
    forgetting.locked(erasures.execute, approved(pair, "key:4711"))
    assert extracts.spans() == []
    assert not opened()
    # The segment of the key, and both extracts: any may hold what it was joined with.
    assert erasures.still(erasures.one(1))[0].what == "3 replaced folders of sealed files"
    assert forgetting.locked(erasures.run_due) == 0
    assert not names() & old
    assert extracts.everything() == 1
    assert opened()
    assert SECRET not in str(queries.row(pair[0], "orders-prod", "public.customers", "4711"))
    assert list(fsck.check()) == []


def test_an_extract_that_an_erasure_overtakes_is_not_published(pair: tuple[Viewer, Viewer], tmp_path: Path) -> None:
    number = approved(pair, "key:4711 or key:9")
    with locks.alone(locks.EXTRACT):
        storing.leave(3)
        snap = engine.snapshot()
        with Question(snap, 6, joined=False) as question:
            name, files = making._written(question, snap.extracts[:1], 3, 6)
        forgetting.locked(erasures.execute, number)
        with pytest.raises(storing.Changed):
            storing.publish(snap.extracts[0]._replace(folder=name, first=3, following=6, files=files), snap.erased_at)
    assert name not in names()
    assert forgetting.locked(erasures.run_due) == 0
    assert holders(tmp_path) == set()


def test_an_erasure_is_complete_only_after_who_made_an_extract_has_gone_and_its_remains_with_it(
    pair: tuple[Viewer, Viewer], tmp_path: Path
) -> None:
    number = approved(pair, "key:4711 or key:9")
    with elsewhere(locks.EXTRACT, lambda: merged_extracts._written(engine.snapshot(), storing.manifest())) as made:
        forgetting.locked(erasures.execute, number)
        assert forgetting.locked(erasures.finish, number) is False
        assert made()[0] in names()
    # That process is gone now, without a word.
    assert forgetting.locked(erasures.finish, number) is True
    assert holders(tmp_path) == set()
    assert names() == set()


# what is missing, changed, or of another basis


def test_extracts_without_their_files_are_not_used_and_are_made_anew(pair: tuple[Viewer, Viewer]) -> None:
    before = queries.events(pair[0], "", limit=100).items
    first, second = storing.manifest()
    segments.extracts().remove(second.folder)
    assert not opened()
    assert queries.events(pair[0], "", limit=100).items == before
    assert [fault for fault in fsck.check() if RECORDS in fault and "makes it anew" in fault]
    assert extracts.everything() == 1
    assert storing.manifest()[0] == first
    assert opened()
    assert queries.events(pair[0], "", limit=100).items == before
    assert list(fsck.check()) == []


def test_an_extract_that_was_changed_is_named_by_fsck_and_not_merged(pair: tuple[Viewer, Viewer]) -> None:
    path = reading.folder(storing.manifest()[0].folder) / RECORDS
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert [fault for fault in fsck.check() if RECORDS in fault and "makes it anew" in fault]
    assert extracts.merged() == 0
    assert extracts.spans() == []
    assert extracts.everything() == 1
    assert list(fsck.check()) == []


def test_an_extract_that_says_something_else_than_the_log_is_named_by_fsck(pair: tuple[Viewer, Viewer]) -> None:
    one = storing.manifest()[0]
    path = reading.folder(one.folder) / RECORDS
    rows = pq.read_table(path)
    pq.write_table(rows.set_column(rows.schema.get_field_index("purpose"), "purpose", rows["event_id"]), path)
    said = segments.described(path)
    engine._here().forget(None)
    with connections["default"].cursor() as cursor:
        cursor.execute("reset role")
        cursor.execute(
            "update ledger_extract set files = jsonb_set(files, '{records.parquet}', %s::jsonb) where folder = %s",
            [json.dumps(said), one.folder],
        )
    assert list(fsck.check()) == [
        "The extracts do not say of record 0 what the log says. It is derived: `bin/manage extract --anew` makes it anew."
    ]


def test_another_list_of_roles_leaves_all_extracts_and_they_are_made_anew(pair: tuple[Viewer, Viewer]) -> None:
    Source.objects.update(context_roles=["orders_api"])
    assert not opened()
    assert extracts.everything() == 1
    assert opened()
    assert extracts.spans() == [(0, 6)]


# rights and command


def test_only_who_holds_the_lock_and_the_right_can_publish_and_only_what_follows(pair: tuple[Viewer, Viewer]) -> None:
    one = storing.manifest()[1]
    with pytest.raises(DatabaseError, match="lock of extracts"):
        storing.leave()
    with locks.alone(locks.EXTRACT):
        with pytest.raises(storing.Changed):
            storing.publish(one._replace(folder="0x"), None)
        with pytest.raises(DatabaseError, match="only what is sealed"):
            storing.publish(one._replace(folder="1x", first=6, following=7), None)
        with pytest.raises(storing.Changed):
            storing.replace([one, one._replace(folder="2x")], "3x", {})
    forgetting.act_as("web")
    with pytest.raises(DatabaseError, match="denied"):
        storing.leave()
    assert extracts.spans() == [(0, 3), (3, 6)]


def test_the_command_makes_what_is_due_and_all_anew_on_request(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    forgetting.send(SECRET)
    seal()
    call_command("extract")
    call_command("extract")
    call_command("extract", "--anew")
    assert capsys.readouterr().out.splitlines() == [
        "extracts: 1 made, 0 times merged, 1 now, up to 3",
        "extracts: 0 made, 0 times merged, 1 now, up to 3",
        "extracts: 1 made, 0 times merged, 1 now, up to 3",
    ]


def test_the_steward_makes_one_at_once_then_when_much_waits_or_long_and_not_while_sealing_is_behind(
    store: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeps = keeping.Keeping()

    def turn() -> list[tuple[int, int]]:
        with locks.alone(locks.EXTRACT):
            keeps()
        return extracts.spans()

    source = story.source()
    for key, expected in (("1", [(0, 3)]), ("2", [(0, 3)])):
        forgetting.send(SECRET, source, key)
        seal()
        assert turn() == expected
    monkeypatch.setattr(keeping, "LEAST", 3)
    forgetting.send(SECRET, source, "3")
    settings.SEAL_EVENTS = 0
    assert turn() == [(0, 3)]
    settings.SEAL_EVENTS = 1
    assert turn() == [(0, 3), (3, 6)]
    seal()
    monkeypatch.setattr(keeping, "LEAST", 4)
    assert turn() == [(0, 3), (3, 6)]
    assert "\ntouchstone_unextracted 3\n" in Client().get("/metrics").content.decode()
    keeps.begun_at -= keeping.WAIT_SECONDS
    assert turn() == [(0, 3), (3, 6), (6, 9)]


# merging


def extract(first: int, following: int, overridden: list[int], chance: random.Random) -> Extract:
    """One on disk, of rows that say by whom they were made."""
    name = storing.new_name()
    place = segments.extracts().draft(name)
    for file, indexes in ((RECORDS, range(first, following)), (OVERRIDES, overridden)):
        said = [f"{index} of {first}-{following}, {chance.random()}" for index in indexes]
        rows = pa.table({"index": pa.array(list(indexes), pa.int64()), "said": said})
        if file == OVERRIDES:
            rows = rows.append_column("extract", pa.array([first] * rows.num_rows, pa.int64()))
        if rows.num_rows:
            with rowgroups.Writer(place / file, rows.schema) as writer:
                writer.add(rows)
    segments.extracts().keep(name)
    return Extract(name, first, following, "b", {path.name: {} for path in reading.folder(name).iterdir()})


def said(every: Sequence[Extract], stale: Sequence[int] = ()) -> list[tuple[Any, ...]]:
    cursor = engine._here().database.cursor()
    cursor.execute("create schema said; set schema = 'said'")
    try:
        reading.stored(cursor, every, np.array(stale, np.int64))
        return cursor.execute("select index, said from stored order by all").fetchall()
    finally:
        cursor.execute("set schema = 'main'; drop schema said cascade")


@pytest.mark.parametrize("seed", range(3))
def test_merged_extracts_have_of_each_record_what_the_latest_had(store: str, seed: int) -> None:
    """Of records and overrides at random, more than are read at once."""
    chance = random.Random(seed)
    ends = [0, 2_500, 4_600, 4_700, 9_000, 9_500]
    every = [
        extract(first, following, sorted(chance.sample(range(first), min(first, chance.choice([0, 40, 900])))), chance)
        for first, following in itertools.pairwise(ends)
    ]
    before = said(every)
    assert [index for index, _ in before] == list(range(ends[-1]))
    parts = every[1:4]
    draft = segments.extracts().draft("merged")
    merged_extracts._put_together(parts, draft, lambda: None)
    segments.extracts().keep("merged")
    files = {path.name: {} for path in reading.folder("merged").iterdir()}
    one = Extract("merged", parts[0].first, parts[-1].following, "b", files)
    assert pq.read_table(reading.folder("merged") / RECORDS)["index"].to_pylist() == list(
        range(one.first, one.following)
    )
    assert set(reading.overridden(one)) == {i for each in parts for i in reading.overridden(each) if i < one.first}
    assert said([every[0], one, every[4]]) == before
    stale = chance.sample(range(ends[-1]), 200)
    left = [row for row in before if row[0] not in stale]
    assert said(every, stale) == said([every[0], one, every[4]], stale) == left


def test_a_question_takes_the_extracts_that_are_nearest_to_its_size_or_none() -> None:
    every = [Extract(f"{n}x", n * 100_000, (n + 1) * 100_000, "b", {}) for n in range(5)]
    assert opening.nearest(every, 600_000) == every
    assert opening.nearest(every, 600_001) == ()
    assert opening.nearest(every, 320_000) == every[:3]
    assert opening.nearest(every, 10) == every[:1]
    assert opening.nearest((), 10) == ()
    assert opening.nearest([every[0]._replace(following=900_000)], 10) == ()
