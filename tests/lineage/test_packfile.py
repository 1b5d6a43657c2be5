"""The pack as a file: one content, one form, readable by any ZIP tool."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage import archive, packfile
from lineage.errors import PackInvalid, PackUnreadable
from tests import evidence

EVERYTHING = evidence.ranged(
    anchors=(evidence.anchor(9, b"one", b"two"), evidence.anchor(evidence.SIZE)),
    cited={0: evidence.cited(0), 19: evidence.cited(19, "actor")},
    earlier=evidence.checkpoint(9),
    consistency=tuple(evidence.merkle.consistency_proof(evidence.HASHES, 9)),
    receipts=(evidence.receipt((5, evidence.HASHES[5])),),
    derived={"analyser": "lineage.statements", "version": "1", "facts": [{"index": 4, "relation": "customers"}]},
)


@pytest.mark.parametrize(
    "content",
    [
        evidence.ranged(),
        EVERYTHING,
        evidence.sparse(3),
        evidence.sparse(
            3, detached=packfile.Detached("p.leaves.ndjson", 1, 9, 4711, "ab" * 32, (bytes(32), b"x" * 32))
        ),
        evidence.sparse(3, disclosures={3: {"actor": packfile.Disclosure("erased", erased_by=7)}}),
        evidence.sparse(1, 2, 20),
        evidence.ranged(0, 20),
        evidence.ranged(selected=(), disclosures={}, hidden=True),
    ],
)
def test_a_pack_that_is_written_is_read_back_as_the_same_content(content: packfile.PackContent) -> None:
    data = packfile.write(content)
    assert packfile.read(data) == content
    assert packfile.write(content) == data


def test_any_zip_tool_opens_a_pack_and_finds_what_the_manifest_names() -> None:
    with zipfile.ZipFile(io.BytesIO(packfile.write(EVERYTHING))) as found:
        assert found.testzip() is None
        names = found.namelist()
        assert names == sorted(names)
        assert {info.date_time for info in found.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        manifest = json.loads(found.read("manifest.json"))
        assert manifest["members"] == {
            name: {"bytes": len(found.read(name)), "sha256": hashlib.sha256(found.read(name)).hexdigest()}
            for name in names
            if name != "manifest.json"
        }
        assert found.read("leaves.ndjson").splitlines() == list(EVERYTHING.leaves.values())
    assert manifest["groups"] == {
        "actor": {"disclosed": 4},
        "action": {"disclosed": 4},
        "change": {"disclosed": 4},
    }
    assert (manifest["first"], manifest["last"], manifest["size"], manifest["records"]) == (4, 15, evidence.SIZE, 4)


@given(members=st.dictionaries(st.from_regex(r"[a-z0-9]{1,9}(/[a-z0-9]{1,3}\.txt)?", fullmatch=True), st.binary()))
def test_an_archive_is_read_back_as_its_members(members: dict[str, bytes]) -> None:
    data = archive.write(members)
    if members:
        assert archive.read(data) == members
    with zipfile.ZipFile(io.BytesIO(data)) as found:
        assert {name: found.read(name) for name in found.namelist()} == members


def test_a_pack_made_by_another_zip_tool_is_not_canonical() -> None:
    members = archive.read(packfile.write(evidence.ranged()))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as other:
        for name, data in members.items():
            other.writestr(name, data)
    with pytest.raises(PackInvalid, match="canonical"):
        packfile.read(buffer.getvalue())


@given(data=st.binary(max_size=200) | st.binary(max_size=200).map(lambda tail: b"PK\3\4" + tail))
def test_bytes_that_are_no_pack_are_unreadable(data: bytes) -> None:
    with pytest.raises(PackUnreadable):
        packfile.read(data)


def test_a_pack_of_a_later_version_is_unreadable() -> None:
    members = archive.read(packfile.write(evidence.ranged()))
    members["manifest.json"] = members["manifest.json"].replace(b'"version":1', b'"version":2')
    with pytest.raises(PackUnreadable, match="version 1"):
        packfile.read(archive.write(members))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("leaves.ndjson", b"\n", b""),
        ("query.json", b'"selected":[', b'"selected":[[0,99999999999],'),
        ("query.json", b'"hidden"', b'"nidden"'),
        ("disclosures.ndjson", b'"state":"disclosed"', b'"state":"withheld"'),
        ("disclosures.ndjson", b'"index":6', b'"index":7'),
        ("disclosures.ndjson", b'"salt":"', b'"salt":"0'),
        ("proofs.txt", b"a", b"A"),
        ("manifest.json", b'"selection":"range"', b'"selection":"sparse"'),
        ("manifest.json", b'"created_at":"2026', b'"created_at":"once'),
        ("consistency.txt", b" ", b""),
        ("anchors/000001.consistency.txt", b"a", b"A"),
        ("cited.ndjson", b'"index":19', b'"index":0'),
        ("cited.ndjson", b'"index":19', b'"index":6'),
        ("cited.ndjson", b'"proof":["', b'"proof":["0'),
        ("cited.ndjson", b'"salt":', b'"sold":'),
        ("query.json", b'"selected":[[6,6]', b'"selected":[[3,3]'),
        ("manifest.json", b'"made_by":', b'"made_of":'),
        ("manifest.json", b'"cited":2', b'"cited":3'),
    ],
)
def test_a_member_that_does_not_follow_its_format_is_named_or_not_canonical(name: str, old: bytes, new: bytes) -> None:
    members = archive.read(packfile.write(EVERYTHING))
    changed = members[name].replace(old, new) if old in members[name] else members[name] + new + b"x"
    with pytest.raises(PackInvalid):
        packfile.read(archive.write(members | {name: changed}))


def test_only_a_pack_of_single_records_names_a_file_of_leaves() -> None:
    detached = packfile.Detached("p.leaves.ndjson", 1, 9, 4711, "ab" * 32, ())
    wrong = evidence.sparse(3, detached=packfile.Detached("p.leaves.ndjson", 9, 1, 4711, "ab" * 32, ()))
    for content in (evidence.ranged(detached=detached), wrong):
        with pytest.raises(PackInvalid, match=r"range\.json"):
            packfile.read(packfile.write(content))


@pytest.mark.parametrize("name", sorted(archive.read(packfile.write(EVERYTHING))))
def test_a_missing_member_is_noticed(name: str) -> None:
    members = archive.read(packfile.write(EVERYTHING))
    del members[name]
    with pytest.raises((PackInvalid, PackUnreadable)):
        packfile.read(archive.write(members))


def test_a_member_that_no_pack_has_is_noticed() -> None:
    members = archive.read(packfile.write(EVERYTHING)) | {"letter.txt": b"trust me"}
    with pytest.raises(PackInvalid):
        packfile.read(archive.write(members))


def test_a_pack_without_leaves_is_not_written() -> None:
    with pytest.raises(PackInvalid):
        packfile.write(evidence.ranged(leaves={}))


def test_a_member_name_that_leaves_its_folder_is_not_written() -> None:
    for name in ("../etc/passwd", "/etc/passwd", "a//b", "A", "ü", ""):
        with pytest.raises(PackInvalid):
            archive.write({name: b""})


def test_single_proofs_are_chosen_for_few_records_in_a_wide_range() -> None:
    assert packfile.prefers_sparse(selected=5, span=10_000, size=1_000_000)
    assert not packfile.prefers_sparse(selected=9_000, span=10_000, size=1_000_000)
