"""Claims, holds and what becomes of them, on the real database: laws 1 to 5."""

from datetime import timedelta

from gateway.database import Database
from partners.holds import release_hold
from partners.redemptions import Return, confirm_hold, reverse_redemption
from tests.factories import Club, member_actor, partner_actor


async def test_a_claim_holds_and_the_same_key_gets_the_same_hold(club: Club) -> None:
    perk = await club.perk(units=2)
    member = await club.member(club.partners[perk.partner_id])
    first = await club.claim(member, perk, key="one")
    again = await club.claim(member, perk, key="one")
    assert first.outcome == "HELD"
    assert again.outcome == "REPLAYED"
    assert first.hold is not None
    assert again.hold is not None
    assert again.hold == first.hold
    assert await club.taken(perk) == 1


async def test_the_last_unit_goes_to_the_first_in_the_batch(club: Club) -> None:
    perk = await club.perk(units=1)
    partner = club.partners[perk.partner_id]
    claims = [await club.claim_of(await club.member(partner), perk) for _ in range(3)]
    assert [answer.outcome for answer in await club.claim_all(claims)] == [
        "HELD",
        "CAPACITY_EXHAUSTED",
        "CAPACITY_EXHAUSTED",
    ]
    assert await club.taken(perk) == 1


async def test_confirm_release_reverse(club: Club, database: Database) -> None:
    perk = await club.perk(units=5)
    partner = club.partners[perk.partner_id]
    member = await club.member(partner)
    held = (await club.claim(member, perk)).hold
    spare = (await club.claim(member, perk)).hold
    assert held is not None
    assert spare is not None
    async with database.connection() as connection:
        assert await release_hold(connection, spare.id, member_actor(member), club.now) == "RELEASED"
        assert await club.taken(perk) == 1
        actor = partner_actor(partner)
        confirmed = await confirm_hold(
            connection, hold_id=held.id, code=None, actor=actor, key="k", fingerprint=b"f", now=club.now
        )
        assert confirmed.code == "CONFIRMED"
        assert confirmed.id is not None
        reversed_ = await reverse_redemption(
            connection, confirmed.id, Return("spoiled"), actor=actor, key="r", fingerprint=b"f", now=club.now
        )
        assert reversed_.code == "REVERSED"
    assert await club.taken(perk) == 0


async def test_an_overdue_hold_makes_room(club: Club) -> None:
    perk = await club.perk(units=1)
    partner = club.partners[perk.partner_id]
    await club.claim(await club.member(partner), perk)
    later = club.now + timedelta(minutes=15)
    assert (await club.claim(await club.member(partner), perk, now=later - timedelta(seconds=1))).outcome == "REFUSED"
    assert (await club.claim(await club.member(partner), perk, now=later)).outcome == "HELD"
    assert await club.taken(perk) == 1
