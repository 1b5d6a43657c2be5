"""The Merkle tree of RFC 6962 section 2.1 (RFC 9162 section 2.1): roots, proofs and their strict checks.

SHA-256; a leaf hashes as H(0x00 ‖ data), a node as H(0x01 ‖ left ‖ right). All hashes are 32 bytes. `Subtree`
answers for stored trees: `subtree(level, index)` is the hash of the complete subtree over the leaves
[index · 2^level, (index + 1) · 2^level), so that a proof needs a few stored hashes and never all leaves. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from lineage.errors import ProofInvalid

Subtree = Callable[[int, int], bytes]

HASH_BYTES = 32
MAX_SIZE = 2**63 - 1
TAKEN_AT_ONCE = 2**16
BLOCK = 2**8


def leaf_hash(data: bytes) -> bytes:
    """The hash of one leaf's exact bytes."""
    return hashlib.sha256(b"\x00" + data).digest()


def leaf_hashes(every: Iterable[bytes]) -> list[bytes]:
    """`leaf_hash` of many leaves."""
    sha256 = hashlib.sha256
    return [sha256(b"\x00" + data).digest() for data in every]


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node over its two children."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(leaf_hashes: Sequence[bytes]) -> bytes:
    """The tree hash over the leaf hashes; of no leaves, the hash of the empty string (RFC 9162 section 2.1.1)."""
    if not leaf_hashes:
        return hashlib.sha256(b"").digest()
    level = list(leaf_hashes)
    while len(level) > 1:
        # A node without a right neighbour moves up unchanged: the same tree as the recursive definition.
        odd = [level.pop()] if len(level) % 2 else []
        level = [node_hash(left, right) for left, right in zip(level[::2], level[1::2], strict=True)] + odd
    return level[0]


def inclusion_proof(leaf_hashes: Sequence[bytes], index: int) -> list[bytes]:
    """The path from leaf `index` to the root, lowest first (RFC 9162 section 2.1.3). ProofInvalid: no such leaf."""
    return inclusion_path(index, len(leaf_hashes), _subtree_of(leaf_hashes))


def consistency_proof(leaf_hashes: Sequence[bytes], old_size: int) -> list[bytes]:
    """The proof that the first `old_size` leaves are an older state of this tree (RFC 9162 section 2.1.4).

    Empty when nothing was added. ProofInvalid: `old_size` is 0 or larger than the tree.
    """
    return consistency_path(old_size, len(leaf_hashes), _subtree_of(leaf_hashes))


def inclusion_path(index: int, size: int, subtree: Subtree) -> list[bytes]:
    """`inclusion_proof` for a tree of `size` leaves that `subtree` answers for; reads O(log size) hashes."""
    return _path(index, index + 1, size, subtree)


def inclusion_paths(indexes: Iterable[int], size: int, subtree: Subtree) -> Iterator[list[bytes]]:
    """`inclusion_path` of each: what lies above `BLOCK` leaves is computed once for all of them that follow one another."""
    block, above = -1, list[bytes]()
    for index in indexes:
        start = index // BLOCK * BLOCK
        if start + BLOCK > size:
            yield inclusion_path(index, size, subtree)
            continue
        if start != block:
            block, above = start, _path(start, start + BLOCK, size, subtree)
        yield [subtree(level, (index >> level) ^ 1) for level in range(BLOCK.bit_length() - 1)] + above


def consistency_path(old: int, new: int, subtree: Subtree) -> list[bytes]:
    """`consistency_proof` from size `old` to size `new` of a tree that `subtree` answers for."""
    return _path(0, old, new, subtree)


def range_proof(source: Sequence[bytes] | Subtree, start: int, end: int, size: int) -> list[bytes]:
    """One proof for all leaves of [start, end) in a tree of `size`: the hashes of what lies outside, left to right.

    At most 2 · log2(size) hashes, none when the range is the whole tree. `source` is all leaf hashes, or a
    `Subtree`. ProofInvalid: the range is empty or leaves the tree.
    """
    _check_range(start, end, size)
    subtree = source if callable(source) else _subtree_of(source)

    def outside(low: int, high: int) -> Iterator[bytes]:
        if high <= start or low >= end:
            yield _range_root(low, high, subtree)
        elif not (start <= low and high <= end):
            middle = low + _split(high - low)
            yield from outside(low, middle)
            yield from outside(middle, high)

    return list(outside(0, size))


def verify_inclusion(leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Return None if `leaf_hash` is leaf `index` of the tree of `size` with this root; else raise ProofInvalid.

    Strict: 32-byte hashes, index < size, exactly as many hashes as the place needs.
    """
    verify_subtree(index, index + 1, size, leaf_hash, root, proof)


def verify_consistency(old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Return None if the new tree holds the old one unchanged as its beginning; else raise ProofInvalid.

    An old size of 0 is refused: every tree continues the empty one, so it would prove nothing. Equal sizes need
    equal roots and an empty proof.
    """
    verify_subtree(0, old_size, new_size, old_root, new_root, proof)


def verify_subtree(start: int, end: int, size: int, subtree_root: bytes, root: bytes, proof: Sequence[bytes]) -> None:
    """Return None if the leaves [start, end) of the tree have the hash `subtree_root`; else raise ProofInvalid.

    The general case of inclusion (one leaf) and consistency (start 0). `start` must be a multiple of the smallest
    power of two not below end − start.
    """
    _check_range(start, end, size)
    if start % (1 << (end - start - 1).bit_length()):
        raise ProofInvalid("The range is not a subtree of the log: its start does not fit its length.")
    _check_hashes([subtree_root, root, *proof])
    rest = list(proof)
    found, whole = _fold(start, end, size, True, subtree_root, rest)
    if rest or found != subtree_root or whole != root:
        raise ProofInvalid


def verify_range(
    leaf_hashes: Iterable[bytes], start: int, end: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Return None if `leaf_hashes` are exactly the leaves [start, end) of the tree; else raise ProofInvalid.

    `proof` is that of `range_proof`. The hashes are taken one after another and few are held at a time, so a range may
    be larger than memory.
    """
    _check_range(start, end, size)
    _check_hashes([root, *proof])
    rest, leaves = iter(proof), iter(leaf_hashes)

    def fold(low: int, high: int) -> bytes:
        if high <= start or low >= end:
            return _take(rest)
        if start <= low and high <= end and high - low <= TAKEN_AT_ONCE:
            part = list(islice(leaves, high - low))
            _check_hashes(part)
            if len(part) != high - low:
                raise ProofInvalid("There are fewer leaves than the range has places.")
            return _root_of(part)
        middle = low + _split(high - low)
        return node_hash(fold(low, middle), fold(middle, high))

    if fold(0, size) != root or next(rest, None) is not None or next(leaves, None) is not None:
        raise ProofInvalid


class CompactRange:
    """The right edge of a growing tree: the roots of its complete subtrees, largest first, and its size.

    Enough to append and to know the root at each size. `hashes` is what to store; give it back with the size.
    """

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        """ProofInvalid: the number of hashes is not the number of set bits of `size`, or one is not 32 bytes."""
        if not 0 <= size <= MAX_SIZE or len(hashes) != size.bit_count():
            raise ProofInvalid("The stored tree edge does not fit its size. Rebuild it from the leaf hashes.")
        _check_hashes(hashes)
        self._size = size
        self._hashes = list(hashes)

    @property
    def size(self) -> int:
        """The number of leaves appended so far."""
        return self._size

    @property
    def hashes(self) -> list[bytes]:
        """A copy of the complete subtrees' roots, largest first."""
        return list(self._hashes)

    def append(self, leaf_hash: bytes) -> None:
        """Add the next leaf."""
        _check_hashes([leaf_hash])
        node, bits = leaf_hash, self._size
        while bits & 1:
            node = node_hash(self._hashes.pop(), node)
            bits >>= 1
        self._hashes.append(node)
        self._size += 1

    def extend(self, leaf_hashes: Iterable[bytes]) -> None:
        """Add the next leaves in order, level by level: the same tree as `append` one by one, in less time."""
        nodes, odd, level = list(leaf_hashes), list[bytes](), 0
        _check_hashes(nodes)
        size = self._size + len(nodes)
        while nodes:
            if self._size >> level & 1:
                nodes.insert(0, self._hashes.pop())
            if len(nodes) % 2:
                odd.append(nodes.pop())
            nodes = [node_hash(left, right) for left, right in zip(nodes[::2], nodes[1::2], strict=True)]
            level += 1
        self._hashes += reversed(odd)
        self._size = size

    def root(self) -> bytes:
        """The root of the tree of `size` leaves."""
        if not self._hashes:
            return _root_of(())
        node = self._hashes[-1]
        for left in reversed(self._hashes[:-1]):
            node = node_hash(left, node)
        return node


def _path(start: int, end: int, size: int, subtree: Subtree) -> list[bytes]:
    """What `_fold` needs to climb from the subtree [start, end) to the root, lowest first."""
    _check_range(start, end, size)
    low, high, known = 0, size, True
    path: list[bytes] = []
    while (start, end) != (low, high):
        middle = low + _split(high - low)
        if end <= middle:
            path.append(_range_root(middle, high, subtree))
            high = middle
        else:
            path.append(_range_root(low, middle, subtree))
            # When the subtree begins left of the middle, only its ragged right part remains to be shown.
            known = known and start >= middle
            start, low = max(start, middle), middle
    if not known:
        path.append(_range_root(low, high, subtree))
    return path[::-1]


def _fold(start: int, end: int, size: int, known: bool, given: bytes, rest: list[bytes]) -> tuple[bytes, bytes]:
    """(hash of [start, end), hash of the whole), taking siblings off the end of `rest` while going down."""
    if (start, end) == (0, size):
        node = given if known else _pop(rest)
        return node, node
    sibling, middle = _pop(rest), _split(size)
    if end <= middle:
        part, whole = _fold(start, end, middle, known, given, rest)
        return part, node_hash(whole, sibling)
    if start >= middle:
        part, whole = _fold(start - middle, end - middle, size - middle, known, given, rest)
        return part, node_hash(sibling, whole)
    part, whole = _fold(0, end - middle, size - middle, False, given, rest)
    return node_hash(sibling, part), node_hash(sibling, whole)


def _pop(rest: list[bytes]) -> bytes:
    if not rest:
        raise ProofInvalid("The proof is too short for this place in the log.")
    return rest.pop()


def _take(rest: Iterator[bytes]) -> bytes:
    node = next(rest, None)
    if node is None:
        raise ProofInvalid("The proof is too short for this range of the log.")
    return node


def _split(size: int) -> int:
    """The largest power of two smaller than `size` (RFC 9162 section 2.1.1); `size` is at least 2."""
    return 1 << ((size - 1).bit_length() - 1)


def _range_root(low: int, high: int, subtree: Subtree) -> bytes:
    """The hash of [low, high), which is complete or a right edge of the tree."""
    width = high - low
    if width.bit_count() == 1:
        level = width.bit_length() - 1
        return subtree(level, low >> level)
    middle = low + _split(width)
    return node_hash(_range_root(low, middle, subtree), _range_root(middle, high, subtree))


def _subtree_of(leaf_hashes: Sequence[bytes]) -> Subtree:
    return lambda level, index: root(leaf_hashes[index << level : (index + 1) << level])


def _check_range(start: int, end: int, size: int) -> None:
    if not 0 <= start < end <= size <= MAX_SIZE:
        raise ProofInvalid("The proof speaks of leaves outside the log, or of none.")


def _check_hashes(hashes: Sequence[bytes]) -> None:
    for each in hashes:
        if not isinstance(each, bytes) or len(each) != HASH_BYTES:
            raise ProofInvalid("A hash in the proof is not 32 bytes long.")


_root_of = root
