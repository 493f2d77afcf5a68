"""The tree of RFC 6962 over the log's leaves: a compact range that grows without being re-read, and its proofs."""

from collections.abc import Iterable, Sequence
from hashlib import sha256

from partners.values import value

HASH_BYTES = 32
TILE_HEIGHT = 8
EMPTY_ROOT = sha256(b"").digest()
LEAF = b"\x00"
NODE = b"\x01"


def leaf_hash(leaf: bytes) -> bytes:
    """SHA-256(0x00 || leaf): RFC 6962 section 2.1."""
    return sha256(LEAF + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right): RFC 6962 section 2.1."""
    return sha256(NODE + left + right).digest()


@value
class Node:
    """The root of the `index`-th full subtree of 256 ** `level` leaves."""

    level: int
    index: int
    hash: bytes


class CompactRange:
    """A tree as its size and the roots of its full subtrees, from large to small: all that appending needs.

    `frontier` is those roots, 32 bytes each, one for every 1 in the size's binary form; ValueError if it can't be.
    """

    def __init__(self, size: int = 0, frontier: bytes = b"") -> None:
        if size < 0 or len(frontier) != HASH_BYTES * size.bit_count():
            raise ValueError(f"a tree of {size} leaves has no frontier of {len(frontier)} bytes")
        self.size = size
        self.completed: list[Node] = []
        """Subtrees of 256, 256 ** 2, … leaves that appending has filled, in the order of their last leaves."""
        self._subtrees = [frontier[at : at + HASH_BYTES] for at in range(0, len(frontier), HASH_BYTES)]

    @property
    def frontier(self) -> bytes:
        """The full subtrees' roots, to go on from later."""
        return b"".join(self._subtrees)

    def append(self, leaf_hashes: Iterable[bytes]) -> "CompactRange":
        """Grows the tree to the right, one node hash a leaf on average; returns itself."""
        subtrees, size = self._subtrees, self.size
        for leaf in leaf_hashes:
            subtree, index, height = leaf, size, 0
            while index & 1:
                subtree = node_hash(subtrees.pop(), subtree)
                index >>= 1
                height += 1
                if not height % TILE_HEIGHT:
                    self.completed.append(Node(height // TILE_HEIGHT, index, subtree))
            subtrees.append(subtree)
            size += 1
        self.size = size
        return self

    def root(self) -> bytes:
        """The Merkle tree hash at this size."""
        if not self._subtrees:
            return EMPTY_ROOT
        *larger, root = self._subtrees
        for left in reversed(larger):
            root = node_hash(left, root)
        return root


def root_of(leaf_hashes: Iterable[bytes]) -> bytes:
    """The Merkle tree hash of a list of leaf hashes: RFC 6962 section 2.1."""
    return CompactRange().append(leaf_hashes).root()


Range = tuple[int, int]
"""Leaves from the first until before the second, as one node of the tree of some size covers them."""


def split(size: int) -> int:
    """The largest power of two below a size of at least 2, at which the tree of that size parts."""
    return 1 << ((size - 1).bit_length() - 1)


def inclusion_ranges(index: int, size: int) -> list[Range]:
    """The nodes of an inclusion proof, from the leaf up: RFC 6962 section 2.1.1. ValueError for no such leaf."""
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    ranges, first, end = [], 0, size
    while end - first > 1:
        middle = first + split(end - first)
        if index < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((first, middle))
            first = middle
    return ranges[::-1]


def consistency_ranges(older: int, size: int) -> list[Range]:
    """The nodes of a consistency proof: RFC 6962 section 2.1.2; none from a tree of no leaves or of the same size.

    ValueError when the older tree is larger.
    """
    if not 0 <= older <= size:
        raise ValueError(f"a tree of {older} leaves is not older than one of {size}")
    if older in (0, size):
        return []
    ranges, first, end = [], 0, size
    while older != end:
        middle = first + split(end - first)
        if older <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((first, middle))
            first = middle
    if first:
        ranges.append((first, end))
    return ranges[::-1]


def is_included(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether the proof leads from the leaf's hash to the root: RFC 9162 section 2.1.3.2."""
    if not 0 <= index < size:
        return False
    node, last = index, size - 1
    for sibling in proof:
        if last == 0:
            return False
        if node & 1 or node == last:
            leaf = node_hash(sibling, leaf)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            leaf = node_hash(leaf, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and leaf == root


def is_consistent(older: int, size: int, older_root: bytes, root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the tree of `size` leaves begins with the older one: RFC 9162 section 2.1.4.2."""
    if not 0 <= older <= size:
        return False
    if older in (0, size):
        return not proof and older_root == (root if older == size else EMPTY_ROOT)
    path = list(proof) if older & (older - 1) else [older_root, *proof]
    if not path:
        return False
    node, last = older - 1, size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    was = now = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            was, now = node_hash(sibling, was), node_hash(sibling, now)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            now = node_hash(now, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and (was, now) == (older_root, root)
