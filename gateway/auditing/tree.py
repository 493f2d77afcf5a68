"""A log's tree grown again from its leaves, tile by tile, that knows its root at every size it passes."""

from collections.abc import Callable, Sequence
from hashlib import sha256

from partners.merkle import EMPTY_ROOT, NODE, node_hash
from partners.tiles import TILE_WIDTH, Tile

Take = Callable[[Tile, Sequence[bytes]], None]


class Tree:
    """Grows by blocks of leaf hashes. `take` is given each tile of hashes when it is full, the lower levels first."""

    def __init__(self, take: Take | None = None) -> None:
        self.size = 0
        self._levels: list[list[bytes]] = [[]]
        self._take = take

    def append(self, leaf_hashes: Sequence[bytes]) -> None:
        """Grows to the right, by any number of leaves."""
        at = 0
        while at < len(leaf_hashes):
            tile = self._levels[0]
            more = leaf_hashes[at : at + TILE_WIDTH - len(tile)]
            tile += more
            at += len(more)
            self.size += len(more)
            self._carry()

    def _carry(self) -> None:
        level = 0
        while len(self._levels[level]) == TILE_WIDTH:
            tile = self._levels[level]
            if self._take is not None:
                self._take(Tile(level, (self.size >> 8 * (level + 1)) - 1), tile)
            self._levels[level] = []
            level += 1
            if level == len(self._levels):
                self._levels.append([])
            self._levels[level].append(root_of_full(tile))

    def partial_tiles(self) -> list[tuple[Tile, list[bytes]]]:
        """The tiles at its right edge that are not full, the lower levels first."""
        return [
            (Tile(level, self.size >> 8 * (level + 1), len(tile)), tile)
            for level, tile in enumerate(self._levels)
            if tile
        ]

    def root(self) -> bytes:
        """The Merkle tree hash at this size (RFC 6962 section 2.1)."""
        return root_of_levels(self._levels)


def root_of_levels(levels: Sequence[Sequence[bytes]]) -> bytes:
    """The root above the right edge of a tree: the hashes of each level that are in no full tile of it."""
    root = b""
    for hashes in levels:
        for subtree in reversed(subtrees_of(hashes)):
            root = node_hash(subtree, root) if root else subtree
    return root or EMPTY_ROOT


def subtrees_of(hashes: Sequence[bytes]) -> list[bytes]:
    """The roots of the full subtrees of some hashes, from large to small."""
    subtrees, at = [], 0
    for height in reversed(range(len(hashes).bit_length())):
        if len(hashes) >> height & 1:
            subtrees.append(root_of_full(hashes[at : at + (1 << height)]))
            at += 1 << height
    return subtrees


def root_of_full(hashes: Sequence[bytes]) -> bytes:
    """The root of a full subtree: a power of two of hashes. By levels, which is twice as fast as leaf by leaf."""
    while len(hashes) > 1:
        hashes = [sha256(NODE + left + right).digest() for left, right in zip(hashes[::2], hashes[1::2], strict=True)]
    return hashes[0]
