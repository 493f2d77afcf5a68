"""Rules in bad faith: those that keep the service busy, get around a limit, or find out what a partner may not know."""

import asyncio
from datetime import UTC, datetime, timedelta
from time import process_time
from typing import Any

import pytest

from partners import tables
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
    assert await claimed(voice, perks[0]) is False or len(held) < 2


async def claimed(voice: Voice, perk: tables.Perk) -> bool:
    """Whether a claim is held; not where the facts keep changing."""
    answer = await voice(CLAIM, input={"perk": by(perk), "idempotencyKey": f"k{perk.id.hex}"})
    return "errors" not in answer.body and answer.data["claimPerk"]["hold"] is not None
