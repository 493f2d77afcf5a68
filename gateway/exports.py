"""The worker that makes exports, one at a time in each process and fairly: who waits longest is next."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from itertools import count

import structlog

from gateway.database import Database
from gateway.housekeeping import keep_doing
from partners.export_making import LeaseLost, Making, give_back, remove_due, take_export, tell_failure

log = structlog.get_logger()

LOOK_SECONDS = 1.0
PARTS_IN_A_ROW = 100
"""Of CSV or JSONL before another export has its turn; Parquet is made in one go."""


class Exporter:
    """Makes exports on one database until told to stop; between parts it holds no connection."""

    def __init__(self, database: Database, clock: Callable[[], datetime], stop: asyncio.Event) -> None:
        self._database, self._clock, self._stop = database, clock, stop

    async def work(self) -> None:
        """Makes what waits, and removes what is over."""
        while not self._stop.is_set() and (making := await self._take()) is not None:
            await self.make(making)
        async with self._database.connection() as connection:
            if removed := await remove_due(connection, self._clock()):
                log.info("exports_removed", exports=removed)

    async def _take(self) -> Making | None:
        async with self._database.connection() as connection:
            return await take_export(connection, self._clock())

    async def make(self, making: Making) -> None:
        """Makes an export, or so many parts of it; what goes wrong is told to it and not raised."""
        try:
            for _ in range(PARTS_IN_A_ROW) if making.writer.resumable else count():
                if self._stop.is_set():
                    await self._give_back(making, None)
                    return
                if await self._make_part(making):
                    log.info("exported", export=str(making.id), format=making.format)
                    return
            await self._give_back(making, self._clock())
        except LeaseLost:
            log.info("export_lost", export=str(making.id))
        except Exception as fault:
            log.warning("export_failed", export=str(making.id), attempts=making.attempts, exc_info=fault)
            async with self._database.connection() as connection:
                await tell_failure(connection, making, fault, self._clock())

    async def _make_part(self, making: Making) -> bool:
        now = self._clock()
        async with self._database.connection() as connection, connection.transaction():
            last = await making.make_part(connection, now)
        making.renewed(now)
        return last

    async def _give_back(self, making: Making, until: datetime | None) -> None:
        async with self._database.connection() as connection:
            await give_back(connection, making, until)


async def keep_exporting(database: Database, clock: Callable[[], datetime], stop: asyncio.Event) -> None:
    """Looks every second for exports that wait. Any number of processes may; one that dies leaves its export to
    another, which goes on where the last committed part ends."""
    await keep_doing("export", Exporter(database, clock, stop).work, LOOK_SECONDS, stop)
