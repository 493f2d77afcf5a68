"""Batcher, sweeper and promoter under thousands of seeded schedules: nobody is stranded, and nothing lies idle."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest

from gateway.housekeeping import SWEEP_SECONDS, keep_doing
from gateway.waitlists import keep_promoting
from partners.batches import Batcher
from partners.errors import Overloaded, TryAgain
from partners.perk_settings import Waitlist
from partners.promotion import Entry, Line, Turn, Verdict, plan_offers
from tests.schedules import Stuck, run_schedule

BATCHER_SCHEDULES, WAITLIST_SCHEDULES = 1_500, 510
IDLE_SECONDS_MAX = 1.0
IDLE_SEED = 0  # one in which units come back while somebody waits
LIFE_SECONDS = 2.0


def test_the_same_seed_is_the_same_schedule() -> None:
    async def work(dice: Random) -> list[int]:
        order: list[int] = []

        async def one(number: int) -> None:
            await asyncio.sleep(dice.random())
            order.append(number)

        await asyncio.gather(*(one(number) for number in range(10)))
        return order

    assert run_schedule(1, work) == run_schedule(1, work) != run_schedule(2, work)


def test_a_schedule_that_never_ends_is_told_of() -> None:
    async def work(_: Random) -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Stuck):
        run_schedule(1, work)


def test_a_batcher_that_strands_its_callers_is_caught() -> None:
    class Stranding(Batcher[int, int, int]):
        async def _drain(self, key: int, queue: Any) -> None:
            await self._answer(key, [queue.popleft() for _ in range(len(queue))])  # and none that came meanwhile

    with pytest.raises(Stuck):
        run_schedule(1, lambda dice: batch(dice, Stranding))


@pytest.mark.parametrize("part", range(3))
def test_whoever_waits_for_a_batch_is_answered_once_in_every_schedule(part: int) -> None:
    answered = sum(run_schedule(seed, lambda dice: batch(dice, Batcher)) for seed in range(part, BATCHER_SCHEDULES, 3))
    assert answered > 20 * BATCHER_SCHEDULES / 3


async def batch(dice: Random, batcher_of: type[Batcher[int, int, int]]) -> int:
    """Forty callers of three keys, of whom some go away; some batches fail, some take long. How many were answered."""
    flights: set[int] = set()
    seen: list[int] = []

    async def run(key: int, items: Sequence[int]) -> Sequence[int]:
        assert key not in flights, "two calls in flight for one key"
        flights.add(key)
        seen.extend(items)
        try:
            for _ in range(dice.randrange(3)):
                await asyncio.sleep(dice.choice([0, 0.01]))
            if dice.random() < 0.2:
                raise TryAgain("an outage")
        finally:
            flights.discard(key)
        return [-item for item in items]

    batcher = batcher_of(run, batch_max=4, queue_max=12)

    async def call(item: int) -> str:
        await asyncio.sleep(dice.choice([0, 0, 0.01, 0.02]))
        try:
            async with asyncio.timeout(0.005 if dice.random() < 0.1 else None):
                assert await batcher.submit(item % 3, item) == -item
        except (TryAgain, Overloaded, TimeoutError) as fault:
            return type(fault).__name__
        return "answered"

    ends = await asyncio.gather(*(call(item) for item in range(1, 41)))
    await batcher.close()
    assert len(ends) == 40
    assert len(seen) == len(set(seen))
    assert not batcher._queues
    return ends.count("answered")


@dataclass
class World:
    """What the database does for one perk with a waitlist, in memory: a lock, units, holds, and a line."""

    dice: Random
    units: int = 2
    skip: bool = False
    kept: int = 0
    holds: dict[UUID, tuple[int, float]] = field(default_factory=dict)
    line: list[Entry] = field(default_factory=list)
    verdicts: dict[UUID, Verdict] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    freed: asyncio.Event = field(default_factory=asyncio.Event)
    idle_since: float | None = None
    served: int = 0

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    @property
    def free(self) -> int:
        return self.units - sum(units for units, _ in self.holds.values()) - self.kept

    async def hop(self) -> None:
        """A round trip."""
        await asyncio.sleep(self.dice.choice([0, 0.001, 0.02]))

    def give_back(self, units: int) -> None:
        if self.line:
            self.kept += units

    def settle(self) -> int:
        over = [id for id, (_, ends) in self.holds.items() if ends <= self.now]
        for id in over:
            self.give_back(self.holds.pop(id)[0])
        return len(over)

    def look(self) -> None:
        """After each change: nothing is oversold, and nothing lies idle for long while somebody may have it."""
        assert self.free >= 0, "oversold"
        assert self.kept >= 0
        wanted = [one for one in self.line if self.may(one)]
        first = wanted[:1] if not self.skip and self.holds else wanted
        idle = any(one.units <= self.free + self.kept for one in first)
        if not idle:
            self.idle_since = None
        elif self.idle_since is None:
            self.idle_since = self.now
        else:
            assert self.now - self.idle_since <= IDLE_SECONDS_MAX, "something lay idle while somebody waited"

    def may(self, entry: Entry) -> bool:
        return entry.amount == 0  # in this world an amount says that its member's allowance is used up

    async def claim(self, _: None, claims: Sequence[UUID]) -> Sequence[bool]:
        await self.hop()
        async with self.lock:
            self.settle()
            answers = []
            for id in claims:
                answers.append(self.free >= 1)
                if answers[-1]:
                    self.holds[id] = (1, self.now + LIFE_SECONDS * self.dice.random())
            await self.hop()
            self.look()
        return answers

    async def release(self) -> None:
        async with self.lock:
            if self.holds:
                self.give_back(self.holds.pop(self.dice.choice(list(self.holds)))[0])
                self.freed.set()
            self.look()

    async def sweep(self) -> None:
        await self.hop()
        async with self.lock:
            if self.settle():
                self.freed.set()
            self.look()

    async def join(self) -> None:
        async with self.lock:
            await self.hop()
            units = self.dice.choice([1, 1, 1, 2])
            if self.free < units:
                amount = int(self.dice.random() < 0.2)
                self.line.append(Entry(uuid4(), uuid4(), 1, None, None, units, amount, None, 0))
            self.look()

    async def promote_all(self) -> int:
        """As gateway.waitlists.Promoter: plan under the lock, ask outside of it, plan again."""
        verdicts: dict[UUID, Verdict] = {}
        for _ in range(100):
            async with self.lock:
                await self.hop()
                self.settle()
                held = {None} if self.holds else set()
                entries = tuple(self.line)
                line = Line(1, Waitlist(skip=self.skip), len(entries), entries, {0: self.free}, {0: self.kept}, held)
                plan = plan_offers(line, verdicts)
                for entry in plan.offers:
                    self.line.remove(entry)
                    self.kept -= min(self.kept, entry.units)
                    self.holds[entry.id] = (entry.units, self.now + LIFE_SECONDS * self.dice.random())
                    self.served += 1
                if plan.kept is not None:
                    self.kept = plan.kept[0]
                    self.look()
                    return len(plan.offers)
                assert self.free >= 0, "oversold"
            await self.hop()
            for entry in plan.unknown:
                turn = Turn.MAY if self.may(entry) else Turn.PASSED
                verdicts[entry.id] = Verdict(turn, entry.member_version, 1, (0,))
        raise AssertionError("the promoter never came to an end")


async def drop(dice: Random, promoters: int = 2) -> int:
    """Claims, releases and people who come to wait, with promoters and a sweeper."""
    world, stop = World(dice, skip=dice.random() < 0.5), asyncio.Event()
    batcher: Batcher[None, UUID, bool] = Batcher(world.claim, batch_max=4)
    workers = [
        asyncio.create_task(keep_doing("sweep", world.sweep, SWEEP_SECONDS, stop)),
        *(asyncio.create_task(keep_promoting(world, world.freed, stop)) for _ in range(promoters)),  # type: ignore[arg-type]
    ]

    async def visit() -> None:
        await asyncio.sleep(5 * dice.random())
        await batcher.submit(None, uuid4())
        await dice.choice([world.join, world.join, world.release])()

    await asyncio.gather(*(visit() for _ in range(16)))
    await asyncio.sleep(6 * LIFE_SECONDS)
    stop.set()
    await asyncio.gather(*workers)
    assert not [entry for entry in world.line if world.may(entry)], "somebody is left who could have been served"
    return world.served


@pytest.mark.parametrize("part", range(3))
def test_nothing_lies_idle_while_somebody_waits_in_any_schedule(part: int) -> None:
    assert sum(run_schedule(seed, drop) for seed in range(part, WAITLIST_SCHEDULES, 3)) > WAITLIST_SCHEDULES / 3


@pytest.mark.long
@pytest.mark.parametrize("part", range(10))
def test_neither_batcher_nor_waitlist_fails_in_many_more_schedules(part: int) -> None:
    seeds = range(10_000 + part, 20_000, 10)
    assert sum(run_schedule(seed, lambda dice: batch(dice, Batcher)) for seed in seeds) > 20 * len(seeds)
    assert sum(run_schedule(seed, drop) for seed in seeds) > len(seeds)


def test_a_waitlist_that_nobody_looks_after_is_caught() -> None:
    with pytest.raises(AssertionError, match="lay idle"):
        run_schedule(IDLE_SEED, lambda dice: drop(dice, promoters=0))
