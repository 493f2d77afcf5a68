"""Carries the news of the log to what is followed here: SQL holds the truth, Valkey says when to look."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from sqlalchemy import text

from gateway.database import Database
from partners.feeds import Feeds
from partners.keys import derive
from partners.live import read_news
from partners.tables.columns import new_id

POLL_SECONDS = 0.5
AWAY_SECONDS = 1.0
DOUBT_SECONDS = 15.0

log = structlog.get_logger()


@asynccontextmanager
async def open_news(database: Database, redis_url: str, secret: bytes, feeds: Feeds) -> AsyncIterator["News"]:
    """News for one process; its workers are not started yet."""
    async with database.autocommit() as session:
        name = await session.scalar(text("SELECT current_database()"))
    news = News(database, redis_url, channel_of(secret, str(name)), feeds)
    try:
        yield news
    finally:
        await news.close()


def channel_of(secret: bytes, database: str) -> str:
    """The channel of one database of one operator: copies of the product may share a Valkey."""
    return f"perks:log:{sha256(derive(secret, b'news/1') + database.encode()).hexdigest()[:32]}"


class News:
    """One process's two ends: the sequencer's says that the log has grown, the other reads what was done since and
    wakes who follows it.

    What Valkey carries has no content, so none of it can be missed: the log itself is read from where it was read
    last, at every word, whenever the subscription was renewed, every second while Valkey is away, and every 15 s in
    any case. A process that follows nothing reads nothing.
    """

    def __init__(self, database: Database, redis_url: str, channel: str, feeds: Feeds) -> None:
        self._database, self._channel, self._feeds = database, channel, feeds
        # Tried twice, since a connection that broke while nobody spoke shows it only when the next word is lost on it.
        self._cache = Redis.from_url(
            redis_url, socket_connect_timeout=POLL_SECONDS, socket_timeout=POLL_SECONDS, retry=Retry(NoBackoff(), 1)
        )
        self._name = new_id().bytes
        self._grown, self._due = asyncio.Event(), feeds.begun
        self.watchers: list[asyncio.Event] = []
        """Set whenever the log may have grown, here or elsewhere."""
        self._listening = False
        self._size: int | None = None
        self._faults: dict[str, str] = {}

    def announce(self) -> None:
        """The log has grown: tell every process."""
        self._grown.set()
        self._due.set()  # for this one no word is needed, and its own is not listened to
        self._wake_watchers()

    def _wake_watchers(self) -> None:
        for watcher in self.watchers:
            watcher.set()

    async def close(self) -> None:
        """Gives the connections back."""
        await self._cache.aclose()

    async def keep_publishing(self, stop: asyncio.Event) -> None:
        """Tells until `stop` is set. What could not be told is not told later: by then everybody has looked."""
        while not stop.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._grown.wait(), POLL_SECONDS)
                self._grown.clear()
                try:
                    await self._cache.publish(self._channel, self._name)
                    self._tell("publishing", None)
                except Exception as fault:
                    self._tell("publishing", fault)

    async def keep_following(self, stop: asyncio.Event) -> None:
        """Listens until `stop` is set, with a new subscription a second after one broke."""
        while not stop.is_set():
            try:
                async with self._cache.pubsub() as words:
                    await words.subscribe(self._channel)
                    await self._listen(words, stop)
            except Exception as fault:
                self._listening = False
                self._due.set()
                self._tell("following", fault)
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), AWAY_SECONDS)

    async def _listen(self, words: Any, stop: asyncio.Event) -> None:
        """Raises when the connection breaks, or says nothing to a ping in half a second."""
        pinged = False
        while not stop.is_set():
            word = await words.get_message(timeout=POLL_SECONDS)
            if word is None:
                if pinged:
                    raise TimeoutError("a ping without an answer")
                await words.ping()
            elif word["type"] in ("subscribe", "message") and word["data"] != self._name:
                self._listening = True
                self._due.set()
                self._wake_watchers()
                self._tell("following", None)
            pinged = word is None

    async def keep_reading(self, stop: asyncio.Event) -> None:
        """Reads what was done since the last time and wakes who follows it, until `stop` is set."""
        loop = asyncio.get_running_loop()
        doubt = loop.time()
        while not stop.is_set():
            if self._due.is_set() or loop.time() >= doubt:
                self._due.clear()
                try:
                    await self._read()
                    self._tell("reading", None)
                except Exception as fault:
                    self._size = None
                    self._tell("reading", fault)
                doubt = loop.time() + (DOUBT_SECONDS if self._listening and self._size is not None else AWAY_SECONDS)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._due.wait(), POLL_SECONDS)

    async def _read(self) -> None:
        if not len(self._feeds):
            self._size = None
            return
        async with self._database.connection() as connection:
            self._size, names = await read_news(connection, self._size)
        if names is None:
            self._feeds.wake_all()
        else:
            self._feeds.wake(names)

    def _tell(self, doing: str, fault: Exception | None) -> None:
        """Logs a fault once until it changes, and that it is over."""
        name = "" if fault is None else type(fault).__name__
        if name != self._faults.get(doing, ""):
            self._faults[doing] = name
            if fault is None:
                log.info("news.resumed", doing=doing)
            else:
                log.warning("news.waiting", doing=doing, fault=name, detail=str(fault))
