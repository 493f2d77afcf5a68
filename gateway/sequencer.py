"""The worker that carries entries from the outbox into the log, so that what commits is provable within a second."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog
from asyncpg import InterfaceError, InternalClientError, PostgresError
from sqlalchemy.exc import SQLAlchemyError

from gateway.database import Database
from partners.log import BATCH_MAX, sequence

OUTAGES = (OSError, TimeoutError, InterfaceError, InternalClientError, PostgresError, SQLAlchemyError)
BACKOFF_MAX_S = 5.0

log = structlog.get_logger()


async def keep_sequencing(
    database: Database,
    key: bytes,
    origin: str,
    stop: asyncio.Event,
    *,
    pause_s: float = 0.1,
    grown: Callable[[], None] = lambda: None,
) -> None:
    """Sequences until `stop` is set: batch after batch while there is more, else every `pause_s` seconds.

    Any number of processes may run it; one works at a time. While the database is away it asks again, less and
    less often up to every 5 s, and says so once for each kind of fault and once when it is over. `grown` is called
    after each batch.
    """
    fault, wait_s = "", pause_s
    while not stop.is_set():
        try:
            async with database.connection() as connection:
                moved = BATCH_MAX
                while moved == BATCH_MAX and not stop.is_set():
                    moved = await sequence(connection, key, origin)
                    if moved:
                        grown()
        except OUTAGES as raised:
            if fault != (fault := type(raised).__name__):
                log.warning("sequencer.waiting", fault=fault, detail=str(raised))
            wait_s = min(2 * wait_s, BACKOFF_MAX_S)
        else:
            if fault:
                log.info("sequencer.resumed")
            fault, wait_s = "", pause_s
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), wait_s)
