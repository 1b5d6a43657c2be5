"""By which transactions records wrote: what was written is read again, however files are put together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lineage import durable
from lineage.extracts import writings
from lineage.extracts.postings import Damaged

FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
SOME = st.dictionaries(st.integers(0, 60), st.integers(2, (1 << 64) - 1), max_size=9)


def write(folder: Path, some: dict[int, int]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / writings.FILE).unlink(missing_ok=True)
    indexes, hashes = np.array(sorted(some), np.int64), np.array([some[one] for one in sorted(some)], np.uint64)
    durable.write_from(folder / writings.FILE, 0, writings._content(indexes, hashes))
    return folder


@FOLDER
@given(early=SOME, late=SOME)
def test_files_are_merged_without_what_a_later_one_has_anew(
    tmp_path: Path, early: dict[int, int], late: dict[int, int]
) -> None:
    made = write(tmp_path / "made", {})
    (made / writings.FILE).unlink()
    parts = write(tmp_path / "early", early), write(tmp_path / "late", late)
    writings.merge(made, parts, [np.array(sorted(late), np.int64), np.array([], np.int64)])
    found = writings.read(made).of(np.arange(70))
    assert found.tolist() == [(early | late).get(index, writings.ALONE) for index in range(70)]


def test_a_file_that_is_cut_short_or_is_another_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, {4: 5, 9: 6}) / writings.FILE
    data = file.read_bytes()
    for wrong in (data[:20], data[1:], b"x" * len(data)):
        file.write_bytes(wrong)
        with pytest.raises(Damaged):
            writings.read(tmp_path)
