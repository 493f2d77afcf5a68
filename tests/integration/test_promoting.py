"""The workers behind a waitlist: prompt when told, patient when nothing can be done, and stopped by no single perk."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from gateway import housekeeping, waitlists
from gateway.database import Database
from gateway.housekeeping import keep_sweeping
from gateway.waitlists import Promoter, keep_promoting
from partners import tables
from partners.facts import Circumstances
from partners.keys import Keys
from partners.laws import check_laws
from partners.programme import Programme
from partners.tables import Stock
from tests.factories import STAFF, Club, member_actor
from tests.waiting import WAITLIST, Queue


@pytest.fixture
def own(empty_database: Database, programme: Programme, keys: Keys, club: Club) -> Club:
    """A club in a database of the test's own: the workers look at everything."""
    return Club(empty_database, programme, keys, club.now)


@asynccontextmanager
async def promoting(promoter: Promoter, freed: asyncio.Event) -> AsyncIterator[None]:
    stop = asyncio.Event()
    worker = asyncio.create_task(keep_promoting(promoter, freed, stop))
    await asyncio.sleep(0.05)
    try:
        yield
    finally:
        stop.set()
        await worker


async def until_offered(queue: Queue, *entries: object, seconds: float = 5) -> float:
    """How long it took (s) until all have an offer."""
    started = time.monotonic()
    while time.monotonic() < started + seconds:
        if set(await queue.state(*entries)) == {"OFFERED"}:  # type: ignore[arg-type]
            return time.monotonic() - started
        await asyncio.sleep(0.01)
    raise AssertionError("no offer")


async def test_who_gave_something_back_wakes_the_promoter(own: Club, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waitlists, "LOOK_SECONDS", 3600)
    queue, freed = await Queue.at(own), asyncio.Event()
    [hold] = await queue.fill()
    entry = await queue.join()
    async with promoting(queue.promoter(), freed):
        await queue.release(hold)
        freed.set()
        await until_offered(queue, entry)
    assert not freed.is_set()


async def test_what_another_process_gave_back_is_found_by_looking(own: Club) -> None:
    queue = await Queue.at(own)
    [hold] = await queue.fill()
    entry = await queue.join()
    async with promoting(queue.promoter(), asyncio.Event()):
        await queue.release(hold)
        assert await until_offered(queue, entry) < 5


async def test_a_sweep_expires_holds_ends_waits_and_wakes_the_promoter(
    own: Club, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "SWEEP_SECONDS", 3600)
    queue = await Queue.at(own)
    await queue.fill()
    goes, stays = await queue.member(), await queue.member()
    gone, entry = await queue.join(goes), await queue.join(stays)
    await own.withdraw(goes, queue.partner)
    queue.now += timedelta(days=1)
    stop, freed = asyncio.Event(), asyncio.Event()
    sweeper = asyncio.create_task(keep_sweeping(own.database, lambda: queue.now, stop, freed))
    await asyncio.wait_for(freed.wait(), 5)
    stop.set()
    await sweeper
    assert await queue.state(gone, entry) == ["WITHDRAWN", "WAITING"]
    assert await queue.counts() == (0, 1, 1)


async def test_a_perk_that_can_not_be_looked_at_stops_no_other(own: Club) -> None:
    first, second = await Queue.at(own), await Queue.at(own)
    entries = []
    for queue in (first, second):
        [hold] = await queue.fill()
        entries.append(await queue.join())
        await queue.release(hold)
    await own.sql("""UPDATE perk SET waitlist = '{"offers": "many"}' WHERE id = $1""", first.perk.id)
    assert await second.promoter().promote_all() == 1
    assert await first.state(*entries) == ["WAITING", "OFFERED"]


async def test_a_look_that_came_to_nothing_is_not_repeated_at_once(own: Club, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = await Queue.at(own, units=2, units_max=2)
    one, two = await queue.fill(2)
    party = await queue.join(units=2)
    await queue.release(one)
    promoter, looked = queue.promoter(), []
    promote = promoter.promote

    async def counted(perk_id: UUID) -> tuple[int, list[datetime]]:
        looked.append(perk_id)
        return await promote(perk_id)

    monkeypatch.setattr(promoter, "promote", counted)
    for _ in range(4):
        await promoter.promote_all()
    assert len(looked) == 2  # the second saw what the first had let go
    queue.now += timedelta(seconds=60)
    await promoter.promote_all()
    assert len(looked) == 3
    await queue.release(two)
    assert await promoter.promote_all() == 1
    assert await queue.state(party) == ["OFFERED"]


async def test_nothing_stays_kept_where_a_promoter_died_before_it_let_go(own: Club) -> None:
    queue = await Queue.at(own, units=2)
    one, two = await queue.fill(2)
    entry = await queue.join()
    await queue.release(one, two)
    await own.sql("UPDATE waitlist_entry SET state = 'LAPSED', ended_at = $2 WHERE id = $1", entry, queue.now)
    await own.sql("UPDATE capacity SET waiting = 0 WHERE perk_id = $1", queue.perk.id)
    assert await queue.counts() == (0, 2, 0)
    await queue.promoter().promote_all()
    assert await queue.counts() == (0, 0, 0)


async def test_a_waitlist_in_a_storm_keeps_every_law(own: Club) -> None:
    dice = random.Random(7)
    queue = await Queue.at(own, units=5, units_max=3, hold_seconds=60, waitlist=WAITLIST | {"offers": 2})
    members = [await queue.member(dice.choice(["silver", "gold", "black"])) for _ in range(40)]
    ends: Counter[str] = Counter()
    rounds = 0
    while rounds < 16 or not ends.keys() >= {"ACCEPTED", "LAPSED", "WITHDRAWN"}:
        rounds += 1
        assert rounds < 100, ends
        queue.now += timedelta(seconds=dice.choice([1, 10, 30, 3600]))
        await asyncio.gather(*(at_random(queue, dice, dice.choice(members)) for _ in range(30)), queue.promote())
        ends = Counter(row["state"] for row in await own.sql("SELECT state FROM waitlist_entry"))
    await queue.sweep()
    await queue.promote()
    assert (await queue.counts())[1] == 0
    async with own.database.connection() as connection:
        assert await check_laws(connection, queue.now) == []


async def at_random(queue: Queue, dice: random.Random, member: tables.Member) -> object:
    """Something that a member, its partner or a worker may do at any moment."""
    club, holds = queue.club, "SELECT * FROM hold WHERE member_id = $1 AND state = 'HELD'"
    step = dice.choice(
        ["claim", "claim", "join", "join", "join", "leave", "release", "confirm", "reverse", "promote", "withdraw"]
    )
    if step == "claim":
        return await club.claim(member, queue.perk, now=queue.now, said=Circumstances(units=dice.randint(1, 3)))
    if step == "join":
        return await queue.ask(member, units=dice.randint(1, 3))
    if step == "promote":
        return await queue.promote()
    if step == "withdraw" and dice.random() < 0.1:
        await club.withdraw(member, queue.partner)
        return await queue.sweep()
    if step == "leave":
        rows = await club.sql("SELECT id FROM waitlist_entry WHERE member_id = $1", member.id)
        return [await queue.leave(row["id"], member_actor(member)) for row in rows]
    if step == "reverse":
        rows = await club.sql("SELECT id FROM redemption WHERE member_id = $1", member.id)
        return [await club.reverse(row["id"], STAFF, stock=dice.choice(list(Stock)), now=queue.now) for row in rows]
    for row in await club.sql(holds, member.id):
        hold: Any = SimpleNamespace(**row)
        if step == "release":
            await club.release(hold, now=queue.now)
        elif step == "confirm":
            await club.confirm(hold, now=queue.now, units=dice.choice([None, 1]))
    return None
