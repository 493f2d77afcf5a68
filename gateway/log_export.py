"""The log as files for whoever audits it: JSON Lines with its signed checkpoint beside it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from asyncpg import Connection

from gateway.database import Database
from partners.errors import Conflict, NotFound

FILE_NAME = "log.jsonl"
LEAVES_AT_ONCE = 5_000
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
