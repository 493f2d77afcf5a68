"""The tree of RFC 6962 over the log's leaves, kept as a compact range so that it grows without being re-read."""

from collections.abc import Iterable
from hashlib import sha256

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()
LEAF = b"\x00"
NODE = b"\x01"


def leaf_hash(leaf: bytes) -> bytes:
    """SHA-256(0x00 || leaf): RFC 6962 section 2.1."""
    return sha256(LEAF + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right): RFC 6962 section 2.1."""
    return sha256(NODE + left + right).digest()


class CompactRange:
    """A tree as its size and the roots of its full subtrees, from large to small: all that appending needs.

    `frontier` is those roots, 32 bytes each, one for every 1 in the size's binary form; ValueError if it can't be.
    """

    def __init__(self, size: int = 0, frontier: bytes = b"") -> None:
        if size < 0 or len(frontier) != HASH_BYTES * size.bit_count():
            raise ValueError(f"a tree of {size} leaves has no frontier of {len(frontier)} bytes")
        self.size = size
        self._subtrees = [frontier[at : at + HASH_BYTES] for at in range(0, len(frontier), HASH_BYTES)]

    @property
    def frontier(self) -> bytes:
        """The full subtrees' roots, to go on from later."""
        return b"".join(self._subtrees)

    def append(self, leaf_hashes: Iterable[bytes]) -> "CompactRange":
        """Grows the tree to the right, one node hash a leaf on average; returns itself."""
        subtrees, size = self._subtrees, self.size
        for leaf in leaf_hashes:
            subtree, height = leaf, size
            while height & 1:
                subtree = node_hash(subtrees.pop(), subtree)
                height >>= 1
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
