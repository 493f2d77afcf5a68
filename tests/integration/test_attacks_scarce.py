"""Attempts to break a hold's laws by odd orders and odd numbers: each was a way in once, or would have been."""

from typing import Any

import pytest

from partners import catalogue, tables
from partners.actors import SYSTEM
from partners.errors import BadInput, Conflict
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


async def test_amounts_are_counted_in_some_currency(club: Club) -> None:
    """A perk that counts amounts and knows no currency could never be claimed."""
    by_amount = {"kind": "allowance", "period": "DAY", "otherwise": 500, "measure": "amount"}
    with pytest.raises(BadInput, match="currency"):
        await club.perk(rules=[by_amount])
    perk = await club.perk(rules=[by_amount], currency="CHF")
    with pytest.raises(BadInput, match="currency"):
        await update(club, perk, currency=None)


async def test_the_currency_stays_while_somebody_waits_for_an_amount_of_it(club: Club) -> None:
    queue = await Queue.at(club, currency="CHF")
    [hold] = await queue.fill()
    await queue.join(amount=500)
    await queue.release(hold)
    with pytest.raises(Conflict, match="currency"):
        await update(club, queue.perk, currency="JPY")


async def test_claims_on_several_perks_at_once_are_not_too_fast_to_be_counted(club: Club) -> None:
    """Each was judged before any other was made: all but one is asked about again, and refused."""
    partner = await club.partner()
    perks = [await club.perk(partner, rules=[{"kind": "velocity", "claims": 1, "hours": 24}]) for _ in range(3)]
    member = await club.member(partner)
    judged = [await club.claim_of(member, perk) for perk in perks]
    lock = f"member WHERE id = '{member.id}'"
    answers = await club.at_once(lock, [club.claim_all([claim]) for claim in judged])
    assert sorted(claimed.outcome for [claimed] in answers) == ["HELD", "STALE", "STALE"]
    assert {(await club.claim(member, perk)).outcome for perk in perks} == {"REFUSED"}
