"""The tree cut into tiles of 256 hashes (C2SP tlog-tiles), and proofs put together from what tiles hold."""

import re
from collections.abc import Sequence

from partners.merkle import HASH_BYTES, TILE_HEIGHT, CompactRange, Range, node_hash
from partners.values import value

TILE_WIDTH = 1 << TILE_HEIGHT
LEVEL_MAX = 63
ENTRIES = "entries"
PROOF_HEADER = "c2sp.org/tlog-proof@v1"
PATH = re.compile(r"(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/){0,6})([0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")


@value
class Tile:
    """Which tile: its level (None: the entries themselves), its place in the level, and how many of 256 it has."""

    level: int | None
    index: int
    width: int = TILE_WIDTH

    @property
    def path(self) -> str:
        """Where it is found below `tile/`: `0/x001/234` or, while it has 7 of its 256, `0/x001/234.p/7`."""
        groups, rest = [f"{self.index % 1000:03}"], self.index // 1000
        while rest:
            groups.insert(0, f"x{rest % 1000:03}")
            rest //= 1000
        partial = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"{ENTRIES if self.level is None else self.level}/{'/'.join(groups)}{partial}"

    @classmethod
    def parse(cls, path: str) -> "Tile | None":
        """The tile of a path, None when it is not the one way to write one."""
        parts = PATH.fullmatch(path)
        if parts is None:
            return None
        level = None if parts[1] == ENTRIES else int(parts[1])
        tile = cls(level, int(parts[2].replace("x", "").replace("/", "") + parts[3]), int(parts[4] or TILE_WIDTH))
        return tile if tile.path == path and (level or 0) <= LEVEL_MAX else None


def tiles_of(size: int) -> list[Tile]:
    """Every tile of hashes of a tree, from the lowest level up; the last of a level may be partial."""
    tiles, level = [], 0
    while size:
        full, rest = divmod(size, TILE_WIDTH)
        tiles += [Tile(level, index) for index in range(full)]
        if rest:
            tiles.append(Tile(level, full, rest))
        size, level = full, level + 1
    return tiles


@value
class Span:
    """Hashes of one level of tiles: `count` of them from the `first` on; a hash is of 256 ** `level` leaves."""

    level: int
    first: int
    count: int


def spans_of(ranges: Sequence[Range]) -> list[Span]:
    """What has to be read for the roots of ranges: a span for each full subtree, at most 128 hashes each."""
    return [span for one in ranges for span in subtree_spans(one)]


def subtree_spans(leaves: Range) -> list[Span]:
    """The full subtrees of a range, from large to small."""
    spans, (first, end) = [], leaves
    for height in reversed(range((end - first).bit_length())):
        if (end - first) >> height & 1:
            level, more = divmod(height, TILE_HEIGHT)
            spans.append(Span(level, first >> height << more, 1 << more))
            first += 1 << height
    return spans


def fold(ranges: Sequence[Range], spans: Sequence[Sequence[bytes]]) -> list[bytes]:
    """The roots of ranges from the hashes of `spans_of` them, in that order; LookupError when some are missing."""
    roots, at = [], 0
    for one in ranges:
        wanted = subtree_spans(one)
        subtrees = []
        for span, hashes in zip(wanted, spans[at : at + len(wanted)], strict=True):
            if len(hashes) != span.count:
                raise LookupError(f"{len(hashes)} of {span.count} hashes of level {span.level} from {span.first} on")
            subtrees.append(CompactRange().append(hashes).root())
        at += len(wanted)
        *larger, root = subtrees
        for left in reversed(larger):
            root = node_hash(left, root)
        roots.append(root)
    return roots


def bundle(entries: Sequence[bytes]) -> bytes:
    """A tile of entries: each with its length before it, two bytes, the larger first."""
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def hashes_of(tile: bytes) -> list[bytes]:
    """The hashes of a tile."""
    return [tile[at : at + HASH_BYTES] for at in range(0, len(tile), HASH_BYTES)]
