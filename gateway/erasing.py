"""The worker that carries on with erasures cut short, and forgets the erased once their partners have heard of it."""

import asyncio
from collections.abc import Callable
from datetime import datetime

import structlog

from auth.erasure import carry_on, forget_member
from gateway.database import Database
from gateway.housekeeping import keep_doing
from partners.actors import SYSTEM
from partners.erasure import due, unfinished

log = structlog.get_logger()

ERASE_SECONDS = 60.0


async def keep_erasing(database: Database, clock: Callable[[], datetime], stop: asyncio.Event) -> None:
    """Looks every minute, until told to stop."""

    async def erase() -> None:
        done = await erase_on(database, clock())
        if any(done):
            log.info("erased", finished=done[0], forgotten=done[1])

    await keep_doing("erase", erase, ERASE_SECONDS, stop)


async def erase_on(database: Database, now: datetime) -> tuple[int, int]:
    """Finishes what was begun and forgets who is due; how many of each."""
    async with database.connection() as connection:
        begun, over = await unfinished(connection), await due(connection, now)
    for member_id in begun:
        await carry_on(database.sessions.begin, database.connection, member_id, SYSTEM, now)
    for member_id in over:
        await forget_member(database.sessions.begin, member_id, now)
    return len(begun), len(over)
