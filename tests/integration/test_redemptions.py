"""Taking a redemption back: once, within its window, and with the unit back on the shelf or gone (laws 3 and 5)."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from gateway.database import Database
from partners import redemptions
from partners.actors import Actor
from partners.errors import BadInput
from partners.redemptions import RedemptionFilter, Return
from partners.tables import Stock
from tests.factories import STAFF, Club, member_actor, partner_actor

TICK = timedelta(microseconds=1)


async def a_redemption(club: Club, *, reversal_days: int = 90) -> tuple[UUID, Actor]:
    perk = await club.perk(units=5, reversal_days=reversal_days)
    partner = club.partners[perk.partner_id]
    hold = await club.hold(await club.member(partner), perk)
    return await club.redeemed(hold), partner_actor(partner)


async def perk_of(club: Club, redemption: UUID) -> UUID:
    [row] = await club.sql("SELECT perk_id FROM redemption WHERE id = $1", redemption)
    perk_id = row["perk_id"]
    assert isinstance(perk_id, UUID)
    return perk_id


@pytest.mark.parametrize(("stock", "taken"), [(Stock.RESTOCK, 0), (Stock.WAITLIST, 0), (Stock.BURN, 1)])
async def test_a_reversal_says_what_becomes_of_the_unit(club: Club, stock: Stock, taken: int) -> None:
    redemption, actor = await a_redemption(club)
    perk = club.perks[await perk_of(club, redemption)]
    assert (await club.reverse(redemption, actor, stock=stock)).code == "REVERSED"
    assert await club.taken(perk) == taken
    assert await club.entries(perk, "redemption.reversed") == [("DONE", [stock.value, "PARTNER"])]


async def test_the_same_key_reverses_again_and_another_one_does_not(club: Club) -> None:
    redemption, actor = await a_redemption(club)
    first = await club.reverse(redemption, actor, key="one")
    again = await club.reverse(redemption, actor, key="one", now=club.now + timedelta(days=900))
    assert (again.code, again.id) == ("REPLAYED", first.id)
    assert (await club.reverse(redemption, actor, key="one", stock=Stock.BURN)).code == "KEY_REUSED"
    assert (await club.reverse(redemption, actor, key="two")).code == "ALREADY_REVERSED"
    assert (await club.reverse(redemption, STAFF, key="three")).code == "ALREADY_REVERSED"
    assert await club.taken(club.perks[await perk_of(club, redemption)]) == 0


async def test_a_key_that_confirmed_does_not_reverse(club: Club) -> None:
    perk = await club.perk()
    partner = club.partners[perk.partner_id]
    hold = await club.hold(await club.member(partner), perk)
    confirmed = await club.confirm(hold, key="one")
    assert confirmed.id is not None
    assert (await club.reverse(confirmed.id, partner_actor(partner), key="one")).code == "KEY_REUSED"


async def test_the_window_ends_a_whole_number_of_days_later_for_partners_and_never_for_staff(club: Club) -> None:
    redemption, actor = await a_redemption(club, reversal_days=30)
    edge = club.now + timedelta(days=30)
    assert (await club.reverse(redemption, actor, now=edge + TICK)).code == "REVERSAL_WINDOW_CLOSED"
    assert (await club.reverse(redemption, actor, now=edge)).code == "REVERSED"
    late, _ = await a_redemption(club, reversal_days=0)
    assert (await club.reverse(late, STAFF, now=club.now + timedelta(days=3000))).code == "REVERSED"


@pytest.mark.parametrize("zone", ["UTC", "Europe/Zurich", "America/New_York"])
async def test_the_window_does_not_depend_on_the_servers_time_zone(club: Club, database: Database, zone: str) -> None:
    redemption, actor = await a_redemption(club, reversal_days=100)
    winter = datetime(2026, 1, 15, tzinfo=UTC)
    await club.sql("UPDATE redemption SET confirmed_at = $2 WHERE id = $1", redemption, winter)
    edge = winter + timedelta(days=100)
    async with database.connection() as connection:
        await connection.execute(f"SET TIME ZONE '{zone}'")
        for moment, code in ((edge + TICK, "REVERSAL_WINDOW_CLOSED"), (edge, "REVERSED")):
            answer = await redemptions.reverse_redemption(
                connection, redemption, Return("spoiled"), actor=actor, key="one", fingerprint=b"f", now=moment
            )
            assert answer.code == code
        await connection.execute("RESET TIME ZONE")


async def test_fifty_reversals_give_one_unit_back(club: Club) -> None:
    redemption, actor = await a_redemption(club)
    perk = club.perks[await perk_of(club, redemption)]
    calls = (club.reverse(redemption, actor) for _ in range(50))
    answers = await club.at_once(f"capacity WHERE perk_id = '{perk.id}'", calls)
    assert Counter(answer.code for answer in answers) == {"REVERSED": 1, "ALREADY_REVERSED": 49}
    assert await club.taken(perk) == 0
    assert len(await club.entries(perk, "redemption.reversed")) == 50


async def test_fifty_reversals_with_one_key_get_one_answer(club: Club) -> None:
    redemption, actor = await a_redemption(club)
    calls = (club.reverse(redemption, actor, key="one") for _ in range(50))
    answers = await club.at_once(f"capacity WHERE perk_id = '{await perk_of(club, redemption)}'", calls)
    assert Counter(answer.code for answer in answers) == {"REVERSED": 1, "REPLAYED": 49}
    assert len({answer.id for answer in answers}) == 1


async def test_one_key_on_many_redemptions_of_many_perks_at_once_reverses_one(club: Club) -> None:
    partner = await club.partner()
    found = []
    for _ in range(8):
        perk = await club.perk(partner)
        found.append(await club.redeemed(await club.hold(await club.member(partner), perk)))
    calls = (club.reverse(one, partner_actor(partner), key="one") for one in found)
    answers = await club.at_once("capacity", calls)
    assert Counter(answer.code for answer in answers) == {"REVERSED": 1, "KEY_REUSED": 7}


async def test_another_partners_redemption_and_none_are_one_answer(club: Club) -> None:
    redemption, _ = await a_redemption(club)
    stranger = partner_actor(await club.partner())
    answers = [await club.reverse(one, stranger) for one in (redemption, uuid4())]
    assert [(answer.code, answer.id) for answer in answers] == [("NOT_AVAILABLE", None)] * 2


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501])
async def test_a_reason_is_needed(club: Club, database: Database, reason: str) -> None:
    redemption, actor = await a_redemption(club)
    async with database.connection() as connection:
        with pytest.raises(BadInput, match="reason"):
            await redemptions.reverse_redemption(
                connection, redemption, Return(reason), actor=actor, key="k", fingerprint=b"f", now=club.now
            )


async def test_redemptions_are_listed_newest_first_within_the_actors_reach(club: Club, database: Database) -> None:
    perk = await club.perk()
    partner, rival = club.partners[perk.partner_id], await club.partner()
    member, other = await club.member(partner), await club.member(partner)
    made = [await club.redeemed(await club.hold(one, perk)) for one in (member, other, member)]
    actor = partner_actor(partner)
    await club.reverse(made[0], actor)
    async with database.sessions() as session:

        async def ids(actor: Actor, wanted: RedemptionFilter | None = None, after: UUID | None = None) -> list[UUID]:
            wanted = wanted or RedemptionFilter()
            found = await redemptions.list_redemptions(session, actor, wanted, first=2, after=after, now=club.now)
            return [one.redemption.id for one in found]

        assert await ids(actor) == [made[2], made[1]]
        assert await ids(actor, after=made[1]) == [made[0]]
        assert await ids(member_actor(member)) == [made[2], made[0]]
        assert await ids(partner_actor(rival)) == []
        assert await ids(partner_actor(rival), RedemptionFilter(id=made[0])) == []
        assert await ids(STAFF, RedemptionFilter(perk_id=perk.id, reversed=True)) == [made[0]]
        assert await ids(STAFF, RedemptionFilter(perk_id=perk.id, reversed=False)) == [made[2], made[1]]
        assert await ids(actor, RedemptionFilter(until=club.now)) == []
        assert await ids(actor, RedemptionFilter(since=club.now)) == [made[2], made[1]]
        alias = await club.consent(other, partner)
        assert await ids(actor, RedemptionFilter(alias=alias)) == [made[1]]
        await club.consent(other, rival)
        assert await ids(partner_actor(rival), RedemptionFilter(alias=alias)) == []
        assert await redemptions.count_redemptions(session, actor, RedemptionFilter(member_id=member.id), club.now) == 2
