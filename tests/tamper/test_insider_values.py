"""The insider and the values under the leaves: swapped, ambiguous, guessed, erased, brought back, hidden from a search."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
import shutil
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from django.core.management import call_command
from django.db import DatabaseError, connection

from lineage import archive, checkpoints, commitment, engine, erasures, errors, health, packfile, queries, segments
from lineage.access import Viewer
from lineage.erasures import execution
from tests import merges
from tests.lineage import forgetting
from tests.tamper.insider import ADMIN, Insider, failed, faults, judged, pack, policy

pytestmark = pytest.mark.slow


@pytest.fixture
def pair(insider: Insider, settings: Any) -> tuple[Viewer, Viewer]:
    """Two people who may erase, and no waiting time."""
    settings.GRACE_SECONDS = -settings.QUERY_SECONDS
    return forgetting.people()


def erased(pair: tuple[Viewer, Viewer], query: str = "actor:person-3") -> int:
    asked = erasures.request(pair[0], query, ["actor"], reason="asked for", ground="Art. 17")
    erasures.approve(pair[1], asked.number)
    forgetting.locked(erasures.run_due)
    return asked.number


# swaps groups, or values between records


@pytest.mark.parametrize(
    "columns", [("actor", "actor_salt"), ("actor",), ("actor_salt",)], ids=["both", "values", "salts"]
)
def test_groups_values_or_salts_swapped_between_records_do_not_open_their_digests(
    insider: Insider, columns: tuple[str, ...]
) -> None:
    insider.swap(2, 4, *columns)
    said = faults()
    for index in (2, 4):
        assert f"Record {index}: the group actor is not what was accepted." in said
    code, states, _ = judged(pack("index:>=0"), policy())
    assert (code, states["inclusion"], states["disclosures"]) == (1, "pass", "fail")


def test_groups_swapped_within_a_record_do_not_open_their_digests(insider: Insider) -> None:
    _, salt, value = insider.held(2, "actor")
    _, other_salt, other = insider.held(2, "statement")
    insider.put(2, actor=other, actor_salt=other_salt, statement=value, statement_salt=salt)
    assert "Record 2: the group actor is not what was accepted." in faults()


# crafts a value that opens two ways


def test_a_digest_opens_in_one_way_only(insider: Insider) -> None:
    _, salt, value = insider.held(2, "actor")
    good = packfile.read(pack("index:2"))
    for other in (
        (salt + value[:2], value[2:]),
        (salt + value[:1], value[1:]),
        (salt, value.replace(b'"id":"person-3"', b'"id":"person-3","id":"person-4"')),
        (salt, b" " + value),
        (salt, value.replace(b"person-3", b"person\\u002d3")),
    ):
        assert other != (salt, value)
        shown = {**good.disclosures[2], "actor": packfile.Disclosure("disclosed", *other)}
        code, checks = failed(packfile.write(dataclasses.replace(good, disclosures={2: shown})), policy())
        assert code == 1
        assert checks[0] in ("manifest", "disclosures")


def test_a_value_that_readers_could_take_in_two_ways_is_refused_though_its_digest_fits(insider: Insider) -> None:
    """The insider commits to it himself, with a leaf of his own, before anything is signed."""
    insider.add(1)
    leaf, salt, value = insider.held(6, "actor")
    twice = value.replace(b'"id":"person-7"', b'"id":"person-7","id":"person-8"')
    fitting = leaf.replace(commitment.digest(salt, value).encode(), commitment.digest(salt, twice).encode())
    insider.put(6, leaf=fitting, actor=twice)
    checkpoints.checkpoint()
    assert failed(pack("index:6"), policy()) == (1, ["disclosures"])


# guesses withheld or erased values


def test_a_withheld_or_erased_value_cannot_be_confirmed_by_guessing(
    insider: Insider, pair: tuple[Viewer, Viewer]
) -> None:
    _, salt, value = insider.held(2, "actor")
    digest = commitment.digest(salt, value).encode()
    kept = pack("index:2")
    withheld = pack("index:2", withhold=["actor"])
    assert all(len(salts) == 16 for salts in every_salt(insider))
    assert len(every_salt(insider)) == len(set(every_salt(insider)))
    # Who has the salt confirms a guess at once; without it neither the pack nor the whole database does.
    assert guessed(digest, value, [salt])
    assert guessed(digest, value, salts_in(kept))
    assert not guessed(digest, value, salts_in(withheld))
    assert salt.hex().encode() not in withheld
    erased(pair)
    assert digest in next(leaf for _, leaf in segments.leaves(2, 3))
    after = pack("index:2")
    assert not guessed(digest, value, [*salts_in(after), *every_salt(insider)])
    assert b"person-3" not in after
    # Whoever kept a pack with the value still has both: it verifies as before.
    assert judged(kept, policy())[0] == 0


def guessed(digest: bytes, value: bytes, salts: list[bytes]) -> bool:
    return any(hashlib.sha256(salt + value).hexdigest().encode() == digest for salt in [b"", bytes(16), *salts])


def salts_in(data: bytes) -> list[bytes]:
    lines = archive.read(data)["disclosures.ndjson"].splitlines()
    return [bytes.fromhex(each["salt"]) for each in map(json.loads, lines) if "salt" in each]


def every_salt(insider: Insider) -> list[bytes]:
    """Those of the journal and of the sealed files."""
    found = [
        salt
        for row in insider.act("select actor_salt, action_salt, statement_salt, change_salt from ledger_journal")
        for salt in row
    ]
    for path in (insider.data / "segments").glob("*/disclosures.parquet"):
        found += pq.read_table(path)["salt"].to_pylist()
    return [salt for salt in found if salt is not None]


# erases without leave


def test_what_is_erased_without_a_record_is_called_missing_and_fsck_says_so(
    insider: Insider, pair: tuple[Viewer, Viewer]
) -> None:
    segments.seal()
    table = pq.read_table(insider.folder() / "disclosures.parquet").to_pylist()
    for row in table:
        if (row["index"], row["group"]) == (2, "actor"):
            row["salt"] = row["value"] = None
    insider.replace("disclosures", pa.Table.from_pylist(table, schema=segments.DISCLOSURES))
    assert "Record 2: the group actor is gone, and no record of the log says so (1 in all)." in faults()
    assert failed(pack("index:2"), policy()) == (2, ["disclosures"])
    # He can write his own line into the table of erasures, but not the record into the log that was signed.
    insider.act(
        "insert into ledger_erasure (kind, groups, as_of, records, selection_hash, reason, ground, requested_by) "
        "values ('erasure', '{actor}', 6, 1, %s, 'x', 'x', 'me@shop.example')", bytes(32),
    )  # fmt: skip
    insider.act("insert into ledger_erased values (5, 1, 2, 2, '{actor}')")
    assert "Record 2: the group actor is gone, and no record of the log says so (1 in all)." in faults()
    assert failed(pack("index:2"), policy()) == (2, ["disclosures"])


def test_what_is_taken_out_of_the_journal_is_not_sealed(insider: Insider) -> None:
    insider.put(2, actor=None)
    assert "Record 2: a group is gone." in faults()
    assert insider.refused(segments.seal) == "log-rewritten"


def test_the_database_refuses_one_person_in_both_roles(insider: Insider, pair: tuple[Viewer, Viewer]) -> None:
    asked = erasures.request(pair[0], "actor:person-3", ["actor"], reason="asked for", ground="Art. 17")
    with pytest.raises(DatabaseError, match="needs another person"), connection.cursor() as cursor:
        cursor.execute("select ledger_decide_erasure(%s, %s, true)", [asked.number, pair[0].email.upper()])
    assert erasures.one(asked.number).state == "requested"


# undoes an erasure from a backup


def test_an_erasure_undone_from_a_backup_is_named_by_fsck_also_when_its_table_was_emptied(
    insider: Insider, pair: tuple[Viewer, Viewer]
) -> None:
    forgetting.locked(execution.seal_everything)
    backup = insider.folder()
    shutil.copytree(backup, insider.data.with_name("segment-backup"))
    number = erased(pair)
    assert faults() == ""
    for path in insider.data.with_name("segment-backup").iterdir():
        shutil.copyfile(path, insider.folder() / path.name)
        insider.restate(path.stem)
    assert queries.events(ADMIN, "actor:person-3").items
    expected = f"Record 2: a group that erasure {number} took has its value again (2 in all)."
    assert expected in faults()
    insider.act("delete from ledger_erased")
    assert expected in faults()


# makes a search hide records


def test_a_record_hidden_from_the_search_is_missed_by_the_counts_by_fsck_and_by_a_range(
    insider: Insider, capsys: pytest.CaptureFixture[str]
) -> None:
    segments.seal()
    assert health.commit_counts() is not None
    checkpoints.checkpoint()
    hide(insider, "events")
    assert [each["index"] for each in queries.events(ADMIN, "kind:query").items] == [5, 4, 3, 1, 0]
    assert failed(pack("kind:query index:>=0"), policy()) == (1, ["completeness"])
    with pytest.raises(SystemExit):
        call_command("fsck")
    said = capsys.readouterr().out
    assert "Segment 0: events does not follow from its records from 0 on." in said
    assert "the log committed to 6 of source shop, class read; 5 are found by a search." in said
    (found,) = [each for each in queries.findings(ADMIN).items if each["rule"] == "count-mismatch"]
    assert "5 are found by a search" in found["sentence"]
    with pytest.raises(SystemExit):
        call_command("fsck")
    assert len([each for each in queries.findings(ADMIN).items if each["rule"] == "count-mismatch"]) == 1


def test_what_is_changed_in_merged_files_is_found_as_in_those_that_were_merged(insider: Insider) -> None:
    segments.seal()
    insider.sign(3)
    segments.seal()
    assert merges.everything() == 1
    assert faults() == ""
    hide(insider, "touches")
    assert "Segment 0: touches does not follow from its records from 0 on." in faults()
    table = pq.read_table(insider.folder() / "disclosures.parquet")
    insider.replace("disclosures", table.filter(pc.not_equal(table["index"], 7)))
    assert "Record 7: its groups are not those that it commits to." in faults()
    insider.act("update ledger_segment set next_index = 8")
    assert "Segment 0: events holds rows that no record leads to." in faults()


def test_what_is_changed_in_any_other_file_of_a_merged_segment_is_found_and_goes_into_no_further_merge(
    insider: Insider,
) -> None:
    insider.add(1, actor={"db_user": "bob"}, db_session_id="s-1", transaction={"id": "77"}, datasource="orders")
    checkpoints.checkpoint()
    segments.seal()
    insider.sign(3)
    segments.seal()
    assert merges.everything() == 1
    assert faults() == ""
    for table, said in (
        ("facts", "Segment 0: facts does not follow from its records."),
        ("heard", "Segment 0: heard does not follow from its records."),
        ("keys", "has another content hash."),
        ("leaves", "Record 0 is missing."),
    ):
        path = segments.storage().path(insider.folder().name, table)
        held = path.read_bytes()
        if table == "keys":
            path.write_bytes(held[:32] + bytes(31) + b"\x01" + held[64:])
        else:
            pq.write_table(pq.read_table(path).slice(1), path)
        insider.restate(table)
        assert said in faults()
        if table != "leaves":
            path.write_bytes(held)
            insider.restate(table)
    insider.sign(3)
    segments.seal()
    with pytest.raises(errors.LedgerBroken, match="not those that were signed"):
        merges.everything()


def test_derived_files_that_claim_another_version_are_not_left_out_of_the_comparison(insider: Insider) -> None:
    segments.seal()
    hide(insider, "events", projection="1")
    assert "Segment 0: what is derived of it was made by another version, and cannot be compared." in faults()


def test_facts_that_name_another_login_are_found_and_those_of_another_version_name_nobody(insider: Insider) -> None:
    act = {"transaction": {"id": "77"}, "datasource": "orders"}
    insider.add(1, actor={"db_user": "bob"}, db_session_id="s-1", **act)
    insider.add(1, kind="change", op="update", actor=None, statement=None, **act)
    checkpoints.checkpoint()
    segments.seal()
    assert queries.event(ADMIN, 7)["db_user"] == "bob"
    table = pq.read_table(insider.folder() / "facts.parquet")
    rows = [row | {"db_user": row["db_user"] and "eve"} for row in table.to_pylist()]
    forged = pa.Table.from_pylist(rows, schema=table.schema)
    assert not forged.equals(table)
    insider.replace("facts", forged)
    assert faults() == "Segment 0: facts does not follow from its records."
    insider.replace("facts", forged, projection="0")
    engine._here().joins.forget()
    assert queries.event(ADMIN, 7)["db_user"] == "bob"


def test_a_source_said_to_have_been_heard_when_it_was_not_is_found(insider: Insider) -> None:
    segments.seal()
    table = pq.read_table(insider.folder() / "heard.parquet")
    later = [row | {"arrived_at": row["arrived_at"] and shifted(row["arrived_at"])} for row in table.to_pylist()]
    insider.replace("heard", pa.Table.from_pylist(later, schema=table.schema))
    assert faults() == "Segment 0: heard does not follow from its records."


def shifted(at: dt.datetime) -> dt.datetime:
    return at + dt.timedelta(hours=1)


def test_records_left_out_of_a_range_and_its_counts_are_counted_again_by_the_verifier(insider: Insider) -> None:
    segments.seal()
    index = health.commit_counts()
    assert index is not None
    checkpoints.checkpoint()
    whole = pack("kind:custody index:>=0")
    assert judged(whole, policy())[1]["counts"] == "pass"
    _, _, value = insider.held(index, "action")
    insider.rewrite(index, b'"count":6', b'"count":5', "action")
    assert value != insider.held(index, "action")[2]
    insider.resign()
    code, checks = failed(pack("kind:custody index:>=0"), policy())
    assert (code, checks) == (1, ["counts"])


def hide(insider: Insider, name: str, **stated: Any) -> None:
    """Takes record 2 out of a derived file and makes the manifest fit."""
    table = pq.read_table(insider.folder() / f"{name}.parquet")
    insider.replace(name, table.filter(pc.not_equal(table["index"], 2)), **stated)
