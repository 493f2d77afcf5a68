"""What tests of the log share: entries to write, a sequencer, and what the database holds."""

from datetime import UTC, datetime
from pathlib import Path

from gateway.database import Database
from gateway.high_water import HighWater
from gateway.sequencer import Sequencer
from gateway.settings import Settings
from partners.keys import Keys
from partners.merkle import root_of

ORIGIN = "perks.example/log"
WRITE = (
    "SELECT record_audit($1, 'test.written', 'DONE', '{A_NOTE,ANOTHER}', 'partner', $2, NULL, NULL, NULL, NULL, $3, $4)"
)
MANY = (
    "SELECT count(record_audit($1, 'test.written', 'DONE', '{}', 'system', '', NULL, NULL, NULL, NULL, NULL, NULL))"
    " FROM generate_series(1, $2)"
)


async def write(database: Database, now: datetime, count: int = 1, *, actor: str = "a client") -> None:
    """Entries that wait in the outbox."""
    async with database.connection() as connection:
        await connection.executemany(WRITE, [(now, actor, 3, "gold")] * count)


async def write_many(database: Database, now: datetime, count: int) -> None:
    """The same by one statement."""
    async with database.connection() as connection:
        await connection.execute(MANY, now, count)


def sequencer_on(database: Database, keys: Keys, folder: Path | None = None, *, name: str | None = None) -> Sequencer:
    """Of a host that keeps its mark in the folder, by default one that all sequencers of a test run share; `name` is
    what the host calls the database, when another was put in its place."""
    mark = HighWater(folder or Settings().data_folder, name or str(database.engine.url.database))
    return Sequencer(database, keys, ORIGIN, lambda: datetime.now(UTC), mark)


async def log_of(database: Database) -> tuple[int, bytes, list[tuple[int, bytes]]]:
    """The head's size, the leaf hashes' root, and the log's index and entry pairs."""
    async with database.connection() as connection:
        leaves = await connection.fetch("SELECT index, entry_id, leaf_hash FROM log_leaf ORDER BY index")
        size = await connection.fetchval("SELECT size FROM log_head")
    return size, root_of(leaf["leaf_hash"] for leaf in leaves), [(leaf["index"], leaf["entry_id"]) for leaf in leaves]
