"""The worker that offers what comes back to those who wait: at once where this process gave it back."""

import asyncio
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog
from asyncpg import PostgresError

from gateway.database import Database
from gateway.housekeeping import keep_doing
from partners.keys import Keys
from partners.programme import Programme
from partners.promotion import find_waited_on, judge, reweigh, settle_waitlist
from partners.turns import Verdict

if TYPE_CHECKING:
    from asyncpg import Connection

log = structlog.get_logger()

LOOK_SECONDS = 0.5
POKE_SECONDS = 0.02  # between two looks that were asked for: a storm of releases costs no more than this
STEPS_MAX = 1_000
FRUITLESS_FACTOR = 20  # a look that came to nothing is repeated after so many times as long as it took
FRUITLESS_SECONDS_MIN = 0.4


class Promoter:
    """Promotes every waitlist of one database; several, in several processes, do each other no harm."""

    def __init__(self, database: Database, programme: Programme, keys: Keys, clock: Callable[[], datetime]) -> None:
        self._database, self._ranks, self._codes, self._clock = database, programme.ranks, keys.codes, clock
        self._fruitless: dict[UUID, tuple[tuple[object, ...], datetime]] = {}

    async def promote_all(self) -> int:
        """Promotes where something is there while somebody waits; returns how many offers were made."""
        async with self._database.connection() as connection:
            waited_on = dict(await find_waited_on(connection))
        now = self._clock()
        self._fruitless = {perk: seen for perk, seen in self._fruitless.items() if perk in waited_on}
        offered = 0
        for perk_id, state in waited_on.items():
            last, again_at = self._fruitless.get(perk_id, (None, now))
            if last != state or now >= again_at:
                try:
                    offered += await self._look(perk_id, state)
                except (PostgresError, ValueError) as fault:  # one perk that can't be looked at stops no other
                    log.warning("promote_failed", perk=str(perk_id), fault=type(fault).__name__)
        return offered

    async def _look(self, perk_id: UUID, state: tuple[object, ...]) -> int:
        started = time.monotonic()
        offered, changes_at = await self.promote(perk_id)
        self._fruitless.pop(perk_id, None)
        if not offered:
            now = self._clock()
            pause = max(FRUITLESS_SECONDS_MIN, FRUITLESS_FACTOR * (time.monotonic() - started))
            self._fruitless[perk_id] = (state, min([now + timedelta(seconds=pause), *changes_at]))
        return offered

    async def promote(self, perk_id: UUID) -> tuple[int, list[datetime]]:
        """Offers one perk's units to those who wait until none is left or nobody may have one; how many offers, and
        when time alone may change what the rules said."""
        async with self._database.connection() as connection:
            return await self.promote_on(connection, perk_id)

    async def promote_on(self, connection: "Connection[Any]", perk_id: UUID) -> tuple[int, list[datetime]]:
        """The same on a connection; each step is a transaction, and nobody is asked about within one."""
        verdicts: dict[UUID, Verdict] = {}
        offered = 0
        await reweigh(connection, perk_id, self._clock())
        for _ in range(STEPS_MAX):
            now = self._clock()
            async with connection.transaction():
                settled = await settle_waitlist(
                    connection, perk_id, verdicts, codes=self._codes, ranks=self._ranks, now=now
                )
            offered += settled.offered
            if settled.unknown is None:
                break
            verdicts |= await judge(connection, perk_id, settled.unknown, settled.waitlist, self._ranks, now)
        if offered:
            log.info("waitlist_promoted", perk=str(perk_id), offers=offered)
        return offered, [one.valid_until for one in verdicts.values() if one.valid_until is not None]


async def keep_promoting(promoter: Promoter, freed: asyncio.Event, stop: asyncio.Event) -> None:
    """Looks twice a second, and whenever something was given back, until told to stop."""

    async def promote() -> None:
        await asyncio.sleep(POKE_SECONDS if freed.is_set() else 0)
        freed.clear()
        await promoter.promote_all()

    await keep_doing("promote", promote, LOOK_SECONDS, stop, wake=freed)
