"""A copy of a log that only ever grows: each file is proven before it is kept, and no other past is accepted."""

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from gateway.auditing.files import (
    LEAF_BYTES_MAX,
    LENGTH_BYTES,
    NOTE_BYTES_MAX,
    Unsound,
    note_of,
    read_note,
    taken_apart,
)
from gateway.auditing.signed_tree import SignedTree
from gateway.auditing.sources import Source, Unreachable
from partners.merkle import HASH_BYTES, TILE_HEIGHT, leaf_hash
from partners.notes import Checkpoint, NoteInvalid, Verifier, note_text, open_checkpoint
from partners.tiles import TILE_WIDTH, Tile, bundle

SEEN, REFUSED = "checkpoints", "refused"


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What a mirror has now: its checkpoint, the size it had before, how many files were copied, and the keys that it
    believed because the source said so, which happens once and is worth a look."""

    checkpoint: Checkpoint
    before: int
    files: int
    believed: tuple[Verifier, ...]


def mirror_log(source: Source, folder: Path, verifiers: Sequence[Verifier], *, hashes_only: bool = False) -> Mirrored:
    """Copies what is new. The mirror's own files are replaced by nothing that contradicts any checkpoint it has seen;
    a run that is interrupted goes on where it was. The entries of a tile are in memory at once, nothing else is.

    Unsound says what was refused; the note that is to blame is kept in `refused`. OSError of the disk or the source.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        return Mirror(source, folder, hashes_only).catch_up(verifiers)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Nobody else mirrors into the folder meanwhile; Unreachable."""
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unreachable(f"{folder}: another mirror is at work there") from None
        yield


class Mirror:
    """One catching up."""

    def __init__(self, source: Source, folder: Path, hashes_only: bool) -> None:
        self._source, self._folder, self._hashes_only = source, folder, hashes_only
        self._wrong: set[Tile] = set()
        self._files = 0

    def catch_up(self, given: Sequence[Verifier]) -> Mirrored:
        """Asks for the checkpoint, and copies up to it what is not here."""
        known, believed = self._keys(given)
        note = self._note()
        try:
            checkpoint = open_checkpoint(note, *known)
        except NoteInvalid as fault:
            raise Unsound(f"checkpoint: {fault}; after a change of keys give the new one with --key") from None
        before = self._installed()
        tree = self._accepted(checkpoint, note)
        write(self._folder / SEEN / f"{checkpoint.size:020}", note.encode())
        write(self._folder / "keys", "".join(f"{key}\n" for key in known).encode())
        self._copy(tree, before)
        write(self._folder / "checkpoint", note.encode())
        self._tidy(before, checkpoint.size)
        return Mirrored(checkpoint, before, self._files, believed)

    def _keys(self, given: Sequence[Verifier]) -> tuple[list[Verifier], tuple[Verifier, ...]]:
        """Those given and those of earlier runs; if there are none, the source is believed this once."""
        kept = self._folder / "keys"
        known = list(dict.fromkeys([*given, *(keys_of(kept.read_bytes()) if kept.exists() else [])]))
        if known:
            return known, ()
        raw = self._source.read("keys", NOTE_BYTES_MAX)
        if raw is None:
            raise Unreachable("the source has no file of keys: give the log's with --key")
        believed = keys_of(raw)
        return believed, tuple(believed)

    def _note(self) -> str:
        raw = self._source.read("checkpoint", NOTE_BYTES_MAX)
        if raw is None:
            raise Unreachable("the source has no checkpoint: is it the address of a log, or a folder of its tiles?")
        try:
            return note_of(raw)
        except NoteInvalid as fault:
            raise Unsound(f"checkpoint: {fault}") from None

    def _installed(self) -> int:
        file = self._folder / "checkpoint"
        return own_checkpoint(file).size if file.exists() else 0

    def _accepted(self, checkpoint: Checkpoint, note: str) -> SignedTree:
        """The tree, once it is known to begin with all that was seen; Unsound."""
        seen = self._last_seen()
        try:
            if seen is not None and seen.origin != checkpoint.origin:
                raise Unsound(f"another log: {checkpoint.origin}, and this mirrors {seen.origin}; use another folder")
            if seen is not None and seen.size > checkpoint.size:
                raise Unsound(
                    f"rolled back: the source is at {checkpoint.size} entries and was at {seen.size}; an older copy is"
                    " asked, an older backup was restored, or entries were cut off"
                )
            tree = SignedTree(checkpoint, self._read)
            if seen is not None and tree.root_at(seen.size) != seen.root:
                raise Unsound(
                    f"forked: of the source's {checkpoint.size} entries the first {seen.size} are not those it signed"
                    " before; who has its key has rewritten them"
                )
        except Unsound:
            write(self._folder / REFUSED / f"{checkpoint.size:020}-{checkpoint.root.hex()[:16]}", note.encode())
            raise
        return tree

    def _last_seen(self) -> Checkpoint | None:
        """The largest of all checkpoints; each was consistent with those before it."""
        notes = sorted((self._folder / SEEN).glob("[0-9]*"))
        return own_checkpoint(notes[-1]) if notes else None

    def _read(self, tile: Tile, fits: Callable[[bytes], bool]) -> bytes:
        """A tile of hashes, from here if it is right here, else from the source; one that is not full proves itself
        only together with others, and comes from there."""
        here = self._folder / "tile" / tile.path
        if tile.width == TILE_WIDTH and here.exists():
            raw = here.read_bytes()
            if fits(raw):
                return raw
            self._wrong.add(tile)
        raw = self._fetched(tile, TILE_WIDTH * HASH_BYTES)[: tile.width * HASH_BYTES]
        if not fits(raw):
            raise Unsound(f"tile/{tile.path} of the source is not what was signed")
        return raw

    def _fetched(self, tile: Tile, bytes_max: int) -> bytes:
        """A file of the source, also of the full tile that a partial one has become."""
        raw = self._source.read(f"tile/{tile.path}", bytes_max)
        if raw is None and tile.width < TILE_WIDTH:
            raw = self._source.read(f"tile/{Tile(tile.level, tile.index).path}", bytes_max)
        if raw is None:
            raise Unsound(f"tile/{tile.path} is missing at the source")
        return raw

    def _copy(self, tree: SignedTree, before: int) -> None:
        """From the top down, so that each tile is proven by the one above; entries by the lowest."""
        for level in tree.levels:
            kept = before >> TILE_HEIGHT * (level + 1)
            for tile in tree.row(level):
                if tile.index >= kept or tile in self._wrong or not self._has(tile):
                    hashes = tree.hashes(level, tile.index)
                    self._keep(tile, b"".join(hashes))
        if not self._hashes_only:
            for tile in tree.row(0):
                self._copy_entries(Tile(None, tile.index, tile.width), tree, before >> TILE_HEIGHT)

    def _copy_entries(self, tile: Tile, tree: SignedTree, kept: int) -> None:
        here = self._folder / "tile" / tile.path
        if here.exists() and (tile.index < kept or are(here.read_bytes(), tile, tree.hashes(0, tile.index))):
            return
        bytes_max = TILE_WIDTH * (LENGTH_BYTES + LEAF_BYTES_MAX)
        raw = self._fetched(tile, bytes_max)
        if tile.width < TILE_WIDTH:
            raw = bundle(first_of(raw, tile.width))
        if not are(raw, tile, tree.hashes(0, tile.index)):
            raise Unsound(f"tile/{tile.path} of the source is not of the entries that were signed")
        self._keep(tile, raw)

    def _has(self, tile: Tile) -> bool:
        try:
            return (self._folder / "tile" / tile.path).stat().st_size == tile.width * HASH_BYTES
        except OSError:
            return False

    def _keep(self, tile: Tile, raw: bytes) -> None:
        here = self._folder / "tile" / tile.path
        if not (here.exists() and here.read_bytes() == raw):
            write(here, raw)
            self._files += 1

    def _tidy(self, before: int, size: int) -> None:
        """Tiles that have grown are not needed at their old widths."""
        for level in (None, *range(TILE_HEIGHT)):
            height = TILE_HEIGHT * (level or 0)
            index, width = divmod(before >> height, TILE_WIDTH)
            if width and before >> height != size >> height:
                old = self._folder / "tile" / Tile(level, index, width).path
                old.unlink(missing_ok=True)
                with suppress(OSError):
                    old.parent.rmdir()


def own_checkpoint(file: Path) -> Checkpoint:
    """What a note of the mirror says; Unsound when it was spoilt since."""
    try:
        return Checkpoint.parse(note_text(read_note(file)))
    except NoteInvalid as fault:
        raise Unsound(f"{file} of this mirror was spoilt: {fault}") from None


def keys_of(raw: bytes) -> list[Verifier]:
    """The keys of a file of them, a line each; Unsound."""
    try:
        return [Verifier.parse(line) for line in raw.decode().split()]
    except (NoteInvalid, UnicodeDecodeError) as fault:
        raise Unsound(f"keys: {fault}") from None


def first_of(raw: bytes, width: int) -> list[bytes]:
    """The first entries of a tile of entries that has more by now, or as many."""
    entries: list[bytes] = []
    at = 0
    while len(entries) < width and at < len(raw):
        start = at + LENGTH_BYTES
        at = start + int.from_bytes(raw[at:start], "big")
        entries.append(raw[start:at])
    return entries


def are(raw: bytes, tile: Tile, hashes: Sequence[bytes]) -> bool:
    """Whether a tile of entries is of just those that have these hashes."""
    try:
        return [leaf_hash(entry) for entry in taken_apart(raw, tile)] == hashes
    except Unsound:
        return False


def write(file: Path, raw: bytes) -> None:
    """A file that is there whole or not at all, also after a power cut."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.part")
    with draft.open("wb") as out:
        out.write(raw)
        out.flush()
        os.fsync(out.fileno())
    draft.replace(file)
