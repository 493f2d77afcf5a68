"""Live views: one reading of a thing for all who follow it, repeated when news, time or doubt say it may differ."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Hashable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Any, Generic, TypeVar
from uuid import UUID

from partners.errors import NotFound

State = TypeVar("State")

PAUSE_S = 0.1
DOUBT_S = 15.0
AGAIN_S = 1.0
READING_SHARE_MAX = 0.1  # of the time: what takes long to read is read less often
A_MOMENT = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Seen(Generic[State]):
    """What one reading found `at` that moment: the state, and whose news may change it (ids of rows).

    `changes_at` is when time alone changes it; after the `last` one nothing will.
    """

    state: State
    at: datetime
    names: Collection[UUID] = ()
    changes_at: datetime | None = None
    last: bool = False


Read = Callable[[datetime], Awaitable[Seen[State]]]


class Feed(Generic[State]):
    """One thing under view. It is read while somebody follows it: at most ten times a second, at once after news of
    one of its names or at the instant it changes by itself, and every 15 s in any case.

    A reading that fails ends the feed if it is the first, or if the thing is out of sight now (NotFound): an outage
    is waited out.
    """

    def __init__(self, read: Read[State], feeds: "Feeds") -> None:
        self._read, self._feeds = read, feeds
        self._due, self._told = asyncio.Event(), asyncio.Event()
        self._begun = self._ended = 0
        self._reading = False
        self._seen: Seen[State] | None = None
        self._fault: Exception | None = None
        self.names: set[UUID] = set()
        self.followers = 0
        self.task = asyncio.create_task(self._keep_reading())

    def wake(self) -> None:
        """It may have changed."""
        self._due.set()

    def close(self) -> None:
        """Nobody follows any more. A reading under way is let finish, for the sake of its connection."""
        self.followers = 0
        if not self._reading:
            self.task.cancel()

    async def present(self) -> Seen[State]:
        """What a reading finds that begins from now on."""
        wanted = self._begun + 1
        self.wake()
        while self._seen is None or (self._ended < wanted and not self._seen.last):
            await self._hear()
        return self._seen

    async def after(self, last: Seen[State]) -> Seen[State]:
        """The newest state as soon as it differs; what came and went in between is not told."""
        while self._seen is None or (self._seen.state == last.state and not self._seen.last):
            await self._hear()
        return self._seen

    async def _hear(self) -> None:
        if self._fault is not None:
            raise self._fault
        await self._told.wait()

    def _tell(self) -> None:
        self._told.set()
        self._told = asyncio.Event()

    async def _keep_reading(self) -> None:
        while True:
            started, pause_s = monotonic(), PAUSE_S
            try:
                await self._look()
            except Exception as fault:
                self._feeds.tell(fault)
                if self._seen is None or isinstance(fault, NotFound):
                    self._fault = fault
                    break
                pause_s = AGAIN_S
                self.wake()
            if self.followers == 0 or (self._seen is not None and self._seen.last):
                break
            await asyncio.sleep(max(pause_s, (monotonic() - started) / READING_SHARE_MAX))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._due.wait(), self._patience_s())
        self._feeds.end(self)
        self._tell()

    async def _look(self) -> None:
        self._due.clear()
        self._begun += 1
        begun, self._reading = self._begun, True
        try:
            seen = await self._read(self._feeds.clock())
        finally:
            self._reading = False
        if not self.names.issuperset(seen.names):
            # What happened to these before we listened is found by another reading.
            self._feeds.name(self, seen.names)
            self.wake()
        self._seen, self._ended = seen, begun
        self._tell()

    def _patience_s(self) -> float:
        changes_at = None if self._seen is None else self._seen.changes_at
        if changes_at is None:
            return DOUBT_S
        return max(0.0, min(DOUBT_S, (changes_at + A_MOMENT - self._feeds.clock()).total_seconds()))


class Feeds:
    """All that is followed in this process, by what it is and by whose news concern it."""

    def __init__(self, clock: Callable[[], datetime], tell: Callable[[Exception], None] = lambda _: None) -> None:
        self.clock, self.tell = clock, tell
        self.begun = asyncio.Event()
        """Set when something is followed that was not: whoever brings the news may have slept."""
        self._feeds: dict[Hashable, Feed[Any]] = {}
        self._named: dict[UUID, set[Feed[Any]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._feeds)

    def wake(self, names: Iterable[UUID]) -> None:
        """There is news of these."""
        for name in names:
            for feed in self._named.get(name, ()):
                feed.wake()

    def wake_all(self) -> None:
        """There may be news of anything."""
        for feed in self._feeds.values():
            feed.wake()

    async def follow(
        self, key: Hashable, names: Collection[UUID], read: Read[State]
    ) -> AsyncGenerator[Seen[State], None]:
        """The present state, and then each that differs from the one before. Who gives the same `key` shares one
        reading. Close it when done (`aclosing`). Raises what the first reading raises, and NotFound later."""
        feed: Feed[State] | None = self._feeds.get(key)
        if feed is None:
            feed = self._feeds[key] = Feed(read, self)
            self.name(feed, names)
            self._tasks.add(feed.task)
            feed.task.add_done_callback(self._tasks.discard)
            self.begun.set()
        feed.followers += 1
        try:
            seen = await feed.present()
            yield seen
            while not seen.last:
                seen = await feed.after(seen)
                yield seen
        finally:
            feed.followers -= 1
            if feed.followers == 0:
                self.end(feed)
                feed.close()

    def name(self, feed: Feed[Any], names: Collection[UUID]) -> None:
        """From now on news of these concern the feed."""
        feed.names.update(names)
        for name in names:
            self._named.setdefault(name, set()).add(feed)

    def end(self, feed: Feed[Any]) -> None:
        """Nobody finds it any more, nor does any news."""
        for key in [key for key, one in self._feeds.items() if one is feed]:
            del self._feeds[key]
        for name in feed.names:
            if (named := self._named.get(name)) is not None:
                named.discard(feed)
                if not named:
                    del self._named[name]
        feed.names.clear()

    async def close(self) -> None:
        """Ends every reading."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
