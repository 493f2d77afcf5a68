"""Waiting for a perk: who may, who gets what comes back, and what ends a wait."""

from datetime import timedelta

import pytest

from partners.eligibility import decide
from partners.facts import RefusalCode
from partners.tables import PerkState, Stock
from partners.waitlist import join_waitlist
from tests.factories import STAFF, Club, member_actor, partner_actor
from tests.waiting import WAITLIST, Queue


def codes(refusals: object) -> list[str]:
    return sorted(refusal.code.value for refusal in refusals)  # type: ignore[attr-defined]


async def test_who_waits_is_offered_what_comes_back(club: Club) -> None:
    queue = await Queue.at(club)
    [hold] = await queue.fill()
    entry = await queue.join()
    assert await queue.promote() == 0
    await queue.release(hold)
    assert await queue.counts() == (0, 1, 1)
    assert await queue.promote() == 1
    assert await queue.state(entry) == ["OFFERED"]
    assert await queue.counts() == (1, 0, 0)
    offered = await queue.offered(entry)
    assert offered["state"] == "HELD"
    assert offered["claimed_by"] == "system:waitlist"
    assert offered["expires_at"] == queue.now + timedelta(hours=1)
    assert await queue.entries("waitlist.joined") == [("DONE", [])]


async def test_nobody_else_takes_what_is_kept_for_those_who_wait(club: Club) -> None:
    queue = await Queue.at(club)
    [hold] = await queue.fill()
    await queue.join()
    await queue.release(hold)
    claimed = await club.claim(await queue.member("black"), queue.perk)
    assert claimed.outcome == "REFUSED"
    assert claimed.reasons == ("CAPACITY_EXHAUSTED",)


async def test_a_higher_tier_goes_first_and_then_who_came_first(club: Club) -> None:
    queue = await Queue.at(club, units=4)
    holds = await queue.fill(4)
    late = []
    for tier in ("silver", "gold", "black", "gold"):
        queue.now += timedelta(seconds=1)
        late.append(await queue.join(tier=tier))
    silver, gold, black, second_gold = late
    order = []
    for hold in holds:
        await queue.release(hold)
        await queue.promote()
        order.append(await queue.state(silver, gold, black, second_gold))
    assert order == [
        ["WAITING", "WAITING", "OFFERED", "WAITING"],
        ["WAITING", "OFFERED", "OFFERED", "WAITING"],
        ["WAITING", "OFFERED", "OFFERED", "OFFERED"],
        ["OFFERED", "OFFERED", "OFFERED", "OFFERED"],
    ]


async def test_whose_tier_rose_while_waiting_goes_before_those_it_passed(club: Club) -> None:
    queue = await Queue.at(club)
    [hold] = await queue.fill()
    riser = await queue.member("silver")
    gold, risen = await queue.join(tier="gold"), await queue.join(riser)
    queue.now += timedelta(seconds=1)
    await club.assign(riser, "black", now=queue.now)
    await queue.release(hold)
    await queue.promote()
    assert await queue.state(gold, risen) == ["WAITING", "OFFERED"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"waitlist": None}, ["WAITLIST_CLOSED"]),
        ({"state": PerkState.PAUSED}, ["PERK_PAUSED", "WAITLIST_CLOSED"]),
        ({"rules": [{"kind": "tier_at_least", "tier": "black"}]}, ["TIER_TOO_LOW"]),
        ({"units": 1}, ["WRONG_STATE"]),
        ({"units": None}, ["WRONG_STATE"]),
    ],
)
async def test_who_may_not_have_it_may_not_wait_for_it(
    club: Club, given: dict[str, object], expected: list[str]
) -> None:
    queue = await Queue.at(club, **({"units": 0} | given))
    joined = await queue.ask(await queue.member())
    assert joined.outcome == "REFUSED"
    assert codes(joined.refusals) == expected
    assert await queue.entries("waitlist.joined") == [("REFUSED", expected)]


async def test_nobody_waits_for_more_than_there_ever_is(club: Club) -> None:
    queue = await Queue.at(club, units=2, units_max=10)
    await queue.fill(2)
    assert codes((await queue.ask(await queue.member(), units=3)).refusals) == ["UNITS_NOT_ALLOWED"]
    assert codes((await queue.ask(await queue.member(), units=11)).refusals) == ["UNITS_NOT_ALLOWED"]
    assert (await queue.ask(await queue.member(), units=0)).outcome == "REFUSED"
    assert (await queue.ask(await queue.member(), units=2)).outcome == "JOINED"


async def test_joining_twice_is_joining_once_and_for_other_details_refused(club: Club) -> None:
    queue = await Queue.at(club, units=2, units_max=2)
    await queue.fill(2)
    member = await queue.member()
    entry = await queue.join(member)
    again = await queue.ask(member)
    assert (again.outcome, again.entry_id) == ("REPLAYED", entry)
    other = await queue.ask(member, units=2)
    assert codes(other.refusals) == ["ALREADY_WAITING"]
    assert await queue.counts() == (2, 0, 1)


async def test_leaving_twice_is_leaving_once(club: Club) -> None:
    queue = await Queue.at(club)
    [hold] = await queue.fill()
    member, stranger = await queue.member(), await queue.member()
    entry = await queue.join(member)
    assert await queue.leave(entry, member_actor(stranger)) == "NOT_AVAILABLE"
    assert await queue.leave(entry, partner_actor(await club.partner())) == "NOT_AVAILABLE"
    assert await queue.state(entry) == ["WAITING"]
    assert await queue.leave(entry, member_actor(member)) == "WITHDRAWN"
    assert await queue.leave(entry, member_actor(member)) == "WITHDRAWN"
    assert await queue.counts() == (1, 0, 0)
    await queue.release(hold)
    assert await queue.counts() == (0, 0, 0)
    assert await queue.entries("waitlist.withdrawn") == [("DONE", [])]


async def test_who_leaves_with_an_offer_leaves_it_to_the_next(club: Club) -> None:
    queue = await Queue.at(club)
    [hold] = await queue.fill()
    member = await queue.member()
    first, second = await queue.join(member), await queue.join()
    await queue.release(hold)
    await queue.promote()
    assert await queue.state(first, second) == ["OFFERED", "WAITING"]
    assert await queue.leave(first, member_actor(member)) == "WITHDRAWN"
    assert (await queue.offered(first))["state"] == "RELEASED"
    assert await queue.counts() == (0, 1, 1)
    await queue.promote()
    assert await queue.state(first, second) == ["WITHDRAWN", "OFFERED"]


async def test_an_accepted_offer_ends_the_wait(club: Club) -> None:
    queue = await Queue.at(club)
    [hold] = await queue.fill()
    member = await queue.member()
    entry = await queue.join(member)
    await queue.release(hold)
    await queue.promote()
    claimed = await club.claim(member, queue.perk, now=queue.now)
    assert claimed.outcome == "RESUMED"
    assert claimed.hold is not None
    assert claimed.hold.entry_id == entry
    assert (await club.confirm(claimed.hold)).code == "CONFIRMED"
    assert await queue.state(entry) == ["ACCEPTED"]
    assert await queue.leave(entry, member_actor(member)) == "WRONG_STATE"


async def test_who_claims_what_it_was_offered_accepts_that_though_more_is_there(club: Club) -> None:
    queue = await Queue.at(club, units=3)
    one, two, _ = await queue.fill(3)
    member = await queue.member()
    entry = await queue.join(member)
    await queue.release(one)
    await queue.promote()
    await queue.release(two)
    assert await queue.counts() == (2, 0, 0)
    claimed = await club.claim(member, queue.perk, now=queue.now)
    assert claimed.outcome == "RESUMED"
    assert claimed.hold is not None
    assert claimed.hold.entry_id == entry
    assert await queue.counts() == (2, 0, 0)
    assert (await club.claim(await queue.member(), queue.perk, now=queue.now)).outcome == "HELD"


async def test_a_declined_offer_goes_to_the_next(club: Club) -> None:
    queue = await Queue.at(club)
    [hold] = await queue.fill()
    member = await queue.member()
    first, second = await queue.join(member), await queue.join()
    await queue.release(hold)
    await queue.promote()
    held = (await club.claim(member, queue.perk, now=queue.now)).hold
    assert held is not None
    await queue.release(held)
    await queue.promote()
    assert await queue.state(first, second) == ["LAPSED", "OFFERED"]


async def test_an_offer_that_is_not_taken_goes_to_the_next_and_comes_round_as_often_as_the_perk_says(
    club: Club,
) -> None:
    queue = await Queue.at(club, waitlist=WAITLIST | {"offers": 2})
    [hold] = await queue.fill()
    first, second = await queue.join(), await queue.join()
    await queue.release(hold)
    seen = []
    for _ in range(4):
        await queue.promote()
        seen.append(await queue.state(first, second))
        queue.now += timedelta(hours=1)
    await queue.promote()
    assert seen == [["OFFERED", "WAITING"], ["WAITING", "OFFERED"], ["OFFERED", "WAITING"], ["LAPSED", "OFFERED"]]
    assert await queue.state(first, second) == ["LAPSED", "LAPSED"]
    assert await queue.counts() == (0, 0, 0)


@pytest.mark.parametrize("skip", [True, False])
async def test_a_party_that_is_too_large_for_what_there_is(club: Club, skip: bool) -> None:
    queue = await Queue.at(club, units=3, units_max=2, waitlist=WAITLIST | {"skip": skip})
    one, two, three = await queue.fill(3)
    party, single = await queue.join(tier="black", units=2), await queue.join()
    await queue.release(one)
    await queue.promote()
    if skip:
        assert await queue.state(party, single) == ["WAITING", "OFFERED"]
        assert await queue.counts() == (3, 0, 1)
        return
    assert await queue.state(party, single) == ["WAITING", "WAITING"]
    assert await queue.counts() == (2, 1, 2)  # saved up
    await queue.release(two)
    await queue.promote()
    assert await queue.state(party, single) == ["OFFERED", "WAITING"]
    await queue.release(three)
    await queue.promote()
    assert await queue.state(party, single) == ["OFFERED", "OFFERED"]


async def test_nothing_is_saved_up_for_a_party_once_nothing_can_come_back_by_itself(club: Club) -> None:
    queue = await Queue.at(club, units=2, units_max=2, waitlist=WAITLIST | {"skip": False})
    one, two = await queue.fill(2)
    party, single = await queue.join(tier="black", units=2), await queue.join()
    await queue.release(one)
    await queue.promote()
    assert await queue.counts() == (1, 1, 2)
    await club.redeemed(two, now=queue.now)
    await queue.promote()
    assert await queue.state(party, single) == ["WAITING", "OFFERED"]
    assert await queue.counts() == (2, 0, 1)


async def test_what_nobody_who_waits_can_take_goes_to_everybody(club: Club) -> None:
    queue = await Queue.at(club, units=2, units_max=2)
    one, _ = await queue.fill(2)
    await queue.join(units=2)
    await queue.release(one)
    assert (await club.claim(await queue.member(), queue.perk)).outcome == "REFUSED"
    assert await queue.promote() == 0
    assert await queue.counts() == (1, 0, 1)
    assert (await club.claim(await queue.member(), queue.perk)).outcome == "HELD"


async def test_who_has_no_allowance_left_keeps_its_place_and_others_go_before_it(club: Club) -> None:
    rules = [{"kind": "allowance", "period": "DAY", "otherwise": 1}]
    queue = await Queue.at(club, units=3, rules=rules)
    holds = await queue.fill(3)
    member = await queue.member("black")
    first, second = await queue.join(member), await queue.join()
    await club.sql("UPDATE hold SET member_id = $1 WHERE id = $2", member.id, holds[2].id)
    await queue.release(holds[0])
    await queue.promote()
    assert await queue.state(first, second) == ["WAITING", "OFFERED"]
    queue.now += timedelta(days=1)  # the day is over, and so are the holds
    await queue.promote()
    assert await queue.state(first) == ["OFFERED"]


async def test_whoever_loses_the_right_loses_the_place_when_its_turn_comes(club: Club) -> None:
    queue = await Queue.at(club, rules=[{"kind": "tier_at_least", "tier": "gold"}])
    [hold] = await queue.fill()
    fallen, suspended, gone, stays = [await queue.member() for _ in range(4)]
    entries = [await queue.join(one) for one in (fallen, suspended, gone, stays)]
    queue.now += timedelta(seconds=1)
    await club.assign(fallen, "silver", now=queue.now)
    await club.sql("UPDATE member SET state = 'SUSPENDED', version = version + 1 WHERE id = $1", suspended.id)
    await club.withdraw(gone, queue.partner)
    # Whose tier fell waits behind the others until it is looked at, so something has to be left for it.
    await club.sql("UPDATE capacity SET units = 2 WHERE perk_id = $1", queue.perk.id)
    await queue.release(hold)
    await queue.promote()
    assert await queue.state(*entries) == ["LAPSED", "LAPSED", "WITHDRAWN", "OFFERED"]
    assert sorted(await queue.entries("waitlist.lapsed")) == [
        ("DONE", ["MEMBERSHIP_SUSPENDED"]),
        ("DONE", ["TIER_TOO_LOW"]),
    ]
    assert await queue.entries("waitlist.withdrawn") == [("DONE", ["CONSENT_MISSING"])]
    assert await queue.counts() == (1, 0, 0)


async def test_withdrawing_consent_stops_a_wait_and_an_offer_though_nothing_comes_free(club: Club) -> None:
    queue = await Queue.at(club, units=2)
    one, _ = await queue.fill(2)
    offered, waiting, stays = [await queue.member() for _ in range(3)]
    first, second, third = [await queue.join(member) for member in (offered, waiting, stays)]
    await queue.release(one)
    await queue.promote()
    await queue.sweep()
    assert await queue.state(first, second, third) == ["OFFERED", "WAITING", "WAITING"]
    await club.withdraw(offered, queue.partner)
    await club.sql("UPDATE member SET state = 'SUSPENDED' WHERE id = $1", waiting.id)
    assert await queue.sweep() == 2
    assert await queue.state(first, second, third) == ["WITHDRAWN", "LAPSED", "WAITING"]
    assert (await queue.offered(first))["state"] == "RELEASED"
    assert await queue.counts() == (1, 1, 1)
    await queue.promote()
    assert await queue.state(third) == ["OFFERED"]


async def test_nobody_waits_beyond_the_perks_last_day(club: Club) -> None:
    queue = await Queue.at(club, closes_on=club.now.date())
    await queue.fill()
    entry = await queue.join()
    queue.now += timedelta(days=1)
    await queue.sweep()
    assert await queue.state(entry) == ["LAPSED"]
    assert await queue.entries("waitlist.lapsed") == [("DONE", ["ENDED"])]
    assert codes((await queue.ask(await queue.member())).refusals) == ["ENDED", "WAITLIST_CLOSED"]


async def test_while_a_perk_is_paused_what_comes_back_stays_kept(club: Club) -> None:
    queue = await Queue.at(club)
    [hold] = await queue.fill()
    entry = await queue.join()
    await club.set_state(queue.perk.id, PerkState.PAUSED)
    await queue.release(hold)
    assert await queue.promote() == 0
    assert await queue.counts() == (0, 1, 1)
    await club.set_state(queue.perk.id, PerkState.PUBLISHED)
    assert await queue.promote() == 1
    assert await queue.state(entry) == ["OFFERED"]


async def test_a_waitlist_that_is_closed_still_serves_those_who_wait(club: Club) -> None:
    queue = await Queue.at(club)
    [hold] = await queue.fill()
    entry = await queue.join()
    await club.sql("UPDATE perk SET waitlist = NULL, version = version + 1 WHERE id = $1", queue.perk.id)
    assert codes((await queue.ask(await queue.member())).refusals) == ["WAITLIST_CLOSED"]
    await queue.release(hold)
    await queue.promote()
    assert await queue.state(entry) == ["OFFERED"]


async def test_a_unit_reversed_to_the_waitlist_is_offered_and_one_restocked_is_for_everybody(club: Club) -> None:
    queue = await Queue.at(club, units=2)
    one, two = await queue.fill(2)
    redeemed = [await club.redeemed(hold) for hold in (one, two)]
    await queue.join(), await queue.join()
    await club.reverse(redeemed[0], STAFF, stock=Stock.WAITLIST)
    assert await queue.counts() == (1, 1, 2)
    await club.reverse(redeemed[1], STAFF, stock=Stock.RESTOCK)
    assert await queue.counts() == (0, 1, 2)
    assert (await club.claim(await queue.member(), queue.perk)).outcome == "HELD"
    assert await queue.promote() == 1
    assert await queue.counts() == (2, 0, 1)


async def test_a_partner_waits_for_members_of_its_own_alone(club: Club) -> None:
    queue = await Queue.at(club)
    await queue.fill()
    member = await queue.member()
    actor = partner_actor(queue.partner)
    joined = await queue.ask(member, actor=actor)
    assert joined.outcome == "JOINED"
    assert joined.entry_id is not None
    assert await queue.leave(joined.entry_id, partner_actor(await club.partner())) == "NOT_AVAILABLE"
    assert await queue.leave(joined.entry_id, actor) == "WITHDRAWN"


async def test_a_member_without_consent_does_not_wait(club: Club) -> None:
    queue = await Queue.at(club)
    await queue.fill()
    assert codes((await queue.ask(await club.member())).refusals) == [RefusalCode.CONSENT_MISSING.value]


async def test_a_batch_of_offers_takes_as_many_statements_as_one(club: Club) -> None:
    queue = await Queue.at(club, units=40)
    holds = await queue.fill(40)
    for _ in range(40):
        await queue.join()

    async def statements_of_promotion() -> int:
        counted: list[str] = []
        promoter = queue.promoter()
        async with club.database.connection() as connection:
            with connection.query_logger(lambda record: counted.append(record.query)):
                await promoter.promote_on(connection, queue.perk.id)
        return len(counted)

    await queue.release(holds[0])
    one = await statements_of_promotion()
    await queue.release(*holds[1:])
    many = await statements_of_promotion()
    assert await queue.counts() == (40, 0, 0)
    assert (one, many) == (14, 14)


async def test_joining_is_one_statement(club: Club) -> None:
    queue = await Queue.at(club, units=0)
    member = await queue.member()
    known = await club.known(member, queue.perk)
    counted: list[str] = []
    async with club.database.connection() as connection:
        with connection.query_logger(lambda record: counted.append(record.query)):
            ranks = club.programme.ranks
            decision = decide(known, ranks, club.now)
            joined = await join_waitlist(
                connection, known, decision, actor=member_actor(member), ranks=ranks, now=club.now
            )
    assert joined.outcome == "JOINED"
    assert len(counted) == 1
