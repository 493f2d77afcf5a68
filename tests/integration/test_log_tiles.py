"""The tree in the database is the tree of its leaves at every size, however it came there, and so are its tiles."""

import random
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pytest
from alembic import command
from asyncpg import Connection, Record

from gateway.auditing.files import open_export
from gateway.auditing.fsck import check_export
from gateway.database import Database
from gateway.log_export import export_tiles
from gateway.migrations import config, migrate
from gateway.sequencer import Sequencer
from partners.errors import Conflict, NotFound
from partners.keys import Keys
from partners.laws.log import check_log
from partners.log import read_ranges
from partners.merkle import CompactRange, root_of
from partners.notes import Checkpoint, note_text, verifier_of
from partners.tiles import hashes_of, tiles_of
from tests.commands import Perks
from tests.sequencing import ORIGIN, sequencer_on, write_many

HASHES = "INSERT INTO outbox SELECT new_id(), sha256(convert_to(n::text, 'UTF8')) FROM generate_series(1, $1) AS n"
NODES = "SELECT level, index, hash FROM log_node ORDER BY level, index"


async def leaves_of(database: Database) -> list[bytes]:
    async with database.connection() as connection:
        return [row["leaf_hash"] for row in await connection.fetch("SELECT leaf_hash FROM log_leaf ORDER BY index")]


async def nodes_of(database: Database) -> list[tuple[int, int, bytes]]:
    async with database.connection() as connection:
        rows: Sequence[Record] = await connection.fetch(NODES)
    return [(row["level"], row["index"], row["hash"]) for row in rows]


def expected(leaves: Sequence[bytes]) -> list[tuple[int, int, bytes]]:
    """Every full subtree of 256, 65,536, … leaves, each hashed anew from its own leaves."""
    nodes, level = [], 1
    while width := len(leaves) >> 8 * level:
        span = 256**level
        nodes += [(level, at, root_of(leaves[at * span : (at + 1) * span])) for at in range(width)]
        level += 1
    return nodes


async def grow(sequencer: Sequencer, count: int) -> None:
    """So many leaves more, as if from that many entries."""
    async with sequencer.database.connection() as connection:
        await connection.execute(HASHES, count)
    await sequencer.carry_over()


async def test_the_stored_nodes_are_those_of_the_leaves_at_every_size(empty_database: Database, keys: Keys) -> None:
    dice, sequencer = random.Random(3), sequencer_on(empty_database, keys)
    for step in [1, 255, 1, 254, *(dice.randrange(1, 400) for _ in range(12)), 4096, 5000]:
        await grow(sequencer, step)
        leaves = await leaves_of(empty_database)
        assert await nodes_of(empty_database) == expected(leaves)
        async with empty_database.connection() as connection:
            for size in {*dice.sample(range(1, len(leaves) + 1), min(20, len(leaves))), len(leaves)}:
                assert await read_ranges(connection, [(0, size)]) == [root_of(leaves[:size])]


async def down_and_up(database: Database) -> None:
    """To the revision before nodes and keys were stored, and back."""
    async with database.engine.begin() as connection:
        await connection.run_sync(lambda bare: command.downgrade(config(bare), "0003"))
    await database.engine.dispose()
    await migrate(database.engine)
    await database.engine.dispose()


async def assert_filled(database: Database, keys: Keys) -> None:
    """What the migration makes of the leaves is what the sequencer had made, and the log goes on from there."""
    before = await nodes_of(database)
    await down_and_up(database)
    assert await nodes_of(database) == before == expected(await leaves_of(database))
    await grow(sequencer_on(database, keys), 300)
    assert await nodes_of(database) == expected(await leaves_of(database))


@pytest.mark.parametrize("size", [0, 255, 256, 700])
async def test_the_migration_makes_the_nodes_of_a_log_that_was_there(
    empty_database: Database, keys: Keys, size: int
) -> None:
    await grow(sequencer_on(empty_database, keys), size)
    await assert_filled(empty_database, keys)


@pytest.mark.long
async def test_the_migration_makes_the_nodes_of_three_levels(empty_database: Database, keys: Keys) -> None:
    await grow(sequencer_on(empty_database, keys), 66_000)
    assert (2, 0) in {(level, index) for level, index, _ in await nodes_of(empty_database)}
    await assert_filled(empty_database, keys)


async def test_a_log_from_before_goes_on_under_its_name_and_key(
    empty_database: Database, keys: Keys, now: datetime
) -> None:
    await write_many(empty_database, now, 600)
    await sequencer_on(empty_database, keys).carry_over()
    await down_and_up(empty_database)
    await write_many(empty_database, now, 3)
    sequencer = sequencer_on(empty_database, keys)
    await sequencer.carry_over()
    known = await sequencer.high_water.known()
    assert known is not None
    assert (known.origin, known.size) == (ORIGIN, 603)
    async with empty_database.connection() as connection:
        assert await check_log(connection, keys, now) == []


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def exported(database: Database, keys: Keys, folder: Path, now: datetime, count: int) -> dict[str, bytes]:
    """So many entries more, and all as tiles."""
    await write_many(database, now, count)
    await sequencer_on(database, keys).carry_over()
    await export_tiles(database, folder)
    return files_of(folder)


def assert_whole(files: dict[str, bytes], keys: Keys) -> None:
    """Just what the checkpoint needs, each tile of hashes the one of the level below."""
    verifier = verifier_of(ORIGIN, keys.log)
    assert files["keys"].decode() == f"{verifier}\n"
    signed = Checkpoint.parse(note_text(files["checkpoint"].decode()))
    hashes = {tile: hashes_of(files[f"tile/{tile.path}"]) for tile in tiles_of(signed.size)}
    assert root_of([one for tile, found in hashes.items() if tile.level == 0 for one in found]) == signed.root
    entries = {f"tile/entries/{tile.path.removeprefix('0/')}" for tile in hashes if tile.level == 0}
    assert files.keys() == {"keys", "checkpoint"} | {f"tile/{tile.path}" for tile in hashes} | entries
    for tile, found in hashes.items():
        if tile.level:
            below = [hashes[one] for one in hashes if one.level == tile.level - 1][: len(found)]
            assert found == [CompactRange().append(one).root() for one in below]


async def test_an_export_of_tiles_is_whole_grows_and_keeps_what_is_full(
    empty_database: Database, keys: Keys, now: datetime, folder: Path
) -> None:
    assert_whole(await exported(empty_database, keys, folder, now, 300), keys)
    full = folder / "tile" / "0" / "000"
    before = full.stat().st_mtime_ns
    assert_whole(await exported(empty_database, keys, folder, now, 467), keys)
    assert full.stat().st_mtime_ns == before
    report = check_export(open_export(folder), [verifier_of(ORIGIN, keys.log)])
    assert report.fault is None
    (folder / "checkpoint").unlink()
    (folder / "tile" / "0" / "001").unlink()  # as if it had been interrupted
    (folder / "tile" / "0" / ".002.part").write_bytes(b"half")
    assert_whole(await exported(empty_database, keys, folder, now, 1), keys)


async def test_a_folder_with_another_log_is_left_alone(
    empty_database: Database, keys: Keys, now: datetime, folder: Path
) -> None:
    with pytest.raises(NotFound, match="the log is empty"):
        await export_tiles(empty_database, folder)
    before = await exported(empty_database, keys, folder, now, 3)
    note = before["checkpoint"].decode()
    for foreign in (note.replace("\n3\n", "\n4\n"), note.replace("\n3\n", "\n2\n"), "nothing", ""):
        (folder / "checkpoint").write_text(foreign)
        with pytest.raises(Conflict, match="is of no earlier state of this log"):
            await export_tiles(empty_database, folder)
    (folder / "keys").write_text(before["keys"].decode().replace(ORIGIN, "other.example/log"))
    with pytest.raises(Conflict, match=r"the tiles of another log, other\.example/log"):
        await export_tiles(empty_database, folder)


async def test_an_entry_that_is_lost_is_told_and_no_checkpoint_written(
    empty_database: Database, keys: Keys, now: datetime, folder: Path
) -> None:
    await write_many(empty_database, now, 300)
    await sequencer_on(empty_database, keys).carry_over()

    async def without(statement: str) -> None:
        connection: Connection[Record]
        async with empty_database.connection() as connection:
            await connection.execute(statement)
        with pytest.raises(Conflict, match="run `perks doctor`"):
            await export_tiles(empty_database, folder)
        assert not (folder / "checkpoint").exists()

    await without("DELETE FROM audit_entry WHERE id = (SELECT entry_id FROM log_leaf WHERE index = 280)")
    await without("DELETE FROM log_node")


def test_the_command_writes_a_folder_of_tiles(perks: Perks, folder: Path) -> None:
    perks("partners", "add", "velo", "--name", "velo")
    done = perks("audit", "export", "--tiles", folder / "public", "--json")
    assert (done.code, done.json["entries"]) == (0, 1)
    assert (folder / "public" / "tile" / "entries" / "000.p" / "1").exists()
