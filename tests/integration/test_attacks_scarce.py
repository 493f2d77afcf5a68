"""Attempts to break a hold's laws by odd orders and odd numbers: each was a way in once, or would have been."""

from typing import Any

import pytest

from partners import catalogue, tables
from partners.actors import SYSTEM
from partners.errors import BadInput
from partners.facts import Circumstances
from partners.holds import Held
from partners.laws import check_laws
from partners.references import PerkRef
from tests.factories import STAFF, Club, member_actor
from tests.waiting import Queue

FOR_BLACK = {"units": 4, "tiers": [{"tier": "black", "until": "2100-01-01T00:00"}]}


async def update(club: Club, perk: tables.Perk, *, stop_claims: bool = False, **said: Any) -> None:
    async with club.database.sessions.begin() as session:
        offer = await catalogue.lock_offer(session, PerkRef(id=perk.id), SYSTEM)
        await catalogue.update_perk(
            session,
            offer,
            offer.changed(**said),
            programme=club.programme,
            actor=SYSTEM,
            now=club.now,
            stop_claims=stop_claims,
        )


async def held(club: Club, perk: tables.Perk, units: int = 1, *, tier: str = "black") -> Held:
    member = await club.member(club.partners[perk.partner_id], tier=tier)
    return await club.hold(member, perk, said=Circumstances(units=units))


async def lawful(club: Club, perk: tables.Perk) -> None:
    async with club.database.connection() as connection:
        broken = [one for one in await check_laws(connection, club.now) if one.broken and str(perk.id) in one.rows]
    assert broken == []


async def stock(club: Club, perk: tables.Perk) -> list[tuple[Any, ...]]:
    """Units, taken, kept and shrink_to of the capacity, then of each pool."""
    rows = await club.sql(
        "SELECT units, taken, kept, shrink_to FROM (SELECT -1 AS number, units, taken, kept, shrink_to FROM capacity"
        " WHERE perk_id = $1 UNION ALL SELECT number, units, taken, kept, shrink_to FROM pool WHERE perk_id = $1) AS s"
        " ORDER BY number",
        perk.id,
    )
    return [tuple(row) for row in rows]


async def test_another_title_does_not_call_off_that_a_pool_shrinks(club: Club) -> None:
    perk = await club.perk(units=10, units_max=10, settings={"pools": [FOR_BLACK]})
    first = await held(club, perk, 10)
    await update(club, perk, units=8, settings={"pools": [FOR_BLACK | {"units": 2}]}, stop_claims=True)
    await update(club, perk, title="Another title")
    await club.release(first)
    assert [(row[0], row[1]) for row in await stock(club, perk)] == [(8, 0), (2, 0), (6, 0)]
    await lawful(club, perk)


async def test_a_reversal_of_nothing_is_bad_input(club: Club) -> None:
    perk = await club.perk(currency="CHF", units=5)
    redemption = await club.redeemed(await held(club, perk))
    with pytest.raises(BadInput, match="units"):
        await club.reverse(redemption, STAFF, amount=0)


async def test_what_nobody_waits_for_any_more_is_not_sold_where_claims_were_stopped(club: Club) -> None:
    for settings in ({}, {"pools": [FOR_BLACK | {"units": 0}]}):
        queue = await Queue.at(club, units=4, units_max=4, settings=settings)
        holds, member = await queue.fill(4), await queue.member()
        entry = await queue.join(member, units=4)
        await queue.release(*holds[:3])
        await update(club, queue.perk, units=1, stop_claims=True)
        assert (await stock(club, queue.perk))[0] == (4, 1, 3, 1)
        await queue.leave(entry, member_actor(member))
        assert {row[0] for row in await stock(club, queue.perk)} <= {0, 1}
        assert (await club.claim(member, queue.perk)).outcome == "REFUSED"
        await queue.release(*holds[3:])
        assert [(await club.claim(await queue.member(), queue.perk)).outcome for _ in range(2)] == ["HELD", "REFUSED"]
        await lawful(club, queue.perk)
