"""The worker that writes down what is over by itself: standing rights, and the perks of pools that ran empty."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from itertools import count

import structlog

from gateway.database import Database
from gateway.housekeeping import keep_doing
from partners.access import FIRST_ID, follow_tiers, lapse_access
from partners.pool_codes import pause_empty

log = structlog.get_logger()

SETTLE_SECONDS = 1.0
TIERS_EVERY = 10  # rounds: whoever uses a right, or reads it, knows by itself (alembic/sql/0003_access.sql)
BATCH = 500


async def keep_settling(database: Database, clock: Callable[[], datetime], stop: asyncio.Event) -> None:
    """Lapses rights and pauses perks every second, and follows the tiers of a thousand rights every ten."""
    rounds, after = count(), FIRST_ID

    async def settle() -> None:
        nonlocal after
        revoked = 0
        async with database.connection() as connection:
            paused = await pause_empty(connection, clock())
            lapsed = last = await lapse_access(connection, clock(), limit=BATCH)
            while last == BATCH and not stop.is_set():
                lapsed += (last := await lapse_access(connection, clock(), limit=BATCH))
            if next(rounds) % TIERS_EVERY == 0:
                after, revoked = await follow_tiers(connection, after, clock())
        if paused or lapsed or revoked:
            log.info("settled", perks_paused=paused, rights_lapsed=lapsed, rights_revoked=revoked)

    await keep_doing("settle", settle, SETTLE_SECONDS, stop)
