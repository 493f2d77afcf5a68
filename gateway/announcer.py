"""The workers that carry revocations to every process: SQL holds the truth, Valkey only carries the news of it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from hashlib import sha256
from typing import Any

import orjson
import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from sqlalchemy import text

from auth.keys import RELOAD_SECONDS, KeyRing
from auth.revocations import DenySet
from gateway.database import Database
from partners.keys import derive

BATCH_MAX = 500
POLL_SECONDS = 0.5
AWAY_SECONDS = 1.0
KEYS_CHANGED = b"the signing keys"
WAITING = text("SELECT kind, key, version, expires_at FROM revocation WHERE NOT announced ORDER BY at LIMIT :most")
ANNOUNCED = text("""
UPDATE revocation r SET announced = true
FROM unnest(CAST(:kinds AS text[]), CAST(:keys AS text[]), CAST(:versions AS int[])) AS told (kind, key, version)
WHERE (r.kind, r.key, r.version) = (told.kind, told.key, told.version)
""")

log = structlog.get_logger()


@asynccontextmanager
async def open_announcer(
    database: Database, redis_url: str, secret: bytes, ring: KeyRing, clock: Callable[[], datetime]
) -> AsyncIterator["Announcer"]:
    """An announcer whose deny set is complete as of now, for a service that has not started its workers yet."""
    denied = DenySet()
    async with database.autocommit() as session:
        await denied.load(session, clock())
        name = await session.scalar(text("SELECT current_database()"))
    announcer = Announcer(database, redis_url, channel_of(secret, str(name)), denied, ring, clock)
    try:
        yield announcer
    finally:
        await announcer.close()


def channel_of(secret: bytes, database: str) -> str:
    """The channel of one database of one operator: copies of the product may share a Valkey."""
    return f"perks:revoked:{sha256(derive(secret, b'announcements/1') + database.encode()).hexdigest()[:32]}"


class Announcer:
    """One process's two ends of the news: it publishes what waits in SQL, and follows what is published.

    Neither end trusts the other: a row is marked after it was published, so that one whose publisher died is published
    by another process, perhaps twice; and a follower reads SQL whenever it may have missed something: when it
    subscribed, every second while Valkey is away, and once a minute in any case. While SQL is away no revocation can
    commit and nothing that depends on a caller's rights is answered, so that the last copy is good enough.
    """

    def __init__(
        self,
        database: Database,
        redis_url: str,
        channel: str,
        denied: DenySet,
        ring: KeyRing,
        clock: Callable[[], datetime],
    ) -> None:
        self._database, self.denied, self._ring, self._clock = database, denied, ring, clock
        self._channel = channel
        # Without retries of its own: while Valkey is away we read SQL instead of waiting.
        self._cache = Redis.from_url(
            redis_url, socket_connect_timeout=POLL_SECONDS, socket_timeout=POLL_SECONDS, retry=Retry(NoBackoff(), 0)
        )
        self._due = asyncio.Event()
        self._read_at: datetime | None = None
        self._faults: dict[str, str] = {}
        denied.follow(database.sessions, self.announce)

    def announce(self) -> None:
        """Something was revoked and committed: publish it now instead of at the next poll."""
        self._due.set()

    async def close(self) -> None:
        """Gives the connections back."""
        await self._cache.aclose()

    async def keep_publishing(self, stop: asyncio.Event) -> None:
        """Publishes until `stop` is set: at once what this process revokes, within half a second what is left over."""
        while not stop.is_set():
            self._due.clear()
            try:
                while await self.publish() == BATCH_MAX and not stop.is_set():
                    pass
                self._tell("publishing", None)
            except Exception as fault:
                self._tell("publishing", fault)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._due.wait(), POLL_SECONDS)

    async def publish(self) -> int:
        """Publishes one batch of what waits, and returns how many rows; RedisError while Valkey is away.

        Rows are not locked meanwhile: two publishers at once publish twice, which harms nobody, while a lock would be
        held for as long as Valkey takes.
        """
        # Not in turn with the reads: a queue of them must not hold a revocation up.
        async with self._database.autocommit() as session:
            rows = [tuple(row) for row in await session.execute(WAITING, {"most": BATCH_MAX})]
        if rows:
            await self._cache.publish(self._channel, orjson.dumps(rows))
            kinds, keys, versions, _ = zip(*rows, strict=True)
            async with self._database.autocommit() as session:
                await session.execute(ANNOUNCED, {"kinds": kinds, "keys": keys, "versions": versions})
        return len(rows)

    async def publish_keys(self) -> bool:
        """Tells every process to read the signing keys now; without Valkey, False: then they will within a minute."""
        try:
            await self._cache.publish(self._channel, KEYS_CHANGED)
        except RedisError:
            return False
        return True

    async def keep_following(self, stop: asyncio.Event) -> None:
        """Follows the channel until `stop` is set; while that can't be, reads SQL every second."""
        while not stop.is_set():
            began = time.monotonic()
            try:
                async with self._cache.pubsub() as news:
                    await news.subscribe(self._channel)
                    await self._listen(news, stop)
            except Exception as fault:
                self._tell("following", fault)
                await self._read()
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), max(0.0, AWAY_SECONDS - (time.monotonic() - began)))

    async def _listen(self, news: Any, stop: asyncio.Event) -> None:
        """Takes what is published. Raises when the connection breaks, or says nothing to a ping in half a second.

        That the subscription stands is itself a message, also where the client library has renewed it in silence. Only
        then is SQL read whole, while what is published meanwhile waits in the connection.
        """
        pinged, due = False, time.monotonic() + RELOAD_SECONDS
        while not stop.is_set():
            message = await news.get_message(timeout=POLL_SECONDS)
            if message is None:
                if pinged:
                    raise TimeoutError("a ping without an answer")
                await news.ping()
            elif message["type"] == "subscribe":
                self._tell("following", None)
                self._read_at, due = None, 0.0
            elif message["type"] == "message" and not self._take(message["data"]):
                due = 0.0
            pinged = message is None
            if time.monotonic() >= due:
                due = time.monotonic() + (RELOAD_SECONDS if await self._read() else AWAY_SECONDS)

    def _take(self, data: bytes) -> bool:
        """One piece of news; False when SQL has to be read instead: other keys, or what a newer version wrote."""
        try:
            for kind, key, version, expires_at in orjson.loads(data):
                self.denied.add(kind, key, version, datetime.fromisoformat(expires_at))
        except (ValueError, TypeError):
            return False
        return True

    async def _read(self) -> bool:
        """Reads the keys and what was revoked since it was read last; False when SQL is away, too."""
        now = self._clock()
        try:
            async with self._database.autocommit() as session:
                await self.denied.load(session, now, since=self._read_at)
            await self._ring.load(now)
        except Exception as fault:
            self._tell("reading", fault)
            return False
        self._tell("reading", None)
        self.denied.forget(now)
        self._read_at = now
        return True

    def _tell(self, doing: str, fault: Exception | None) -> None:
        """Logs a fault once until it changes, and that it is over."""
        name = "" if fault is None else type(fault).__name__
        if name != self._faults.get(doing, ""):
            self._faults[doing] = name
            if fault is None:
                log.info("announcer.resumed", doing=doing)
            else:
                log.warning("announcer.waiting", doing=doing, fault=name, detail=str(fault))
