"""The right person, whatever happens at once: the order against a model, races, pools, parties and cut-offs."""

import asyncio
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from partners import tables
from partners.facts import HEAD_START, Circumstances
from partners.holds import Held, expire_overdue
from partners.promotion import find_waited_on
from partners.tables import PerkKind
from tests.factories import Club, member_actor
from tests.waiting import WAITLIST, Queue

TIERS = ("member", "silver", "gold", "black")


class Model:
    """A waitlist as a child would keep it: sort, then hand out."""

    def __init__(self, club: Club) -> None:
        self.ranks = club.programme.ranks
        self.waiting: dict[UUID, tuple[int, int]] = {}
        self.free = 0
        self.joined = 0

    def join(self, entry: UUID, tier: str) -> None:
        self.joined += 1
        self.waiting[entry] = (-self.ranks[tier], self.joined)

    def change(self, entry: UUID, tier: str) -> None:
        if entry in self.waiting:
            self.waiting[entry] = (-self.ranks[tier], self.waiting[entry][1])

    def hand_out(self) -> set[UUID]:
        first = sorted(self.waiting, key=lambda entry: self.waiting[entry])[: self.free]
        self.free -= len(first)
        for entry in first:
            del self.waiting[entry]
        return set(first)


@pytest.mark.parametrize("seed", range(6))
async def test_the_order_is_that_of_a_simple_model(club: Club, seed: int) -> None:
    dice = random.Random(seed)
    queue = await Queue.at(club, units=40)
    taken = await queue.fill(40)
    model = Model(club)
    people: dict[UUID, tables.Member] = {}
    offered: set[UUID] = set()
    for _ in range(60):
        queue.now += timedelta(seconds=1)
        match dice.choices(["join", "leave", "change", "release", "promote"], [8, 1, 3, 3, 2])[0]:
            case "join":
                member = await queue.member(tier := dice.choice(TIERS))
                entry = await queue.join(member)
                people[entry] = member
                model.join(entry, tier)
            case "leave" if model.waiting:
                entry = dice.choice(sorted(model.waiting))
                assert await queue.leave(entry, member_actor(people[entry])) == "WITHDRAWN"
                del model.waiting[entry]
                if not model.waiting:  # nobody is left to keep anything for
                    taken += await queue.fill(model.free)
                    model.free = 0
            case "change" if people:
                entry = dice.choice(sorted(people))
                await club.assign(people[entry], tier := dice.choice(TIERS), now=queue.now)
                model.change(entry, tier)
            case "release" if taken:
                await queue.release(taken.pop())
                if model.waiting:
                    model.free += 1
                else:
                    taken += await queue.fill(1)
            case "promote":
                expected = model.hand_out()
                assert await queue.promote() == len(expected)
                offered |= expected
        states = await queue.state(*people)
        assert {entry for entry, state in zip(people, states, strict=True) if state == "OFFERED"} == offered
    assert len(offered) > 3


async def settled(queue: Queue) -> None:
    """Laws at rest: what is taken is what is held, and nothing is kept while somebody could have it."""
    taken, kept, waiting = await queue.counts()
    [row] = await queue.club.sql(
        "SELECT (SELECT coalesce(sum(units), 0) FROM hold WHERE perk_id = $1 AND state = 'HELD') AS held,"
        " (SELECT count(*) FROM waitlist_entry WHERE perk_id = $1 AND state = 'WAITING') AS waiting,"
        " (SELECT count(*) FROM waitlist_entry w JOIN hold h ON h.id = w.hold_id AND h.entry_id = w.id"
        "  AND h.state = 'HELD' WHERE w.perk_id = $1 AND w.state = 'OFFERED') AS offers,"
        " (SELECT count(*) FROM waitlist_entry WHERE perk_id = $1 AND state = 'OFFERED') AS offered",
        queue.perk.id,
    )
    assert (row["held"], row["waiting"], row["offers"]) == (taken, waiting, row["offered"])
    assert kept == 0


async def test_two_promoters_at_once_offer_each_unit_once_and_to_the_first(club: Club) -> None:
    queue = await Queue.at(club, units=20)
    holds = await queue.fill(20)
    entries = [await queue.join(tier=tier) for tier in ("silver", "gold", "black") * 8]
    for hold in holds[:10]:
        await queue.release(hold)
    made = await asyncio.gather(*(queue.promote() for _ in range(4)))
    assert sum(made) == 10
    states = await queue.state(*entries)
    blacks, golds = entries[2::3], entries[1::3]
    assert {entry for entry, state in zip(entries, states, strict=True) if state == "OFFERED"} == {*blacks, *golds[:2]}
    await settled(queue)


async def test_releases_joins_leaves_and_promoters_all_at_once(club: Club) -> None:
    queue = await Queue.at(club, units=30)
    holds = await queue.fill(30)
    early = [await queue.member() for _ in range(10)]
    waiting = [await queue.join(member) for member in early]
    late = [await queue.member(random.choice(TIERS)) for _ in range(50)]

    async def join(member: tables.Member) -> str:
        return (await queue.ask(member)).outcome

    leaving = [queue.leave(entry, member_actor(one)) for entry, one in zip(waiting[:5], early, strict=False)]
    joined, left, _, _ = await asyncio.gather(
        asyncio.gather(*(join(member) for member in late)),
        asyncio.gather(*leaving),
        asyncio.gather(*(club.release(hold, now=queue.now) for hold in holds[:20])),
        asyncio.gather(*(queue.promote() for _ in range(6))),
    )
    assert set(left) == {"WITHDRAWN"}
    assert set(joined) <= {"JOINED", "REFUSED", "STALE"}
    await queue.promote()
    await settled(queue)
    taken, _, still = await queue.counts()
    assert taken == 30 or still == 0


async def test_a_storm_of_expiries_leaves_nothing_idle(club: Club) -> None:
    queue = await Queue.at(club, units=30, hold_seconds=60, waitlist=WAITLIST | {"offer_seconds": 300, "offers": 2})
    await queue.fill(30)
    entries = [await queue.join() for _ in range(50)]
    rounds = []
    for _ in range(5):
        queue.now += timedelta(seconds=300)

        async def expire() -> None:
            async with club.database.connection() as connection:
                await expire_overdue(connection, queue.now)

        await asyncio.gather(expire(), queue.promote(), expire(), queue.promote(), queue.promote())
        await queue.promote()
        await settled(queue)
        rounds.append(Counter(await queue.state(*entries))["OFFERED"])
    assert rounds == [30, 30, 30, 10, 0]
    assert set(await queue.state(*entries)) == {"LAPSED"}
    assert await queue.counts() == (0, 0, 0)


async def test_a_member_that_changes_while_it_is_looked_at_is_looked_at_again(club: Club) -> None:
    queue = await Queue.at(club, rules=[{"kind": "tier_at_least", "tier": "gold"}])
    [hold] = await queue.fill()
    falling = await queue.member("black")
    first, second = await queue.join(falling), await queue.join()
    await queue.release(hold)
    promoting = await club.at_once(
        f"capacity WHERE perk_id = '{queue.perk.id}'", [queue.promote(), club.assign(falling, "silver", now=queue.now)]
    )
    assert promoting[0] == 1
    assert await queue.state(first, second) in (["OFFERED", "WAITING"], ["WAITING", "OFFERED"], ["LAPSED", "OFFERED"])
    [row] = await club.sql("SELECT tier FROM hold WHERE entry_id IS NOT NULL AND perk_id = $1", queue.perk.id)
    assert row["tier"] in ("gold", "black")


def local(instant: datetime) -> str:
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds")


async def event(club: Club, *sessions: dict[str, Any], **given: Any) -> Queue:
    """The waitlist of an event whose sessions start in a day; offers are good for longer than that."""
    starts = club.now + timedelta(days=1)
    whole = [{"title": "A night", "starts_at": local(starts), "cut_off_minutes": 60} | one for one in sessions]
    return await Queue.at(
        club,
        kind=PerkKind.EVENT,
        units=None,
        units_max=4,
        settings={"sessions": whole},
        **({"waitlist": WAITLIST | {"offer_seconds": 604_800}} | given),
    )


async def fill(queue: Queue, option: str, units: int) -> list[Held]:
    said = Circumstances(option=option)
    return [await queue.club.hold(await queue.member("black"), queue.perk, said=said) for _ in range(units)]


async def test_an_offer_never_lasts_beyond_the_cut_off_and_nobody_waits_beyond_it(club: Club) -> None:
    queue = await event(club, {"handle": "first", "places": 1})
    [hold] = await fill(queue, "first", 1)
    offered, waits = await queue.join(option="first"), await queue.join(option="first")
    await queue.release(hold)
    await queue.promote()
    cut_off = (club.now + timedelta(hours=23)).replace(microsecond=0)
    expires_at = (await queue.offered(offered))["expires_at"]
    assert abs(expires_at - cut_off) <= timedelta(seconds=1)
    queue.now = expires_at
    await queue.sweep()
    assert await queue.state(waits) == ["LAPSED"]
    async with club.database.connection() as connection:
        await expire_overdue(connection, queue.now)
    await queue.promote()
    assert await queue.state(offered, waits) == ["LAPSED", "LAPSED"]
    assert await queue.counts() == (0, 0, 0)


async def test_each_session_has_its_own_line(club: Club) -> None:
    queue = await event(club, {"handle": "first", "places": 1}, {"handle": "second", "places": 1})
    [_], [hold] = await fill(queue, "first", 1), await fill(queue, "second", 1)
    first, second = await queue.join(tier="black", option="first"), await queue.join(option="second")
    await queue.release(hold)
    await queue.promote()
    assert await queue.state(first, second) == ["WAITING", "OFFERED"]
    await settled(queue)


async def test_places_kept_for_a_tier_are_offered_to_it_and_after_their_time_to_anybody(club: Club) -> None:
    until = club.now + timedelta(hours=2)
    pools = [{"units": 1, "tiers": [{"tier": "gold", "until": local(until)}]}]
    queue = await event(club, {"handle": "first", "places": 2, "pools": pools}, hold_seconds=86_400)
    for_gold, for_all = await fill(queue, "first", 2)
    member = await queue.member("silver")
    silver, gold = await queue.join(member, option="first"), await queue.join(tier="gold", option="first")
    await queue.release(for_gold)
    assert await queue.promote() == 1
    assert await queue.state(silver, gold) == ["WAITING", "OFFERED"]
    second = await queue.join(tier="gold", option="first")
    await queue.release(for_all)
    assert await queue.promote() == 1
    assert await queue.state(silver, second) == ["WAITING", "OFFERED"]
    for entry in (gold, second):
        [row] = await club.sql("SELECT member_id FROM waitlist_entry WHERE id = $1", entry)
        await club.sql(
            "SELECT leave_waitlist($1, NULL, NULL, $2, $3, 'member', 'm')", entry, row["member_id"], queue.now
        )
    assert await queue.promote() == 1  # the place for everybody
    assert await queue.counts() == (1, 0, 0)
    assert await queue.state(silver) == ["OFFERED"]
    assert (await queue.offered(silver))["pools"] == [1]


async def test_a_pool_that_is_released_by_the_clock_is_offered_though_nothing_came_back(club: Club) -> None:
    until = (club.now + timedelta(hours=2)).replace(microsecond=0)
    pools = [{"units": 1, "tiers": [{"tier": "gold", "until": local(until)}]}]
    queue = await event(club, {"handle": "first", "places": 1, "pools": pools})
    silver = await queue.join(tier="silver", option="first")
    promoter = queue.promoter()
    for _ in range(2):
        await promoter.promote_all()
        assert await queue.state(silver) == ["WAITING"]
    queue.now = until
    await promoter.promote_all()
    assert await queue.state(silver) == ["OFFERED"]
    async with club.database.connection() as connection:
        assert queue.perk.id not in dict(await find_waited_on(connection))


@pytest.mark.parametrize("skip", [True, False])
async def test_parties_are_served_whole_or_not_at_all(club: Club, skip: bool) -> None:
    queue = await event(club, {"handle": "first", "places": 4}, waitlist=WAITLIST | {"skip": skip})
    holds = await fill(queue, "first", 4)
    sizes = [3, 2, 1, 1]
    entries = [await queue.join(units=units, option="first") for units in sizes]
    await queue.release(*holds[:2])
    await queue.promote()
    assert await queue.state(*entries) == (["WAITING", "OFFERED", "WAITING", "WAITING"] if skip else ["WAITING"] * 4)
    await queue.release(*holds[2:])
    await queue.promote()
    assert await queue.state(*entries) == (
        ["WAITING", "OFFERED", "OFFERED", "OFFERED"] if skip else ["OFFERED", "WAITING", "OFFERED", "WAITING"]
    )


async def test_who_waits_comes_before_who_stands_by_when_the_clock_releases_a_pool(club: Club) -> None:
    until = (club.now + timedelta(hours=2)).replace(microsecond=0)
    pools = [{"units": 2, "tiers": [{"tier": "gold", "until": local(until)}]}]
    queue = await event(club, {"handle": "first", "places": 2, "pools": pools})
    said = Circumstances(option="first")
    entry, ready = await queue.join(tier="silver", option="first"), await queue.member("silver")
    queue.now = until
    assert (await club.claim(ready, queue.perk, said=said, now=queue.now)).outcome == "REFUSED"
    # Who had the right before has it still.
    assert (await club.claim(await queue.member("gold"), queue.perk, said=said, now=queue.now)).outcome == "HELD"
    assert await queue.promote() == 1
    assert await queue.state(entry) == ["OFFERED"]


async def test_what_nobody_who_waits_took_of_a_released_pool_is_for_everybody_a_moment_later(club: Club) -> None:
    until = (club.now + timedelta(hours=2)).replace(microsecond=0)
    pools = [{"units": 1, "tiers": [{"tier": "gold", "until": local(until)}]}]
    queue = await event(club, {"handle": "first", "places": 2, "pools": pools}, hold_seconds=86_400)
    await fill(queue, "first", 1)
    ready, said = await queue.member("silver"), Circumstances(option="first")
    await queue.join(tier="silver", option="first", units=2)
    queue.now = until
    assert await queue.promote() == 0
    decision = (await club.claim_of(ready, queue.perk, said=said, now=queue.now)).decision
    assert decision.valid_until == until + HEAD_START
    assert (await club.claim(ready, queue.perk, said=said, now=until + HEAD_START)).outcome == "HELD"
