"""Brings the database to this version's shape, and tells whether it is there."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from partners.errors import Unavailable


def scripts() -> Path:
    """The migrations' folder: in a checkout the top-level one, in a wheel the one shipped inside."""
    shipped = Path(__file__).with_name("migrations")
    return shipped if shipped.is_dir() else Path(__file__).parent.parent / "alembic"


def config(connection: Connection | None = None) -> Config:
    """Alembic's settings without an ini file; the connection is ours."""
    settings = Config()
    settings.set_main_option("script_location", str(scripts()).replace("%", "%%"))
    settings.attributes["connection"] = connection
    return settings


async def migrate(engine: AsyncEngine) -> str:
    """Upgrades to the newest revision and returns it; several processes may ask at once, one does it."""

    def upgrade(connection: Connection) -> None:
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('perks.migrate'))"))
        command.upgrade(config(connection), "head")

    async with engine.begin() as connection:
        await connection.run_sync(upgrade)
    return newest()


def newest() -> str:
    """The revision that this version needs."""
    head = ScriptDirectory.from_config(config()).get_current_head()
    assert head is not None
    return head


async def require_migrated(engine: AsyncEngine) -> None:
    """Unavailable, saying what to run, unless the database has the newest revision."""

    def current(connection: Connection) -> str | None:
        return MigrationContext.configure(connection).get_current_revision()

    async with engine.connect() as connection:
        found = await connection.run_sync(current)
    if found != newest():
        raise Unavailable(
            f"the database is at revision {found or 'none'}, this version needs {newest()}: run `perks migrate`"
        )
