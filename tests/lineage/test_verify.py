"""The offline verifier: what it confirms, what it refuses, and what it says it cannot know."""

from __future__ import annotations

import ast
import dataclasses
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pikepdf
import pytest

from lineage import archive, commitment, errors, events, merkle, notes, packfile
from lineage.verify import Verdict, verify
from tests import evidence
from tests.evidence import HASHES, POLICY

BASE = Path(__file__).resolve().parent.parent.parent


def judged(
    content: packfile.PackContent, policy: notes.Policy | None = POLICY, receipts: tuple[str, ...] = ()
) -> Verdict:
    return verify(packfile.write(content), policy, receipts)


def states(verdict: Verdict) -> dict[str, str]:
    return {check.name: check.state for check in verdict.checks}


def sentence(verdict: Verdict, name: str) -> str:
    return next(check.sentence for check in verdict.checks if check.name == name)


def test_a_whole_pack_is_valid_under_the_policy() -> None:
    verdict = judged(evidence.ranged())
    assert verdict.exit == 0
    assert verdict.sentence.startswith("Valid")
    assert states(verdict) == {
        "archive": "pass",
        "members": "pass",
        "manifest": "pass",
        "leaves": "pass",
        "inclusion": "pass",
        "disclosures": "pass",
        "completeness": "pass",
        "consistency": "note",
        "signature": "pass",
        "witnesses": "note",
        "receipts": "note",
        "derived": "note",
        "time": "note",
        "counts": "note",
    }
    assert [check.number for check in verdict.checks] == list(range(1, 15))


def test_the_page_numbers_and_names_the_checks_as_the_program_does() -> None:
    section = (BASE / "docs/verify.md").read_text().split("## The checks")[1].split("\n## ")[0]
    listed = [(int(number), name) for number, name in re.findall(r"^(\d+)\. \*\*(\w+)\*\*:", section, re.MULTILINE)]
    data = pdf_with("evidence.touchstone.zip", packfile.write(evidence.ranged()))
    assert listed == [(check.number, check.name) for check in verify(data, POLICY).checks]


def test_single_records_are_valid_and_say_nothing_about_the_others() -> None:
    verdict = judged(evidence.sparse(1, 2, 20))
    assert verdict.exit == 0
    assert "nothing is shown about the records between them" in sentence(verdict, "completeness")


def test_without_a_policy_a_good_pack_is_only_consistent() -> None:
    verdict = judged(evidence.ranged(), policy=None)
    assert verdict.exit == 2
    assert states(verdict)["signature"] == "missing"


def test_a_pack_signed_by_a_key_that_the_policy_does_not_name_lacks_trust() -> None:
    verdict = judged(evidence.ranged(checkpoint=evidence.checkpoint(key=evidence.STRANGER_KEY)))
    assert verdict.exit == 2


def test_a_wrong_signature_under_a_trusted_keys_name_is_invalid() -> None:
    good, other = evidence.checkpoint(), evidence.checkpoint(20)
    forged = good.replace(good.splitlines()[-1], other.splitlines()[-1])
    verdict = judged(evidence.ranged(checkpoint=forged))
    assert (verdict.exit, states(verdict)["signature"]) == (1, "fail")


def test_a_trusted_key_cannot_vouch_for_a_log_of_another_name() -> None:
    verdict = judged(evidence.ranged(checkpoint=evidence.checkpoint(origin="log.example/shadow")))
    assert (verdict.exit, states(verdict)["signature"]) == (1, "fail")


def test_a_changed_leaf_does_not_lead_to_the_root() -> None:
    leaves = dict(evidence.ranged().leaves)
    leaves[7] = leaves[7].replace(b"orders-log", b"orders-lag")
    verdict = judged(evidence.ranged(leaves=leaves))
    assert (verdict.exit, states(verdict)["inclusion"]) == (1, "fail")


def test_a_leaf_outside_the_format_is_refused() -> None:
    leaves = dict(evidence.ranged().leaves)
    leaves[7] = leaves[7].replace(b'"v":1', b'"v":3')
    verdict = judged(evidence.ranged(leaves=leaves))
    assert (verdict.exit, states(verdict)["leaves"]) == (1, "fail")


def test_a_record_moved_to_another_index_is_refused() -> None:
    moved = dataclasses.replace(
        evidence.sparse(2),
        leaves={3: evidence.COMMITTED[2][0]},
        selected=(3,),
        disclosures={3: evidence.disclosed(2)},
    )
    assert states(judged(moved))["inclusion"] == "fail"


def test_changed_bytes_or_salts_do_not_give_the_digest_in_the_leaf() -> None:
    good = evidence.ranged()
    shown = good.disclosures[6]["change"]
    assert shown.data is not None
    for changed in (
        dataclasses.replace(shown, data=shown.data.replace(b'"6"', b'"7"')),
        dataclasses.replace(shown, salt=b"0" * 16),
    ):
        groups = {**good.disclosures[6], "change": changed}
        verdict = judged(evidence.ranged(disclosures={**good.disclosures, 6: groups}))
        assert (verdict.exit, states(verdict)["disclosures"]) == (1, "fail")
        assert "Record 6, group change" in sentence(verdict, "disclosures")


def test_a_group_may_be_withheld_but_not_left_out() -> None:
    good = evidence.ranged()
    withheld = {**good.disclosures[6], "actor": packfile.Disclosure("withheld")}
    verdict = judged(evidence.ranged(disclosures={**good.disclosures, 6: withheld}))
    assert verdict.exit == 0
    assert "1 withheld" in sentence(verdict, "disclosures")
    left_out = {group: shown for group, shown in good.disclosures[6].items() if group != "actor"}
    verdict = judged(evidence.ranged(disclosures={**good.disclosures, 6: left_out}))
    assert (verdict.exit, states(verdict)["disclosures"]) == (1, "fail")


ERASURE = evidence.SIZE - 2


def erased(index: int, *groups: events.Group, by: int | None = ERASURE) -> dict[events.Group, packfile.Disclosure]:
    return {**evidence.disclosed(index), **{group: packfile.Disclosure("erased", erased_by=by) for group in groups}}


def test_an_erased_group_is_explained_by_the_cited_or_selected_record_of_its_erasure() -> None:
    cited = {ERASURE: evidence.cited(ERASURE, "actor")}
    verdict = judged(evidence.sparse(2, 7, disclosures={2: erased(2, "actor"), 7: erased(7, "actor")}, cited=cited))
    assert (verdict.exit, states(verdict)["disclosures"]) == (0, "pass")
    assert "2 erased" in sentence(verdict, "disclosures")
    shown = {2: erased(2, "actor"), ERASURE: evidence.disclosed(ERASURE)}
    assert judged(evidence.sparse(2, ERASURE, disclosures=shown)).exit == 0
    shown = {6: evidence.disclosed(6), 9: evidence.disclosed(9), 12: evidence.disclosed(12), 15: evidence.disclosed(15)}
    assert judged(evidence.ranged(cited=cited, disclosures=shown)).exit == 0


@pytest.mark.parametrize(
    ("shown", "cited"),
    [
        ({2: erased(2, "actor")}, {}),
        ({2: erased(2, "actor", by=None)}, {ERASURE: evidence.cited(ERASURE, "actor")}),
        ({2: erased(2, "actor", by=4)}, {4: evidence.cited(4, "actor")}),
        ({2: erased(2, "actor")}, {ERASURE: evidence.cited(ERASURE)}),
        ({2: erased(2, "statement")}, {ERASURE: evidence.cited(ERASURE, "actor")}),
        ({8: erased(8, "actor")}, {ERASURE: evidence.cited(ERASURE, "actor")}),
        ({0: erased(0, "actor")}, {ERASURE: evidence.cited(ERASURE, "actor")}),
    ],
    ids=["no record", "none named", "no erasure", "not disclosed", "other group", "other record", "before all"],
)
def test_a_group_called_erased_without_the_record_of_its_erasure_is_missing(
    shown: dict[int, Any], cited: dict[int, Any]
) -> None:
    verdict = judged(evidence.sparse(*shown, disclosures=shown, cited=cited))
    assert (verdict.exit, states(verdict)["disclosures"]) == (2, "missing")
    assert "1 missing" in sentence(verdict, "disclosures")


def test_a_matching_record_left_out_of_a_range_is_noticed() -> None:
    good = evidence.ranged()
    fewer = tuple(index for index in good.selected if index != 9)
    shown = {index: good.disclosures[index] for index in fewer}
    verdict = judged(evidence.ranged(selected=fewer, disclosures=shown))
    assert (verdict.exit, states(verdict)["completeness"]) == (1, "fail")
    verdict = judged(evidence.ranged(selected=fewer, disclosures=shown, hidden=True))
    assert (verdict.exit, states(verdict)["completeness"]) == (0, "note")
    assert "1 more match" in sentence(verdict, "completeness")


def test_a_selected_record_must_match_the_filter_over_headers() -> None:
    verdict = judged(evidence.ranged(headers=packfile.Headers(kind=("session",)), hidden=True))
    assert states(verdict)["completeness"] == "fail"


@pytest.mark.parametrize(
    ("headers", "selected"),
    [
        (packfile.Headers(), tuple(range(4, 16))),
        (packfile.Headers(class_=("write",)), (6, 9, 12, 15)),
        (packfile.Headers(source_id=("other",)), ()),
        (packfile.Headers(occurred_from="2026-11-21T01:08:00.000000Z"), tuple(range(8, 16))),
        (packfile.Headers(occurred_until="2026-11-21T01:08:00.000000Z"), (4, 5, 6, 7)),
        (packfile.Headers(received_from="2026-11-21T01:08:00.000000Z", kind=("change",)), (9, 12, 15)),
        (packfile.Headers(received_until="2026-11-21T01:08:01.000000Z", kind=("change",)), (6,)),
    ],
)
def test_the_filter_over_headers_is_applied_again(headers: packfile.Headers, selected: tuple[int, ...]) -> None:
    shown = {index: evidence.disclosed(index) for index in selected}
    verdict = judged(evidence.ranged(headers=headers, selected=selected, disclosures=shown))
    assert (verdict.exit, states(verdict)["completeness"]) == (0, "pass")


def test_a_pack_continues_an_earlier_checkpoint_or_is_refused() -> None:
    proof = tuple(merkle.consistency_proof(HASHES, 9))
    assert states(judged(evidence.ranged(earlier=evidence.checkpoint(9), consistency=proof)))["consistency"] == "pass"
    forked = notes.sign(notes.make_checkpoint(evidence.ORIGIN, 9, merkle.root(HASHES[1:10])), evidence.LOG_KEY)
    verdict = judged(evidence.ranged(earlier=forked, consistency=proof))
    assert (verdict.exit, states(verdict)["consistency"]) == (1, "fail")
    unsigned = evidence.checkpoint(9, key=evidence.STRANGER_KEY)
    assert judged(evidence.ranged(earlier=unsigned, consistency=proof)).exit == 2
    shadow = evidence.checkpoint(9, origin="log.example/shadow")
    assert states(judged(evidence.ranged(earlier=shadow, consistency=proof)))["consistency"] == "fail"


def test_the_policys_quorum_of_witnesses_is_asked_for() -> None:
    text = evidence.POLICY_TEXT.replace("quorum none", f"witness w {notes.vkey_of(evidence.WITNESS_KEY)}\nquorum w")
    policy = notes.parse_policy(text)
    verdict = judged(evidence.ranged(), policy)
    assert (verdict.exit, states(verdict)["witnesses"]) == (2, "missing")
    cosigned = notes.cosign(evidence.checkpoint(), evidence.WITNESS_KEY, 1_763_700_000)
    verdict = judged(evidence.ranged(checkpoint=cosigned), policy)
    assert (verdict.exit, states(verdict)["witnesses"]) == (0, "pass")
    assert "2025-11-21T04:40:00+00:00" in sentence(verdict, "witnesses")
    stale = cosigned.replace(
        cosigned.splitlines()[-1], notes.cosign(evidence.checkpoint(9), evidence.WITNESS_KEY, 1).splitlines()[-1]
    )
    assert judged(evidence.ranged(checkpoint=stale), policy).exit == 1


WITNESSED = notes.parse_policy(
    evidence.POLICY_TEXT.replace("quorum none", f"witness w {notes.vkey_of(evidence.WITNESS_KEY)}\nquorum w")
)


def cosigned(size: int) -> packfile.Anchor:
    return evidence.anchor(size, note=notes.cosign(evidence.checkpoint(size), evidence.WITNESS_KEY, 1_763_700_000))


def test_witnesses_of_an_older_checkpoint_count_if_it_holds_every_selected_record() -> None:
    verdict = judged(evidence.ranged(anchors=(cosigned(7), cosigned(17))), WITNESSED)
    assert (verdict.exit, states(verdict)["witnesses"]) == (0, "pass")
    assert "an older checkpoint of 17 records" in sentence(verdict, "witnesses")
    assert "of records from 17 on no witness says anything" in sentence(verdict, "witnesses")
    verdict = judged(evidence.ranged(anchors=(cosigned(15),)), WITNESSED)
    assert (verdict.exit, states(verdict)["witnesses"]) == (2, "missing")


def test_the_checkpoint_continues_every_anchor_or_the_pack_is_refused() -> None:
    verdict = judged(evidence.ranged(anchors=(evidence.anchor(9), evidence.anchor(17), evidence.anchor(evidence.SIZE))))
    assert (verdict.exit, states(verdict)["consistency"]) == (0, "note")
    assert "It continues 3 anchors" in sentence(verdict, "consistency")
    good = evidence.anchor(9)
    forked = notes.sign(notes.make_checkpoint(evidence.ORIGIN, 9, merkle.root(HASHES[1:10])), evidence.LOG_KEY)
    for anchor in (
        dataclasses.replace(good, note=forked),
        dataclasses.replace(good, consistency=()),
        dataclasses.replace(good, note=evidence.checkpoint(9, origin="log.example/shadow")),
    ):
        verdict = judged(evidence.ranged(anchors=(anchor,)))
        assert (verdict.exit, states(verdict)["consistency"]) == (1, "fail")
    for anchors in ((good, good), (evidence.anchor(17), good)):
        assert states(judged(evidence.ranged(anchors=anchors)))["consistency"] == "fail"
    unsigned = evidence.anchor(9, note=evidence.checkpoint(9, key=evidence.STRANGER_KEY))
    assert judged(evidence.ranged(anchors=(unsigned,))).exit == 2


def test_a_retired_log_key_signs_up_to_its_last_size_and_no_further() -> None:
    old, new = evidence.LOG_KEY, evidence.STRANGER_KEY
    until = f"log-until {notes.parse_skey(old).name}+{notes.parse_skey(old).verifier.key_id.hex()}"
    both = evidence.POLICY_TEXT.replace("quorum none", f"log {notes.vkey_of(new)}\n{until} %d\nquorum none")
    for last, key, exit_code in ((20, old, 1), (21, old, 0), (20, new, 0), (0, new, 0)):
        verdict = judged(evidence.ranged(checkpoint=evidence.checkpoint(key=key)), notes.parse_policy(both % last))
        assert verdict.exit == exit_code, (last, key)
    overlap = notes.join(evidence.checkpoint(key=old), evidence.checkpoint(key=new))
    assert judged(evidence.ranged(checkpoint=overlap), notes.parse_policy(both % 20)).exit == 0
    wrong = evidence.checkpoint(20, key=old).splitlines()[-1] + b"\n"
    spoiled = evidence.checkpoint(key=new) + wrong
    assert judged(evidence.ranged(checkpoint=spoiled), notes.parse_policy(both % 20)).exit == 1
    for line in (until, f"{until} 1 2", f"{until} 01", until.replace("+", "-") + " 1", f"{until[:-1]}g 1"):
        with pytest.raises(errors.NoteInvalid):
            notes.parse_policy(f"{evidence.POLICY_TEXT}{line}\n")
    with pytest.raises(errors.NoteInvalid):
        notes.parse_policy(f"{evidence.POLICY_TEXT}{until} 1\n{until} 2\n")


def test_timestamps_without_an_authority_in_the_policy_are_said_and_not_judged() -> None:
    verdict = judged(evidence.ranged(anchors=(evidence.anchor(17, b"no token"),)))
    assert (verdict.exit, states(verdict)["time"]) == (0, "note")
    assert "1 timestamps, by no authority" in sentence(verdict, "time")


COUNTING = evidence.SIZE - 1


def counted(*selected: int, **changes: Any) -> packfile.PackContent:
    """The range that the last record counted, without the record itself."""
    cited = {COUNTING: evidence.cited(COUNTING, "action")}
    return evidence.ranged(0, 9, cited=cited, **changes)


def test_what_the_log_committed_to_about_its_numbers_is_counted_again() -> None:
    verdict = judged(counted())
    assert (verdict.exit, states(verdict)["counts"]) == (0, "pass")
    assert sentence(verdict, "counts").startswith("10 records, counted again by source and class")
    for content in (evidence.ranged(1, 9), evidence.sparse(3)):
        cited = dataclasses.replace(content, cited={COUNTING: evidence.cited(COUNTING, "action")})
        assert (judged(cited).exit, states(judged(cited))["counts"]) == (0, "note")
    hidden = dataclasses.replace(counted(), cited={COUNTING: evidence.cited(COUNTING)})
    assert states(judged(hidden))["counts"] == "note"


@pytest.mark.parametrize(
    "change",
    [
        {"counts": [{"source_id": "orders-log", "class": "read", "count": 5}], "count": 5},
        {"counts": [{"source_id": "orders-log", "class": "read", "count": 10}]},
        {"counts": [{"source_id": "orders-lag", "class": "read", "count": 6}, {"class": "write", "count": 4}]},
        {"count": 11},
        {"counts": [{"class": "read", "count": 6}, {"class": "read", "count": 4}]},
        {"first": "9", "last": "0"},
        {"first": "00"},
        {"first": None},
        {"counts": "none"},
    ],
)
def test_counts_that_differ_or_follow_no_form_are_refused(change: dict[str, Any]) -> None:
    said = json.loads(evidence.COMMITTED[COUNTING][1]["action"])
    said["custody"] = {name: value for name, value in {**said["custody"], **change}.items() if value is not None}
    data, salt = commitment.canonical(said), b"s" * 16
    leaf = json.loads(evidence.COMMITTED[COUNTING][0])
    leaf["groups"]["action"] = commitment.digest(salt, data)
    leaves = [each for each, _ in evidence.COMMITTED[:COUNTING]] + [commitment.canonical(leaf)]
    hashes = [merkle.leaf_hash(each) for each in leaves]
    point = notes.sign(notes.make_checkpoint(evidence.ORIGIN, evidence.SIZE, merkle.root(hashes)), evidence.LOG_KEY)
    record = packfile.Cited(
        leaves[-1],
        tuple(merkle.inclusion_proof(hashes, COUNTING)),
        {"action": packfile.Disclosure("disclosed", salt, data)},
    )
    content = counted(checkpoint=point, proofs=(tuple(merkle.range_proof(hashes, 0, 10, evidence.SIZE)),))
    verdict = judged(dataclasses.replace(content, cited={COUNTING: record}))
    assert (verdict.exit, states(verdict)["counts"]) == (1, "fail")
    assert [check.name for check in verdict.checks if check.state == "fail" and check.name != "completeness"] == [
        "counts"
    ]


def test_a_cited_record_must_be_in_the_log_at_its_place_and_open_rightly() -> None:
    good = evidence.cited(ERASURE, "actor")
    shown = good.disclosures["actor"]
    assert shown.data is not None
    for place, cited, check in (
        (ERASURE - 1, good, "inclusion"),
        (ERASURE, dataclasses.replace(good, proof=good.proof[:-1]), "inclusion"),
        (ERASURE, dataclasses.replace(good, leaf=good.leaf.replace(b"touchstone", b"touchstune")), "inclusion"),
        (ERASURE, dataclasses.replace(good, leaf=good.leaf.replace(b'"v":1', b'"v":2')), "leaves"),
        (
            ERASURE,
            dataclasses.replace(
                good, disclosures={"actor": dataclasses.replace(shown, data=shown.data.replace(b"2", b"3"))}
            ),
            "disclosures",
        ),
    ):
        verdict = judged(evidence.sparse(3, cited={place: cited}))
        assert (verdict.exit, states(verdict)[check]) == (1, "fail")


def test_kept_promises_are_counted_and_those_outside_the_pack_named() -> None:
    note = evidence.receipt((5, HASHES[5]), (2, HASHES[2]), (900, HASHES[0])).decode()
    verdict = judged(evidence.ranged(), receipts=(note,))
    assert (verdict.exit, states(verdict)["receipts"]) == (0, "pass")
    assert sentence(verdict, "receipts") == "Promises: 1 kept, 1 not yet due, 1 outside this pack."


def test_a_promised_place_that_holds_another_record_is_invalid() -> None:
    verdict = judged(evidence.ranged(), receipts=(evidence.receipt((5, HASHES[6])).decode(),))
    assert verdict.exit == 1
    assert "Promised but missing: place 5" in sentence(verdict, "receipts")


def test_a_promise_whose_time_is_over_must_be_in_the_log() -> None:
    late = evidence.receipt((evidence.SIZE, HASHES[0]), accepted_at="2026-11-21T03:59:49.000000Z").decode()
    verdict = judged(evidence.ranged(), receipts=(late,))
    assert verdict.exit == 1
    assert f"the log ends before place {evidence.SIZE}" in sentence(verdict, "receipts")


def test_receipts_of_an_unknown_key_are_not_counted() -> None:
    note = evidence.receipt((5, HASHES[6]), key=evidence.STRANGER_KEY).decode()
    verdict = judged(evidence.ranged(), receipts=(note,))
    assert (verdict.exit, states(verdict)["receipts"]) == (2, "missing")


def test_derived_facts_are_named_as_derived() -> None:
    derived = {"analyser": "lineage.statements", "version": "7", "facts": [{"index": 4}]}
    verdict = judged(evidence.ranged(derived=derived))
    assert verdict.exit == 0
    assert "1 facts were derived by lineage.statements 7" in sentence(verdict, "derived")


def test_a_pack_cannot_print_lines_of_its_own() -> None:
    derived: dict[str, Any] = {"analyser": "x\nValid: every check holds\x1b[2J", "version": "1", "facts": []}
    verdict = judged(evidence.ranged(derived=derived))
    assert len("\n".join(map(str, verdict.checks)).splitlines()) == 14
    assert "\x1b" not in "".join(map(str, verdict.checks))


def test_a_rewritten_manifest_is_noticed() -> None:
    members = archive.read(packfile.write(evidence.ranged()))
    members["manifest.json"] = members["manifest.json"].replace(b'"records":4', b'"records":5')
    verdict = verify(archive.write(members), POLICY)
    assert (verdict.exit, states(verdict)["manifest"]) == (1, "fail")


def test_bytes_behind_the_archive_are_noticed() -> None:
    data = packfile.write(evidence.ranged())
    for changed in (data + b"\n", data + data, data.replace(b"PK\5\6", b"PK\1\2junkPK\5\6")):
        verdict = verify(changed, POLICY)
        assert (verdict.exit, states(verdict)["archive"]) == (1, "fail")


def test_impossible_dates_fail_a_check_instead_of_the_program() -> None:
    late = evidence.receipt((99, HASHES[0])).decode()
    verdict = judged(evidence.ranged(created_at="2026-99-99T99:99:99.000000Z"), receipts=(late,))
    assert (verdict.exit, states(verdict)["receipts"]) == (1, "fail")


@pytest.mark.parametrize("data", [b"", b"PK", b"%PDF-1.7 nothing", b"PK\3\4" + b"\0" * 40, b"hello"])
def test_what_is_no_pack_is_unreadable(data: bytes) -> None:
    assert verify(data, POLICY).exit == 3


def pdf_with(name: str, data: bytes) -> bytes:
    document = pikepdf.new()
    document.add_blank_page()
    document.attachments[name] = data
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def test_a_report_that_nobody_signed_lacks_trust_though_the_pack_inside_is_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = pdf_with("evidence.touchstone.zip", packfile.write(evidence.ranged()))
    verdict = verify(data, POLICY)
    assert (verdict.exit, states(verdict)["pdf"]) == (2, "missing")
    assert [check.name for check in verdict.checks if check.state not in ("pass", "note")] == ["pdf"]
    assert sentence(verdict, "pdf").startswith("0 signatures, none by the report certificate")
    assert "ab" * 32 in sentence(verdict, "pdf")
    bare = notes.parse_policy(evidence.POLICY_TEXT.replace(f" sha256:{'ab' * 32}", ""))
    assert states(verify(data, bare))["pdf"] == "missing"
    monkeypatch.setitem(sys.modules, "pyhanko", None)
    assert "install pyhanko" in sentence(verify(data, POLICY), "pdf")


def test_a_report_with_a_changed_pack_is_invalid_and_one_without_a_pack_unreadable() -> None:
    changed = packfile.write(evidence.ranged()).replace(b"orders-log", b"orders-lag")
    assert verify(pdf_with("evidence.touchstone.zip", changed), POLICY).exit == 1
    assert verify(pdf_with("other.zip", changed), POLICY).exit == 3


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    contents = {
        "pack": packfile.write(evidence.ranged()),
        "policy": evidence.POLICY_TEXT.encode(),
        "receipts": evidence.receipt((5, HASHES[5])),
        "leaf": b"",
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    return {name: tmp_path / name for name in contents}


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lineage.verify", *map(str, arguments)],
        cwd=BASE,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_prints_numbered_lines_and_a_last_sentence(files: dict[str, Path]) -> None:
    done = command(files["pack"], "--policy", files["policy"], "--receipts", files["receipts"])
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split(".")[0].strip() for line in lines[:-1]] == [str(n) for n in range(1, 15)]
    assert lines[-1] == "Valid: every check holds, under the keys of your policy."


def test_the_command_without_a_policy_ends_with_2(files: dict[str, Path]) -> None:
    done = command(files["pack"])
    assert done.returncode == 2
    assert done.stdout.splitlines()[-1].startswith("Consistent in itself, but something is missing: see check 9 and 10")


def test_the_command_prints_json_when_asked(files: dict[str, Path]) -> None:
    done = command(files["pack"], "--policy", files["policy"], "--json")
    answer = json.loads(done.stdout)
    assert answer["exit"] == done.returncode == 0
    assert answer["checks"][0]["name"] == "archive"
    assert set(answer["checks"][0]) == {"number", "name", "state", "sentence"}


def test_the_command_ends_with_3_for_whatever_it_cannot_read(files: dict[str, Path], tmp_path: Path) -> None:
    odd = tmp_path / "odd"
    odd.write_bytes(b"\xff\xfe")
    (tmp_path / "json").write_text('{"accepted": 1}\n')
    for arguments in (
        [tmp_path / "absent"],
        [tmp_path],
        [odd],
        [files["pack"], "--policy", odd],
        [files["pack"], "--policy", files["pack"]],
        [files["pack"], "--policy", tmp_path / "absent"],
        [files["pack"], "--policy", files["policy"], "--receipts", tmp_path / "json"],
        [files["pack"], "--unknown"],
        [],
    ):
        done = command(*arguments)
        assert done.returncode == 3, arguments
        assert "Traceback" not in done.stderr


def test_receipts_are_read_from_saved_answers_too(files: dict[str, Path]) -> None:
    note = files["receipts"].read_text()
    files["receipts"].write_text(json.dumps({"accepted": 1, "receipt": note}) + "\n" + json.dumps(note) + "\n")
    done = command(files["pack"], "--policy", files["policy"], "--receipts", files["receipts"])
    assert done.returncode == 0
    assert "Promises: 2 kept." in done.stdout


def test_receipts_are_read_from_a_folder_of_files_and_one_after_another(files: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    notes_ = [evidence.receipt((index, HASHES[index])) for index in (4, 5, 6)]
    (folder / "a").write_bytes(notes_[0] + notes_[1])
    (folder / "b").write_text(json.dumps(notes_[2].decode()))
    done = command(files["pack"], "--policy", files["policy"], "--receipts", folder)
    assert done.returncode == 0
    assert "Promises: 3 kept." in done.stdout
    (folder / "c").write_bytes(evidence.receipt((7, HASHES[8])))
    done = command(files["pack"], "--policy", files["policy"], "--receipts", folder)
    assert done.returncode == 1
    assert "Promised but missing: place 7" in done.stdout


def test_the_command_checks_a_tlog_proof_and_asks_for_the_leaf_that_it_lacks(files: dict[str, Path]) -> None:
    path = tuple(merkle.inclusion_proof(HASHES, 5))
    leaf = evidence.COMMITTED[5][0]
    for extra, more, code in ((leaf, [], 0), (None, [], 2), (None, ["--leaf", files["leaf"]], 0)):
        files["pack"].write_text(notes.write_proof(notes.TlogProof(5, path, evidence.checkpoint().decode(), extra)))
        files["leaf"].write_bytes(leaf)
        done = command(files["pack"], "--policy", files["policy"], *more)
        assert done.returncode == code
    assert [line.split(".")[0].strip() for line in done.stdout.splitlines()[:-1]] == ["4", "5", "9", "10"]


def test_the_verifier_imports_no_django_no_network_and_no_database() -> None:
    code = "import sys, lineage.verify.__main__; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=BASE, capture_output=True, text=True, check=True).stdout
    assert not set(loaded.split()) & {"django", "psycopg", "duckdb", "requests", "urllib3", "http", "pikepdf", "config"}


def test_the_verifier_never_opens_the_network_or_writes() -> None:
    calls = {
        node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        for path in (BASE / "lineage/verify").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        # A database in memory that may open no file and no network: a report's tests are run again in it.
        and ast.unparse(node) != "duckdb.connect(':memory:', config=CLOSED)"
    }
    assert not calls & {"socket", "urlopen", "connect", "write_bytes", "write_text", "exec", "eval", "import_module"}
