"""The worker that ends what is overdue, so that nothing is held while somebody waits."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

import structlog

from gateway.database import Database
from partners.holds import expire_overdue

log = structlog.get_logger()

SWEEP_SECONDS = 1.0
PAUSE_SECONDS_MAX = 30.0


async def keep_sweeping(database: Database, clock: Callable[[], datetime], stop: asyncio.Event) -> None:
    """Expires overdue holds every second until told to stop; an outage is waited out, longer each time."""
    pause = SWEEP_SECONDS
    while not stop.is_set():
        try:
            async with database.connection() as connection:
                expired = await expire_overdue(connection, clock())
            pause = SWEEP_SECONDS
            if expired:
                log.info("holds_expired", count=expired)
        except Exception as fault:
            pause = min(pause * 2, PAUSE_SECONDS_MAX)
            log.warning("sweep_failed", fault=type(fault).__name__, next_try_s=pause)
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), pause)
