"""The migrations and the tables say the same, both ways, and a database that is behind is named."""

from collections.abc import Awaitable, Callable

import pytest
from alembic import command
from sqlalchemy import Connection, text

import auth.tables  # noqa: F401  its tables belong to the same metadata
from gateway.database import Database, open_database
from gateway.migrations import config, migrate, newest, require_migrated
from partners.errors import Unavailable


async def test_the_tables_need_no_further_migration(database: Database) -> None:
    def check(connection: Connection) -> None:
        command.check(config(connection))

    async with database.engine.connect() as connection:
        await connection.run_sync(check)
    assert newest() == "0003"


async def test_down_and_up_again(new_database: Callable[[], Awaitable[str]]) -> None:
    opened = open_database(await new_database(), connections=2)

    def down(connection: Connection) -> None:
        command.downgrade(config(connection), "base")

    async with opened.engine.begin() as connection:
        await connection.run_sync(down)
        left = await connection.scalar(
            text("SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'")
        )
    assert left == 1  # Alembic's own
    with pytest.raises(Unavailable, match="perks migrate"):
        await require_migrated(opened.engine)
    assert await migrate(opened.engine) == newest()
    await require_migrated(opened.engine)
    await opened.engine.dispose()
