"""The workers that tell partners: messages are made from the log as it grows, and sent to many endpoints at once."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from gateway.database import Database
from gateway.housekeeping import all_batches, keep_doing
from gateway.outside_posts import Answer, open_outside_world
from gateway.outside_sockets import OutsideFault
from gateway.sequencer import OUTAGES
from partners.keys import Keys
from partners.webhooks.content import body_of
from partners.webhooks.endpoints import disable_gone
from partners.webhooks.events import message_name, names_of
from partners.webhooks.messages import LEASE, Leased, lease_messages, make_messages, park_messages, prune_messages
from partners.webhooks.outcomes import Attempt, finish_attempts
from partners.webhooks.secrets import Signer, read_signers
from partners.webhooks.signing import headers_of

if TYPE_CHECKING:
    from gateway.app import Service

log = structlog.get_logger()

Post = Callable[[str, bytes, Mapping[str, str]], Awaitable[Answer]]

POLL_SECONDS = 0.5
TIDY_SECONDS = 60.0
EACH_MAX = 16
ALL_MAX = 256
FINISHED_MAX = 500
ATTEMPT_SECONDS_MAX = 15.0
"""The post ends sooner by itself; this is for what nobody thought of."""
STARTED_WITHIN_SECONDS = LEASE.total_seconds() - 2 * ATTEMPT_SECONDS_MAX
STOPPING_SECONDS = 5.0
INTERNAL = "INTERNAL"
NO_SECRET = "NO_SECRET"  # noqa: S105  the fault of an endpoint whose secrets can't be opened


async def keep_telling(service: "Service", stop: asyncio.Event) -> None:
    """Makes, delivers and tidies up messages until `stop` is set."""
    database, keys, clock, grown = service.database, service.keys, service.clock, asyncio.Event()
    service.news.watchers.append(grown)
    async with open_outside_world(service.resources.private_targets) as post, asyncio.TaskGroup() as tasks:
        courier = Courier(database, keys, post, clock)
        tasks.create_task(keep_making(database, keys, clock, stop, grown=grown, made=courier.wake))
        tasks.create_task(courier.keep_delivering(stop))
        tasks.create_task(keep_tidying(database, clock, stop))


async def keep_making(
    database: Database,
    keys: Keys,
    clock: Callable[[], datetime],
    stop: asyncio.Event,
    *,
    grown: asyncio.Event,
    made: asyncio.Event,
) -> None:
    """Makes messages of what is new in the log, whenever it has `grown` and twice a second, until `stop` is set; then
    there may be `made` ones. Any number of processes may; one works at a time."""
    delays = names_of(keys).delays

    async def make() -> None:
        grown.clear()
        async with database.connection() as connection:
            while not stop.is_set() and await make_messages(connection, delays, clock()):
                made.set()

    await keep_doing("webhook_making", make, POLL_SECONDS, stop, wake=grown)


async def keep_tidying(database: Database, clock: Callable[[], datetime], stop: asyncio.Event) -> None:
    """Parks what was given up and prunes what is old, every minute until `stop` is set."""

    async def tidy() -> None:
        async with database.connection() as connection:
            parked = await all_batches(park_messages, connection, clock(), stop)
            pruned = await all_batches(prune_messages, connection, clock(), stop)
        if parked or pruned:
            log.info("webhooks_tidied", parked=parked, pruned=pruned)

    await keep_doing("webhook_tidying", tidy, TIDY_SECONDS, stop)


class Courier:
    """Sends what is due: at most 256 messages at once, and 16 to one endpoint, or one where that fails; so whoever
    hangs holds up only itself.

    No connection of the database is held while an answer is awaited. What ended meanwhile is written down together:
    the faster the answers come, the more of them share a statement.
    """

    def __init__(
        self,
        database: Database,
        keys: Keys,
        post: Post,
        clock: Callable[[], datetime],
        *,
        each: int = EACH_MAX,
        all: int = ALL_MAX,
    ) -> None:
        self._database, self._keys, self._post, self._clock = database, keys, post, clock
        self._each, self._all = each, all
        self._signers: dict[UUID, tuple[int, Sequence[Signer]]] = {}
        self._busy: Counter[UUID] = Counter()
        self._sending: set[asyncio.Task[None]] = set()
        self._ended: list[Attempt] = []
        self.wake = asyncio.Event()
        """Set when there may be something to send."""

    async def keep_delivering(self, stop: asyncio.Event) -> None:
        """Delivers until `stop` is set: at once when woken and whenever an answer made room, and twice a second. What
        is under way at the end has five seconds; the rest is sent again after its lease."""

        async def deliver() -> None:
            self.wake.clear()
            await self.finish()
            await self.start()

        await keep_doing("webhook_delivery", deliver, POLL_SECONDS, stop, wake=self.wake)
        if self._sending:
            await asyncio.wait(self._sending, timeout=STOPPING_SECONDS)
        for task in self._sending:
            task.cancel()
        with suppress(*OUTAGES):
            await self.finish()

    async def deliver_due(self) -> int:
        """Sends what is due now, and what that makes room for, and waits for the answers; how many attempts."""
        tried = 0
        while await self.start():
            tried += len(self._sending)
            await asyncio.wait(self._sending)
            await self.finish()
        return tried

    async def start(self) -> int:
        """Begins to send what is due and has room; how many."""
        room = self._all - len(self._sending)
        if room <= 0:
            return 0
        began = monotonic()
        async with self._database.connection() as connection:
            leased = await lease_messages(connection, self._busy, each=self._each, all=room, now=self._clock())
            unknown = {one.endpoint_id for one in leased if self._signers.get(one.endpoint_id, (0,))[0] != one.version}
            signers = await read_signers(connection, unknown, self._keys, self._clock()) if unknown else {}
        for one in leased:
            if one.endpoint_id in signers:
                self._signers[one.endpoint_id] = one.version, signers[one.endpoint_id]
            self._busy[one.endpoint_id] += 1
            task = asyncio.create_task(self._send(one, began))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        return len(leased)

    async def _send(self, message: Leased, leased_at: float) -> None:
        try:
            # A process that was stopped for a while may find that its messages are another's by now.
            if monotonic() - leased_at < STARTED_WITHIN_SECONDS:
                self._ended.append(await self._attempt(message))
        finally:
            self._busy[message.endpoint_id] -= 1
            if not self._busy[message.endpoint_id]:
                del self._busy[message.endpoint_id]
            self.wake.set()

    async def _attempt(self, message: Leased) -> Attempt:
        at, began = self._clock(), monotonic()
        signers = [one.secret for one in self._signers[message.endpoint_id][1] if one.signs_at(at)]
        if not signers:
            return Attempt(message, at, 0, fault=NO_SECRET)
        try:
            body, name = body_of(message.told), message_name(self._keys, message.entry_id)
            headers = headers_of(signers, name, int(at.timestamp()), body)
            async with asyncio.timeout(ATTEMPT_SECONDS_MAX):
                answer = await self._post(message.url, body, headers)
        except OutsideFault as fault:
            return Attempt(message, at, elapsed_ms(began), fault=fault.kind)
        except Exception as fault:
            log.error("webhook_attempt_failed", fault=type(fault).__name__, endpoint=str(message.endpoint_id))
            return Attempt(message, at, elapsed_ms(began), fault=INTERNAL)
        asked = None if answer.retry_after is None else timedelta(seconds=answer.retry_after)
        return Attempt(message, at, elapsed_ms(began), answer.status, asked=asked)

    async def finish(self) -> None:
        """Writes down what ended; while the database is away, it is kept."""
        while self._ended:
            ended, now = self._ended[:FINISHED_MAX], self._clock()
            async with self._database.connection() as connection:
                await finish_attempts(connection, ended, now, random.random())  # noqa: S311  jitter
            del self._ended[: len(ended)]
            for message in {one.message.endpoint_id: one.message for one in ended if one.is_gone}.values():
                async with self._database.sessions.begin() as session:
                    if await disable_gone(session, message.endpoint_id, message.version, now):
                        log.warning("webhook_endpoint_gone", endpoint=str(message.endpoint_id))


def elapsed_ms(began: float) -> int:
    """Since then, in whole milliseconds."""
    return round(1_000 * (monotonic() - began))
