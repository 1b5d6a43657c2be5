"""A seal works through what waits in parts: the same segment whatever their size, and an end in time however much waits."""

from __future__ import annotations

import datetime as dt

import pyarrow.parquet as pq
import pytest
from django.core.management import call_command

from lineage import errors, fsck, sealing, segments, tree
from tests import story

NOW = dt.datetime(2026, 11, 22, 9, tzinfo=dt.UTC)


@pytest.fixture
def told(store: str) -> None:
    story.tell(NOW)


def rows() -> dict[str, list[dict[str, object]]]:
    """Of all segments, file by file."""
    return {
        name: [
            row
            for _, _, folder, _ in segments.manifest()
            for row in pq.read_table(segments.storage().path(folder, name)).to_pylist()
        ]
        for name in sealing.SCHEMAS
    }


def test_a_seal_that_has_had_its_time_ends_and_the_next_goes_on_where_it_was(
    told: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "PART", 40)
    monkeypatch.setattr(sealing, "SECONDS_MOST", 0.0)
    assert [segments.seal(), segments.seal()] == [40, 40]
    assert segments.sealed_to() == 80
    call_command("seal", verbosity=0)
    assert segments.sealed_to() == tree.head()
    assert len(segments.manifest()) == -(-tree.head() // 40)
    assert list(fsck.check()) == []


def test_a_segment_holds_the_same_rows_sealed_in_one_part_or_in_many(
    told: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {}
    for part in (1_000, 7):
        monkeypatch.setattr(sealing, "PART", part)
        draft = segments.storage().draft(f"part{part}")
        written = sealing.write(draft, 0, tree.head(), segments.journal, tree.hashes().read)
        assert written.following == tree.head()
        made[part] = {name: pq.read_table(draft / f"{name}.parquet") for name in sealing.SCHEMAS}
    assert all(made[7][name].equals(made[1_000][name]) for name in sealing.SCHEMAS)
    segments.seal()
    assert rows() == {name: table.to_pylist() for name, table in made[7].items()}


def test_a_seal_whose_hashes_are_gone_says_how_to_mend_them_and_seals_nothing(told: None) -> None:
    tree.hashes().path.write_bytes(tree.hashes().path.read_bytes()[:64])
    with pytest.raises(errors.LedgerBroken, match="repair-hashes") as refused:
        segments.seal()
    assert refused.value.fields["alarm"] == "hashes-damaged"
    assert segments.sealed_to() == 0
    assert segments.storage().names() == set()
