"""Live views: one reading for all who follow, the present state first, then what differs, and nothing left behind."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from partners import feeds
from partners.errors import NotFound
from partners.feeds import Feeds, Seen


@dataclass
class Thing:
    """Something that changes, and counts how often it is looked at."""

    state: int = 0
    name: UUID = field(default_factory=uuid4)
    readings: int = 0
    changes_at: datetime | None = None
    last: bool = False
    fault: Exception | None = None
    slow_s: float = 0.0
    more: tuple[UUID, ...] = ()

    async def read(self, now: datetime) -> Seen[int]:
        self.readings += 1
        state = self.state
        if self.slow_s:
            await asyncio.sleep(self.slow_s)
        if self.fault is not None:
            raise self.fault
        return Seen(state, now, (self.name, *self.more), self.changes_at, self.last)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the real pauses."""
    monkeypatch.setattr(feeds, "PAUSE_S", 0.01)
    monkeypatch.setattr(feeds, "AGAIN_S", 0.05)


@pytest.fixture
def hub(quick: None) -> Feeds:
    return Feeds(lambda: datetime.now(UTC))


def follow(hub: Feeds, thing: Thing) -> AsyncGenerator[Seen[int], None]:
    return hub.follow(thing.name, {thing.name}, thing.read)


async def soon(states: AsyncGenerator[Seen[int], None], patience_s: float = 2.0) -> int:
    async with asyncio.timeout(patience_s):
        return (await anext(states)).state


async def eventually(condition: Callable[[], bool]) -> None:
    for _ in range(400):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came")


async def test_the_present_state_comes_first_and_then_what_differs(hub: Feeds) -> None:
    thing = Thing(7)
    async with aclosing(follow(hub, thing)) as states:
        assert await soon(states) == 7
        thing.state = 8
        hub.wake([thing.name])
        assert await soon(states) == 8


async def test_news_that_changes_nothing_is_not_told(hub: Feeds) -> None:
    thing = Thing()
    async with aclosing(follow(hub, thing)) as states:
        await soon(states)
        coming = asyncio.ensure_future(anext(states))
        for _ in range(5):
            hub.wake([thing.name])
            await asyncio.sleep(0.02)
        assert thing.readings > 1
        assert not coming.done()
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


async def test_many_who_follow_one_thing_share_a_reading(hub: Feeds) -> None:
    thing = Thing()
    async with AsyncExitStack() as opened:
        followers = [await opened.enter_async_context(aclosing(follow(hub, thing))) for _ in range(200)]
        assert await asyncio.gather(*map(soon, followers)) == [0] * 200
        await asyncio.sleep(0.05)
        before = thing.readings
        thing.state = 1
        hub.wake([thing.name])
        assert await asyncio.gather(*map(soon, followers)) == [1] * 200
        assert thing.readings == before + 1
    assert before <= 3


async def test_who_comes_later_is_told_what_a_new_reading_finds(hub: Feeds) -> None:
    thing = Thing()
    async with aclosing(follow(hub, thing)) as first:
        await soon(first)
        thing.state = 1  # and no news of it
        async with aclosing(follow(hub, thing)) as second:
            assert await soon(second) == 1
        assert await soon(first) == 1


async def test_a_slow_follower_is_told_the_newest_state_alone(hub: Feeds) -> None:
    thing = Thing()
    async with aclosing(follow(hub, thing)) as states:
        await soon(states)
        for state in range(1, 6):
            thing.state = state
            hub.wake([thing.name])
            await asyncio.sleep(0.03)
        assert await soon(states) == 5


async def test_a_storm_of_news_is_read_at_a_bounded_rate(hub: Feeds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "PAUSE_S", 0.1)
    thing = Thing()
    async with aclosing(follow(hub, thing)) as states:
        await soon(states)
        for _ in range(100):
            thing.state += 1
            hub.wake([thing.name])
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.15)
        assert await soon(states) == 100
    assert thing.readings <= 10


async def test_what_takes_long_to_read_is_read_less_often(hub: Feeds) -> None:
    thing = Thing(slow_s=0.05)
    async with aclosing(follow(hub, thing)) as states:
        await soon(states)
        for _ in range(60):
            hub.wake([thing.name])
            await asyncio.sleep(0.01)
    assert thing.readings <= 3


async def test_it_is_read_again_at_the_instant_it_changes_by_itself(hub: Feeds) -> None:
    thing = Thing(changes_at=datetime.now(UTC) + timedelta(seconds=0.3))
    async with aclosing(follow(hub, thing)) as states:
        await soon(states)
        thing.state, at = 1, thing.changes_at
        assert await soon(states) == 1
        assert at is not None
        assert timedelta(0) <= datetime.now(UTC) - at < timedelta(seconds=1)


async def test_news_that_were_lost_are_found_by_doubt(hub: Feeds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "DOUBT_S", 0.1)
    thing = Thing()
    async with aclosing(follow(hub, thing)) as states:
        await soon(states)
        thing.state = 1
        assert await soon(states) == 1


async def test_what_happened_before_a_name_was_known_is_found_by_another_reading(hub: Feeds) -> None:
    thing, member = Thing(), uuid4()
    thing.more = (member,)
    async with aclosing(follow(hub, thing)) as states:
        await soon(states)
        await eventually(lambda: thing.readings == 2)
        thing.state = 1
        hub.wake([member])
        assert await soon(states) == 1


async def test_the_last_state_ends_it_for_all(hub: Feeds) -> None:
    thing = Thing()
    async with aclosing(follow(hub, thing)) as one, aclosing(follow(hub, thing)) as two:
        assert await asyncio.gather(soon(one), soon(two)) == [0, 0]
        thing.last = True
        hub.wake([thing.name])
        for states in (one, two):
            assert await soon(states) == 0
            with pytest.raises(StopAsyncIteration):
                await anext(states)
    assert len(hub) == 0


async def test_who_comes_while_the_last_reading_is_under_way_is_not_left_waiting(hub: Feeds) -> None:
    thing = Thing(slow_s=0.05, last=True)
    async with aclosing(follow(hub, thing)) as one, aclosing(follow(hub, thing)) as two:
        first = asyncio.ensure_future(soon(one))
        await eventually(lambda: thing.readings == 1)
        assert await soon(two) == 0
        assert await first == 0


async def test_a_first_reading_that_fails_is_the_followers_to_know(hub: Feeds) -> None:
    thing = Thing(fault=ConnectionError("away"))
    async with aclosing(follow(hub, thing)) as states:
        with pytest.raises(ConnectionError):
            await soon(states)
    thing.fault = None
    async with aclosing(follow(hub, thing)) as states:
        assert await soon(states) == 0


async def test_an_outage_later_is_waited_out(hub: Feeds) -> None:
    told: list[Exception] = []
    hub.tell = told.append
    thing = Thing()
    async with aclosing(follow(hub, thing)) as states:
        await soon(states)
        thing.fault = ConnectionError("away")
        hub.wake([thing.name])
        await eventually(lambda: len(told) >= 2)
        thing.fault, thing.state = None, 1
        assert await soon(states) == 1


async def test_what_goes_out_of_sight_ends_with_not_found(hub: Feeds) -> None:
    thing = Thing()
    async with aclosing(follow(hub, thing)) as states:
        await soon(states)
        thing.fault = NotFound("gone")
        hub.wake([thing.name])
        with pytest.raises(NotFound):
            await soon(states)
    assert len(hub) == 0


async def test_nothing_is_left_when_everybody_has_gone(hub: Feeds) -> None:
    thing, other = Thing(slow_s=0.02), Thing()
    async with aclosing(follow(hub, thing)) as one, aclosing(follow(hub, thing)) as two, aclosing(follow(hub, other)):
        await soon(one)
        await soon(two)
        await one.aclose()
        assert len(hub) == 1
        hub.wake([thing.name])
        await asyncio.sleep(0.005)
    await eventually(lambda: not hub._tasks)
    assert len(hub) == 0
    assert hub._named == {}


async def test_a_follower_that_is_cancelled_while_it_waits_leaves_nothing(hub: Feeds) -> None:
    thing = Thing()
    states = follow(hub, thing)
    await soon(states)
    waiting = asyncio.ensure_future(anext(states))
    await asyncio.sleep(0.02)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await eventually(lambda: len(hub) == 0 and not hub._tasks)
    assert hub._named == {}


async def test_close_ends_every_reading(hub: Feeds) -> None:
    thing = Thing()
    async with aclosing(follow(hub, thing)) as states:
        await soon(states)
        await hub.close()
        assert not hub._tasks
