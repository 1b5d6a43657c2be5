"""Packs of the store: what a question selects, what the pack says of it, and what the offline verifier says of the pack."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import hypothesis
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from django.core.management import call_command
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from lineage import (
    erasures,
    errors,
    events,
    keeper,
    keys,
    ledger,
    notes,
    outside,
    packfile,
    packs,
    search,
    segments,
    tree,
)
from lineage.access import Viewer
from lineage.commitment import parse_leaf
from lineage.engine import Question
from lineage.events import Event
from lineage.queries import Window
from lineage.verify import Verdict, verify
from lineage.verify.survey import matches
from tests.lineage import forgetting
from tests.lineage.test_attacks import ORDERS
from tests.lineage.test_queries import ALL, OPERATOR, Feed

pytestmark = pytest.mark.slow

WITNESS = notes.generate_key("witness.example", 4)


@pytest.fixture
def feed(store: str) -> Feed:
    return Feed()


def policy(*lines: str) -> notes.Policy:
    text = notes.make_policy(*(keys.vkey(name) for name in ("checkpoint", "receipt", "report")))
    return notes.parse_policy(text.replace("quorum none\n", "") + "\n".join(lines or ("quorum none",)) + "\n")


WITNESSED = (f"witness w {notes.vkey_of(WITNESS)}", "quorum w")


def cosign(size: int) -> None:
    """A witness's cosignature of the checkpoint of this size, as the keeper keeps it."""
    line = (
        notes.cosign(outside.signed_note(size).encode(), WITNESS, 1_763_700_000).decode().splitlines(keepends=True)[-1]
    )
    with connection.cursor() as cursor:
        cursor.execute("insert into ledger_cosignature (size, witness, line) values (%s, 'w', %s)", [size, line])


def states(verdict: Verdict) -> dict[str, str]:
    return {check.name: check.state for check in verdict.checks}


def sentence(verdict: Verdict, name: str) -> str:
    return next(check.sentence for check in verdict.checks if check.name == name)


def judged(pack: bytes, *lines: str, **more: Any) -> Verdict:
    return verify(pack, policy(*lines), **more)


def many(feed: Feed) -> int:
    """Records of all kinds, classes and sources, in no order of their times, some without a time; the log's size."""
    for n in range(6):
        feed.statement(f"select {n} from customers", op="read", occurred_at=f"2026-11-{20 - n}T10:00:00.000001Z")
        feed.statement("alter table customers add x int", op="ddl", user="eve")
        feed.change(str(n), op=("insert", "update", "delete")[n % 3])
        feed.claim(str(n), "ann@example.test")
        feed.send(feed.log, kind="session", op="session", actor={"db_user": "bob"}, session={"phase": "start"})
        feed.send(feed.wal, kind="state", occurred_at=None, state={"grants": []})
        feed.send(feed.log, kind="query", op="read", occurred_at=None, statement={"text": "select 1", "state": "whole"})
        ledger.record_decision("evidence_read", decided_by="ann@example.test")
        ledger.record(Event(kind="custody", custody=events.Custody(type="alarm", subject="x")))
    return keeper.once()


CONDITIONS = [
    "kind:change", "kind:QUERY", "kind:*", "kind:s*", "-kind:custody", "(kind:change or kind:query)",
    "-(kind:change or kind:state)", "class:read", "class:*", "-class:write", "class:d*", "(class:ddl or class:write)",
    "source:log", "source:WAL", "source:touchstone", "-source:log", "(source:wal or source:touch*)", "source:none",
    "since:2026-11-18", "until:2026-11-19", "since:24h", "until:2026-11-20T10:00:00.000001Z", "-since:2026-11-18",
    "received:2026-11-20", "received:>2026-11-20", "received:<=1h", "received:>=30d", "received:<2027-01-01",
    "received:>2026-11-20T00:00:00Z", "index:>=7", "index:<30", "index:>3", "index:<=40", "index:12", "since:0999-01-01",
    "actor:ann", "op:read", "customers", "(kind:change or op:read)", "-actor:eve", "flag:claim", "environment:prod",
]  # fmt: skip


def test_the_filter_over_headers_selects_what_the_search_selects(feed: Feed, settings: Any) -> None:
    settings.QUERY_SECONDS = 600
    size = many(feed)
    leaves = {index: parse_leaf(leaf) for index, leaf in segments.leaves(0, size)}
    seen = {"whole": 0, "in part": 0}
    with Question(as_of=size) as question:

        @hypothesis.settings(max_examples=150, deadline=None)
        @given(st.lists(st.sampled_from(CONDITIONS), min_size=1, max_size=3, unique=True))
        def agree(conditions: list[str]) -> None:
            try:
                choice = packs._chosen(question, ALL, " ".join(conditions), Window())
            except errors.NotFound:
                return
            span = range(choice.first, choice.following)
            found = [index for index in span if matches(leaves[index], choice.headers)]
            seen["in part" if choice.hidden else "whole"] += 1
            assert set(choice.indexes) <= set(found)
            assert choice.hidden or choice.indexes == found

        agree()
    assert min(seen.values()) > 20


@pytest.mark.parametrize(
    ("q", "whole"),
    [
        ("kind:change", True),
        ("kind:change source:wal since:2026-11-18", True),
        ("-kind:custody index:>=2", True),
        ("source:log class:read received:>=30d", True),
        ("class:write", False),
        ("kind:query actor:bob", False),
        ("kind:change or op:read", False),
        ("kind:query -class:read", False),
        ("since:2026-11-18", False),
        ("", False),
    ],
)
def test_a_question_is_shown_complete_only_where_it_asks_for_headers_alone(feed: Feed, q: str, whole: bool) -> None:
    many(feed)
    verdict = judged(packs.collect(ALL, q))
    assert verdict.exit == 0
    assert states(verdict)["completeness"] == ("pass" if whole else "note")


def test_a_named_range_is_held_whole_and_also_an_empty_answer_is_shown(feed: Feed) -> None:
    size = many(feed)
    content = packfile.read(packs.collect(ALL, "source:wal kind:session index:>=3 index:<20"))
    assert (list(content.leaves), content.selected) == (list(range(3, 20)), ())
    verdict = judged(packfile.write(content))
    assert (verdict.exit, states(verdict)["completeness"]) == (0, "pass")
    with pytest.raises(errors.NotFound):
        packs.collect(ALL, f"kind:session index:>={size}")


@pytest.mark.parametrize(
    ("question", "indexes", "most"), [("kind:change index:>=0", None, 1000), ("", range(1, 40, 3), 5)]
)
def test_a_pack_that_is_written_by_and_by_is_the_canonical_one_and_leaves_nothing_behind(
    feed: Feed, settings: Any, monkeypatch: pytest.MonkeyPatch, question: str, indexes: range | None, most: int
) -> None:
    many(feed)
    monkeypatch.setattr(packs, "HELD_BYTES", 10)
    monkeypatch.setattr(packs, "RECORDS_AT_ONCE", 2)
    monkeypatch.setattr(packs, "LEAVES_MOST", most)
    found = list(packs.parts(ALL, question, indexes=indexes))
    pack = b"".join(found)
    assert (len(found) > 10, judged(pack).exit) == (True, 0)
    assert packfile.write(packfile.read(pack)) == pack
    assert [path for path in (Path(settings.DATA_DIR) / "spill").iterdir() if path.is_file()] == []


def test_a_missing_hash_of_the_tree_stops_a_pack_and_is_named(feed: Feed) -> None:
    size = many(feed)
    path = tree.hashes().path
    path.write_bytes(path.read_bytes()[: (size - 3) * tree.HASH])
    with pytest.raises(errors.LedgerBroken, match=f"The hash {size - 3} of level 0 is missing"):
        packs.collect(ALL, "", indexes=[size - 1, 0])


def test_the_window_counts_as_part_of_the_question(feed: Feed) -> None:
    many(feed)
    window = Window(events.parse_time("2026-11-17T00:00:00Z"), events.parse_time("2026-11-19T00:00:00Z"))
    verdict = judged(packs.collect(ALL, "kind:query index:>=0", window))
    assert (verdict.exit, states(verdict)["completeness"]) == (0, "pass")
    content = packfile.read(packs.collect(ALL, "kind:query", Window(environment="prod")))
    assert content.hidden


def test_given_indexes_outside_the_viewers_scope_are_left_out(feed: Feed) -> None:
    inside = [feed.statement("select 1", op="read"), feed.statement("select 2", op="read")]
    outside_ = ledger.record_decision("evidence_read", decided_by="ann@example.test").index
    keeper.once()
    assert packfile.read(packs.collect(ORDERS, "", indexes=[*inside, outside_])).selected == tuple(inside)
    assert packfile.read(packs.collect(ALL, "", indexes=[*inside, outside_])).selected == (*inside, outside_)
    for indexes in ([outside_], [-1], [10**9]):
        with pytest.raises(errors.NotFound):
            packs.collect(ORDERS, "", indexes=indexes)


def test_who_sees_no_values_gets_their_digests_only(feed: Feed) -> None:
    many(feed)
    content = packfile.read(packs.collect(OPERATOR, "kind:change"))
    assert {shown["change"].state for shown in content.disclosures.values()} == {"withheld"}
    assert judged(packfile.write(content)).exit == 0


def test_an_erased_group_is_missing_until_the_record_of_its_erasure_is_under_the_checkpoint(
    store: str, settings: Any
) -> None:
    settings.GRACE_SECONDS = -settings.QUERY_SECONDS
    pair = forgetting.people()
    statement, change, _ = forgetting.send("Zebedee-Q7")
    number = erasures.request(pair[0], "key:4711", ["change"], reason="asked for", ground="GDPR art. 17").number
    erasures.approve(pair[1], number)
    cosign(keeper.once())
    forgetting.locked(erasures.execute, number)
    verdict = judged(packs.collect(ALL, "", indexes=[statement, change], witnessed=True))
    assert (verdict.exit, states(verdict)["disclosures"]) == (2, "missing")
    keeper.once()
    narrow = Viewer(email="o@other.test", role="auditor", datasources=("orders-prod",))
    for viewer in (ALL, narrow):
        content = packfile.read(packs.collect(viewer, "", indexes=[statement, change]))
        (pending,) = content.cited
        assert content.disclosures[change]["change"] == packfile.Disclosure("erased", erased_by=pending)
        shown = {group: each.state for group, each in content.cited[pending].disclosures.items()}
        assert shown == {"actor": "disclosed", "action": "withheld"}
        verdict = judged(packfile.write(content))
        assert (verdict.exit, states(verdict)["disclosures"]) == (0, "pass")


def count(first: int, last: int, **wrong: int) -> int:
    found: dict[tuple[str | None, Any], int] = {}
    for _, leaf in segments.leaves(first, last + 1):
        header = parse_leaf(leaf)
        pair = (header.source_id, header.class_)
        found[pair] = found.get(pair, 0) + 1
    counts = tuple(
        events.HeaderCount(source_id=s, class_=c, count=n + wrong.get(s or "", 0)) for (s, c), n in found.items()
    )
    total = sum(each.count for each in counts)
    custody = events.Custody(type="count_commitment", first=str(first), last=str(last), count=total, counts=counts)
    return ledger.record(Event(kind="custody", custody=custody)).index


def test_counts_that_the_log_committed_to_are_cited_and_counted_again(feed: Feed) -> None:
    size = many(feed)
    first, second = count(0, 19), count(20, size - 1)
    keeper.once()
    verdict = judged(packs.collect(ALL, "kind:change index:>=0"))
    assert (verdict.exit, states(verdict)["counts"]) == (0, "pass")
    assert sentence(verdict, "counts").startswith(f"{size} records")
    part = packs.collect(ALL, "kind:change index:<25")
    assert list(packfile.read(part).cited) == [first]
    assert states(judged(part))["counts"] == "pass"
    assert not packfile.read(packs.collect(ORDERS, "kind:change")).cited
    wrong = count(0, 19, log=1)
    keeper.once()
    verdict = judged(packs.collect(ALL, "kind:change index:<25"))
    assert (verdict.exit, states(verdict)["counts"]) == (1, "fail")
    assert f"Record {wrong}" in sentence(verdict, "counts")
    assert second not in packfile.read(part).cited


def test_witnesses_on_an_older_checkpoint_count_for_what_it_holds(feed: Feed) -> None:
    size = many(feed)
    cosign(size)
    later = feed.change("later")
    keeper.once()
    pack = packs.collect(ALL, f"kind:change index:<{later}")
    assert [notes.parse_checkpoint(notes.read_note(a.note).text).size for a in packfile.read(pack).anchors] == [size]
    verdict = judged(pack, *WITNESSED)
    assert (verdict.exit, states(verdict)["witnesses"]) == (0, "pass")
    assert f"an older checkpoint of {size} records" in sentence(verdict, "witnesses")
    verdict = judged(packs.collect(ALL, "kind:change"), *WITNESSED)
    assert (verdict.exit, states(verdict)["witnesses"]) == (2, "missing")
    witnessed = packs.collect(ALL, "kind:change", witnessed=True)
    assert notes.parse_checkpoint(notes.read_note(packfile.read(witnessed).checkpoint).text).size == size
    assert judged(witnessed, *WITNESSED).exit == 0
    assert f"{size:,} records. Held outside: " in packs.told(witnessed)


def test_the_oldest_and_the_newest_checkpoint_held_outside_go_along(feed: Feed) -> None:
    index = feed.change("0")
    sizes = []
    for n in range(4):
        sizes.append(keeper.once())
        cosign(sizes[-1])
        feed.change(str(n))
    keeper.once()
    anchors = packfile.read(packs.collect(ALL, f"index:{index}")).anchors
    assert [notes.parse_checkpoint(notes.read_note(a.note).text).size for a in anchors] == [sizes[0], sizes[-1]]


def test_nothing_outside_is_said_by_the_command(feed: Feed, tmp_path: Path) -> None:
    feed.change("1")
    out, told = tmp_path / "p.touchstone.zip", io.StringIO()
    call_command("pack", "kind:change", "--out", str(out), stdout=told)
    assert judged(out.read_bytes()).exit == 0
    assert "1 records" in told.getvalue()
    assert outside.sentence(1) in told.getvalue()
    with pytest.raises(SystemExit):
        call_command("pack", "kind:change", "--witnessed", "--out", str(tmp_path / "none.zip"))
    assert not (tmp_path / "none.zip").exists()


def test_the_auditors_last_checkpoint_is_continued(feed: Feed) -> None:
    feed.change("1")
    keeper.once()
    earlier = tree.newest_note()
    feed.change("2")
    keeper.once()
    verdict = judged(packs.collect(ALL, "kind:change", earlier=earlier))
    assert (verdict.exit, states(verdict)["consistency"]) == (0, "pass")


@pytest.fixture
def detached(feed: Feed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[bytes, Path]:
    """A pack of a range that is larger than a pack may hold, and the file of leaves beside it."""
    size = many(feed)
    count(2, size - 1)
    keeper.once()
    monkeypatch.setattr(packs, "LEAVES_MOST", 10)
    beside = tmp_path / "p.leaves.ndjson"
    return packs.collect(ALL, "kind:change index:>=2", beside=beside), beside


def test_the_leaves_of_a_large_range_lie_in_a_file_beside_the_pack(detached: tuple[bytes, Path]) -> None:
    pack, beside = detached
    content = packfile.read(pack)
    assert content.selection == "sparse"
    assert content.detached is not None
    assert (content.detached.file, content.detached.first) == ("p.leaves.ndjson", 2)
    verdict = judged(pack)
    assert (verdict.exit, states(verdict)["completeness"], states(verdict)["counts"]) == (2, "missing", "note")
    assert "p.leaves.ndjson" in sentence(verdict, "completeness")
    with beside.open("rb") as leaves:
        verdict = judged(pack, leaves=leaves)
    assert (verdict.exit, states(verdict)["completeness"], states(verdict)["counts"]) == (0, "pass", "pass")


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-1],
        lambda data: data + b"\n",
        lambda data: data.replace(b'"change"', b'"chance"', 1),
        lambda data: b"\n".join(data.split(b"\n")[1:]),
        lambda data: b"\n".join([*data.split(b"\n")[:3], *data.split(b"\n")[4:]]),
        lambda data: b"",
    ],
)
def test_another_file_of_leaves_is_refused(detached: tuple[bytes, Path], change: Any) -> None:
    pack, beside = detached
    verdict = judged(pack, leaves=io.BytesIO(change(beside.read_bytes())))
    assert (verdict.exit, states(verdict)["completeness"]) == (1, "fail")


def test_one_record_is_proved_by_a_text_that_carries_its_leaf(feed: Feed, tmp_path: Path) -> None:
    many(feed)
    out = tmp_path / "7.tlog-proof"
    call_command("proof", "7", "--out", str(out), stdout=io.StringIO())
    proof = notes.parse_proof(out.read_text())
    ((_, leaf),) = segments.leaves(7, 8)
    assert (proof.index, proof.extra) == (7, leaf)
    assert [(c.number, c.state) for c in judged(out.read_bytes()).checks] == [
        (4, "pass"),
        (5, "pass"),
        (9, "pass"),
        (10, "note"),
    ]
    assert judged(out.read_bytes()).exit == 0
    bare = out.read_text().replace(f"extra {out.read_text().split()[2]}\n", "").encode()
    assert judged(bare).exit == 2
    assert judged(bare, leaf=leaf).exit == 0
    assert judged(bare, leaf=leaf.replace(b"2026", b"2027")).exit == 1
    assert verify(out.read_bytes()).exit == 2
    assert judged(out.read_bytes().replace(b"index 7", b"index 6")).exit == 1
    with pytest.raises(SystemExit):
        call_command("proof", "100000", "--out", str(tmp_path / "none"), stdout=io.StringIO())
    read = [json.loads(r.groups.get("actor") or b"{}") for r in segments.records(range(tree.head()))]
    assert {"proof 7", "proof 100000"} <= {r.get("decision", {}).get("subject") for r in read}


def test_the_header_part_of_nothing_is_everything() -> None:
    part = search.header_part(search.parse(""), [], events.parse_time("2026-11-20T00:00:00Z"))
    assert part == search.HeaderPart(packfile.Headers(), None, None, True)


def test_a_narrow_viewer_gets_single_records_and_no_range(feed: Feed) -> None:
    many(feed)
    narrow = Viewer(email="o@other.test", role="auditor", environments=("prod",))
    content = packfile.read(packs.collect(narrow, "kind:change index:>=0"))
    assert (content.selection, content.hidden) == ("sparse", True)
    assert set(content.leaves) == set(content.selected)


def test_a_record_that_somebody_hides_from_the_search_is_missed_by_the_verifier(feed: Feed) -> None:
    kept, hidden, last = feed.change("1"), feed.change("2"), feed.change("3")
    keeper.once()
    segments.seal()
    (path,) = segments.storage().root.glob("*/events.parquet")
    table = pq.read_table(path)
    pq.write_table(table.filter(pc.field("index") != hidden), path)
    pack = packs.collect(ALL, "kind:change")
    assert packfile.read(pack).selected == (kept, last)
    verdict = judged(pack)
    assert (verdict.exit, states(verdict)["completeness"]) == (1, "fail")
    assert sentence(verdict, "completeness") == "The filter over leaf headers selects other records than the pack does."
