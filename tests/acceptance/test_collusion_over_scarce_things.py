"""Options, parties, deliveries, reversals in parts, waitlists, services, codes and rights tell two partners nothing by
which they could match a member (law 8).

The exception is written down in docs/decisions/0009-pairwise.md: the address of a delivery, which a member sends along.
"""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from partners import tables
from partners.tables import PerkKind
from tests.api import Answer, Api, Voice
from tests.colluding import Brand, identifying
from tests.factories import Club
from tests.fulfilling import SETTINGS

MEMBERS = 5
# Shorter ones two members meet by chance: how many are left, and the first letters of ids, which are their second.
IDENTIFIER_LENGTH = 8
HOLD = "id code heldAt expiresAt endedAt leafHash state units amountMinor option extensionsLeft fromWaitlist"
REDEMPTION = """id tier confirmedAt leafHash member { id alias } units reversedUnits amountMinor option code fulfilment
  fulfilmentDetails { method location scheduledAt carrier tracking checkedIn fulfilledAt reason }
  reversals { id leafHash reversedAt units amountMinor stock }"""
ENTRY = "id state member { id alias } option units position offers joinedAt endedAt hold { id }"
REQUEST = """id state member { id alias } form amount { amountMinor } quote { terms validUntil } automatic owner
  revision clocks { answerDueAt answeredAt solveDueAt solvedAt } scheduledFor submittedAt endedAt
  redemption { id leafHash } messages { nodes { at author text } }"""
RIGHT = "id state member { id alias } redemptionId tier startsAt endsAt usesMax used remaining endedAt endedReason"
DECISION = """eligible validUntil eligibleAgainAt capacityRemaining refusals { code current required }
  allowance { used resetsAt } allowances { used resetsAt }"""
CHECK = f"""query($perk: PerkBy!, $member: MemberBy) {{ eligibility(perk: $perk, member: $member) {{ {DECISION} }} }}"""
CATALOGUE = f"""query($member: MemberBy) {{ perks(member: $member) {{ edges {{ cursor node {{
  id capacityRemaining options {{ handle capacityRemaining }} eligibility {{ {DECISION} }} }} }} }} }}"""
REDEMPTIONS = f"""query($member: MemberBy) {{
  redemptions(filter: {{member: $member}}) {{ edges {{ cursor node {{ {REDEMPTION} }} }} }} }}"""
ENTRIES = f"""query($member: MemberBy) {{
  waitlistEntries(filter: {{member: $member}}) {{ edges {{ cursor node {{ {ENTRY} }} }} }} }}"""
REQUESTS = f"""query($member: MemberBy) {{
  serviceRequests(filter: {{member: $member}}) {{ edges {{ cursor node {{ {REQUEST} }} }} }} }}"""
RIGHTS = f"""query($member: MemberBy) {{
  accessGrants(filter: {{member: $member}}) {{ edges {{ cursor node {{ {RIGHT} }} }} }} }}"""


def command(name: str, answer: str, input: str | None = None) -> str:
    """A mutation on one input."""
    kind = input or f"{name[0].upper()}{name[1:]}Input"
    return f"mutation($input: {kind}!) {{ {name}(input: $input) {{ {answer} userErrors {{ code message }} }} }}"


CLAIM = command("claimPerk", f"hold {{ {HOLD} }}")
CONFIRM = command("confirmHold", f"redemption {{ {REDEMPTION} }}")
REVERSE = command("reverseRedemption", f"redemption {{ {REDEMPTION} }}")
CHOOSE = command("chooseDelivery", f"redemption {{ {REDEMPTION} }}")
UPDATE = command("updateFulfilment", f"redemption {{ {REDEMPTION} }}")
ENTER = command("checkIn", f"redemption {{ {REDEMPTION} }}")
EXTEND = command("extendHold", f"hold {{ {HOLD} }}")
JOIN = command("joinWaitlist", f"entry {{ {ENTRY} }}")
LEAVE = command("leaveWaitlist", f"entry {{ {ENTRY} }}")
SUBMIT = command("submitServiceRequest", f"serviceRequest {{ {REQUEST} }}")
QUOTE = command("quoteServiceRequest", f"serviceRequest {{ {REQUEST} }}")
USE = command("useAccess", f"access {{ {RIGHT} }}")
READ = [CATALOGUE, REDEMPTIONS, ENTRIES, REQUESTS, RIGHTS]


@dataclass
class Shop:
    """One brand with a perk of each kind, and one that is sold out."""

    brand: Brand
    perks: dict[str, tables.Perk]

    def name_of(self, what: str) -> dict[str, str]:
        return {"id": f"perk_{self.perks[what].id.hex}"}


@dataclass(frozen=True)
class Deal:
    """One thing that a brand does about one of the members, who is named or whom its token speaks for."""

    shop: Shop
    member: int
    voice: Voice
    whom: dict[str, Any]
    now: Any

    async def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        answer: Answer = await self.voice(query, **variables)
        # The headers were searched before (test_collusion.py); how long an answer is tells how much was done.
        self.shop.brand.told.setdefault(self.member, []).append(answer.body)
        found: dict[str, Any] = answer.data[next(iter(answer.data))]
        return found

    async def claim(self, what: str, **details: Any) -> dict[str, Any] | None:
        input = {"perk": self.shop.name_of(what), "idempotencyKey": uuid4().hex, "details": details or None}
        found: dict[str, Any] | None = (await self.ask(CLAIM, input=input | self.whom))["hold"]
        return found

    async def redeem(self, what: str, **details: Any) -> tuple[str, str] | None:
        """The redemption's id and the hold's code."""
        hold = await self.claim(what, **details)
        if hold is None:
            return None
        confirmed = await self.ask(CONFIRM, input={"hold": {"code": hold["code"]}, "idempotencyKey": uuid4().hex})
        return confirmed["redemption"]["id"], hold["code"]


async def sample(deal: Deal, chance: random.Random) -> None:
    made = await deal.redeem("sample", units=2)
    if made is None:
        return
    await deal.ask(CHOOSE, input={"redemption": made[0], "method": "PICKUP", "location": "old-town"})
    if chance.random() < 0.5:
        when = (deal.now + timedelta(days=1)).isoformat()
        await deal.ask(UPDATE, input={"redemption": made[0], "state": "SCHEDULED", "scheduledAt": when})
    if chance.random() < 0.5:
        back = {"redemption": made[0], "reason": "spoiled", "units": 1, "idempotencyKey": uuid4().hex}
        await deal.ask(REVERSE, input=back)
        await deal.ask(REVERSE, input=back | {"idempotencyKey": uuid4().hex})
    else:
        await deal.ask(UPDATE, input={"redemption": made[0], "state": "FULFILLED"})


async def event(deal: Deal, chance: random.Random) -> None:
    made = await deal.redeem("event", units=2, option="tonight")
    if made is not None:
        await deal.ask(ENTER, input={"redemption": {"code": made[1]}, "units": 1, "idempotencyKey": uuid4().hex})


async def held(deal: Deal, chance: random.Random) -> None:
    hold = await deal.claim("sample")
    if hold is not None:
        await deal.ask(EXTEND, input={"hold": hold["id"]})


async def waiting(deal: Deal, chance: random.Random) -> None:
    joined = await deal.ask(JOIN, input={"perk": deal.shop.name_of("rare")} | deal.whom)
    if joined["entry"] is not None and chance.random() < 0.5:
        await deal.ask(LEAVE, input={"entry": joined["entry"]["id"]})


async def service(deal: Deal, chance: random.Random) -> None:
    new = {"perk": deal.shop.name_of("service"), "form": {"wish": uuid4().hex}, "idempotencyKey": uuid4().hex}
    made = (await deal.ask(SUBMIT, input={"new": new | deal.whom}))["serviceRequest"]
    if made is not None and chance.random() < 0.7:
        until = (deal.now + timedelta(days=3)).isoformat()
        quote = {"request": made["id"], "revision": made["revision"], "amountMinor": 0, "terms": "As you wish"}
        await deal.ask(QUOTE, input=quote | {"validUntil": until})


async def code(deal: Deal, chance: random.Random) -> None:
    await deal.redeem("code")


async def right(deal: Deal, chance: random.Random) -> None:
    made = await deal.redeem("right")
    if made is not None:
        await deal.ask(USE, input={"access": {"code": made[1]}, "idempotencyKey": uuid4().hex})


async def question(deal: Deal, chance: random.Random) -> None:
    if chance.random() < 0.3:
        await deal.ask(CHECK, perk=deal.shop.name_of(chance.choice(list(deal.shop.perks))), **deal.whom)
    else:
        await deal.ask(chance.choice(READ if deal.whom else READ[1:]), **deal.whom)


DEALS: list[Callable[[Deal, random.Random], Awaitable[None]]] = [
    sample,
    event,
    held,
    waiting,
    service,
    code,
    right,
    question,
    question,
]


async def shop(api: Api, club: Club, people: list[tables.Member]) -> Shop:
    partner = await club.partner()
    starts = (club.now + timedelta(hours=1)).replace(microsecond=0, tzinfo=None)
    session = {"handle": "tonight", "title": "Tonight", "starts_at": starts.isoformat()}
    perks = {
        "sample": await club.perk(partner, units_max=2, settings=SETTINGS),
        "event": await club.perk(partner, kind=PerkKind.EVENT, units_max=2, settings={"sessions": [session]}),
        "rare": await club.perk(partner, units=1, waitlist={}),
        "service": await club.perk(partner, kind=PerkKind.SERVICE, currency="CHF"),
        "code": await club.perk(partner, kind=PerkKind.CODE),
        "right": await club.perk(
            partner,
            kind=PerkKind.ACCESS,
            settings={"on_tier_drop": "REVOKE"},
            rules=[{"kind": "tier_at_least", "tier": "silver"}],
        ),
    }
    made = Shop(Brand(partner, perks["sample"], api.partner(partner)), perks)
    codes = {"perk": made.name_of("code"), "codes": [uuid4().hex for _ in range(99)]}
    query = "mutation($input: AddCodesInput!) { addCodes(input: $input) { added } }"
    assert (await made.brand.voice(query, input=codes)).data["addCodes"]["added"] == 99
    await club.hold(await club.member(partner), perks["rare"])
    for number, member in enumerate(people):
        made.brand.aliases[number] = await club.consent(member, partner)
    return made


async def deal(api: Api, club: Club, of: Shop, member: int, chance: random.Random) -> None:
    alias = of.brand.aliases[member]
    bound = chance.random() < 0.3
    voice = api.bound(of.brand.partner, alias) if bound else of.brand.voice
    await chance.choice(DEALS)(Deal(of, member, voice, {} if bound else {"member": {"alias": alias}}, club.now), chance)


async def read_all(club: Club, of: Shop, member: int) -> list[dict[str, Any]]:
    """Everything that the brand can read of one member."""
    reading = Deal(of, member, of.brand.voice, {"member": {"alias": of.brand.aliases[member]}}, club.now)
    return [await reading.ask(query, **reading.whom) for query in READ]


def assert_nothing_shared(first: Shop, second: Shop) -> None:
    one, other = (identifying(of.brand.told, IDENTIFIER_LENGTH) for of in (first, second))
    assert all(len(own) > 5 for own in one.values()), "each partner does know its own members apart"
    for member in range(MEMBERS):
        assert one[member] & other[member] == set()


@pytest.mark.parametrize("seed", range(2))
async def test_two_partners_share_nothing_that_is_particular_to_one_member(api: Api, club: Club, seed: int) -> None:
    chance = random.Random(seed)
    people = [await club.member() for _ in range(MEMBERS)]
    first, second = await shop(api, club, people), await shop(api, club, people)
    for _ in range(90):
        await deal(api, club, chance.choice([first, second]), chance.randrange(MEMBERS), chance)
    for member in range(MEMBERS):
        await read_all(club, first, member)
        await read_all(club, second, member)
    assert_nothing_shared(first, second)


async def test_what_happens_to_a_member_everywhere_in_one_moment_leaves_no_moment_in_common(
    api: Api, club: Club
) -> None:
    """A tier drops at all partners at once, at another microsecond for each member."""
    chance = random.Random(0)
    people = [await club.member() for _ in range(MEMBERS)]
    shops = [await shop(api, club, people) for _ in range(2)]
    for one in shops:
        for member in range(MEMBERS):
            about = Deal(one, member, one.brand.voice, {"member": {"alias": one.brand.aliases[member]}}, club.now)
            await right(about, chance)
            await waiting(about, random.Random(1))
    for number, who in enumerate(people):
        # It is all over by the tests' moment, and on one day, as partners may know.
        granted = club.now - timedelta(minutes=5)
        await club.sql("UPDATE access_grant SET starts_at = $2 WHERE member_id = $1", who.id, granted)
        await club.assign(who, "member", now=club.now - timedelta(seconds=7 * number + 3, microseconds=number))
    for one in shops:
        for member in range(MEMBERS):
            rights = (await read_all(club, one, member))[-1]["edges"]
            assert [(edge["node"]["state"], edge["node"]["endedReason"]) for edge in rights] == [
                ("REVOKED", "TIER_DROP")
            ]
    assert_nothing_shared(*shops)


RULES: dict[str, dict[str, Any]] = {
    "score": {"kind": "score_at_least", "score": 5000},
    "tenure": {"kind": "member_for", "days": 1000},
    "linked": {"kind": "linked_for", "days": 30},
    "segment": {"kind": "segment", "any_of": ["collector"]},
    "household": {"kind": "allowance", "period": "ROLLING", "hours": 5, "per": "household", "otherwise": 1},
    "birthday": {"kind": "birthday_month"},
}


async def ruled_shop(api: Api, club: Club, people: list[tables.Member]) -> Shop:
    partner = await club.partner()
    perks = {name: await club.perk(partner, rules=[rule]) for name, rule in RULES.items()}
    made = Shop(Brand(partner, perks["score"], api.partner(partner)), perks)
    for number, member in enumerate(people):
        made.brand.aliases[number] = await club.consent(member, partner)
    return made


async def test_what_rules_say_of_members_tells_nothing_that_partners_may_not_know(api: Api, club: Club) -> None:
    """Members differ in score, household, labels, and in the instant of a day at which they joined and consented to all
    partners at once."""
    people = [await club.member() for _ in range(MEMBERS)]
    shops = [await ruled_shop(api, club, people) for _ in range(2)]
    noon = club.now.replace(hour=12) - timedelta(days=3)
    for number, who in enumerate(people):
        apart = timedelta(minutes=7 * number, microseconds=number + 1)
        await club.sql(
            "UPDATE member SET score = $2, household = $3, joined_at = $4, labels = $5, birth_month = $6 WHERE id = $1",
            who.id,
            1_000_037 * (number + 1) % 4999,
            f"household-{uuid4().hex}",
            noon - timedelta(days=400) + apart,
            [f"label-{uuid4().hex}"],
            (club.now.month + 5) % 12 + 1,
        )
        await club.sql("UPDATE consent SET granted_at = $2 WHERE member_id = $1", who.id, noon + apart)
    refused = set()
    for one in shops:
        for member in range(MEMBERS):
            about = Deal(one, member, one.brand.voice, {"member": {"alias": one.brand.aliases[member]}}, club.now)
            await about.claim("household")
            for name in RULES:
                decision = await about.ask(CHECK, perk=one.name_of(name), **about.whom)
                refused |= {refusal["code"] for refusal in decision["refusals"]}
            await about.ask(CATALOGUE, **about.whom)
    assert refused == {
        "SCORE_TOO_LOW",
        "JOINED_TOO_RECENTLY",
        "WRONG_SEGMENT",
        "HOUSEHOLD_LIMIT_REACHED",
        "OUTSIDE_WINDOW",
    }
    assert_nothing_shared(*shops)
