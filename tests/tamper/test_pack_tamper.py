"""One byte of a small pack changed, anywhere, in any way: the verifier must never accept it, nor call it consistent."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage import archive, packfile
from lineage.errors import TouchstoneError
from lineage.verify import verify
from tests import evidence

PACK = packfile.write(
    evidence.sparse(
        3,
        earlier=evidence.checkpoint(9),
        consistency=tuple(evidence.merkle.consistency_proof(evidence.HASHES, 9)),
        receipts=(evidence.receipt((3, evidence.HASHES[3])),),
        derived={"analyser": "lineage.statements", "version": "1", "facts": []},
    )
)
MEMBERS = archive.read(PACK)


def test_the_untouched_pack_is_valid() -> None:
    assert verify(PACK, evidence.POLICY).exit == 0


@pytest.mark.slow
def test_no_byte_with_its_lowest_bit_changed_is_accepted_or_called_consistent() -> None:
    for at in range(len(PACK)):
        damaged = PACK[:at] + bytes([PACK[at] ^ 1]) + PACK[at + 1 :]
        for policy in (evidence.POLICY, None):
            assert verify(damaged, policy).exit in (1, 3), at


@given(at=st.integers(0, len(PACK) - 1), change=st.integers(1, 255))
def test_a_random_change_of_one_byte_is_refused(at: int, change: int) -> None:
    damaged = bytearray(PACK)
    damaged[at] ^= change
    assert verify(bytes(damaged), evidence.POLICY).exit in (1, 3)


@given(cut=st.integers(0, len(PACK) - 1), tail=st.binary(max_size=30))
def test_a_cut_pack_is_refused_whatever_follows(cut: int, tail: bytes) -> None:
    damaged = PACK[:cut] + tail
    assert damaged == PACK or verify(damaged, evidence.POLICY).exit in (1, 3)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_forger_who_repairs_the_archive_around_one_changed_byte_gets_no_further(data: st.DataObject) -> None:
    """The manifest's hashes and the ZIP's checksums are made right again; only what is signed protects."""
    name = data.draw(st.sampled_from(sorted(set(MEMBERS) - {"manifest.json", "query.json", "derived.json"})))
    body = bytearray(MEMBERS[name])
    body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    members = MEMBERS | {name: bytes(body)}
    try:
        content = packfile.parse(members)
        forged = packfile.write(content)
    except TouchstoneError:
        return
    if forged == PACK:
        return
    code = verify(forged, evidence.POLICY).exit
    # A changed key id or name on a signature line makes the signer a stranger: trust is missing, nothing is confirmed.
    strangers = name.endswith(".note") and code == 2
    assert code == 1 or strangers, name


@given(name=st.sampled_from(sorted(MEMBERS)), body=st.binary(max_size=300))
def test_a_member_replaced_by_anything_is_refused_without_a_crash(name: str, body: bytes) -> None:
    assert verify(archive.write(MEMBERS | {name: body}), evidence.POLICY).exit in (1, 3)
