"""Limits of households, devices, amounts and groups on a real database, alone, in one batch and in races."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from partners import tables
from partners.facts import Circumstances
from partners.holds import Claim, Claimed
from tests.factories import STAFF, Club, partner_actor

TICK = timedelta(microseconds=1)
PHONE = Circumstances(device=b"a phone")


def allowance(**settings: Any) -> dict[str, Any]:
    return {"kind": "allowance", "period": "EVER", "otherwise": 1} | settings


async def family(club: Club, perk: tables.Perk, size: int) -> list[tables.Member]:
    """Members of one household who consent."""
    partner = club.partners[perk.partner_id]
    members = [await club.member(partner) for _ in range(size)]
    ids = [member.id for member in members]
    await club.sql(
        "UPDATE member SET household = $2, version = version + 1 WHERE id = ANY ($1)", ids, f"H {uuid4().hex}"
    )
    return members


async def race(club: Club, perk: tables.Perk, claims: Sequence[Claim]) -> list[Claimed]:
    """Each claim in a batch of its own, all waiting for one lock before any goes on."""
    answers = await club.at_once(f"capacity WHERE perk_id = '{perk.id}'", (club.claim_all([one]) for one in claims))
    return [one for [one] in answers]


def outcomes(claimed: Sequence[Claimed]) -> dict[str, int]:
    return dict(Counter(one.outcome for one in claimed))


async def test_a_household_shares_what_it_has_and_a_member_of_none_has_it_alone(club: Club) -> None:
    perk = await club.perk(rules=[allowance(per="household", otherwise=2)])
    one, two, three = await family(club, perk, 3)
    alone = [await club.member(club.partners[perk.partner_id]) for _ in range(3)]
    assert (await club.claim(one, perk)).outcome == "HELD"
    assert (await club.claim(two, perk)).outcome == "HELD"
    decision = await club.decision(three, perk)
    assert [(one.code, one.required, one.current) for one in decision.refusals] == [
        ("HOUSEHOLD_LIMIT_REACHED", "2", "2")
    ]
    assert (await club.claim(three, perk)).outcome == "REFUSED"
    for member in alone:
        assert (await club.claim(member, perk)).outcome == "HELD"
    another = await club.perk(club.partners[perk.partner_id], rules=[allowance(per="household")])
    assert (await club.claim(three, another)).outcome == "HELD"


@pytest.mark.parametrize("together", [False, True])
async def test_fifty_of_a_household_at_once_have_what_one_household_has(club: Club, together: bool) -> None:
    perk = await club.perk(rules=[allowance(per="household", otherwise=3)])
    claims = [await club.claim_of(member, perk) for member in await family(club, perk, 50)]
    assert all(claim.decision.eligible for claim in claims)
    claimed = await club.claim_all(claims) if together else await race(club, perk, claims)
    assert outcomes(claimed) == {"HELD": 3, "HOUSEHOLD_LIMIT_REACHED": 47}
    assert await club.taken(perk) == 3
    assert [outcome for outcome, _ in await club.entries(perk, "perk.claimed")].count("DONE") == 3


@pytest.mark.parametrize("together", [False, True])
async def test_fifty_members_on_one_device_have_what_one_device_has(club: Club, together: bool) -> None:
    perk = await club.perk(rules=[allowance(per="device")])
    partner = club.partners[perk.partner_id]
    claims = [await club.claim_of(await club.member(partner), perk, said=PHONE) for _ in range(50)]
    claimed = await club.claim_all(claims) if together else await race(club, perk, claims)
    assert outcomes(claimed) == {"HELD": 1, "DEVICE_ALREADY_USED": 49}
    other = await club.claim(await club.member(partner), perk, said=Circumstances(device=b"another"))
    assert other.outcome == "HELD"


async def test_a_device_that_is_not_named_is_asked_for(club: Club) -> None:
    perk = await club.perk(rules=[allowance(per="device")])
    member = await club.member(club.partners[perk.partner_id])
    assert [one.code for one in (await club.decision(member, perk)).refusals] == ["DEVICE_MISSING"]
    assert (await club.claim(member, perk)).outcome == "REFUSED"


async def test_amounts_add_up_to_no_more_than_their_limit_in_a_race(club: Club) -> None:
    perk = await club.perk(currency="CHF", rules=[allowance(period="MONTH", measure="amount", otherwise=500)])
    member = await club.member(club.partners[perk.partner_id])
    # Each another amount: the same again would get its own hold again.
    claims = [await club.claim_of(member, perk, said=Circumstances(amount=100 + n)) for n in range(20)]
    claimed = await race(club, perk, claims)
    held = [one.hold.amount for one in claimed if one.hold is not None]
    assert outcomes(claimed) == {"HELD": 4, "VALUE_LIMIT_REACHED": 16}
    assert 500 - 119 < sum(held) <= 500
    left = (await club.decision(member, perk)).allowances
    assert [(one.used, one.remaining) for one in left] == [(sum(held), 500 - sum(held))]


async def test_the_refund_limit_of_a_household_counts_money_of_all_of_it(club: Club) -> None:
    rules = [allowance(period="YEAR", measure="amount", per="household", units={"gold": 1000}, otherwise=500)]
    perk = await club.perk(currency="CHF", rules=rules)
    one, two = await family(club, perk, 2)
    await club.hold(one, perk, said=Circumstances(amount=900))
    decision = (await club.claim_of(two, perk, said=Circumstances(amount=101))).decision
    assert [refusal.code for refusal in decision.refusals] == ["HOUSEHOLD_LIMIT_REACHED"]
    await club.hold(two, perk, said=Circumstances(amount=100))


@pytest.mark.parametrize("way", ["released", "expired", "reversed"])
async def test_what_one_of_a_household_gives_back_another_may_use(club: Club, way: str) -> None:
    perk = await club.perk(rules=[allowance(per="household")])
    one, two = await family(club, perk, 2)
    hold, later = await club.hold(one, perk), club.now
    if way == "released":
        await club.release(hold)
    elif way == "expired":
        later = hold.expires_at
    else:
        await club.reverse(await club.redeemed(hold), STAFF)
    assert (await club.claim(two, perk, now=later)).outcome == "HELD"


async def test_a_rolling_limit_lets_go_at_the_very_moment_it_said(club: Club) -> None:
    perk = await club.perk(rules=[allowance(period="ROLLING", hours=36, otherwise=2)], units_max=2)
    member = await club.member(club.partners[perk.partner_id])
    await club.redeemed(await club.hold(member, perk))
    second = club.now + timedelta(hours=5)
    await club.redeemed(await club.hold(member, perk, now=second), now=second)
    decision = await club.decision(member, perk, now=second)
    again = club.now + timedelta(hours=36)
    assert decision.eligible_again_at == again
    assert (await club.claim(member, perk, now=again - TICK)).outcome == "REFUSED"
    both = await club.claim_of(member, perk, now=again, said=Circumstances(units=2))
    assert both.decision.eligible_again_at == second + timedelta(hours=36)
    assert (await club.claim(member, perk, now=again)).outcome == "HELD"


async def test_a_day_ends_at_midnight_of_the_perks_zone(club: Club) -> None:
    perk = await club.perk(time_zone="Asia/Tokyo", rules=[allowance(period="DAY")])
    member = await club.member(club.partners[perk.partner_id])
    midnight = datetime(club.now.year + 1, 5, 1, 15, tzinfo=UTC)
    first = await club.hold(member, perk, now=midnight - timedelta(hours=1))
    await club.redeemed(first, now=midnight - timedelta(hours=1))
    decision = await club.decision(member, perk, now=midnight - TICK)
    assert decision.eligible_again_at == midnight
    assert decision.allowance is not None
    assert decision.allowance.resets_at == midnight
    assert (await club.claim(member, perk, now=midnight - TICK)).outcome == "REFUSED"
    assert (await club.claim(member, perk, now=midnight)).outcome == "HELD"


async def group(club: Club, size: int) -> tuple[list[tables.Perk], tables.Member]:
    """Perks that exclude each other, and a member for them."""
    partner = await club.partner()
    perks = [await club.perk(partner, rules=[{"kind": "not_together", "group": "spa"}]) for _ in range(size)]
    return perks, await club.member(partner)


async def test_of_perks_that_exclude_each_other_a_member_gets_one_in_a_race(club: Club) -> None:
    perks, member = await group(club, 12)
    claims = [await club.claim_of(member, perk) for perk in perks]
    assert all(claim.decision.eligible for claim in claims)
    answers = await club.at_once(f"member WHERE id = '{member.id}'", (club.claim_all([one]) for one in claims))
    assert outcomes([one for [one] in answers]) == {"HELD": 1, "CONFLICTS_WITH_HELD_PERK": 11}
    assert sum([await club.taken(perk) for perk in perks]) == 1


@pytest.mark.parametrize("way", ["released", "expired", "reversed", "confirmed"])
async def test_perks_exclude_each_other_both_ways_until_one_is_given_back(club: Club, way: str) -> None:
    [one, two], member = await group(club, 2)
    hold, later = await club.hold(member, two), club.now
    decision = await club.decision(member, one)
    assert [(refusal.code, refusal.required) for refusal in decision.refusals] == [("CONFLICTS_WITH_HELD_PERK", "spa")]
    assert (await club.decision(member, two)).eligible  # more of the same is the allowance's affair
    if way == "released":
        await club.release(hold)
    elif way == "expired":
        later = hold.expires_at
    else:
        redemption = await club.redeemed(hold)
        if way == "reversed":
            await club.reverse(redemption, partner_actor(club.partners[one.partner_id]))
    assert (await club.claim(member, one, now=later)).outcome == ("REFUSED" if way == "confirmed" else "HELD")


async def test_a_group_is_its_partners_own(club: Club) -> None:
    [one], member = await group(club, 1)
    [other], _ = await group(club, 1)
    await club.consent(member, club.partners[other.partner_id])
    await club.hold(member, one)
    await club.hold(member, other)
    assert await club.taken(other) == 1


async def test_mixed_limits_hold_in_a_storm_of_claims_releases_and_confirmations(club: Club) -> None:
    rules = [allowance(per="household", otherwise=4), allowance(per="device", otherwise=2), allowance(otherwise=3)]
    perk = await club.perk(rules=rules)
    members = await family(club, perk, 6)

    async def one(number: int) -> str:
        member, device = members[number % 6], Circumstances(device=f"phone {number % 4}".encode())
        claimed = await club.claim(member, perk, said=device)
        if claimed.outcome == "HELD" and claimed.hold is not None and number % 3 == 0:
            await club.release(claimed.hold)
        return claimed.outcome

    answers = await asyncio.gather(*(one(number) for number in range(80)))
    assert "HELD" in answers
    counted = "SELECT {0}, sum(counted) AS n FROM hold WHERE perk_id = $1 AND counted > 0 GROUP BY {0}"
    for column, limit in (("household", 4), ("device", 2), ("member_id", 3)):
        rows = await club.sql(counted.format(column), perk.id)
        assert max((row["n"] for row in rows), default=0) <= limit
    [held] = await club.sql("SELECT coalesce(sum(counted), 0) AS n FROM hold WHERE perk_id = $1", perk.id)
    assert held["n"] == await club.taken(perk)
