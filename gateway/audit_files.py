"""The log as files: exported for an auditor, and verified by anyone who has them and the log's verifier key."""

import asyncio
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

import orjson
from asyncpg import Connection

from gateway.database import Database
from partners.errors import Conflict, NotFound
from partners.merkle import CompactRange, leaf_hash
from partners.notes import Checkpoint, NoteInvalid, Verifier, open_checkpoint

FILE_NAME = "log.jsonl"
LEAVES_AT_ONCE = 5_000
LEAF_BYTES_MAX = 65_535  # what C2SP's tiles can carry
NOTE_BYTES_MAX = 1_000_000
LEAVES = "SELECT e.leaf FROM log_leaf l JOIN audit_entry e ON e.id = l.entry_id ORDER BY l.index"


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written, and how many leaves are in it."""

    file: Path
    checkpoint: Path
    leaves: int


async def export_log(database: Database, target: Path) -> Exported:
    """Writes the log as JSON Lines, each line one leaf byte for byte as it was hashed, and beside it
    `FILE.checkpoint`, the signed checkpoint of just these leaves; `target` is the file, or a folder for `log.jsonl`.

    Memory stays flat. Nothing is left half-written: the files appear, or replace older ones, when they are whole.
    NotFound while nothing is in the log; Conflict when the log has lost an entry; OSError of the disk.
    """
    file = await asyncio.to_thread(file_of, target)
    beside = checkpoint_of(file)
    async with (
        database.connection() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        head = await connection.fetchrow("SELECT size, checkpoint FROM log_head WHERE size > 0")
        if head is None:
            raise NotFound("the log is empty: nothing has been recorded, or no sequencer has run")
        with replaced(beside) as note, replaced(file) as lines:
            written = await write_leaves(connection, lines)
            if written != head["size"]:
                raise Conflict(f"the log has {written} of its {head['size']} entries: run `perks doctor`")
            note.write(head["checkpoint"].encode())
    return Exported(file, beside, written)


def file_of(target: Path) -> Path:
    """The file to write, in the folder if it is one."""
    return target / FILE_NAME if target.is_dir() else target


def checkpoint_of(file: Path) -> Path:
    """Where the checkpoint of an exported file is."""
    return file.with_name(f"{file.name}.checkpoint")


async def write_leaves(connection: "Connection[Any]", lines: BinaryIO) -> int:
    """Every leaf in log order by a cursor on the server; returns how many."""
    written = 0
    cursor = await connection.cursor(LEAVES)
    while rows := await cursor.fetch(LEAVES_AT_ONCE):
        await asyncio.to_thread(lines.write, "".join(f"{row['leaf']}\n" for row in rows).encode())
        written += len(rows)
    return written


@contextmanager
def replaced(file: Path) -> Iterator[BinaryIO]:
    """A file to write that takes its name, and the place of an older one, only at the end without a fault."""
    draft = file.with_name(f".{file.name}.part")
    try:
        with draft.open("wb") as out:
            yield out
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Report:
    """What verifying came to: the checkpoint, once it is known to be the log's, and the first thing that is wrong."""

    checkpoint: Checkpoint | None
    fault: str | None

    @property
    def sound(self) -> bool:
        """These are the leaves that the log signed, all of them and in order."""
        return self.fault is None


class Unsound(Exception):
    """The first thing that is wrong with a file."""


def verify_log(file: Path, checkpoint: Path, verifier_key: str) -> Report:
    """Derives the root again from the file alone and compares it with the signed checkpoint; no database, no network.

    Needs about 100 bytes of memory a leaf, to tell that no entry is there twice. OSError when a file can't be read.
    """
    try:
        signed = open_checkpoint(read_note(checkpoint), Verifier.parse(verifier_key))
    except NoteInvalid as fault:
        return Report(None, f"{checkpoint.name}: {fault}")
    try:
        with file.open("rb") as lines:
            root = CompactRange().append(read_leaf_hashes(lines, signed.size)).root()
        if root != signed.root:
            raise Unsound(
                f"the root of its {signed.size} leaves is {b64encode(root).decode()}, the checkpoint says"
                f" {b64encode(signed.root).decode()}: a leaf was changed or moved, or is of another log"
            )
    except Unsound as fault:
        return Report(signed, f"{file.name}: {fault}")
    return Report(signed, None)


def read_note(file: Path) -> str:
    """A note from a file; NoteInvalid unless it is text of a sane size."""
    with file.open("rb") as note:
        raw = note.read(NOTE_BYTES_MAX + 1)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = ""
    if not text or len(raw) > NOTE_BYTES_MAX:
        raise NoteInvalid("not a signed note: not text in UTF-8, or empty, or far too long")
    return text


def read_leaf_hashes(lines: BinaryIO, size: int) -> Iterator[bytes]:
    """The leaf hash of each line; Unsound names the first line that can't be one of a log of `size` leaves."""
    entries: set[bytes] = set()
    number = 0
    for number, line in enumerate(iter(partial(lines.readline, LEAF_BYTES_MAX + 2), b""), 1):
        if not line.endswith(b"\n"):
            raise Unsound(f"line {number} is {'cut off' if len(line) <= LEAF_BYTES_MAX else 'too long'}")
        entry = entry_id(line, number)
        if entry in entries:
            raise Unsound(f"line {number} repeats entry {UUID(bytes=entry)}")
        if number > size:
            raise Unsound(f"line {number} is one too many, the checkpoint is of {size} leaves")
        entries.add(entry)
        yield leaf_hash(line[:-1])
    if number < size:
        raise Unsound(f"it ends after line {number}, the checkpoint is of {size} leaves")


def entry_id(line: bytes, number: int) -> bytes:
    """The id of the entry on a line, 16 bytes; Unsound unless the line is a JSON object without space around it."""
    try:
        if not (line.startswith(b"{") and line.endswith(b"}\n")):
            raise ValueError
        return UUID(orjson.loads(line)["id"]).bytes
    except (ValueError, KeyError, AttributeError):
        raise Unsound(f"line {number} is not a leaf: not a JSON object with the id of an entry") from None
