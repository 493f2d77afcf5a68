"""The worker that carries entries from the outbox into the log, so that what commits is provable within a second."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import structlog
from asyncpg import Connection, InterfaceError, InternalClientError, PostgresError
from sqlalchemy.exc import SQLAlchemyError

from gateway.database import Database
from gateway.high_water import HighWater
from partners.keys import Keys
from partners.log_forks import LogForked
from partners.notes import origin_of
from partners.sequencing import BATCH_MAX, Grown, examine, sequence

if TYPE_CHECKING:
    from gateway.app import Service

OUTAGES = (OSError, TimeoutError, InterfaceError, InternalClientError, PostgresError, SQLAlchemyError)
BACKOFF_MAX_S = 5.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Sequencer:
    """One process's way to make the log grow; `origin` names a log that is new."""

    database: Database
    keys: Keys
    origin: str
    clock: Callable[[], datetime]
    high_water: HighWater

    async def step(self, connection: "Connection[Any]") -> Grown | None:
        """One batch, if there is one. The mark is raised once it is committed and before anybody is told.

        LogForked, Unavailable: nothing was signed and everything waits in the outbox.
        """
        grown = await sequence(connection, self.keys, self.origin, self.clock(), self.high_water.known)
        if grown is not None:
            await self.high_water.keep(grown.note)
        return grown

    async def examine(self, connection: "Connection[Any]") -> None:
        """Raises what the next step would."""
        await examine(connection, self.keys, await self.high_water.known(), now=self.clock())

    async def carry_over(self) -> None:
        """All that waits now: what a command does where no worker may be running."""
        async with self.database.connection() as connection:
            while await self.step(connection):
                pass


def sequencer_of(service: "Service") -> Sequencer:
    """The service's."""
    origin = origin_of(service.settings.address)
    return Sequencer(service.database, service.keys, origin, service.clock, service.high_water)


async def keep_sequencing(
    sequencer: Sequencer, stop: asyncio.Event, *, pause_s: float = 0.1, grown: Callable[[], None] = lambda: None
) -> None:
    """Sequences until `stop` is set: batch after batch while there is more, else every `pause_s` seconds.

    Any number of processes may run it; one works at a time. While the database is away, the log is forked or its
    keys can't be opened it looks again, less and less often up to every 5 s, and says so once for each kind of fault
    and once when it is over. `grown` is called after each batch.
    """
    fault, wait_s, looked = "", pause_s, False
    while not stop.is_set():
        try:
            async with sequencer.database.connection() as connection:
                if not looked:
                    await sequencer.examine(connection)
                looked = True
                await carry(sequencer, connection, stop, grown)
        except Exception as raised:  # a head that was edited, too: whoever puts it right need not start us again
            if fault != (fault := type(raised).__name__):
                tell(raised)
            sequencer.high_water.fault = None if isinstance(raised, OUTAGES) else raised
            wait_s, looked = min(2 * wait_s, BACKOFF_MAX_S), False
        else:
            if fault:
                log.info("sequencer.resumed")
            sequencer.high_water.fault = None
            fault, wait_s = "", pause_s
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), wait_s)


async def carry(
    sequencer: Sequencer, connection: "Connection[Any]", stop: asyncio.Event, grown: Callable[[], None]
) -> None:
    """Batch after batch until one was not full."""
    while not stop.is_set():
        step = await sequencer.step(connection)
        if step is not None:
            grown()
        if step is None or step.count < BATCH_MAX:
            return


def tell(fault: Exception) -> None:
    """What stops the log, as an operator should see it."""
    if isinstance(fault, LogForked):
        log.error("log.forked", detail=fault.message)
    elif isinstance(fault, OUTAGES):
        log.warning("sequencer.waiting", fault=type(fault).__name__, detail=str(fault))
    else:
        log.error("log.can_not_sign", detail=str(fault))
