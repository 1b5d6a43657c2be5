"""The tree against the public vectors and against a slow reference written from the RFC's own formulas."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage import merkle
from lineage.errors import ProofInvalid
from tests import vectors

LEAVES = [merkle.leaf_hash(str(n).encode()) for n in range(130)]


def slow_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 9162 section 2.1.1, as written there."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + slow_root(leaves[:k]) + slow_root(leaves[k:])).digest()


def slow_path(m: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of RFC 9162 section 2.1.3.1."""
    if len(leaves) == 1:
        return []
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m < k:
        return [*slow_path(m, leaves[:k]), slow_root(leaves[k:])]
    return [*slow_path(m - k, leaves[k:]), slow_root(leaves[:k])]


def slow_subproof(m: int, leaves: list[bytes], whole: bool = True) -> list[bytes]:
    """SUBPROOF of RFC 9162 section 2.1.4.1."""
    if m == len(leaves):
        return [] if whole else [slow_root(leaves)]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m <= k:
        return [*slow_subproof(m, leaves[:k], whole), slow_root(leaves[k:])]
    return [*slow_subproof(m - k, leaves[k:], False), slow_root(leaves[:k])]


class Reference:
    """The same formulas over ranges of one list of leaves, each range hashed once: for many and for large trees."""

    def __init__(self, size: int) -> None:
        self.leaves = [merkle.leaf_hash(b"%d" % n) for n in range(size)]
        self.known: dict[tuple[int, int], bytes] = {}

    def root(self, low: int, high: int) -> bytes:
        if high - low == 1:
            return self.leaves[low]
        if (low, high) not in self.known:
            k = low + largest_power_below(high - low)
            self.known[low, high] = hashlib.sha256(b"\x01" + self.root(low, k) + self.root(k, high)).digest()
        return self.known[low, high]

    def path(self, m: int, low: int, high: int) -> list[bytes]:
        if high - low == 1:
            return []
        k = low + largest_power_below(high - low)
        if m < k:
            return [*self.path(m, low, k), self.root(k, high)]
        return [*self.path(m, k, high), self.root(low, k)]

    def subproof(self, m: int, low: int, high: int, whole: bool = True) -> list[bytes]:
        if m == high:
            return [] if whole else [self.root(low, high)]
        k = low + largest_power_below(high - low)
        if m <= k:
            return [*self.subproof(m, low, k, whole), self.root(k, high)]
        return [*self.subproof(m, k, high, False), self.root(low, k)]

    def subtree(self, level: int, index: int) -> bytes:
        return self.root(index << level, (index + 1) << level)


def largest_power_below(n: int) -> int:
    return 1 << (n - 1).bit_length() - 1


def agree_on(reference: Reference, place: int, size: int) -> None:
    """Both proofs of a leaf and of its prefix: as the RFC's formulas give them, and accepted."""
    whole, old_size = reference.root(0, size), place + 1
    path = merkle.inclusion_path(place, size, reference.subtree)
    assert path == reference.path(place, 0, size)
    merkle.verify_inclusion(reference.leaves[place], place, size, path, whole)
    old = merkle.consistency_path(old_size, size, reference.subtree)
    assert old == reference.subproof(old_size, 0, size)
    merkle.verify_consistency(old_size, reference.root(0, old_size), size, whole, old)


def stored(leaves: list[bytes], asked: list[tuple[int, int]] | None = None) -> merkle.Subtree:
    """A storage callback that refuses subtrees that are not complete."""

    def subtree(level: int, index: int) -> bytes:
        low, high = index << level, (index + 1) << level
        assert high <= len(leaves)
        if asked is not None:
            asked.append((level, index))
        return slow_root(leaves[low:high])

    return subtree


def unbase64(text: str | None) -> bytes:
    return base64.b64decode(text or "")


def agrees(case: dict[str, Any], check: Callable[[], None]) -> bool:
    try:
        check()
    except ProofInvalid:
        return bool(case["wantErr"])
    return not case["wantErr"]


def hashes_of(case: dict[str, Any]) -> list[bytes]:
    return [unbase64(each) for each in case["proof"] or ()]


def test_every_public_inclusion_vector_is_judged_as_its_source_says() -> None:
    cases = vectors.load("merkle/inclusion.json")
    wrong = [
        case["file"]
        for case in cases
        if not agrees(
            case,
            lambda case=case: merkle.verify_inclusion(
                unbase64(case["leafHash"]), case["leafIdx"], case["treeSize"], hashes_of(case), unbase64(case["root"])
            ),
        )
    ]
    assert len(cases) == 98
    assert wrong == []


def test_every_public_consistency_vector_is_judged_as_its_source_says_but_the_one_with_short_roots() -> None:
    cases = vectors.load("merkle/consistency.json")
    wrong = [
        case["file"]
        for case in cases
        if not agrees(
            case,
            lambda case=case: merkle.verify_consistency(
                case["size1"], unbase64(case["root1"]), case["size2"], unbase64(case["root2"]), hashes_of(case)
            ),
        )
    ]
    assert len(cases) == 98
    # Its roots are 12 bytes long; we accept hashes of 32 bytes only.
    assert [name.removesuffix(".json") for name in wrong] == [
        "consistency/additional/sizes-are-equal-one-and-proof-is-empty"
    ]


def test_every_public_subtree_inclusion_vector_is_judged_as_its_source_says() -> None:
    cases = vectors.load("merkle/subtreeinclusion.json")

    def check(case: dict[str, Any]) -> None:
        start, end, index = case["start"], case["end"], case["leafIdx"]
        if not start <= index < end or start % (1 << max(end - start - 1, 0).bit_length()):
            raise ProofInvalid
        leaf, root = unbase64(case["leafHash"]), unbase64(case["root"])
        merkle.verify_inclusion(leaf, index - start, end - start, hashes_of(case), root)

    wrong = [case["file"] for case in cases if not agrees(case, lambda case=case: check(case))]
    assert len(cases) == 204
    assert wrong == []


def test_every_public_subtree_consistency_vector_is_judged_as_its_source_says_but_those_that_prove_nothing() -> None:
    every = vectors.load("merkle/subtreeconsistency.json")
    # The source accepts a range of no leaves, whatever the root says, and 12-byte roots; we refuse both.
    refused = [case for case in every if case["start"] == case["end"] or len(unbase64(case["root1"])) != 32]
    cases = [case for case in every if case not in refused]
    wrong = [
        case["file"]
        for case in cases
        if not agrees(
            case,
            lambda case=case: merkle.verify_subtree(
                case["start"],
                case["end"],
                case["size"],
                unbase64(case["root1"]),
                unbase64(case["root2"]),
                hashes_of(case),
            ),
        )
    ]
    assert len(every) == 118
    assert sum(not case["wantErr"] for case in refused) == 7
    assert wrong == []
    for case in refused:
        with pytest.raises(ProofInvalid):
            merkle.verify_subtree(
                case["start"],
                case["end"],
                case["size"],
                unbase64(case["root1"]),
                unbase64(case["root2"]),
                hashes_of(case),
            )


def test_the_published_eight_leaf_tree_has_our_roots_and_nodes() -> None:
    tree = vectors.load("merkle/tree8.json")
    leaves = [merkle.leaf_hash(bytes.fromhex(each)) for each in tree["leaf_inputs_hex"]]
    levels = [[bytes.fromhex(each) for each in level] for level in tree["node_hashes_hex_by_level"]]
    assert leaves == levels[0]
    assert [merkle.root(leaves[:n]).hex() for n in range(9)] == tree["root_hash_hex_by_tree_size"]
    assert [merkle.node_hash(a, b) for a, b in zip(leaves[::2], leaves[1::2], strict=True)] == levels[1]


def test_a_proof_of_a_real_certificate_log_verifies() -> None:
    case = vectors.load("merkle/ct_pilot_inclusion.json")
    leaf = merkle.leaf_hash(bytes.fromhex(case["leaf_input_hex"]))
    path = [bytes.fromhex(each) for each in case["audit_path_hex"]]
    root = bytes.fromhex(case["root_hash_hex"])
    assert leaf.hex() == case["leaf_hash_hex"]
    merkle.verify_inclusion(leaf, case["leaf_index"], case["tree_size"], path, root)
    with pytest.raises(ProofInvalid):
        merkle.verify_inclusion(leaf, case["leaf_index"] + 1, case["tree_size"], path, root)


def test_published_tile_hashes_give_the_roots_of_their_checkpoints() -> None:
    folder = vectors.path("tlog-tiles/full256")
    data = (folder / "tile/0/000").read_bytes() + (folder / "tile/0/001.p/44").read_bytes()
    leaves = [data[at : at + 32] for at in range(0, len(data), 32)]
    published = base64.b64decode((folder / "checkpoint").read_text().splitlines()[2])
    assert len(leaves) == 300
    assert merkle.root(leaves) == published
    assert merkle.root(leaves[:256]) == (folder / "tile/1/000.p/1").read_bytes()


def test_published_entries_hash_to_the_published_leaf_hashes() -> None:
    folder = vectors.path("tlog-tiles/small15")
    entries, at, found = (folder / "tile/entries/000.p/15").read_bytes(), 0, b""
    while at < len(entries):
        length = int.from_bytes(entries[at : at + 2], "big")
        found += merkle.leaf_hash(entries[at + 2 : at + 2 + length])
        at += 2 + length
    assert found == (folder / "tile/0/000.p/15").read_bytes()


def test_roots_and_proofs_equal_those_of_the_slow_reference_for_all_sizes_to_70() -> None:
    for size in range(1, 71):
        leaves = LEAVES[:size]
        whole = slow_root(leaves)
        assert merkle.root(leaves) == whole
        for place in range(size):
            path = merkle.inclusion_proof(leaves, place)
            assert path == slow_path(place, leaves)
            merkle.verify_inclusion(leaves[place], place, size, path, whole)
            old = merkle.consistency_proof(leaves, place + 1)
            assert old == slow_subproof(place + 1, leaves)
            merkle.verify_consistency(place + 1, slow_root(leaves[: place + 1]), size, whole, old)


def test_every_proof_of_every_tree_to_300_leaves_is_the_reference_s_and_is_accepted() -> None:
    reference = Reference(300)
    for size in range(1, 301):
        assert merkle.root(reference.leaves[:size]) == reference.root(0, size)
        for place in range(size):
            agree_on(reference, place, size)


def test_proofs_around_tile_borders_are_the_reference_s_and_are_accepted() -> None:
    borders = [256, 512, 65_536, 66_048]
    reference = Reference(max(borders) + 2)
    tree = merkle.CompactRange()
    for size, leaf in enumerate(reference.leaves, 1):
        tree.append(leaf)
        if size in {border + step for border in borders for step in (-1, 0, 1)}:
            assert tree.root() == reference.root(0, size)
            near = {0, 1, size - 2, size - 1, size // 2} | {b + step for b in borders for step in (-2, -1, 0, 1)}
            for place in sorted(place for place in near if 0 <= place < size):
                agree_on(reference, place, size)


def test_proofs_of_many_leaves_at_once_are_those_of_one_by_one() -> None:
    reference = Reference(66_048)
    for size in (1, 255, 256, 257, 511, 512, 66_047, 66_048):
        near = {0, 1, 2, 254, 255, 256, 257, 511, 512, 65_535, 65_536, size // 3, size - 2, size - 1}
        places = sorted(place for place in near if 0 <= place < size)
        found = list(merkle.inclusion_paths(places, size, reference.subtree))
        assert found == [reference.path(place, 0, size) for place in places]


@given(size=st.integers(1, 130), data=st.data())
def test_a_range_proof_accepts_its_range_and_refuses_every_other_claim(size: int, data: st.DataObject) -> None:
    leaves = LEAVES[:size]
    start = data.draw(st.integers(0, size - 1))
    end = data.draw(st.integers(start + 1, size))
    whole = slow_root(leaves)
    proof = merkle.range_proof(stored(leaves), start, end, size)
    assert proof == merkle.range_proof(leaves, start, end, size)
    assert len(proof) <= 2 * max(size - 1, 1).bit_length()
    merkle.verify_range(iter(leaves[start:end]), start, end, size, proof, whole)
    changed = [*leaves[start:end]]
    changed[data.draw(st.integers(0, end - start - 1))] = merkle.leaf_hash(b"changed")
    claims = [
        (changed, start, end, size, proof),
        (leaves[start:end], start, end, size, [*proof, LEAVES[0]]),
        (leaves[start : end - 1], start, end, size, proof),
        (leaves[start : end - 1], start, end - 1, size, proof),
        ([*leaves[start:end], LEAVES[0]], start, end, size, proof),
        (leaves[start:end], start + size, end + size, size, proof),
        ([], start, start, size, proof),
    ]
    if proof:
        claims.append((leaves[start:end], start, end, size, proof[:-1]))
    for claim in claims:
        with pytest.raises(ProofInvalid):
            merkle.verify_range(*claim, whole)


def test_a_range_larger_than_what_is_taken_at_once_is_checked_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merkle, "TAKEN_AT_ONCE", 4)
    for size in (1, 7, 64, 100):
        for start, end in ((0, size), (size // 3, size), (size // 3, size // 2 + 1)):
            proof = merkle.range_proof(LEAVES[:size], start, end, size)
            merkle.verify_range(iter(LEAVES[start:end]), start, end, size, proof, slow_root(LEAVES[:size]))


@given(size=st.integers(1, 130), data=st.data())
def test_proofs_read_from_storage_ask_for_few_complete_subtrees(size: int, data: st.DataObject) -> None:
    leaves, asked = LEAVES[:size], list[tuple[int, int]]()
    place = data.draw(st.integers(0, size - 1))
    subtree = stored(leaves, asked)
    assert merkle.inclusion_path(place, size, subtree) == merkle.inclusion_proof(leaves, place)
    assert merkle.consistency_path(place + 1, size, subtree) == merkle.consistency_proof(leaves, place + 1)
    assert len(asked) <= 4 * size.bit_length() + 2


@given(size=st.integers(2, 130), data=st.data())
def test_a_proof_with_one_bit_changed_is_refused(size: int, data: st.DataObject) -> None:
    leaves = LEAVES[:size]
    place = data.draw(st.integers(0, size - 1))
    proof = merkle.inclusion_proof(leaves, place)
    at, bit = data.draw(st.integers(0, len(proof) - 1)), data.draw(st.integers(0, 255))
    damaged = bytearray(proof[at])
    damaged[bit // 8] ^= 1 << bit % 8
    proof[at] = bytes(damaged)
    with pytest.raises(ProofInvalid):
        merkle.verify_inclusion(leaves[place], place, size, proof, slow_root(leaves))


@pytest.mark.parametrize("index", [-1, 5, 6])
def test_a_leaf_outside_the_tree_has_no_proof(index: int) -> None:
    with pytest.raises(ProofInvalid):
        merkle.inclusion_proof(LEAVES[:5], index)


@pytest.mark.parametrize("old", [-1, 0, 6])
def test_a_size_outside_the_tree_has_no_consistency_proof(old: int) -> None:
    with pytest.raises(ProofInvalid):
        merkle.consistency_proof(LEAVES[:5], old)


def test_the_empty_tree_proves_nothing() -> None:
    empty = merkle.root([])
    with pytest.raises(ProofInvalid):
        merkle.verify_inclusion(empty, 0, 0, [], empty)
    with pytest.raises(ProofInvalid):
        merkle.verify_consistency(0, empty, 0, empty, [])
    with pytest.raises(ProofInvalid):
        merkle.verify_consistency(0, empty, 5, merkle.root(LEAVES[:5]), [])


@given(cuts=st.lists(st.integers(0, 40), max_size=5))
def test_a_compact_range_stored_and_loaded_between_appends_has_the_roots_of_the_whole_tree(cuts: list[int]) -> None:
    size, edge = 0, merkle.CompactRange()
    for cut in cuts:
        edge = merkle.CompactRange(edge.size, edge.hashes)
        edge.extend(merkle.leaf_hash(b"%d" % n) for n in range(size, size + cut))
        size += cut
        assert edge.size == size
        assert edge.root() == slow_root([merkle.leaf_hash(b"%d" % n) for n in range(size)])


@given(first=st.integers(0, 70), following=st.integers(0, 70))
def test_many_leaves_at_once_give_the_edge_that_one_by_one_gives(first: int, following: int) -> None:
    one, many = merkle.CompactRange(), merkle.CompactRange()
    for leaf in LEAVES[: first + following]:
        one.append(leaf)
    many.extend(LEAVES[:first])
    many.extend(LEAVES[first : first + following])
    assert (many.size, many.hashes, many.root()) == (one.size, one.hashes, one.root())


def test_a_compact_range_refuses_hashes_that_do_not_fit_its_size() -> None:
    for size, hashes in [(3, LEAVES[:1]), (0, LEAVES[:1]), (-1, []), (1, [b"short"])]:
        with pytest.raises(ProofInvalid):
            merkle.CompactRange(size, hashes)
