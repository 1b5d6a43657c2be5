"""A small pack and a policy changed in every place: the verifier must never accept the pack, nor call it consistent."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage import archive, merkle, notes, packfile
from lineage.errors import NoteInvalid, TouchstoneError
from lineage.verify import verify
from tests import evidence

pytestmark = pytest.mark.slow

COSIGNED = notes.cosign(evidence.checkpoint(9), evidence.WITNESS_KEY, 1_763_700_000)
POLICY_TEXT = evidence.POLICY_TEXT.replace(
    "quorum none", f"witness w {notes.vkey_of(evidence.WITNESS_KEY)}\ngroup all-of-them all w\nquorum all-of-them"
)
POLICY = notes.parse_policy(POLICY_TEXT)
ERASURE = evidence.SIZE - 2
PACK = packfile.write(
    evidence.sparse(
        2,
        disclosures={2: {**evidence.disclosed(2), "actor": packfile.Disclosure("erased", erased_by=ERASURE)}},
        cited={ERASURE: evidence.cited(ERASURE, "actor")},
        anchors=(evidence.anchor(9, note=COSIGNED),),
        earlier=evidence.checkpoint(5),
        consistency=tuple(merkle.consistency_proof(evidence.HASHES, 5)),
        receipts=(evidence.receipt((2, evidence.HASHES[2])),),
    )
)
MEMBERS = archive.read(PACK)
UNSIGNED = ("manifest.json", "query.json")
"""What nobody signs, as docs/verify.md says; the manifest is written again from the rest."""


def refused(data: bytes) -> bool:
    return data == PACK or verify(data, POLICY).exit in (1, 3)


def test_the_untouched_pack_is_valid_and_small() -> None:
    verdict = verify(PACK, POLICY)
    assert (verdict.exit, len(PACK) < 7_000) == (0, True), (verdict, len(PACK))


@pytest.mark.parametrize("bit", range(8))
def test_no_bit_of_the_pack_can_be_flipped(bit: int) -> None:
    for at in range(len(PACK)):
        assert refused(PACK[:at] + bytes([PACK[at] ^ 1 << bit]) + PACK[at + 1 :]), at


@pytest.mark.parametrize("value", [0x00, 0x0A, 0x20, 0x30, 0x61, 0x7F, 0xFF])
def test_no_byte_of_the_pack_can_be_another(value: int) -> None:
    for at in range(len(PACK)):
        assert refused(PACK[:at] + bytes([value]) + PACK[at + 1 :]), at


def test_no_byte_can_be_left_out_doubled_or_swapped_with_the_next_and_no_end_cut_off() -> None:
    for at in range(len(PACK)):
        assert refused(PACK[:at] + PACK[at + 1 :]), at
        assert refused(PACK[:at] + PACK[at : at + 1] + PACK[at:]), at
        assert refused(PACK[:at] + PACK[at : at + 2][::-1] + PACK[at + 2 :]), at
        assert refused(PACK[:at]), at


@given(at=st.integers(0, len(PACK)), cut=st.integers(0, 60), put=st.binary(max_size=60))
def test_no_stretch_of_bytes_can_be_replaced(at: int, cut: int, put: bytes) -> None:
    assert refused(PACK[:at] + put + PACK[at + cut :])


def test_members_left_out_added_swapped_or_named_otherwise_are_refused() -> None:
    for name in MEMBERS:
        rest = {key: data for key, data in MEMBERS.items() if key != name}
        assert refused(archive.write(rest)), name
        assert refused(archive.write(rest | {f"{name}x": MEMBERS[name]})), name
        for other in rest:
            swapped = {**MEMBERS, name: MEMBERS[other], other: MEMBERS[name]}
            assert refused(archive.write(swapped)), (name, other)
            assert refused(archive.write({**MEMBERS, name: MEMBERS[other]})), (name, other)
    assert refused(archive.write(MEMBERS | {"letter.txt": b"trust me"}))


def test_a_member_twice_in_the_file_is_refused() -> None:
    entries, central = PACK[: PACK.index(b"PK\1\2")], PACK[PACK.index(b"PK\1\2") :]
    for at in [0, *(n for n in range(1, len(entries)) if entries[n : n + 4] == b"PK\3\4")]:
        following = entries.find(b"PK\3\4", at + 4)
        entry = entries[at : following if following > 0 else len(entries)]
        assert refused(entries + entry + central)
        assert refused(entry + PACK)


def listed(members: dict[str, bytes]) -> bytes:
    """The pack of these members with the manifest made right again, as a forger would; lengths, hashes and counts."""
    return packfile.write(packfile.parse(members))


def forged(name: str, body: bytes) -> int | None:
    """The verdict on a pack in which a member is replaced and everything around it repaired; None: no pack, or the same."""
    try:
        data = listed(MEMBERS | {name: body})
    except TouchstoneError:
        return None
    return None if data == PACK else verify(data, POLICY).exit


def accepted(name: str, code: int | None) -> bool:
    # A changed key id or name on a signature line makes the signer a stranger: trust is missing, nothing is confirmed.
    # So it is where the erasure is not the one named, and where a record of it no longer opens.
    return code not in (None, 1) and not (code == 2 and (name.endswith(".note") or name == "disclosures.ndjson"))


@pytest.mark.parametrize("name", sorted(set(MEMBERS) - set(UNSIGNED)))
def test_a_forger_who_repairs_everything_around_a_flipped_bit_gets_no_further(name: str) -> None:
    body = MEMBERS[name]
    for at in range(len(body)):
        code = forged(name, body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :])
        assert not accepted(name, code), at


@settings(max_examples=300)
@given(data=st.data())
def test_a_forger_who_repairs_everything_around_any_change_gets_no_further(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(set(MEMBERS) - set(UNSIGNED))))
    body, at = MEMBERS[name], data.draw(st.integers(0, len(MEMBERS[name])))
    code = forged(name, body[:at] + data.draw(st.binary(max_size=9)) + body[at + data.draw(st.integers(0, 9)) :])
    assert not accepted(name, code)


@given(name=st.sampled_from(sorted(MEMBERS)), body=st.binary(max_size=300))
def test_a_member_replaced_by_anything_is_refused_without_a_crash(name: str, body: bytes) -> None:
    assert refused(archive.write(MEMBERS | {name: body}))


JSON = st.recursive(
    st.booleans() | st.integers(-3, 30) | st.sampled_from(["", "actor", "erased", "range", "sparse", "00", "a" * 64]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["index", "group", "state"]), inner),
    max_leaves=6,
)


@given(data=st.data())
def test_odd_json_in_any_place_never_stops_the_verifier(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([name for name in MEMBERS if name.endswith(("json", "ndjson"))]))
    lines = [json.loads(line) for line in MEMBERS[name].splitlines()]
    line = data.draw(st.sampled_from(lines))
    line[data.draw(st.sampled_from(sorted(line)))] = data.draw(JSON)
    text = "\n".join(json.dumps(each, sort_keys=True, separators=(",", ":")) for each in lines)
    body = (text + ("\n" if name.endswith("ndjson") else "")).encode()
    assert verify(archive.write(MEMBERS | {name: body}), POLICY).exit in (0, 1, 2, 3)
    code = forged(name, body)
    assert name in UNSIGNED or not accepted(name, code)


def policies() -> Iterator[str]:
    """The policy with each character changed in several ways, left out, doubled, and each line left out, doubled, moved."""
    for at, char in enumerate(POLICY_TEXT):
        for other in (chr(ord(char) ^ 1), chr(ord(char) ^ 32), "A", " ", "\n", "#", "", char * 2, "+"):
            yield POLICY_TEXT[:at] + other + POLICY_TEXT[at + 1 :]
        yield POLICY_TEXT[:at]
    lines = POLICY_TEXT.splitlines(keepends=True)
    for at, line in enumerate(lines):
        rest = lines[:at] + lines[at + 1 :]
        yield "".join(rest)
        yield "".join([line, *rest])
        yield "".join([*lines, line])


def test_a_changed_policy_confirms_only_what_it_still_asks_for() -> None:
    read = 0
    for text in policies():
        try:
            policy = notes.parse_policy(text)
        except NoteInvalid:
            continue
        read += 1
        code = verify(PACK, policy).exit
        same = [*policy.witnesses.values()] == [*POLICY.witnesses.values()]
        assert code in (0, 1, 2)
        assert code != 0 or (policy.logs == POLICY.logs and (same or policy.quorum == "none"))
    assert read > 50
