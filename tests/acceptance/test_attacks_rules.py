"""Rules in bad faith: those that keep the service busy, get around a limit, or find out what a partner may not know."""

import asyncio
from datetime import UTC, datetime, timedelta
from time import process_time
from typing import Any

import pytest

from partners import tables
from partners.eligibility import eligible_again_at, refusals_of
from partners.errors import BadInput
from partners.facts import Facts, MemberFacts, PerkFacts, Use
from partners.policies import policy_of, validate_rules
from partners.recurrence import occurrences
from tests.api import Api, Voice
from tests.factories import Club

DRY_RUN = """query($perk: PerkBy!, $rules: [JSON!]!) {
  policyDryRun(perk: $perk, rules: $rules) { members gain lose keep neither } }"""
CHECK = """query($perk: PerkBy!, $alias: String!) {
  eligibility(perk: $perk, member: {alias: $alias}) { eligible validUntil eligibleAgainAt refusals { code } } }"""
CLAIM = """mutation($input: ClaimPerkInput!) {
  claimPerk(input: $input) { hold { id } userErrors { code } } }"""


def by(perk: tables.Perk) -> dict[str, str]:
    return {"id": f"perk_{perk.id.hex}"}


def never(minute: int) -> dict[str, Any]:
    """A window that never comes, and no two alike."""
    starts = f"2027-01-01T{minute // 60:02}:{minute % 60:02}"
    return {"kind": "recurring", "starts": starts, "minutes": 5, "rrule": "FREQ=DAILY;BYDAY=MO;BYSETPOS=5"}


async def test_fifty_windows_that_never_come_do_not_keep_the_service_busy(api: Api, club: Club) -> None:
    perk = await club.perk()
    began = process_time()
    answer = await api.partner(club.partners[perk.partner_id])(
        DRY_RUN, perk=by(perk), rules=[never(minute) for minute in range(50)]
    )
    assert process_time() - began < 0.5
    assert answer.code == "BAD_INPUT"
    assert "rules.5: at most 5 recurring" in answer.error["extensions"]["faults"]


def test_a_thousand_uses_and_many_rules_are_decided_in_a_moment(club: Club) -> None:
    """Each of a hundred steps to `eligibleAgainAt` looks at every allowance and at each of its uses."""
    uses = {"member": tuple(Use(club.now - timedelta(minutes=7 * number), 1, 0) for number in range(1000))}
    rolling = [
        {"kind": "allowance", "period": "ROLLING", "hours": 99 + number, "otherwise": 99} for number in range(45)
    ]
    hours = [
        {"kind": "recurring", "starts": f"2026-01-01T0{hour}:00", "minutes": 5, "rrule": "FREQ=DAILY"}
        for hour in range(5)
    ]
    ranks = club.programme.ranks
    with pytest.raises(BadInput) as fault:
        validate_rules([*rolling, *hours], ranks)
    assert fault.value.details["faults"][0] == "rules.10: at most 10 allowance"
    policy = policy_of(validate_rules([*rolling[:10], *hours], ranks))
    member = MemberFacts("ACTIVE", club.now - timedelta(days=999), tier="gold")
    facts = Facts(club.now, ranks, member, PerkFacts(zone="Europe/Zurich"), uses)
    refusals = refusals_of(policy, facts)
    began = process_time()
    assert eligible_again_at(policy, facts, refusals) is None
    assert process_time() - began < 0.4


@pytest.mark.parametrize("year", [2000, 2027, 2079])
def test_a_window_that_never_comes_is_found_out_in_no_time(year: int) -> None:
    began = process_time()
    assert len(occurrences(datetime(year, 3, 1, 12, year % 60), "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30", "UTC")) == 0
    assert process_time() - began < 0.12


ZONES = ["Pacific/Kiritimati", "Asia/Tokyo", "Asia/Kathmandu", "Europe/Zurich", "UTC", "America/New_York", "Etc/GMT+12"]
SINCE = [{"kind": "member_for", "days": 1000}, {"kind": "linked_for", "days": 30}]


async def test_a_partner_that_asks_in_many_zones_finds_the_day_of_joining_and_agreeing_and_not_the_hour(
    api: Api, club: Club
) -> None:
    partner = await club.partner()
    perks = [await club.perk(partner, time_zone=zone, rules=[rule]) for rule in SINCE for zone in ZONES]
    day = datetime.combine(club.now.date() - timedelta(days=3), datetime.min.time(), UTC)
    told = set()
    for hour in (1, 7, 13, 23):
        member = await club.member()
        alias = await club.consent(member, partner)
        at = day + timedelta(hours=hour, minutes=7)
        await club.sql("UPDATE member SET joined_at = $2 WHERE id = $1", member.id, at)
        await club.sql("UPDATE consent SET granted_at = $2 WHERE member_id = $1", member.id, at)
        voice = api.partner(partner)
        found = [(await voice(CHECK, perk=by(perk), alias=alias)).data["eligibility"] for perk in perks]
        assert not any(one["eligible"] for one in found)
        told.add(tuple((one["validUntil"], one["eligibleAgainAt"]) for one in found))
    assert len(told) == 1


async def test_claims_at_once_on_many_perks_do_not_get_beyond_a_velocity(api: Api, club: Club) -> None:
    partner = await club.partner()
    perks = [await club.perk(partner, rules=[{"kind": "velocity", "claims": 2, "hours": 24}]) for _ in range(12)]
    member = await club.member(partner)
    voice = api.member(member)
    answers = await asyncio.gather(*(claimed(voice, perk) for perk in perks))
    held = await club.sql("SELECT FROM hold WHERE member_id = $1", member.id)
    assert len(held) <= 2
    assert sum(answers) == len(held)


async def claimed(voice: Voice, perk: tables.Perk) -> bool:
    """Whether a claim is held; not where the facts keep changing."""
    answer = await voice(CLAIM, input={"perk": by(perk), "idempotencyKey": f"k{perk.id.hex}"})
    return "errors" not in answer.body and answer.data["claimPerk"]["hold"] is not None


VIP = [{"kind": "segment", "any_of": ["vip"]}]


async def test_a_dry_run_tells_a_partner_nothing_of_who_does_not_let_it_ask(api: Api, club: Club) -> None:
    perk = await club.perk(rules=VIP)
    partner = club.partners[perk.partner_id]
    for _ in range(11):
        member = await club.member()
        await club.consent(member, partner, scopes=["redemptions:write"])
        await club.sql("UPDATE member SET labels = '{vip}' WHERE id = $1", member.id)
    told = (await api.partner(partner)(DRY_RUN, perk=by(perk), rules=[])).data["policyDryRun"]
    assert told == dict.fromkeys(told, 0)
    assert (await api.staff()(DRY_RUN, perk=by(perk), rules=[])).data["policyDryRun"]["keep"] == 11


async def test_a_partner_that_compares_two_dry_runs_does_not_find_one_member(api: Api, club: Club) -> None:
    """Its own four people are in, and one more may be: to the nearest ten that would be nothing or ten."""
    told: dict[bool, set[int]] = {False: set(), True: set()}
    for number in range(36):
        perk = await club.perk(rules=[])
        partner = club.partners[perk.partner_id]
        for label in ["vip"] * 4 + ["vip" if number % 2 else "other"]:
            member = await club.member(partner)
            await club.sql("UPDATE member SET labels = $2 WHERE id = $1", member.id, [label])
        voice = api.partner(partner)
        answers = [(await voice(DRY_RUN, perk=by(perk), rules=VIP)).data["policyDryRun"]["keep"] for _ in range(2)]
        assert answers[0] == answers[1], "asking again tells nothing new"
        told[bool(number % 2)].add(answers[0])
    assert told == {False: {0, 10}, True: {0, 10}}
