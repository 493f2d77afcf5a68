"""Parts of a hold and of a redemption, and more time for a hold: whatever is given back is given back once."""

from collections import Counter
from datetime import timedelta
from uuid import UUID

import pytest

from partners import tables
from partners.errors import BadInput
from partners.facts import Circumstances
from partners.holds import Held
from partners.tables import PartnerState, PerkState, Stock
from tests.factories import STAFF, Club, member_actor, partner_actor

DAILY = [
    {"kind": "allowance", "period": "DAY", "otherwise": 10},
    {"kind": "allowance", "period": "DAY", "otherwise": 900, "measure": "amount"},
]


async def party(club: Club, units: int = 5, **settings: object) -> tuple[tables.Perk, tables.Member, Held]:
    """Some of ten units and 100 of 900 Swiss centimes each, held."""
    perk = await club.perk(rules=DAILY, **{"units": 10, "units_max": 10, "currency": "CHF", **settings})
    member = await club.member(club.partners[perk.partner_id])
    return perk, member, await club.hold(member, perk, said=Circumstances(units=units, amount=100 * units))


async def counts(club: Club, hold: Held) -> tuple[int, int, int]:
    """What is taken of the perk, and what counts towards the member's allowances: units and amount."""
    [row] = await club.sql("SELECT counted, counted_amount FROM hold WHERE id = $1", hold.id)
    return await club.taken(club.perks[hold.perk_id]), row["counted"], row["counted_amount"]


async def test_a_part_is_confirmed_and_the_rest_comes_back(club: Club) -> None:
    _, member, hold = await party(club)
    confirmed = await club.confirm(hold, units=3, amount=250)
    assert confirmed.code == "CONFIRMED"
    assert await counts(club, hold) == (3, 3, 250)
    again = await club.claim(member, club.perks[hold.perk_id], said=Circumstances(units=7, amount=650))
    assert again.outcome == "HELD"
    more = await club.claim(member, club.perks[hold.perk_id], said=Circumstances(units=1, amount=1))
    assert more.reasons == ("ALLOWANCE_EXHAUSTED", "CAPACITY_EXHAUSTED", "VALUE_LIMIT_REACHED", "ALREADY_HELD")


@pytest.mark.parametrize(("parts", "code"), [({"units": 6}, "UNITS_EXCEEDED"), ({"amount": 501}, "AMOUNT_EXCEEDED")])
async def test_more_than_is_held_is_not_confirmed(club: Club, parts: dict[str, int], code: str) -> None:
    perk, _, hold = await party(club)
    assert (await club.confirm(hold, **parts)).code == code  # type: ignore[arg-type]
    assert await counts(club, hold) == (5, 5, 500)
    assert await club.entries(perk, "hold.confirmed") == [("REFUSED", [code])]
    assert (await club.confirm(hold, units=5, amount=500)).code == "CONFIRMED"


@pytest.mark.parametrize("parts", [{"units": 0}, {"units": -1}, {"units": 2**31}, {"amount": -1}, {"amount": 2**31}])
async def test_what_is_no_part_is_bad_input(club: Club, parts: dict[str, int]) -> None:
    _, _, hold = await party(club)
    with pytest.raises(BadInput):
        await club.confirm(hold, **parts)  # type: ignore[arg-type]
    redemption = await club.redeemed(hold)
    with pytest.raises(BadInput):
        await club.reverse(redemption, STAFF, **(parts | ({"units": 0} if "amount" in parts else {})))


async def test_parts_are_reversed_until_nothing_is_left(club: Club) -> None:
    _, _, hold = await party(club)
    redemption, actor = await club.redeemed(hold), club.partner_of(hold)
    assert (await club.reverse(redemption, actor, units=2, amount=200)).code == "REVERSED"
    assert await counts(club, hold) == (3, 3, 300)
    assert (await club.reverse(redemption, actor, units=4)).code == "UNITS_EXCEEDED"
    assert (await club.reverse(redemption, actor, amount=301)).code == "AMOUNT_EXCEEDED"
    assert (await club.reverse(redemption, actor, amount=50)).code == "REVERSED"  # money alone
    assert await counts(club, hold) == (3, 3, 250)
    assert (await club.reverse(redemption, actor, units=1, stock=Stock.BURN)).code == "REVERSED"
    assert await counts(club, hold) == (3, 2, 250)
    assert (await club.reverse(redemption, actor, returns_allowance=False)).code == "REVERSED"
    assert await counts(club, hold) == (1, 2, 250)  # one was burnt, and two count on
    assert (await club.reverse(redemption, STAFF)).code == "ALREADY_REVERSED"
    made = "SELECT number, units, amount FROM reversal WHERE redemption_id = $1 ORDER BY number"
    rows = await club.sql(made, redemption)
    assert [tuple(row) for row in rows] == [(1, 2, 200), (2, 0, 50), (3, 1, 0), (4, 2, 250)]


async def test_fifty_reversals_of_one_unit_at_once_give_back_what_there_was(club: Club) -> None:
    perk, _, hold = await party(club, 9)
    redemption, actor = await club.redeemed(hold), club.partner_of(hold)
    answers = await club.at_once("capacity", (club.reverse(redemption, actor, units=1) for _ in range(50)))
    assert Counter(answer.code for answer in answers) == {"REVERSED": 9, "ALREADY_REVERSED": 41}
    assert await counts(club, hold) == (0, 0, 0)
    recorded = Counter(outcome for outcome, _ in await club.entries(perk, "redemption.reversed"))
    assert recorded == {"DONE": 9, "REFUSED": 41}


async def test_a_hold_is_extended_twice(club: Club) -> None:
    perk, _, hold = await party(club, hold_seconds=600)
    for minutes in (5, 14):
        now = club.now + timedelta(minutes=minutes)
        assert await club.extend(hold, now=now) == "EXTENDED"
        [row] = await club.sql("SELECT expires_at FROM hold WHERE id = $1", hold.id)
        assert row["expires_at"] == now + timedelta(minutes=10)
    assert await club.extend(hold, now=club.now + timedelta(minutes=20)) == "EXTENSION_LIMIT_REACHED"
    assert (await club.confirm(hold, now=club.now + timedelta(minutes=23, seconds=59))).code == "CONFIRMED"
    entries = await club.entries(perk, "hold.extended")
    assert entries == [("DONE", []), ("DONE", []), ("REFUSED", ["EXTENSION_LIMIT_REACHED"])]


async def test_fifty_extensions_at_once_are_two(club: Club) -> None:
    _, _, hold = await party(club)
    answers = await club.at_once("hold", (club.extend(hold) for _ in range(50)))
    assert Counter(answers) == {"EXTENDED": 2, "EXTENSION_LIMIT_REACHED": 48}


@pytest.mark.parametrize("why", ["HOLD_EXPIRED", "PERK_PAUSED", "PARTNER_SUSPENDED", "MEMBERSHIP_SUSPENDED", "ENDED"])
async def test_what_has_ended_is_not_extended(club: Club, why: str) -> None:
    perk, member, hold = await party(club)
    now = club.now
    if why == "HOLD_EXPIRED":
        now = hold.expires_at
    elif why == "PERK_PAUSED":
        await club.set_state(perk.id, PerkState.PAUSED)
    elif why == "ENDED":
        await club.sql("UPDATE perk SET closes_on = $2 WHERE id = $1", perk.id, club.now.date() - timedelta(days=1))
    elif why == "PARTNER_SUSPENDED":
        await club.sql("UPDATE partner SET state = $2 WHERE id = $1", perk.partner_id, PartnerState.SUSPENDED)
    else:
        await club.sql("UPDATE member SET state = 'SUSPENDED' WHERE id = $1", member.id)
    assert await club.extend(hold, now=now) == why


async def test_nobody_extends_or_confirms_anothers_hold(club: Club) -> None:
    _, _, hold = await party(club)
    stranger = await club.member()
    for actor in (member_actor(stranger), partner_actor(await club.partner())):
        assert await club.extend(hold, actor=actor) == "NOT_AVAILABLE"
        assert (await club.confirm(hold, actor=actor)).code == "NOT_AVAILABLE"


async def test_a_member_confirms_where_the_perk_is_self_service(club: Club) -> None:
    perk, member, hold = await party(club)
    assert (await club.confirm(hold, actor=member_actor(member))).code == "NOT_AVAILABLE"
    await club.sql("UPDATE perk SET self_service = true WHERE id = $1", perk.id)
    assert (await club.confirm(hold, actor=member_actor(await club.member()))).code == "NOT_AVAILABLE"
    confirmed = await club.confirm(hold, actor=member_actor(member))
    assert (confirmed.code, isinstance(confirmed.id, UUID)) == ("CONFIRMED", True)
