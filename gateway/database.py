"""The one engine: sessions for ordinary work, and bare connections for statements that are their own transaction."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from asyncpg import Connection
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from gateway.settings import SettingsInvalid

# The statements are few, prepared and made for one plan each; planning a batch of claims anew cost more than running
# it (docs/performance.md). For the same reason no statement leaves a condition open with `$1 IS NULL OR`.
SERVER_SETTINGS = {"application_name": "perks", "jit": "off", "plan_cache_mode": "force_generic_plan"}
OTHERS = 4  # connections kept free for mutations, the sweeper and the sequencer


@dataclass(frozen=True, slots=True)
class Database:
    """One process's way to PostgreSQL.

    Reads and bare statements wait for `turns`, first come first served, since SQLAlchemy's own pool lets newcomers
    pass those who wait. Nobody may ask for a second turn with one in hand.
    """

    engine: AsyncEngine
    sessions: async_sessionmaker[AsyncSession]
    autocommit: async_sessionmaker[AsyncSession]
    turns: asyncio.Semaphore

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A session for what only reads, in its turn: a read is one round trip, without BEGIN and ROLLBACK."""
        async with self.turns, self.autocommit() as session:
            yield session

    @asynccontextmanager
    async def connection(self) -> AsyncIterator["Connection[Any]"]:
        """A bare asyncpg connection of the same pool, in autocommit: a call that is one statement is one round trip."""
        async with self.turns, self.engine.connect() as pooled:
            raw = await pooled.get_raw_connection()
            bare: Connection[Any] | None = raw.driver_connection
            assert bare is not None
            try:
                yield bare
            finally:
                if bare.is_closed():
                    # The pool does not see what happens on the bare connection and would hand it out again.
                    await pooled.invalidate()


def open_database(url: str, *, connections: int) -> Database:
    """An engine on asyncpg with at most `connections` open; nothing is connected yet."""
    engine = create_async_engine(
        asyncpg_url(url),
        pool_size=connections,
        max_overflow=0,
        pool_timeout=5,
        hide_parameters=True,
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
        connect_args={"timeout": 5, "server_settings": SERVER_SETTINGS},
    )
    reader = engine.execution_options(isolation_level="AUTOCOMMIT")
    return Database(
        engine,
        async_sessionmaker(engine, expire_on_commit=False),
        async_sessionmaker(reader),
        asyncio.Semaphore(max(1, connections - OTHERS)),
    )


def asyncpg_url(url: str) -> URL:
    """The operator's address with our driver; SettingsInvalid unless it is PostgreSQL's."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise SettingsInvalid("DATABASE_URL: not an address; as postgresql://user:password@host:5432/name") from None
    if parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise SettingsInvalid(f"DATABASE_URL: PostgreSQL is the only database, not {parsed.get_backend_name()}")
    return parsed.set(drivername="postgresql+asyncpg")
