"""Derives a log again from its files: every entry, every hash and the root, against the checkpoint."""

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from uuid import UUID

import orjson

from gateway.auditing.files import Export, Unsound, row_of
from gateway.auditing.tree import Tree
from partners.merkle import HASH_BYTES, LEAF
from partners.notes import Checkpoint, NoteInvalid, Verifier, note_text, open_checkpoint
from partners.tiles import TILE_WIDTH, Tile, hashes_of

CONTINUED = "log.continued"
OUTCOMES = ("DONE", "REFUSED")
ID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@dataclass(slots=True)
class Part:
    """The `size` leaves from index `first` on, as a tree of their own: what was at that size the whole log."""

    first: int
    size: int
    tree: Tree = field(default_factory=Tree)

    def take(self, index: int, leaf_hashes: Sequence[bytes]) -> None:
        """Of the hashes, which are from an index on, those that are within."""
        begin, end = self.first - index, self.first + self.size - index
        if end > 0:
            self.tree.append(leaf_hashes[max(0, begin) : end])

    @property
    def root(self) -> bytes | None:
        """Its root once it is full."""
        return self.tree.root() if self.tree.size == self.size else None


@dataclass(frozen=True, slots=True)
class Continued:
    """An older log that this one goes on from: its last checkpoint, and the part that its entries should be."""

    checkpoint: Checkpoint
    part: Part

    @property
    def complete(self) -> bool:
        """All entries of the older log are here, unaltered and in its order."""
        return self.part.root == self.checkpoint.root


@dataclass(frozen=True, slots=True)
class Report:
    """What verifying came to: the checkpoint, once its note is known to be in order; the first thing that is wrong;
    which logs the log says that it continues, the last one first."""

    checkpoint: Checkpoint | None
    fault: str | None
    continued: tuple[Continued, ...] = ()

    @property
    def sound(self) -> bool:
        """These are the leaves that the log signed, all of them and in order."""
        return self.fault is None


def check_export(
    export: Export, verifiers: Sequence[Verifier], parts: Sequence[Part] = (), *, hashes_only: bool = False
) -> Report:
    """Derives everything again and compares it with the checkpoint, which one of the keys must have signed, if there
    are any; `parts` are filled on the way. Reads each file once, in flat memory but for about 100 bytes an entry,
    to tell that none is there twice. OSError when a file can't be read.
    """
    try:
        note = export.read_note()
        checkpoint = open_checkpoint(note, *verifiers) if verifiers else Checkpoint.parse(note_text(note))
    except NoteInvalid as fault:
        return Report(None, f"{export.checkpoint.name}: {fault}")
    derivation = Derivation(export, checkpoint, parts)
    try:
        derivation.run_on_hashes() if hashes_only else derivation.run()
    except Unsound as fault:
        return Report(checkpoint, f"{export.name}: {fault}")
    return Report(checkpoint, None, tuple(derivation.continued))


class Derivation:
    """One reading of an export from its first leaf to its last, with the tree growing beside it."""

    def __init__(self, export: Export, checkpoint: Checkpoint, parts: Sequence[Part]) -> None:
        self._export, self._checkpoint = export, checkpoint
        self._parts = list(parts)
        self._tree = Tree(self._compare if export.tiled else None)
        self._entries: set[bytes] = set()
        self.continued: list[Continued] = []

    def run(self) -> None:
        """From the entries on; Unsound tells the first fault."""
        size = self._checkpoint.size
        if size and not self._export.has_entries:
            raise Unsound("tile/entries is missing: a mirror of hashes alone is checked with --hashes-only")
        for block in self._export.blocks(size):
            self._admit(block)
            self._grow([sha256(LEAF + leaf).digest() for leaf in block])
        if self._tree.size < size:
            raise Unsound(f"it ends after line {self._tree.size}, the checkpoint is of {size} leaves")
        self._finish()

    def run_on_hashes(self) -> None:
        """From the lowest tiles on, which say nothing of the entries but their hashes; Unsound."""
        if not self._export.tiled:
            raise Unsound("no tiles: a file of entries holds no hashes alone")
        for tile in row_of(0, self._checkpoint.size):
            self._grow(hashes_of(whole(self._export.read_tile(tile), tile)))
        self._finish()

    def _admit(self, block: Sequence[bytes]) -> None:
        """Each leaf is the canonical JSON of an entry that was not there before."""
        entries, size = self._entries, self._checkpoint.size
        for index, leaf in enumerate(block, self._tree.size):
            fields = fields_of(leaf)
            entry = id_of(fields) if fields else b""
            if not entry or fields is None:
                raise Unsound(f"{self._export.place(index)} is not a leaf: not an entry in canonical JSON (RFC 8785)")
            if entry in entries:
                raise Unsound(f"{self._export.place(index)} repeats entry {UUID(bytes=entry)}")
            if index >= size:
                raise Unsound(f"{self._export.place(index)} is one too many, the checkpoint is of {size} leaves")
            entries.add(entry)
            if index == len(self.continued) and fields["action"] == CONTINUED:
                self._go_on_from(index, fields)

    def _go_on_from(self, index: int, fields: dict[str, Any]) -> None:
        try:
            older = Checkpoint.parse(note_text(continued_note(fields)))
        except NoteInvalid as fault:
            raise Unsound(f"{self._export.place(index)} continues no log: {fault}") from None
        self.continued.append(Continued(older, Part(index + 1, older.size)))
        self._parts.append(self.continued[-1].part)

    def _grow(self, leaf_hashes: Sequence[bytes]) -> None:
        for part in self._parts:
            part.take(self._tree.size, leaf_hashes)
        self._tree.append(leaf_hashes)

    def _compare(self, tile: Tile, hashes: Sequence[bytes]) -> None:
        """A tile of hashes is what it should be."""
        kept = whole(self._export.read_tile(tile), tile)
        if kept == b"".join(hashes):
            return
        place = next(at for at, (one, other) in enumerate(zip(hashes_of(kept), hashes, strict=True)) if one != other)
        index = tile.index * TILE_WIDTH + place
        what = f"entry {index}" if tile.level == 0 else f"the tile tile/{Tile((tile.level or 0) - 1, index).path}"
        raise Unsound(f"tile/{tile.path} has another hash of {what} than is derived: one of them was changed")

    def _finish(self) -> None:
        if self._export.tiled:
            for tile, hashes in self._tree.partial_tiles():
                self._compare(tile, hashes)
        root, signed = self._tree.root(), self._checkpoint.root
        if root != signed:
            raise Unsound(
                f"the root of its {self._tree.size} leaves is {b64encode(root).decode()}, the checkpoint says"
                f" {b64encode(signed).decode()}: a leaf was changed or moved, or is of another log"
            )


def whole(raw: bytes, tile: Tile) -> bytes:
    """The bytes of a tile of hashes; Unsound when some are missing."""
    if len(raw) != tile.width * HASH_BYTES:
        raise Unsound(f"tile/{tile.path} is {len(raw)} bytes long, {tile.width} hashes are {tile.width * HASH_BYTES}")
    return raw


def fields_of(leaf: bytes) -> dict[str, Any] | None:
    """What a leaf says; None unless it is a JSON object just as RFC 8785 writes it, with what every entry has."""
    try:
        fields = orjson.loads(leaf)
        if orjson.dumps(fields, option=orjson.OPT_SORT_KEYS) != leaf or not isinstance(fields, dict):
            return None
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):  # the latter of what is nested too deep
        return None
    if float in map(type, fields.values()):  # RFC 8785 writes them otherwise than we do, and no entry has any
        return None
    if fields.get("outcome") not in OUTCOMES or not isinstance(fields.get("action"), str):
        return None
    return fields


def id_of(fields: dict[str, Any]) -> bytes:
    """The id of an entry, 16 bytes; none at all when it is not a UUID in the usual spelling."""
    text = fields.get("id")
    if not isinstance(text, str) or not ID.fullmatch(text):
        return b""
    return bytes.fromhex(text.replace("-", ""))


def continued_logs(export: Export) -> list[tuple[int, Checkpoint]]:
    """The logs that this one goes on from, as it says itself: the place of the entry, and the last checkpoint.

    NoteInvalid, Unsound and OSError of what can't be read.
    """
    found: list[tuple[int, Checkpoint]] = []
    if export.has_entries:
        for index, leaf in enumerate(next(export.blocks(), [])):
            fields = fields_of(leaf)
            if fields is None or fields["action"] != CONTINUED:
                break
            found.append((index, Checkpoint.parse(note_text(continued_note(fields)))))
    return found


def continued_note(fields: dict[str, Any]) -> str:
    """The last checkpoint of the older log, a signed note, in the entry that continues it."""
    note = fields.get("checkpoint")
    return note if isinstance(note, str) else ""
