"""What an older version derived of sealed segments is derived again; what was refused once is not read again each time."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction

from lineage import (
    erasures,
    errors,
    fsck,
    keeper,
    locks,
    merging,
    projections,
    queries,
    renewing,
    segments,
)
from lineage.access import Viewer
from tests import merges, story
from tests.lineage import forgetting

pytestmark = pytest.mark.slow
ALL = Viewer(email="audit@example.test", role="admin")
SECRET = "Zebedee-Q7"
OLD = "1"


@pytest.fixture
def pair(store: str, settings: Any) -> tuple[Viewer, Viewer]:
    """Two people of compliance, over three segments of three records, each with the secret."""
    settings.GRACE_SECONDS, settings.WAL_HOURS = -settings.QUERY_SECONDS, 0
    two = forgetting.people()
    source = story.source()
    for key in ("4711", "9", "12"):
        forgetting.send(SECRET, source, key)
        keeper.once()
        with keeper.lock():
            segments.seal()
    forgetting.act_as("store")
    return two


@pytest.fixture
def alone() -> Iterator[None]:
    with locks.alone(locks.MERGE):
        yield


def folders() -> list[str]:
    return [folder for _, _, folder, _ in segments.manifest()]


def grow_old(first: int, *tables: str, wrong: bool = True) -> None:
    """As if another version had made these files of the segment that begins at `first`, and nothing of it were of use."""
    _, _, folder, files = next(row for row in segments.manifest() if row[0] == first)
    for table in tables:
        path = segments.storage().path(folder, table)
        if wrong:
            pq.write_table(pq.read_table(path).slice(1), path)
        files[table] = segments.described(path) | {"projection": OLD}
    forgetting.act_as("owner")
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("alter table ledger_segment disable trigger append_only")
        cursor.execute("update ledger_segment set files = %s where folder = %s", [json.dumps(files), folder])
        cursor.execute("alter table ledger_segment enable trigger append_only")
    forgetting.act_as("store")


def stated(first: int) -> dict[str, Any]:
    return next(files for start, _, _, files in segments.manifest() if start == first)


def rows(first: int, table: str) -> Any:
    folder = next(folder for start, _, folder, _ in segments.manifest() if start == first)
    return pq.read_table(segments.storage().path(folder, table)).to_pylist()


def test_a_segment_of_an_older_version_is_derived_again_and_what_was_reported_stays(
    pair: tuple[Viewer, Viewer], alone: None
) -> None:
    before = {table: rows(3, table) for table in (*merging.SCHEMAS, "facts")}
    told, records, others = stated(3), list(segments.records(range(9))), {folders()[0], folders()[2]}
    grow_old(3, *merging.DERIVED, "facts")
    old = folders()[1]
    assert any("another version" in fault for fault in fsck.check())
    assert renewing.tend() == (3, 6)
    assert renewing.tend() is None
    assert {table: rows(3, table) for table in before} == before
    assert {table: stated(3)[table] for table in ("leaves", "disclosures", "keys")} == {
        table: told[table] for table in ("leaves", "disclosures", "keys")
    }
    assert stated(3)["events"]["projection"] == projections.VERSION
    assert list(segments.records(range(9))) == records
    assert old not in folders()
    assert others < set(folders())
    assert old in segments.storage().names()
    assert forgetting.locked(segments.remove_replaced) == 1
    assert old not in segments.storage().names()
    assert list(segments.records(range(9))) == records
    assert list(fsck.check()) == []


def test_of_a_segment_with_older_facts_only_these_are_made_again_and_the_newest_segment_comes_first(
    pair: tuple[Viewer, Viewer], alone: None
) -> None:
    before = [rows(first, "facts") for first in (0, 6)]
    for first in (0, 6):
        grow_old(first, "facts")
    told = stated(6)
    assert [renewing.renew(), renewing.renew(), renewing.renew()] == [(6, 9), (0, 3), None]
    assert [rows(first, "facts") for first in (0, 6)] == before
    assert {table: stated(6)[table] for table in told if table != "facts"} == {
        table: told[table] for table in told if table != "facts"
    }
    assert list(fsck.check()) == []


def test_the_command_renews_and_merges_and_says_so(
    pair: tuple[Viewer, Viewer], capsys: pytest.CaptureFixture[str]
) -> None:
    grow_old(0, "facts")
    call_command("merge")
    call_command("merge")
    assert capsys.readouterr().out.splitlines() == [
        "merged: 0 times, 3 segments before, 3 now",
        "renewed: 1 segments that an older version had made",
        "merged: 0 times, 3 segments before, 3 now",
    ]


def test_only_who_holds_the_lock_and_the_right_renews_and_only_what_is_derived(pair: tuple[Viewer, Viewer]) -> None:
    sql = "select ledger_renew(%s, 'new', %s)"
    one, two, _ = folders()
    files = stated(0)
    with pytest.raises(DatabaseError, match="lock of merges"):
        forgetting.rows(sql, [one], json.dumps(files))
    with locks.alone(locks.MERGE):
        for table in ("leaves", "disclosures", "keys"):
            other = files | {table: files[table] | {"sha256": "0" * 64}}
            with pytest.raises(DatabaseError, match="not what was read"):
                forgetting.rows(sql, [one], json.dumps(other))
        for wrong in (["unknown"], [one, two], []):
            with pytest.raises(DatabaseError, match="not what was read"):
                forgetting.rows(sql, wrong, json.dumps(files))
        forgetting.act_as("web")
        with pytest.raises(DatabaseError, match="permission denied"):
            forgetting.rows(sql, [one], json.dumps(files))
    assert folders()[0] == one


def approved(pair: tuple[Viewer, Viewer]) -> int:
    number = erasures.request(pair[0], "key:4711", ["statement", "change"], reason="asked", ground="GDPR 17").number
    erasures.approve(pair[1], number)
    return number


def test_an_erasure_between_wins_over_a_renewal_and_reaches_what_was_renewed(
    pair: tuple[Viewer, Viewer], tmp_path: Path
) -> None:
    grow_old(0, *merging.DERIVED, "facts", wrong=False)
    number = approved(pair)
    with locks.alone(locks.MERGE):
        one = merging.standing()[0]

        def overtaken(parts: Any) -> tuple[str, dict[str, Any]]:
            made = renewing._renewed(parts)
            forgetting.locked(erasures.execute, number)
            return made

        assert merging.exchanged([one], overtaken, "select ledger_renew(%s, %s, %s)") is False
        assert renewing.renew() is None
    assert forgetting.locked(erasures.run_due) == 0
    files = [path for path in tmp_path.glob("segments/*/*.parquet") if SECRET in repr(pq.read_table(path).to_pylist())]
    assert {path.parent.name for path in files} == set(folders()[1:3])
    assert list(fsck.check()) == []


# what is refused


def changed(first: int, table: str) -> tuple[Path, bytes, os.stat_result]:
    """Changes one letter of a file; its path, what it held, and how the file looked before."""
    folder = next(folder for start, _, folder, _ in segments.manifest() if start == first)
    path = segments.storage().path(folder, table)
    held, stat = path.read_bytes(), path.stat()
    path.write_bytes(held[:-1] + bytes([held[-1] ^ 1]))
    return path, held, stat


def refused() -> str:
    with merges.eager(), pytest.raises(errors.LedgerBroken) as caught:
        merging.merge()
    return caught.value.message


def test_a_refused_file_is_not_read_again_before_it_changes_and_the_alarm_is_sounded_each_time(
    pair: tuple[Viewer, Viewer],
) -> None:
    path, held, _ = changed(3, "touches")
    before = folders()
    said = refused()
    assert "Segment 3: its file touches was changed" in said
    stat = path.stat()
    path.write_bytes(held)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert refused() == said
    assert folders() == before
    os.utime(path)
    assert merges.everything() > 0
    assert [row[:2] for row in segments.manifest()] == [(0, 9)]
    assert list(fsck.check()) == []


def test_what_is_refused_does_not_keep_its_neighbours_from_being_merged(pair: tuple[Viewer, Viewer]) -> None:
    changed(0, "leaves")
    with merges.eager():
        assert merging.merge() == (3, 9)
    assert "Segment 0" in refused()
    assert [row[:2] for row in segments.manifest()] == [(0, 3), (3, 9)]


ASKED: dict[str, Callable[[], Any]] = {
    "events": lambda: queries.events(ALL, "", limit=1000).items,
    "sessions": lambda: queries.sessions(ALL, "").items,
}


def test_every_answer_is_the_same_while_segments_are_renewed(told_in_parts: None, alone: None) -> None:
    before = {name: repr(ask()) for name, ask in ASKED.items()}
    for first, *_ in segments.manifest():
        grow_old(first, *merging.DERIVED, "facts", wrong=False)
    while renewing.tend():
        pass
    assert {name: repr(ask()) for name, ask in ASKED.items()} == before
    assert list(fsck.check()) == []
