"""An exported log as files, in either of its two layouts: a leaf a line, or a folder of tiles (C2SP tlog-tiles)."""

from collections.abc import Iterator
from dataclasses import dataclass
from errno import EINVAL
from itertools import chain
from pathlib import Path

from partners.merkle import HASH_BYTES
from partners.notes import Checkpoint, NoteInvalid, note_text
from partners.tiles import TILE_WIDTH, Tile

FILE_NAME = "log.jsonl"
LEAF_BYTES_MAX = 65_535  # what C2SP's tiles can carry
NOTE_BYTES_MAX = 1_000_000
LENGTH_BYTES = 2
BLOCK_BYTES = 1 << 20


class Unsound(Exception):
    """The first thing that is wrong with files that could be read."""


@dataclass(frozen=True, slots=True)
class Export:
    """A log in files: `path` is a file of a leaf a line or a folder of tiles, `checkpoint` the file of its note."""

    path: Path
    checkpoint: Path
    tiled: bool

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.path.name or str(self.path)

    @property
    def has_entries(self) -> bool:
        """Whether it holds the entries, and not the hashes of the tree alone, as a public mirror may."""
        return not self.tiled or (self.path / "tile" / "entries").exists()

    def read_note(self) -> str:
        """The signed checkpoint as it stands there; NoteInvalid, OSError."""
        return read_note(self.checkpoint)

    def read_checkpoint(self) -> Checkpoint:
        """What the note says, whoever signed it; NoteInvalid, OSError."""
        return Checkpoint.parse(note_text(self.read_note()))

    def leaves(self, size: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Each entry's index and its leaf, byte for byte as it was hashed, in log order, in flat memory.

        Tiles end at `size`, which is the checkpoint's unless it is given; a file at its end. Nothing is verified.
        Unsound when the rest can't be taken apart, NoteInvalid, OSError.
        """
        return enumerate(chain.from_iterable(self.blocks(size)))

    def blocks(self, size: int | None = None) -> Iterator[list[bytes]]:
        """The same without the indexes: lists of 256 leaves, of which only the last may be shorter."""
        if not self.tiled:
            return blocks_of_lines(self.path)
        return self._bundles(self.read_checkpoint().size if size is None else size)

    def _bundles(self, size: int) -> Iterator[list[bytes]]:
        for tile in row_of(None, size):
            yield taken_apart(self.read_tile(tile, tile.width * (LENGTH_BYTES + LEAF_BYTES_MAX)), tile)

    def read_tile(self, tile: Tile, bytes_max: int = TILE_WIDTH * HASH_BYTES) -> bytes:
        """The bytes of a tile; Unsound when it is missing or too long, OSError."""
        try:
            raw = beginning_of(self.path / "tile" / tile.path, bytes_max + 1)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise Unsound(f"tile/{tile.path} is missing") from None
        if len(raw) > bytes_max:
            raise Unsound(f"tile/{tile.path} is too long")
        return raw

    def place(self, index: int) -> str:
        """Where an entry stands, for messages: a line from 1 on, or the entry's index in the tiles, from 0 on."""
        return f"entry {index}" if self.tiled else f"line {index + 1}"


def open_export(path: Path, checkpoint: Path | None = None) -> Export:
    """The export at a path: a folder with tiles or with `log.jsonl`, or a file with `FILE.checkpoint` beside it.

    FileNotFoundError when there is none.
    """
    if path.is_dir() and not (path / FILE_NAME).exists():
        return Export(path, checkpoint or path / "checkpoint", tiled=True)
    file = path / FILE_NAME if path.is_dir() else path
    return Export(file, checkpoint or checkpoint_of(file), tiled=False)


def beginning_of(path: Path, bytes_max: int) -> bytes:
    """So many bytes of one of many files that somebody sent; OSError, too, of a pipe among them, which has no end."""
    if path.exists() and not path.is_file():
        raise (IsADirectoryError if path.is_dir() else OSError)(EINVAL, "Not a file", str(path))
    with path.open("rb") as file:
        return file.read(bytes_max)


def checkpoint_of(file: Path) -> Path:
    """Where the checkpoint of a file of leaves is."""
    return file.with_name(f"{file.name}.checkpoint")


def read_note(file: Path) -> str:
    """A note from a file; NoteInvalid unless it is text of a sane size."""
    with file.open("rb") as note:
        return note_of(note.read(NOTE_BYTES_MAX + 1))


def note_of(raw: bytes) -> str:
    """A note as text; NoteInvalid."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = ""
    if not text or len(raw) > NOTE_BYTES_MAX:
        raise NoteInvalid("not a signed note: not text in UTF-8, or empty, or far too long")
    return text


def row_of(level: int | None, hashes: int) -> Iterator[Tile]:
    """The tiles that hold so many hashes of a level, or so many entries."""
    full, rest = divmod(hashes, TILE_WIDTH)
    yield from (Tile(level, index) for index in range(full))
    if rest:
        yield Tile(level, full, rest)


def taken_apart(bundle: bytes, tile: Tile) -> list[bytes]:
    """The entries of a tile of entries: exactly as many as it should have. Unsound."""
    leaves: list[bytes] = []
    at = 0
    for _ in range(tile.width):
        start = at + LENGTH_BYTES
        at = start + int.from_bytes(bundle[at:start], "big")
        if start > len(bundle) or at > len(bundle):
            raise Unsound(f"tile/{tile.path} is cut off: it ends in entry {tile.index * TILE_WIDTH + len(leaves)}")
        leaves.append(bundle[start:at])
    if at != len(bundle):
        raise Unsound(f"tile/{tile.path} goes on after its {tile.width} entries")
    return leaves


def blocks_of_lines(file: Path) -> Iterator[list[bytes]]:
    """The lines of a file without their ends, 256 at a time; Unsound, once all before was given, names the first
    line that is too long or has no end. OSError."""
    ready: list[bytes] = []
    rest, given, fault = b"", 0, ""
    with file.open("rb") as lines:
        while not fault and (block := lines.read(BLOCK_BYTES)):
            *whole, rest = (rest + block).split(b"\n")
            if len(rest) > LEAF_BYTES_MAX or max(map(len, whole), default=0) > LEAF_BYTES_MAX:
                whole = whole[: next((at for at, one in enumerate(whole) if len(one) > LEAF_BYTES_MAX), len(whole))]
                fault = "too long"
            ready += whole
            full = len(ready) - len(ready) % TILE_WIDTH
            yield from (ready[at : at + TILE_WIDTH] for at in range(0, full, TILE_WIDTH))
            del ready[:full]
            given += full
    if ready:
        yield ready
    if fault or rest:
        raise Unsound(f"line {given + len(ready) + 1} is {fault or 'cut off'}")
