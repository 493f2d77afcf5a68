"""Claims on the real database: what a batch answers, what a key may do, what an allowance leaves (laws 1 to 3)."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.database import Database
from partners import catalogue
from partners.actors import SYSTEM
from partners.facts import Circumstances
from partners.holds import Claimed, Held
from partners.tables import PartnerState, PerkState, Stock
from tests.factories import Club, partner_actor, today

MONTHLY_TWO = {"kind": "allowance", "period": "MONTH", "units": {"gold": 2, "silver": 1, "black": 5}}


def held(claimed: Claimed) -> Held:
    assert claimed.hold is not None, claimed.outcome
    return claimed.hold


def outcomes(answers: list[Claimed]) -> list[str]:
    return [answer.outcome for answer in answers]


async def test_a_claim_holds_and_the_same_key_gets_the_same_hold(club: Club) -> None:
    perk = await club.perk(units=2)
    member = await club.member(club.partners[perk.partner_id])
    first, again = [await club.claim(member, perk, key="one") for _ in range(2)]
    assert outcomes([first, again]) == ["HELD", "REPLAYED"]
    assert held(again) == held(first)
    assert held(first).expires_at == club.now + timedelta(minutes=15)
    assert await club.taken(perk) == 1
    assert await club.entries(perk, "perk.claimed") == [("DONE", [])]


async def test_the_last_unit_goes_to_the_first_in_the_batch(club: Club) -> None:
    perk = await club.perk(units=1)
    partner = club.partners[perk.partner_id]
    claims = [await club.claim_of(await club.member(partner), perk) for _ in range(3)]
    assert outcomes(await club.claim_all(claims)) == ["HELD", "CAPACITY_EXHAUSTED", "CAPACITY_EXHAUSTED"]
    assert await club.taken(perk) == 1
    recorded = Counter(map(str, await club.entries(perk, "perk.claimed")))
    assert recorded == {"('DONE', [])": 1, "('REFUSED', ['CAPACITY_EXHAUSTED'])": 2}


async def test_an_overdue_hold_makes_room(club: Club) -> None:
    perk = await club.perk(units=1)
    partner = club.partners[perk.partner_id]
    await club.hold(await club.member(partner), perk)
    later = club.now + timedelta(minutes=15)
    assert (await club.claim(await club.member(partner), perk, now=later - timedelta(seconds=1))).outcome == "REFUSED"
    assert (await club.claim(await club.member(partner), perk, now=later)).outcome == "HELD"
    assert await club.taken(perk) == 1
    assert await club.entries(perk, "hold.expired") == [("DONE", [])]


async def test_a_perk_without_a_limit_counts_what_is_taken(club: Club) -> None:
    perk = await club.perk()
    partner = club.partners[perk.partner_id]
    claims = [await club.claim_of(await club.member(partner), perk) for _ in range(5)]
    assert outcomes(await club.claim_all(claims)) == ["HELD"] * 5
    assert await club.taken(perk) == 5


async def test_a_replay_is_the_first_answer_after_a_downgrade_a_pause_and_a_withdrawn_consent(club: Club) -> None:
    perk = await club.perk(units=1, rules=[{"kind": "tier_at_least", "tier": "gold"}])
    partner = club.partners[perk.partner_id]
    member = await club.member(partner)
    first = await club.claim(member, perk, key="one")
    await club.assign(member, "silver")
    await club.withdraw(member, partner)
    await club.set_state(perk.id, PerkState.PAUSED)
    assert not (await club.decision(member, perk)).eligible
    again = await club.claim(member, perk, key="one")
    assert (again.outcome, held(again)) == ("REPLAYED", held(first))
    assert (await club.claim(member, perk, key="two")).outcome == "REFUSED"


async def test_a_partners_replay_names_the_member_even_when_it_may_no_longer_ask(club: Club) -> None:
    perk = await club.perk(units=1)
    partner = club.partners[perk.partner_id]
    member = await club.member(partner)
    claim = replace(await club.claim_of(member, perk), actor=partner_actor(partner))
    [first] = await club.claim_all([claim])
    unseen = replace(claim.known, member=None, member_id=None, member_version=None)
    [again] = await club.claim_all([replace(claim, known=unseen)])
    assert (again.outcome, held(again)) == ("REPLAYED", held(first))


async def test_a_replay_tells_what_became_of_the_hold(club: Club) -> None:
    perk = await club.perk(units=1)
    member = await club.member(club.partners[perk.partner_id])
    hold = held(await club.claim(member, perk, key="one"))
    await club.release(hold, now=club.now + timedelta(seconds=1))
    again = held(await club.claim(member, perk, key="one"))
    assert (again.state, again.ended_at) == ("RELEASED", club.now + timedelta(seconds=1))
    assert again.leaf_hash == hold.leaf_hash


async def test_a_key_with_other_content_is_refused_in_the_same_batch_the_next_and_on_another_perk(club: Club) -> None:
    partner = await club.partner()
    perk, other = await club.perk(partner, units=9), await club.perk(partner, units=9)
    member = await club.member(partner)
    claim = await club.claim_of(member, perk, key="one")
    answers = await club.claim_all([claim, replace(claim, fingerprint=b"other"), claim])
    assert outcomes(answers) == ["HELD", "KEY_REUSED", "REPLAYED"]
    again = await club.claim_all([replace(claim, fingerprint=b"other"), claim])
    assert outcomes(again) == ["KEY_REUSED", "REPLAYED"]
    assert (await club.claim(member, other, key="one")).outcome == "KEY_REUSED"
    assert (await club.taken(perk), await club.taken(other)) == (1, 0)


async def test_equal_keys_in_one_batch_share_one_hold(club: Club) -> None:
    perk = await club.perk(units=9)
    claim = await club.claim_of(await club.member(club.partners[perk.partner_id]), perk)
    answers = await club.claim_all([claim] * 4)
    assert outcomes(answers) == ["HELD", "REPLAYED", "REPLAYED", "REPLAYED"]
    assert len({held(answer).id for answer in answers}) == 1
    assert await club.taken(perk) == 1


async def test_a_key_that_loses_takes_no_place_from_anyone(club: Club) -> None:
    perk = await club.perk(units=2, rules=[MONTHLY_TWO])
    partner = club.partners[perk.partner_id]
    claim, other = [await club.claim_of(await club.member(partner), perk) for _ in range(2)]
    rivals = [replace(claim, fingerprint=bytes([number])) for number in range(3)]
    assert outcomes(await club.claim_all([*rivals, other])) == ["HELD", "KEY_REUSED", "KEY_REUSED", "HELD"]


async def test_one_key_on_two_perks_at_once_acts_once(club: Club) -> None:
    partner = await club.partner()
    perks = [await club.perk(partner, units=9) for _ in range(4)]
    for _ in range(5):
        member = await club.member(partner)
        claims = [await club.claim_of(member, perk, key="one") for perk in perks]
        answers = await club.at_once("capacity", (club.claim_all([claim]) for claim in claims))
        assert Counter(answer.outcome for [answer] in answers)["HELD"] == 1
        assert {answer.outcome for [answer] in answers} <= {"HELD", "KEY_RACE", "KEY_REUSED"}
        assert {(await club.claim(member, perk, key="one")).outcome for perk in perks} == {"REPLAYED", "KEY_REUSED"}
    assert sum([await club.taken(perk) for perk in perks]) == 5


async def test_two_people_may_use_the_same_key(club: Club) -> None:
    perk = await club.perk(units=2)
    partner = club.partners[perk.partner_id]
    claims = [await club.claim_of(await club.member(partner), perk, key="one") for _ in range(2)]
    assert outcomes(await club.claim_all(claims)) == ["HELD", "HELD"]


async def test_a_refusal_does_not_use_up_the_key(club: Club) -> None:
    perk = await club.perk(units=1)
    partner = club.partners[perk.partner_id]
    member = await club.member(partner)
    first = await club.hold(await club.member(partner), perk)
    assert (await club.claim(member, perk, key="one")).outcome == "REFUSED"
    await club.release(first)
    assert (await club.claim(member, perk, key="one")).outcome == "HELD"


@pytest.mark.parametrize("change", ["tier", "consent", "withdrawal", "pause", "suspension"])
async def test_a_claim_judged_on_older_facts_is_stale(club: Club, database: Database, change: str) -> None:
    perk = await club.perk(units=1)
    partner = club.partners[perk.partner_id]
    member = await club.member(partner)
    claim = await club.claim_of(member, perk, key="one")
    if change == "tier":
        await club.assign(member, "silver")
    elif change == "consent":
        await club.consent(member, await club.partner())
    elif change == "withdrawal":
        await club.withdraw(member, partner)
    elif change == "pause":
        await club.set_state(perk.id, PerkState.PAUSED)
    else:
        async with database.sessions.begin() as session:
            await catalogue.set_partner_state(session, partner.id, PartnerState.SUSPENDED, actor=SYSTEM, now=club.now)
    assert outcomes(await club.claim_all([claim])) == ["STALE"]
    assert await club.taken(perk) == 0
    assert await club.entries(perk, "perk.claimed") == []
    fresh = (await club.claim(member, perk, key="one")).outcome
    assert fresh == ("HELD" if change in ("tier", "consent") else "REFUSED")


async def test_a_refusal_is_recorded_with_every_reason(club: Club) -> None:
    perk = await club.perk(
        units=1, rules=[{"kind": "tier_at_least", "tier": "black"}, {"kind": "market", "markets": ["DE"]}]
    )
    assert (await club.claim(await club.member(), perk)).outcome == "REFUSED"
    assert await club.entries(perk, "perk.claimed") == [
        ("REFUSED", ["CONSENT_MISSING", "TIER_TOO_LOW", "WRONG_MARKET"])
    ]


async def test_an_allowance_holds_within_one_batch(club: Club) -> None:
    perk = await club.perk(rules=[MONTHLY_TWO])
    partner = club.partners[perk.partner_id]
    member, other = await club.member(partner), await club.member(partner, tier="silver")
    claims = [await club.claim_of(one, perk) for one in (member, other, member, other, member)]
    answers = await club.claim_all(claims)
    assert outcomes(answers) == ["HELD", "HELD", "HELD", "RESUMED", "RESUMED"]
    assert held(answers[3]).id == held(answers[1]).id  # nobody is locked out by its own hold
    assert held(answers[4]).id in {held(answers[0]).id, held(answers[2]).id}
    decision = await club.decision(member, perk)
    assert decision.allowance is not None
    assert (decision.allowance.used, decision.allowance.remaining) == (2, 0)


@pytest.mark.parametrize("way", ["release", "expire", "reverse", "burn"])
async def test_what_is_given_back_may_be_used_again(club: Club, way: str) -> None:
    perk = await club.perk(rules=[MONTHLY_TWO], time_zone="Etc/GMT+12")
    partner = club.partners[perk.partner_id]
    member = await club.member(partner)
    first, _ = [await club.hold(member, perk) for _ in range(2)]
    assert (await club.claim(member, perk)).outcome == "RESUMED"
    if way == "release":
        await club.release(first)
    elif way == "expire":
        await club.sql("UPDATE hold SET expires_at = $2 WHERE id = $1", first.id, club.now)
    else:
        redemption = await club.redeemed(first)
        assert (await club.claim(member, perk)).outcome == "RESUMED"
        await club.reverse(redemption, partner_actor(partner), stock=Stock.BURN if way == "burn" else Stock.RESTOCK)
    assert outcomes([await club.claim(member, perk), await club.claim(member, perk)]) == ["HELD", "RESUMED"]
    [row] = await club.sql("SELECT sum(counted) FROM hold WHERE member_id = $1", member.id)
    assert row[0] == 2


async def test_what_is_confirmed_is_no_hold_to_get_back(club: Club) -> None:
    perk = await club.perk(rules=[MONTHLY_TWO])
    member = await club.member(club.partners[perk.partner_id], tier="silver")
    await club.redeemed(await club.hold(member, perk))
    refused = await club.claim(member, perk)
    assert (refused.outcome, refused.reasons) == ("REFUSED", ("ALLOWANCE_EXHAUSTED",))


async def test_a_retry_gets_its_own_hold_and_other_content_is_told_of_it(club: Club) -> None:
    perk = await club.perk(rules=[MONTHLY_TWO])
    await club.sql("UPDATE perk SET units_max = 5 WHERE id = $1", perk.id)
    member = await club.member(club.partners[perk.partner_id])
    first = held(await club.claim(member, perk, said=Circumstances(units=2)))
    again = await club.claim(member, perk, said=Circumstances(units=2))
    assert (again.outcome, held(again)) == ("RESUMED", first)
    other = await club.claim(member, perk, said=Circumstances(units=1))
    assert (other.outcome, other.reasons) == ("REFUSED", ("ALLOWANCE_EXHAUSTED", "ALREADY_HELD"))
    late = await club.claim(member, perk, said=Circumstances(units=2), now=first.expires_at)
    assert (late.outcome, held(late).id != first.id) == ("HELD", True)


async def test_a_lowered_tier_that_has_used_more_than_it_has_gets_no_more_and_a_raised_one_does(club: Club) -> None:
    perk = await club.perk(rules=[MONTHLY_TWO])
    partner = club.partners[perk.partner_id]
    member = await club.member(partner, tier="black")
    holds = [await club.hold(member, perk) for _ in range(3)]
    await club.assign(member, "gold")
    for spare in holds[:2]:
        assert (await club.claim(member, perk)).outcome == "RESUMED"
        await club.release(spare)
    assert outcomes([await club.claim(member, perk), await club.claim(member, perk)]) == ["HELD", "RESUMED"]
    await club.assign(member, "black", now=club.now + timedelta(microseconds=1))
    claims = [await club.claim_of(member, perk, now=club.now + timedelta(seconds=1)) for _ in range(4)]
    assert outcomes(await club.claim_all(claims)) == ["HELD"] * 3 + ["RESUMED"]


async def test_the_next_period_has_an_allowance_of_its_own(club: Club) -> None:
    perk = await club.perk(rules=[{"kind": "allowance", "period": "DAY", "otherwise": 1}], hold_seconds=60)
    member = await club.member(club.partners[perk.partner_id])
    midnight = club.now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    late = midnight - timedelta(seconds=1)
    assert (await club.claim(member, perk, now=late)).outcome == "HELD"
    assert (await club.claim(member, perk, now=late)).outcome == "RESUMED"
    assert (await club.claim(member, perk, now=midnight)).outcome == "HELD"
    assert (await club.decision(member, perk, now=midnight)).eligible is False


async def test_the_last_day_of_a_perk_is_inclusive(club: Club) -> None:
    perk = await club.perk(closes_on=today(club.now))
    member = await club.member(club.partners[perk.partner_id])
    end = club.now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    assert (await club.claim(member, perk, now=end)).outcome == "REFUSED"
    assert (await club.claim(member, perk, now=end - timedelta(microseconds=1))).outcome == "HELD"
