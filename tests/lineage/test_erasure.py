"""Erasure: two people, what goes, what stays, what is said."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.conf import settings as configured
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.db import DatabaseError, connection, connections
from django.test import Client

from config import cluster
from lineage import (
    archive,
    engine,
    erasures,
    errors,
    fsck,
    holds,
    ingest,
    keeper,
    keys,
    ledger,
    notes,
    packfile,
    packs,
    process,
    queries,
    rights,
    saved,
    segments,
    tagging,
    tree,
)
from lineage.access import Viewer, token_hash
from lineage.erasures import execution, publishing, selection
from lineage.events import Erased
from lineage.keyfiles import form, leaving
from lineage.models import ApiToken, User
from lineage.verify.checks import verify
from reports import issuing, tasks
from reports.models import Report
from tests import extracts, story
from tests.environment import DATA
from tests.lineage import forgetting

pytestmark = pytest.mark.slow

SECRET = "Zebedee-Q7"
ALL = ["actor", "action", "statement", "change"]


@pytest.fixture
def pair(store: str, settings: Any) -> tuple[Viewer, Viewer]:
    settings.GRACE_SECONDS, settings.WAL_HOURS = -settings.QUERY_SECONDS, 0
    two = forgetting.people()
    forgetting.act_as("store")
    return two


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


def test_what_others_were_joined_with_goes_with_the_record(pair: tuple[Viewer, Viewer]) -> None:
    desk, act = story.source(), {"transaction": {"id": "77"}}
    text = "update customers set name = 'x' where id = 4711"
    story.send(desk, story.query("q-1", forgetting.AT, story.DANA, text, "update", client={"app": SECRET}, **act))
    (change,) = story.send(desk, {**forgetting.items("x", "12")[1], **act})
    assert queries.event(pair[0], change)["client_app"] == SECRET
    erased(pair)
    assert queries.event(pair[0], change)["client_app"] is None
    files = [segments.storage().path(folder, "facts") for _, _, folder, _ in segments.manifest()]
    assert SECRET not in str([pq.read_table(path).to_pylist() for path in files])
    assert list(fsck.check()) == []


def test_after_its_waiting_time_the_value_is_in_no_byte_that_we_keep(
    pair: tuple[Viewer, Viewer], settings: Any, tmp_path: Path
) -> None:
    source = story.source()
    forgetting.send(SECRET, source)
    forgetting.locked(execution.seal_everything)
    extracts.everything()
    forgetting.send(f"{SECRET} again", source, "4712")
    ingest.accept(source, f'{{"kind":"nothing known","text":"{SECRET}"}}'.encode())
    forgetting.read(pair[0], SECRET)
    Report.objects.create(
        kind="privileged-access", period_from=forgetting.AT, period_to=forgetting.AT, q=SECRET, created_by="x@y.z"
    )
    earlier = forgetting.pack(pair[0], "key:4711")
    before = where(SECRET, tmp_path)
    assert any(name.endswith("disclosures.parquet") for name in before)
    assert any(name.startswith("extracts/") for name in before)
    assert not configured.EMBEDDED or any(name.startswith("pg_wal/") for name in before)
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
            try:
                body = path.read_bytes()
            except FileNotFoundError:
                continue  # The server has removed it meanwhile: nothing stands in it.
            if path.suffix == ".parquet":
                body += _text(path).encode()
            if wanted in body:
                found.append(str(path.relative_to(folder)))
    return found


def refused(who: Viewer, number: int | None, code: str) -> None:
    """The newest record and the count say that this person was refused."""
    subject, transition, decision = forgetting.decisions("erasure")[-1]
    assert (subject, transition) == ("erasure" if number is None else f"erasure {number}", "refused")
    assert decision["decided_by"] == who.email
    assert forgetting.rows("select who, code from ledger_refusal order by id desc limit 1") == [(who.email, code)]


def test_every_refusal_is_answered_counted_and_recorded(pair: tuple[Viewer, Viewer]) -> None:
    forgetting.send(SECRET)
    auditor = Viewer("alice@audit.example", "auditor")
    number = ask(pair[0]).number
    for who, deed, error, subject in (
        (auditor, lambda: ask(auditor), errors.AccessDenied, None),
        (auditor, lambda: erasures.approve(auditor, number), errors.AccessDenied, number),
        (pair[0], lambda: erasures.approve(pair[0], number), errors.AccessDenied, number),
        (pair[1], lambda: erasures.approve(pair[1], 99), errors.NotFound, 99),
        (pair[0], lambda: ask(pair[0], "key:nothing"), errors.NotFound, None),
        (pair[0], lambda: ask(pair[0], f'"{SECRET}"', reason=f"{SECRET} asked"), errors.QueryInvalid, None),
        (pair[0], lambda: ask(pair[0], groups=["names"]), errors.QueryInvalid, None),
    ):
        with pytest.raises(error):
            deed()
        refused(who, subject, error.code)
    assert rights.refusals() == 7
    assert [(e.id, e.state) for e in erasures.listing()] == [(number, "requested")]
    assert None not in groups_of(0).values()


def test_the_database_itself_refuses_one_person_in_both_roles(pair: tuple[Viewer, Viewer]) -> None:
    forgetting.send(SECRET)
    number = ask(pair[0]).number
    for who in (pair[0].email, pair[0].email.upper(), "nobody@else.example"):
        with pytest.raises(DatabaseError, match=r"another person|may neither"):
            rights.call("select ledger_decide_erasure(%s, %s, true)", number, who)
    with pytest.raises(DatabaseError, match="is not approved"):
        rights.call("select ledger_replace(%s, '[]', 0)", number)
    with pytest.raises(DatabaseError, match="no erasure is approved"):
        rights.call("select ledger_forget_contents(1, '{}')")
    assert erasures.one(number).state == "requested"


@pytest.mark.parametrize("role", ["touchstone_web", "touchstone_store"])
def test_a_working_role_cannot_write_an_approval_by_hand(pair: tuple[Viewer, Viewer], role: str) -> None:
    forgetting.send(SECRET)
    ask(pair[0])
    for deed in (
        "update ledger_erasure set state = 'approved'",
        "insert into ledger_erasure (kind, groups, as_of, records, selection_hash, reason, ground, requested_by) "
        "values ('erasure', '{change}', 0, 0, sha256('')::bytea, 'x', 'x', 'x')",
        "update ledger_hold set released_at = now()",
        "insert into ledger_retention (groups, days, reason, ground, set_by) values ('{change}', 1, 'x', 'x', 'x')",
        "delete from ledger_refusal",
    ):
        with connection.cursor() as cursor:
            cursor.execute(f"set role {role}")
            with pytest.raises(DatabaseError, match=r"permission denied|append-only"):
                cursor.execute(deed)
            cursor.execute("reset role")
    assert [e.state for e in erasures.listing()] == ["requested"]


def test_the_records_of_an_erasure_say_what_was_taken_by_whose_leave_and_no_value(pair: tuple[Viewer, Viewer]) -> None:
    statement, change, _ = forgetting.send(SECRET)
    number = erased(pair, groups=["change"], reason="asked by the person")
    forgetting.locked(erasures.finish, number)
    said = forgetting.decisions("erasure")
    assert [transition for _, transition, _ in said] == ["requested", "approved", "pending", "erased"]
    for _, transition, decision in said[2:]:
        assert decision["erased"] == [{"first": statement, "last": change, "groups": ["statement", "change"]}], (
            transition
        )
        assert (decision["requested_by"], decision["decided_by"]) == (pair[0].email, pair[1].email)
        assert decision["ground"] == "GDPR art. 17"
    assert sum(count["count"] for count in said[2][2]["counts"]) == 2
    own = [r for r in segments.records(range(tree.head())) if b'"decision"' in r.leaf]
    assert not [r.index for r in own if b"4711" in b"".join(v or b"" for v in r.groups.values())]
    newest = max(r.index for r in own if b'"transition":"erased"' in (r.groups["actor"] or b""))
    assert erasures.erased_by([statement, 2]) == {(statement, "statement"): newest, (statement, "change"): newest}
    assert set(groups_of(change)) == {"actor", "action", "statement", "change"} & set(groups_of(change))
    assert groups_of(change)["action"] is not None


def test_a_pack_made_before_still_verifies_and_one_made_after_names_the_erasure(pair: tuple[Viewer, Viewer]) -> None:
    forgetting.send(SECRET)
    before = forgetting.pack(pair[0], "kind:change or kind:query")
    number = erased(pair)
    policy = notes.parse_policy(checkpoint_policy())
    for finished in (False, True):
        if finished:
            forgetting.locked(erasures.finish, number)
        keeper.once()
        later = packs.collect(pair[0], "", indexes=[0, 1, 2])
        shown = packfile.parse(archive.read(later)).disclosures
        by = erasures.erased_by([0])[0, "statement"]
        assert shown[0]["statement"] == packfile.Disclosure("erased", erased_by=by)
        assert shown[2]["statement"].state == "disclosed"
        assert verify(later, policy).exit == verify(before, policy).exit == 0


def test_records_of_reads_lose_the_question_that_names_the_value_and_others_keep_theirs(
    pair: tuple[Viewer, Viewer],
) -> None:
    forgetting.send(SECRET)
    by_text = forgetting.read(pair[0], SECRET)
    by_key = forgetting.read(pair[0], "key%3A4711+op%3Aread")
    other = forgetting.read(pair[0], "key%3A47110")
    by_address = ledger.record_decision(
        "evidence_read", decided_by="x@y.z", subject="/tables/orders-prod/public.customers/rows/4711/", transition="200"
    ).index
    erased(pair, f'key:4711 or "{SECRET}"', groups=["change"])
    assert groups_of(by_text)["action"] is groups_of(by_key)["action"] is None
    assert groups_of(by_text)["actor"] is not None
    assert groups_of(by_address)["actor"] is None
    assert None not in groups_of(other).values()


def test_what_was_set_loses_the_groups_that_name_the_value_and_says_still_that_it_was_set(
    pair: tuple[Viewer, Viewer],
) -> None:
    def newest() -> int:
        return int(forgetting.rows("select size - 1 from ledger_head")[0][0])

    kept = dict.fromkeys(saved.FIELDS, "") | {"by": "event"}
    places = []
    for name, q in (("Island", 'purpose:"to Zanzibar"'), ("Other", "ticket:OPS-1")):
        saved.save(pair[0], kept | {"name": name, "q": q}, True)
        places.append(newest())
    tagging.establish(pair[1], "orders-prod", "public.customers", "email", "email", "Asked by zanzibar.")
    search, other, tag = [*places, newest()]
    erased(pair, groups=["change"], texts=["Zanzibar"])
    assert groups_of(search)["statement"] is None
    assert groups_of(tag)["action"] is None
    assert None not in groups_of(other).values()
    for index in (search, tag):
        left = b"".join(value or b"" for value in groups_of(index).values())
        assert b"zanzibar" not in left.lower()
        assert b"configuration" in left or groups_of(index)["actor"] is None


def test_what_matches_only_after_the_request_is_taken_too_and_the_record_says_so(pair: tuple[Viewer, Viewer]) -> None:
    source = story.source()
    forgetting.send(SECRET, source)
    number = ask(pair[0], 'after.name:"Zebedee-Q7" or text:Zebedee').number
    late = forgetting.send(SECRET, source, "9")
    erasures.approve(pair[1], number)
    forgetting.locked(erasures.execute, number)
    assert set(groups_of(late[0]).values()) == set(groups_of(late[1]).values()) == {None}
    (row,) = [r for r in segments.records(range(6, tree.head())) if b'"pending"' in (r.groups.get("actor") or b"")]
    assert b"2 records at the request" in (row.groups["action"] or b"")
    assert erasures.one(number).query is None


@pytest.mark.parametrize("left", [False, True], ids=["keys in the database", "keys in sealed files"])
def test_an_erased_item_that_is_sent_again_is_a_duplicate_whatever_it_says(
    pair: tuple[Viewer, Viewer], settings: Any, left: bool
) -> None:
    source = story.source()
    forgetting.send(SECRET, source)
    settings.KEY_SECONDS = 0
    if left:
        forgetting.locked(execution.seal_everything)
        leaving.leave()
    number = erased(pair)
    size = tree.head()
    marked = "select count(*) from ledger_key where content = decode(repeat('00', 32), 'hex')"
    assert forgetting.rows(marked) == [(0 if left else 2,)]
    leaving.leave()
    for secret in (SECRET, "Somebody else"):
        item = story.query(
            "q-4711-1", forgetting.AT, story.DANA, f"update customers set name = '{secret}' where id = 4711", "update"
        )
        answer = ingest.accept(source, json.dumps([item]).encode())
        assert [(i.status, i.index) for i in answer.items] == [("duplicate", 0)]
    assert tree.head() == size
    assert erasures.one(number).state == "pending"
    ((folder,),) = forgetting.rows("select folder from ledger_segment where first_index = 0")
    kept = [record for part in form.parts(segments.storage().path(folder, "keys")) for record in part]
    assert {int.from_bytes(r[20:28], "big") for r in kept if r[32:] == form.FORGOTTEN} == {0, 1}
    assert not list(fsck.check())


@pytest.mark.parametrize("left", [False, True], ids=["keys in the database", "keys in sealed files"])
def test_an_erased_second_content_does_not_come_back_though_the_first_stands(
    pair: tuple[Viewer, Viewer], settings: Any, left: bool
) -> None:
    source = story.source()
    settings.KEY_SECONDS = 0

    def sent(name: str) -> list[tuple[str, int | None]]:
        item = story.query("q-1", forgetting.AT, story.DANA, f"update customers set name = '{name}'", "update")
        return [(i.status, i.index) for i in ingest.accept(source, json.dumps([item]).encode()).items]

    assert [*sent("Jon"), *sent(SECRET)] == [("accepted", 0), ("conflict", 1)]
    if left:
        forgetting.locked(execution.seal_everything)
        leaving.leave()
    erased(pair, f'"{SECRET}"')
    assert groups_of(0)["statement"] is not None
    assert groups_of(1)["statement"] is None
    leaving.leave()
    size = tree.head()
    assert [*sent(SECRET), *sent("Jon"), *sent("Else")] == [("duplicate", 0)] * 3
    assert tree.head() == size
    assert not list(fsck.check())


def test_quarantined_bytes_that_hold_the_value_go_and_their_place_stays(pair: tuple[Viewer, Viewer]) -> None:
    source = story.source()
    forgetting.send(SECRET, source)
    for text in (SECRET, "nobody", "nobody else"):
        ingest.accept(source, json.dumps({"kind": "strange", "text": text}).encode())
    asked = ask(pair[0], f'"{SECRET}"', items=[3])
    assert asked.quarantined == 2
    erasures.approve(pair[1], asked.number)
    forgetting.locked(erasures.execute, asked.number)
    kept = forgetting.rows("select length(body) > 0, code, reason from ledger_quarantine order by id")
    assert [there for there, _, _ in kept] == [False, True, False]
    assert {code for _, code, _ in kept} == {"event-invalid"}
    assert kept[0][2] == f"erased by erasure {asked.number}"


def test_a_text_given_beside_the_search_takes_every_record_that_holds_it(pair: tuple[Viewer, Viewer]) -> None:
    source = story.source()
    text = 'Ann "the ö" O\'Neil'
    (index,) = story.send(
        source, story.query("t1", forgetting.AT, story.OMAR, "select 1", "read", purpose=f"call {text} back")
    )
    forgetting.send(SECRET, source)
    assert ask(pair[0], "", groups=["statement"], texts=[SECRET]).records == 1
    assert ask(pair[0], "", groups=["change"], texts=[SECRET]).records == 2
    number = erased(pair, "", groups=["action"], texts=[text])
    assert erasures.one(number).records == 1
    assert groups_of(index)["action"] is None
    assert None not in groups_of(index + 1).values()


def test_nothing_goes_before_the_waiting_time_and_the_list_says_what_is_still_there(
    pair: tuple[Viewer, Viewer], settings: Any, tmp_path: Path
) -> None:
    settings.GRACE_SECONDS, settings.BACKUP_DAYS = 60, 30
    forgetting.send(SECRET)
    forgetting.locked(erasures.execute, _approved(pair))
    (before,) = [p for p in (tmp_path / "segments").iterdir() if SECRET in _text(p / "events.parquet")]
    assert forgetting.locked(erasures.finish, 1) is False
    still = [(s.what, s.ours) for s in erasures.still(erasures.one(1))]
    assert ("1 replaced folders of sealed files", True) in still
    assert ("a journal partition, until all in it is sealed", True) in still
    assert ("the write-ahead log of the embedded database", True) in still or not configured.EMBEDDED
    assert ("backups, kept 30 days", False) in still
    forgetting.locked(segments.sweep)
    assert before.exists()
    settings.GRACE_SECONDS, settings.WAL_HOURS = -settings.QUERY_SECONDS, 0
    assert forgetting.locked(erasures.run_due) == 0
    assert not before.exists()
    assert not [s for s in erasures.still(erasures.one(1)) if s.ours]


def _text(path: Path) -> str:
    return repr(pq.read_table(path).to_pylist())


def _approved(pair: tuple[Viewer, Viewer], query: str = "key:4711") -> int:
    number = ask(pair[0], query).number
    erasures.approve(pair[1], number)
    return number


def test_killed_before_publishing_the_old_stands_and_a_second_run_leaves_no_rest(
    pair: tuple[Viewer, Viewer], tmp_path: Path
) -> None:
    forgetting.send(SECRET)
    number = _approved(pair)
    with keeper.lock():
        execution.seal_everything()
        taken = {0: ("statement",)}
        (left,) = list(execution._rewrite(taken))  # killed here
    assert (tmp_path / "segments" / left.new).exists()
    assert None not in groups_of(0).values()
    forgetting.locked(erasures.execute, number)
    assert not (tmp_path / "segments" / left.new).exists()
    assert set(groups_of(0).values()) == {None}
    assert forgetting.locked(erasures.finish, number) is True
    assert list(fsck.check()) == []


def test_two_rewritings_of_one_segment_never_both_commit(pair: tuple[Viewer, Viewer]) -> None:
    forgetting.send(SECRET)
    first, second = _approved(pair), _approved(pair, "key:12")
    with keeper.lock():
        execution.seal_everything()
        stale = list(execution._rewrite({2: ("statement",)}))
        erasures.execute(first)
        size = tree.head()
        with pytest.raises(publishing.Changed):
            publishing.publish(second, stale, execution.records_of(erasures.one(second), "pending", (), (), "x"), 0)
        assert tree.head() == size
        assert erasures.one(second).state == "approved"
        erasures.execute(second)
    assert set(groups_of(0).values()) == set(groups_of(2).values()) == {None}


def test_leaves_that_differ_are_never_published(pair: tuple[Viewer, Viewer]) -> None:
    forgetting.send(SECRET)
    number = _approved(pair)
    with keeper.lock():
        execution.seal_everything()
        (made,) = execution._rewrite({0: ("statement",)})
        other = made.files | {"leaves": made.files["leaves"] | {"sha256": "00" * 32}}
        with pytest.raises(publishing.Changed):
            publishing.publish(number, [publishing.Replaced(made.old, made.new, other)], (), 0)
    assert None not in groups_of(0).values()


def test_an_erasure_of_many_spans_is_several_records_each_complete(pair: tuple[Viewer, Viewer]) -> None:
    forgetting.send(SECRET)
    found = erasures.one(_approved(pair))
    taken = {index: ("change",) for index in range(0, 5_000, 2)}
    spans = selection.spans(taken)
    said = execution.records_of(found, "pending", spans, (), "many")
    assert [len(event.decision.erased) for event in said if event.decision] == [1_000, 1_000, 500]
    assert [span for event in said if event.decision for span in event.decision.erased] == spans
    assert selection.spans({1: ("change",), 2: ("change",), 3: ("actor",)}) == [
        Erased(first=1, last=2, groups=("change",)),
        Erased(first=3, last=3, groups=("actor",)),
    ]


def test_what_a_process_remembers_of_the_tail_goes_with_the_next_question_or_without_one(
    pair: tuple[Viewer, Viewer],
) -> None:
    forgetting.send(SECRET)
    queries.events(pair[0], SECRET)
    here = engine._here()
    assert any(SECRET in repr(part.events.to_pylist()) for part in here.tail.parts)
    number = _approved(pair)
    forgetting.locked(execution.seal_everything)
    parts = list(here.tail.parts)
    forgetting.locked(erasures.execute, number)
    # As in a process that saw nothing of it and is asked nothing.
    here.tail.parts, here.erased_at, here.asked_at = parts, None, here.asked_at - 2 * process.IDLE_SECONDS
    here.look_when_idle()
    assert here.tail.parts == []
    assert here.joins.newest is None
    schemas = here.database.cursor().execute("select count(*) from duckdb_schemas() where schema_name like 'joined%'")
    assert schemas.fetchall() == [(0,)]
    here.tail.parts, here.erased_at = parts, None
    queries.events(pair[0], "key:12")
    assert not any(SECRET in repr(part.events.to_pylist()) for part in here.tail.parts)


def test_drafts_lose_their_files_and_final_reports_are_named(pair: tuple[Viewer, Viewer], tmp_path: Path) -> None:
    forgetting.send(SECRET)
    number = erased(pair)
    made = {}
    for status in ("draft", "final", "queued"):
        report = Report.objects.create(
            kind="privileged-access",
            period_from=forgetting.AT,
            period_to=forgetting.AT,
            status=status,
            path="x",
            created_by="x@y.z",
        )
        folder = made[status] = issuing.folder_of(report)
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"index": [1]}), folder / "population.parquet")
    untouched = Report.objects.create(
        kind="privileged-access",
        period_from=forgetting.AT,
        period_to=forgetting.AT,
        status="draft",
        path="x",
        created_by="x@y.z",
    )
    issuing.folder_of(untouched).mkdir()
    pq.write_table(pa.table({"index": [2]}), issuing.folder_of(untouched) / "population.parquet")
    (tmp_path / "spill").mkdir(exist_ok=True)
    spilled = tmp_path / "spill" / "duckdb_temp_storage_DEFAULT-9.tmp"
    spilled.write_bytes(SECRET.encode())
    os.utime(spilled, (1, 1))
    assert forgetting.locked(erasures.finish, number) is True
    assert not spilled.exists()
    assert {status: folder.exists() for status, folder in made.items()} == {
        "draft": False,
        "final": True,
        "queued": False,
    }
    assert issuing.folder_of(untouched).exists()
    final = Report.objects.get(status="final")
    assert f"issued report {final.number}" in [s.what for s in erasures.still(erasures.one(number))]
    assert [bool(r.path) for r in Report.objects.filter(status="draft").order_by("pk")] == [False, True]


def test_jobs_and_web_sessions_hold_no_search_text(store: str) -> None:
    report = Report.objects.create(
        kind="privileged-access", period_from=forgetting.AT, period_to=forgetting.AT, q=SECRET, created_by="x@y.z"
    )
    tasks.enqueue(report.pk)
    assert forgetting.rows("select args::text from procrastinate_jobs") == [(f'{{"report_id": {report.pk}}}',)]
    story.person()
    client = Client()
    client.login(username="alice@audit.example", password=story.PASSWORD)
    client.get("/search", {"q": SECRET})
    (session,) = Session.objects.all()
    assert set(session.get_decoded()) == {"_auth_user_id", "_auth_user_backend", "_auth_user_hash"}


def test_a_value_that_came_back_is_found_by_fsck(pair: tuple[Viewer, Viewer], tmp_path: Path) -> None:
    forgetting.send(SECRET)
    forgetting.locked(execution.seal_everything)
    (old,) = (p.name for p in (tmp_path / "segments").iterdir())
    kept = tmp_path / "backup"
    shutil.copytree(tmp_path / "segments" / old, kept)
    erased(pair)
    (new,) = forgetting.rows("select folder from ledger_segment where first_index = 0")[0]
    shutil.copyfile(kept / "disclosures.parquet", tmp_path / "segments" / new / "disclosures.parquet")
    assert any("has its value again" in fault for fault in fsck.check())


def test_the_whole_way_on_the_command_line_needs_two_people_who_show_who_they_are(
    store: str, settings: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.GRACE_SECONDS, settings.WAL_HOURS = -settings.QUERY_SECONDS, 0
    forgetting.people()
    forgetting.send(SECRET)

    def run(who: str | None, *words: str) -> tuple[int, str, str]:
        monkeypatch.delenv("TOUCHSTONE_TOKEN", raising=False)
        if who:
            monkeypatch.setenv("TOUCHSTONE_TOKEN", who)
        try:
            call_command("erase", *words)
            status = 0
        except SystemExit as ended:
            status = int(ended.code or 0)
        told = capsys.readouterr()
        return status, told.out, told.err

    tokens = {}
    for user in User.objects.all():
        tokens[user.email] = f"tsu_{user.pk}"
        ApiToken.objects.create(user=user, token_hash=token_hash(tokens[user.email]))
    wanted = ("request", "key:4711", "--groups", "actor,change", "--reason", "asked", "--ground", "GDPR 17")
    status, out, err = run(None, *wanted)
    assert (status, out) == (1, "")
    assert "token-invalid" in err
    assert forgetting.decisions("erasure")[-1][1] == "refused"
    status, out, err = run(tokens[forgetting.CARLA], *wanted)
    assert (status, out) == (0, "1\n")
    assert "2 records, the first 0, the last 1" in err
    assert SECRET not in err
    assert run(tokens[forgetting.CARLA], "approve", "1")[0] == 1
    assert run(tokens[forgetting.CLAUS], "approve", "1")[:2][0] == 0
    status, out, _ = run(None, "list")
    assert "\terased\t" in out
    assert "outside our reach: backups" in out
    assert "2 refusals so far" in out
    monkeypatch.setattr("getpass.getpass", lambda prompt: story.PASSWORD)
    assert run(None, *wanted, "--as", forgetting.CARLA)[0] == 1  # nothing matches any more
    monkeypatch.setattr("getpass.getpass", lambda prompt: "wrong")
    assert "token-invalid" in run(None, *wanted, "--as", forgetting.CARLA)[2]


def test_a_hold_that_comes_while_an_erasure_is_at_work_stops_it(pair: tuple[Viewer, Viewer]) -> None:
    forgetting.send(SECRET)
    number = _approved(pair)
    with keeper.lock():
        execution.seal_everything()
        made = list(execution._rewrite({0: ("statement",)}))
        holds.add(pair[0], "key:4711", "court case 7")
        with pytest.raises(publishing.Changed):
            publishing.publish(number, made, (), 0)
        with pytest.raises(errors.Held):
            erasures.execute(number)
    assert None not in groups_of(0).values()
    assert erasures.one(number).state == "refused"


def slots() -> int:
    return int(forgetting.rows("select count(*) from pg_inherits where inhparent = 'ledger_journal'::regclass")[0][0])


def test_a_journal_slot_stays_while_anything_in_it_waits_and_goes_whole_once_sealed(
    pair: tuple[Viewer, Viewer],
) -> None:
    source = story.source()
    forgetting.send(SECRET, source)
    assert segments.drop_sealed_slots() == 0
    forgetting.locked(execution.seal_everything)
    forgetting.send(SECRET, source, "9")
    assert segments.drop_sealed_slots() == max(0, slots() - 1)
    forgetting.locked(execution.seal_everything)
    segments.drop_sealed_slots()
    assert slots() == 0
    assert forgetting.send(SECRET, source, "10") == [6, 7, 8]
    assert queries.events(pair[0], "key:10").total.value == 2
    assert list(fsck.check()) == []


def test_writers_lose_nothing_while_slots_are_dropped_under_them(pair: tuple[Viewer, Viewer]) -> None:
    source, accepted = story.source(), []

    def write(name: str) -> None:
        try:
            for n in range(12):
                accepted.extend(forgetting.send(SECRET, source, f"{name}{n}"))
        finally:
            connections.close_all()

    writers = [threading.Thread(target=write, args=(name,)) for name in ("a", "b")]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        forgetting.locked(execution.seal_everything)
        segments.drop_sealed_slots()
    forgetting.locked(execution.seal_everything)
    assert sorted(accepted) == list(range(72)) == [index for index, _ in segments.leaves(0, tree.head())]
    assert list(fsck.check()) == []


def test_a_slot_that_is_dropped_as_soon_as_it_is_open_does_not_keep_records_out(
    pair: tuple[Viewer, Viewer], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, opened, opens = story.source(), list[int](), ledger._open_slot
    forgetting.locked(execution.seal_everything)
    segments.drop_sealed_slots()

    def drop() -> None:
        try:
            opened.append(segments.drop_sealed_slots())
        finally:
            connections.close_all()

    def open_and_drop() -> None:
        opens()
        other = threading.Thread(target=drop)
        other.start()
        other.join()

    monkeypatch.setattr(ledger, "_open_slot", open_and_drop)
    assert forgetting.send(SECRET, source, "1")
    assert opened == [0]
