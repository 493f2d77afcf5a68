"""Two partners lay everything they ever received side by side and can't match one member (laws 8 and 9).

All members are alike in what partners may know (tier, day, market), so whatever is still particular to one member on
both sides would be an identifier: nothing is. And who asks about a stranger, or about a member who took the consent
back, reads the same bytes after the same time.
"""

import base64
import json
import random
import time
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from auth.caller import Caller, CallerKind
from auth.scopes import MEMBER_BOUND
from partners import tables
from tests.api import Answer, Api, Voice
from tests.colluding import Brand, identifying
from tests.factories import Club

MEMBERS = 6
DECISION = """eligible validUntil eligibleAgainAt capacityRemaining allowance { used resetsAt }
  refusals { code current required }"""
HOLD = "id code heldAt expiresAt endedAt leafHash state"
REDEMPTION = "id tier confirmedAt leafHash member { id alias } reversal { id leafHash reversedAt }"
MEMBER = "id alias state tier { handle } tierSince tierUntil"
CHECK = f"""query($perk: PerkBy!, $member: MemberBy) {{
  eligibility(perk: $perk, member: $member) {{ {DECISION} }} }}"""
CHECKS = f"""query($perk: PerkBy!, $member: MemberBy) {{
  eligibilities(checks: [{{perk: $perk, member: $member}}]) {{ error message decision {{ {DECISION} }} }} }}"""
LOOK = f"query($by: MemberBy!) {{ member(by: $by) {{ {MEMBER} }} }}"
NODE = f"query($id: ID!) {{ node(id: $id) {{ id ... on Member {{ {MEMBER} }} }} }}"
BROWSE = f"""query($member: MemberBy) {{
  perks(member: $member) {{ edges {{ cursor node {{ id eligibility {{ {DECISION} }} }} }} }} }}"""
USES = f"""query($filter: RedemptionFilter) {{
  redemptions(filter: $filter) {{ edges {{ cursor node {{ {REDEMPTION} }} }} pageInfo {{ endCursor }} }} }}"""
GIVEN = "query($first: Int) { consentsGiven(first: $first) { edges { cursor node { alias grantedOn endsOn } } } }"
CLAIM = f"""mutation($input: ClaimPerkInput!) {{
  claimPerk(input: $input) {{ hold {{ {HOLD} }} userErrors {{ code message }} }} }}"""
RELEASE = f"mutation($input: ReleaseHoldInput!) {{ releaseHold(input: $input) {{ hold {{ {HOLD} }} }} }}"
CONFIRM = f"""mutation($input: ConfirmHoldInput!) {{
  confirmHold(input: $input) {{ redemption {{ {REDEMPTION} }} userErrors {{ code }} }} }}"""
REVERSE = f"""mutation($input: ReverseRedemptionInput!) {{
  reverseRedemption(input: $input) {{ redemption {{ {REDEMPTION} }} }} }}"""


async def given(one: Brand) -> None:
    """The partner lists who consented, and keeps each line with the member that it is about."""
    listed = await one.voice(GIVEN, first=MEMBERS)
    members = {alias: member for member, alias in one.aliases.items()}
    for edge in listed.data["consentsGiven"]["edges"]:
        one.told.setdefault(members[edge["node"]["alias"]], []).append(edge)


async def brand(api: Api, club: Club, people: list[tables.Member]) -> Brand:
    perk = await club.perk(rules=[{"kind": "allowance", "units": {"gold": 50}, "period": "DAY"}])
    partner = club.partners[perk.partner_id]
    await club.perk(partner)  # nothing but the consent's end changes its answer
    made = Brand(partner, perk, api.partner(partner))
    for number, member in enumerate(people):
        # An app that asks for all partners at once gives all consents one end, to the microsecond.
        ends = club.now + timedelta(days=200, seconds=97 * number, microseconds=number)
        made.aliases[number] = await club.consent(member, partner, expires_at=ends)
    return made


async def bound(api: Api, one: Brand, member: int) -> Voice:
    """A token that speaks for this member at the brand; the brand can read what is written in it."""
    client, alias = f"client_of_{one.partner.handle}", one.aliases[member]
    caller = Caller(CallerKind.PARTNER, client, MEMBER_BOUND, client_id=client, partner_id=one.partner.id, alias=alias)
    voice = api.voice(caller)
    one.told.setdefault(member, []).append(voice.token)
    return voice


async def deal(api: Api, one: Brand, member: int, chance: random.Random) -> None:
    """One thing that partners do, in one of the ways that there are."""
    who, perk = {"alias": one.aliases[member]}, {"id": f"perk_{one.perk.id.hex}"}
    voice = one.voice if chance.random() < 0.7 else await bound(api, one, member)
    named = {"member": who} if voice is one.voice else {}

    async def ask(query: str, **variables: Any) -> Answer:
        return one.hear(member, await voice(query, **variables))

    match chance.randrange(8):
        case 0:
            await ask(CHECK, perk=perk, **named)
        case 1:
            await ask(LOOK, by=who)
        case 2:
            await ask(NODE, id=f"alias_{who['alias']}")
        case 3:
            await ask(BROWSE, **named)
        case 4:
            await ask(USES, filter={"member": who} if named else {})
        case 5:
            await ask(NODE, id=f"member_{uuid4().hex}")
        case 6:
            await ask(CHECKS, perk=perk, **named)
        case _:
            await use(ask, perk, named, chance)


async def use(ask: Any, perk: dict[str, str], named: dict[str, Any], chance: random.Random) -> None:
    """Claim, then release, or confirm and perhaps reverse."""
    claim = await ask(CLAIM, input={"perk": perk, "idempotencyKey": uuid4().hex} | named)
    hold = claim.data["claimPerk"]["hold"]
    if hold is None:
        return
    if chance.random() < 0.3:
        await ask(RELEASE, input={"hold": hold["id"]})
        return
    confirmed = await ask(CONFIRM, input={"hold": {"code": hold["code"]}, "idempotencyKey": uuid4().hex})
    redemption = confirmed.data["confirmHold"]["redemption"]
    if redemption is not None and chance.random() < 0.5:
        wanted = {"redemption": redemption["id"], "reason": "spoiled", "idempotencyKey": uuid4().hex}
        await ask(REVERSE, input=wanted)


@pytest.mark.parametrize("seed", range(4))
async def test_two_partners_share_nothing_that_is_particular_to_one_member(api: Api, club: Club, seed: int) -> None:
    chance = random.Random(seed)
    people = [await club.member() for _ in range(MEMBERS)]
    first, second = await brand(api, club, people), await brand(api, club, people)
    for _ in range(150):
        await deal(api, chance.choice([first, second]), chance.randrange(MEMBERS), chance)
    await given(first)
    await given(second)
    one, other = identifying(first.told), identifying(second.told)
    assert all(len(own) > 5 for own in one.values()), "each partner does know its own members apart"
    for member in range(MEMBERS):
        assert one[member] & other[member] == set()


@pytest.mark.parametrize("seed", range(2))
async def test_the_search_finds_an_identifier_that_is_planted(api: Api, club: Club, seed: int) -> None:
    people = [await club.member() for _ in range(MEMBERS)]
    first, second = await brand(api, club, people), await brand(api, club, people)
    for one in (first, second):
        for member, who in enumerate(people):
            hidden = base64.urlsafe_b64encode(json.dumps({"sub": str(who.id)}).encode()).decode()
            one.told[member] = [{"data": [{"cursor": f"x.{hidden}.y"}]}]
    one, other = identifying(first.told), identifying(second.told)
    assert all(str(who.id) in one[member] & other[member] for member, who in enumerate(people))


ABOUT = {
    "check": CHECK,
    "look": LOOK,
    "browse": BROWSE,
    "uses": USES,
}


def asked_about(what: str, perk: tables.Perk, alias: str) -> dict[str, Any]:
    """The variables of a question about one alias."""
    who = {"alias": alias}
    named = {"look": {"by": who}, "uses": {"filter": {"member": who}}}.get(what, {"member": who})
    return named | ({"perk": {"id": f"perk_{perk.id.hex}"}} if what == "check" else {})


@pytest.mark.parametrize("what", ABOUT)
async def test_a_stranger_and_a_member_without_consent_read_alike_and_take_the_same_time(
    api: Api, club: Club, what: str
) -> None:
    perk = await club.perk()
    partner = club.partners[perk.partner_id]
    gone = [await club.member() for _ in range(8)]
    withdrawn = [await club.consent(member, partner) for member in gone]
    for member in gone:
        await club.withdraw(member, partner)
    voice, chance = api.partner(partner), random.Random(0)

    async def took(alias: str) -> tuple[float, bytes]:
        variables = asked_about(what, perk, alias)
        began = time.perf_counter()
        answer = await voice(ABOUT[what], **variables)
        return time.perf_counter() - began, json.dumps(answer.body).encode()

    faster, pairs = 0, 400
    for _ in range(pairs):
        strange = base64.b32encode(chance.randbytes(16)).decode().rstrip("=").lower()
        # Whoever comes second finds warmer caches: the order is left to chance, and each pair meets the same noise.
        asked = [("strange", strange), ("withdrawn", chance.choice(withdrawn))]
        chance.shuffle(asked)
        heard = {name: await took(alias) for name, alias in asked}
        assert heard["strange"][1] == heard["withdrawn"][1]
        faster += heard["strange"][0] < heard["withdrawn"][0]
    # A fair coin stays within five standard deviations of a half: 0.025 each for 400 throws.
    assert 0.375 < faster / pairs < 0.625
