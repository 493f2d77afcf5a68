"""The tree under a signed checkpoint, read tile by tile from whoever has it, and believed as far as it is proven."""

from collections.abc import Callable, Iterator
from functools import partial

from gateway.auditing.files import Unsound
from gateway.auditing.tree import root_of_full, root_of_levels
from partners.merkle import HASH_BYTES, TILE_HEIGHT
from partners.notes import Checkpoint
from partners.tiles import TILE_WIDTH, Tile, fold, hashes_of, spans_of

ReadTile = Callable[[Tile, "Callable[[bytes], bool]"], bytes]
"""Gives the bytes of a tile that a test takes; Unsound when there are none."""


class SignedTree:
    """Tiles of hashes that lead to a checkpoint's root: those at the right edge together, and each full one by the
    hash that its parent has of it. Holds a tile a level in memory.

    `read` must give bytes that pass the test it is handed; Unsound when the edge does not lead to the root.
    """

    def __init__(self, checkpoint: Checkpoint, read: ReadTile) -> None:
        self.checkpoint = checkpoint
        self._read = read
        self._edge: list[list[bytes]] = []
        self._held: dict[int, tuple[int, list[bytes]]] = {}
        for tile in self.edge_tiles():
            self._edge += [[] for _ in range(len(self._edge), tile.level or 0)]
            self._edge.append(hashes_of(read(tile, partial(is_wide, tile.width))))
        if root_of_levels(self._edge) != checkpoint.root:
            raise Unsound("the tiles at its right edge do not lead to the signed root")

    def edge_tiles(self) -> Iterator[Tile]:
        """The tiles that are not full, the lower levels first."""
        level, size = 0, self.checkpoint.size
        while size:
            size, width = divmod(size, TILE_WIDTH)
            if width:
                yield Tile(level, size, width)
            level += 1

    def row(self, level: int) -> Iterator[Tile]:
        """All tiles of a level."""
        full, width = divmod(self.checkpoint.size >> TILE_HEIGHT * level, TILE_WIDTH)
        yield from (Tile(level, index) for index in range(full))
        if width:
            yield Tile(level, full, width)

    @property
    def levels(self) -> range:
        """The levels there are tiles of, from the top down."""
        return range((max(self.checkpoint.size, 1).bit_length() - 1) // TILE_HEIGHT, -1, -1)

    def hashes(self, level: int, index: int) -> list[bytes]:
        """The hashes of a tile; Unsound when nobody has those that were signed."""
        if index == self.checkpoint.size >> TILE_HEIGHT * (level + 1):
            return self._edge[level]
        held = self._held.get(level)
        if held is None or held[0] != index:
            parent = self.hashes(level + 1, index // TILE_WIDTH)[index % TILE_WIDTH]
            raw = self._read(Tile(level, index), partial(leads_to, parent))
            held = self._held[level] = (index, hashes_of(raw))
        return held[1]

    def root_at(self, size: int) -> bytes:
        """The root that the tree had when it was of that size, from at most two tiles a level."""
        if not size:
            return root_of_levels([])
        ranges = [(0, size)]
        spans = spans_of(ranges)
        taken = [
            self.hashes(span.level, span.first // TILE_WIDTH)[span.first % TILE_WIDTH :][: span.count] for span in spans
        ]
        [root] = fold(ranges, taken)
        return root


def is_wide(width: int, raw: bytes) -> bool:
    """Whether these are so many hashes."""
    return len(raw) == width * HASH_BYTES


def leads_to(parent: bytes, raw: bytes) -> bool:
    """Whether these are the 256 hashes of which the parent has the root."""
    return len(raw) == TILE_WIDTH * HASH_BYTES and root_of_full(hashes_of(raw)) == parent
