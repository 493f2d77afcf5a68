"""The log as files for whoever audits it: JSON Lines with its signed checkpoint beside it, or a folder of tiles."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from asyncpg import Connection, Record

from gateway.database import Database
from gateway.whole_files import replaced, write_whole
from partners.errors import Conflict, NotFound
from partners.log import read_ranges
from partners.log_keys import read_verifiers
from partners.notes import Checkpoint, NoteInvalid, note_text
from partners.tiles import TILE_WIDTH, Tile, bundle, tiles_of

FILE_NAME = "log.jsonl"
LEAVES_AT_ONCE = 5_000
LEAVES = "SELECT e.leaf FROM log_leaf l JOIN audit_entry e ON e.id = l.entry_id ORDER BY l.index"
ENTRIES_FROM = """
SELECT e.leaf, l.leaf_hash FROM log_leaf l JOIN audit_entry e ON e.id = l.entry_id WHERE l.index >= $1 ORDER BY l.index
"""
NODES = "SELECT hash FROM log_node WHERE level = $1 ORDER BY index"


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
        head = await read_head(connection)
        with replaced(beside) as note, replaced(file) as lines:
            written = await write_leaves(connection, lines)
            if written != head["size"]:
                raise Conflict(f"the log has {written} of its {head['size']} entries: run `perks doctor`")
            note.write(head["checkpoint"].encode())
    return Exported(file, beside, written)


async def read_head(connection: "Connection[Any]") -> "Record":
    """The log's head; NotFound while it is empty."""
    head: Record | None = await connection.fetchrow("SELECT origin, size, checkpoint FROM log_head WHERE size > 0")
    if head is None:
        raise NotFound("the log is empty: nothing has been recorded, or no sequencer has run")
    return head


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


async def export_tiles(database: Database, folder: Path) -> Exported:
    """Writes the log as /log/ serves it: `tile/…` with all hashes and entries, `keys`, and at last `checkpoint`.

    Run again it goes on: full tiles that are there already are not written again, partial ones that were outgrown
    are removed at the end. Memory stays flat, and each file appears when it is whole. NotFound while the log is empty;
    Conflict when the folder has another log's tiles, or the log has lost an entry; OSError of the disk.
    """
    async with (
        database.connection() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        head = await read_head(connection)
        await require_same_log(connection, folder, head)
        keys = "".join(f"{verifier}\n" for verifier in await read_verifiers(connection, head["origin"]))
        await asyncio.to_thread(write_whole, folder / "keys", keys.encode())
        written = await write_lowest(connection, folder, head["size"])
        if written != head["size"]:
            raise Conflict(f"the log has {written} of its {head['size']} entries: run `perks doctor`")
        level = 1
        while head["size"] >> 8 * level:
            await write_level(connection, folder, level, head["size"] >> 8 * level)
            level += 1
        await asyncio.to_thread(write_whole, folder / "checkpoint", head["checkpoint"].encode())
        await asyncio.to_thread(remove_outgrown, folder, head["size"])
    return Exported(folder, folder / "checkpoint", written)


async def require_same_log(connection: "Connection[Any]", folder: Path, head: "Record") -> None:
    """Conflict unless the folder is empty or has an earlier state of this log."""
    keys, note = folder / "keys", folder / "checkpoint"
    if await asyncio.to_thread(keys.exists):
        named = (await asyncio.to_thread(keys.read_text, encoding="utf-8")).partition("+")[0]
        if named != head["origin"]:
            raise Conflict(f"{folder} has the tiles of another log, {named}: this one is {head['origin']}")
    if await asyncio.to_thread(note.exists):
        try:
            before = Checkpoint.parse(note_text(await asyncio.to_thread(note.read_text, encoding="utf-8")))
            fits = before.size <= head["size"] and [before.root] == await read_ranges(connection, [(0, before.size)])
        except (NoteInvalid, LookupError):
            fits = False
        if not fits:
            raise Conflict(f"{note} is of no earlier state of this log: look into it before you export elsewhere")


async def write_lowest(connection: "Connection[Any]", folder: Path, size: int) -> int:
    """The tiles of leaf hashes and of entries, from the first that is not there; returns to which size."""
    first = await asyncio.to_thread(first_missing, folder, size // TILE_WIDTH)
    at = first * TILE_WIDTH
    cursor = await connection.cursor(ENTRIES_FROM, at)
    while rows := await cursor.fetch(TILE_WIDTH):
        entries = bundle([row["leaf"].encode() for row in rows])
        hashes = b"".join(row["leaf_hash"] for row in rows)
        await asyncio.to_thread(write_tile, folder, Tile(None, at // TILE_WIDTH, len(rows)), entries)
        await asyncio.to_thread(write_tile, folder, Tile(0, at // TILE_WIDTH, len(rows)), hashes)
        at += len(rows)
    return at


async def write_level(connection: "Connection[Any]", folder: Path, level: int, count: int) -> None:
    """The tiles of a higher level, of `count` hashes."""
    cursor, at = await connection.cursor(NODES, level), 0
    while rows := await cursor.fetch(TILE_WIDTH):
        tile = Tile(level, at // TILE_WIDTH, len(rows))
        await asyncio.to_thread(write_tile, folder, tile, b"".join(row["hash"] for row in rows))
        at += len(rows)
    if at != count:
        raise Conflict(f"the log has {at} of the {count} nodes of its level {level}: run `perks doctor`")


def first_missing(folder: Path, full: int) -> int:
    """The first of the full tiles whose hashes or entries are not there yet."""
    for index in range(full):
        if not all((folder / "tile" / Tile(level, index).path).exists() for level in (0, None)):
            return index
    return full


def write_tile(folder: Path, tile: Tile, content: bytes) -> None:
    """A tile, unless it is there already."""
    file = folder / "tile" / tile.path
    if not file.exists():
        write_whole(file, content)


def remove_outgrown(folder: Path, size: int) -> None:
    """The partial tiles of smaller trees, once the checkpoint of this one is there."""
    partial = [tile for tile in tiles_of(size) if tile.width < TILE_WIDTH]
    wanted = {folder / "tile" / tile.path for tile in partial}
    wanted |= {folder / "tile" / Tile(None, tile.index, tile.width).path for tile in partial if not tile.level}
    for group in list((folder / "tile").rglob("*.p")):
        for file in group.iterdir():
            if file not in wanted:
                file.unlink()
        if not any(group.iterdir()):
            group.rmdir()
