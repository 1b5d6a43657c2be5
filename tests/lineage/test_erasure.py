"""Erasure: two people, what goes, what stays, what is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from django.conf import settings as configured

from config import cluster
from lineage import archive, erasures, fsck, ingest, keeper, keys, notes, packfile, queries, segments
from lineage.access import Viewer
from lineage.verify.checks import verify
from reports.models import Report
from tests import story
from tests.environment import DATA
from tests.lineage import forgetting

SECRET = "Zebedee-Q7"
ALL = ["actor", "action", "statement", "change"]


@pytest.fixture
def pair(store: str, settings: Any) -> tuple[Viewer, Viewer]:
    settings.GRACE_SECONDS = -settings.QUERY_SECONDS
    return forgetting.people()


def ask(viewer: Viewer, query: str = "key:4711", groups: list[str] = ALL, **more: Any) -> erasures.Asked:
    given = {"reason": "asked by the person", "ground": "GDPR art. 17"} | more
    return erasures.request(viewer, query, groups, **given)


def erased(pair: tuple[Viewer, Viewer], query: str = "key:4711", groups: list[str] = ALL, **more: Any) -> int:
    number = ask(pair[0], query, groups, **more).number
    erasures.approve(pair[1], number)
    forgetting.locked(erasures.execute, number)
    return number


def groups_of(index: int) -> dict[str, bytes | None]:
    (record,) = segments.records([index])
    return record.groups


def test_an_approved_erasure_takes_values_and_salts_and_leaves_the_leaf(pair: tuple[Viewer, Viewer]) -> None:
    statement, change, other = forgetting.send(SECRET)
    keeper.once()
    before = dict(segments.leaves(0, 3))
    number = erased(pair)
    assert erasures.one(number).state == "pending"
    assert set(groups_of(statement).values()) == set(groups_of(change).values()) == {None}
    assert None not in groups_of(other).values()
    (record,) = segments.records([change])
    assert set(record.salts.values()) == {None}
    assert dict(segments.leaves(0, 3)) == before
    assert list(fsck.check()) == []


def test_what_is_asked_afterwards_no_longer_knows_the_value(pair: tuple[Viewer, Viewer]) -> None:
    forgetting.send(SECRET)
    assert queries.events(pair[0], SECRET).total.value == 1
    erased(pair)
    assert queries.events(pair[0], SECRET).items == []
    assert queries.events(pair[0], f'after.name:"{SECRET}"').items == []
    assert queries.touches(pair[0], "key:4711").items == []
    assert queries.events(pair[0], "key:12").total.value == 1


def test_after_its_waiting_time_the_value_is_in_no_byte_that_we_keep(
    pair: tuple[Viewer, Viewer], settings: Any, tmp_path: Path
) -> None:
    source = story.source()
    forgetting.send(SECRET, source)
    forgetting.locked(segments.seal)
    forgetting.send(f"{SECRET} again", source, "4712")
    ingest.accept(source, f'{{"kind":"nothing known","text":"{SECRET}"}}'.encode())
    forgetting.read(pair[0], SECRET)
    Report.objects.create(
        kind="privileged-access", period_from=forgetting.AT, period_to=forgetting.AT, q=SECRET, created_by="x@y.z"
    )
    earlier = forgetting.pack(pair[0], "key:4711")
    assert where(SECRET, tmp_path)
    number = erased(pair, f'key:4711 or "{SECRET}" or after.name:"{SECRET} again"')
    assert forgetting.locked(erasures.finish, number) is True
    assert erasures.one(number).state == "erased"
    assert where(SECRET, tmp_path) == []
    assert list(fsck.check()) == []
    policy = notes.parse_policy(checkpoint_policy())
    assert verify(earlier, policy).exit == 0
    later = forgetting.pack(pair[0], "kind:change")
    shown = packfile.parse(archive.read(later)).disclosures
    assert shown


def checkpoint_policy() -> str:
    return notes.make_policy(
        keys.vkey("checkpoint"), keys.vkey("receipt"), keys.vkey("report"), certificate_sha256="ab" * 32
    )


def where(text: str, data: Path) -> list[str]:
    """Files under the data folder and the database's folder in whose bytes, or Parquet values, the text stands."""
    folders = [data]
    if configured.EMBEDDED:
        folders.append(cluster.home_of(DATA / "postgres") / "pg")
    wanted = text.encode()
    found = []
    for folder in folders:
        for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()):
            body = path.read_bytes()
            if path.suffix == ".parquet":
                body += repr(pq.read_table(path).to_pylist()).encode()
            if wanted in body:
                found.append(str(path.relative_to(folder)))
    return found
