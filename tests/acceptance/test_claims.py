"""`claimPerk`, `confirmHold`, `releaseHold`, `reverseRedemption`: from a wish to a record and back."""

import asyncio
from typing import Any
from uuid import uuid4

from partners import tables
from tests.api import Api, Voice
from tests.factories import Club

CLAIM = """
mutation($input: ClaimPerkInput!) {
  claimPerk(input: $input) {
    replayed resumed
    hold { id state code expiresAt policyVersion leafHash perk { handle } }
    userErrors { code message path ... on TierTooLow { required current } ... on AllowanceExhausted { resetsAt } }
  }
}
"""
CONFIRM = """
mutation($input: ConfirmHoldInput!) {
  confirmHold(input: $input) {
    replayed redemption { id fulfilment leafHash perk { handle } member { alias tier { handle } } }
    userErrors { code path }
  }
}
"""
RELEASE = "mutation($hold: ID!) { releaseHold(input: {hold: $hold}) { hold { state } userErrors { code } } }"
REVERSE = """
mutation($input: ReverseRedemptionInput!) {
  reverseRedemption(input: $input) {
    replayed redemption { id reversal { id } } reversal { reason borneBy stock } userErrors { code }
  }
}
"""


async def claim(voice: Voice, perk: tables.Perk, **given: Any) -> dict[str, Any]:
    """The payload of a claim with a key of its own."""
    variables = {"perk": {"handle": perk.handle}, "idempotencyKey": uuid4().hex} | given
    found: dict[str, Any] = (await voice(CLAIM, input=variables)).data["claimPerk"]
    return found


async def confirm(voice: Voice, **given: Any) -> dict[str, Any]:
    """The payload of a confirmation with a key of its own."""
    found: dict[str, Any] = (await voice(CONFIRM, input={"idempotencyKey": uuid4().hex} | given)).data["confirmHold"]
    return found


async def test_a_member_claims_and_the_partner_confirms_by_code(api: Api, club: Club) -> None:
    perk = await club.perk(units=3)
    partner = club.partners[perk.partner_id]
    member = await club.member()
    alias = await club.consent(member, partner)
    held = await claim(api.member(member), perk)
    assert held["userErrors"] == []
    assert held["hold"]["state"] == "HELD"
    assert held["hold"]["perk"]["handle"] == perk.handle
    spoken = held["hold"]["code"].lower().replace("-", " ").replace("0", "o")
    confirmed = await confirm(api.partner(partner), hold={"code": spoken})
    assert confirmed["userErrors"] == []
    assert confirmed["redemption"]["member"] == {"alias": alias, "tier": {"handle": "gold"}}
    assert confirmed["redemption"]["fulfilment"] == "PENDING"


async def test_a_partner_claims_for_a_member_and_confirms_by_id(api: Api, club: Club) -> None:
    perk = await club.perk()
    partner = club.partners[perk.partner_id]
    alias = await club.consent(await club.member(), partner)
    voice = api.partner(partner)
    held = await claim(voice, perk, member={"alias": alias})
    confirmed = await confirm(voice, hold={"id": held["hold"]["id"]})
    assert confirmed["redemption"]["perk"]["handle"] == perk.handle


async def test_the_same_key_is_answered_once_more_even_after_a_downgrade(api: Api, club: Club) -> None:
    perk = await club.perk(rules=[{"kind": "tier_at_least", "tier": "gold"}])
    member = await club.member(club.partners[perk.partner_id])
    voice, key = api.member(member), uuid4().hex
    first = await claim(voice, perk, idempotencyKey=key)
    await club.assign(member, "member")
    again = await claim(voice, perk, idempotencyKey=key)
    assert (first["replayed"], again["replayed"]) == (False, True)
    assert again["hold"] == first["hold"]
    assert (await claim(voice, perk))["userErrors"][0] == {
        "code": "TIER_TOO_LOW",
        "message": "The member's tier does not reach this perk.",
        "path": ["perk"],
        "required": "gold",
        "current": "member",
    }


async def test_a_key_with_other_content_is_refused(api: Api, club: Club) -> None:
    perk, other = await club.perk(), await club.perk()
    member = await club.member(club.partners[perk.partner_id], club.partners[other.partner_id])
    voice, key = api.member(member), uuid4().hex
    await claim(voice, perk, idempotencyKey=key)
    answer = await voice(CLAIM, input={"perk": {"handle": other.handle}, "idempotencyKey": key})
    assert answer.code == "IDEMPOTENCY_KEY_REUSED"


async def test_fifty_at_once_with_one_key_are_one_hold(api: Api, club: Club) -> None:
    perk = await club.perk(units=50)
    member = await club.member(club.partners[perk.partner_id])
    voice, key = api.member(member), uuid4().hex
    payloads = await asyncio.gather(*(claim(voice, perk, idempotencyKey=key) for _ in range(50)))
    assert len({payload["hold"]["id"] for payload in payloads}) == 1
    assert sum(not payload["replayed"] for payload in payloads) == 1
    assert await club.taken(perk) == 1


async def test_fifty_members_at_once_share_seven_units(api: Api, club: Club) -> None:
    perk = await club.perk(units=7)
    partner = club.partners[perk.partner_id]
    members = [await club.member(partner) for _ in range(50)]
    payloads = await asyncio.gather(*(claim(api.member(member), perk) for member in members))
    assert sum(payload["hold"] is not None for payload in payloads) == 7
    refused = [payload["userErrors"][0]["code"] for payload in payloads if payload["hold"] is None]
    assert refused == ["CAPACITY_EXHAUSTED"] * 43
    assert await club.taken(perk) == 7


async def test_an_allowance_holds_under_concurrency(api: Api, club: Club) -> None:
    perk = await club.perk(rules=[{"kind": "allowance", "period": "DAY", "units": {"gold": 2}}])
    member = await club.member(club.partners[perk.partner_id])
    payloads = await asyncio.gather(*(claim(api.member(member), perk) for _ in range(20)))
    assert len({payload["hold"]["id"] for payload in payloads}) == 2  # the other 18 are told of these
    assert sum(not payload["resumed"] and not payload["replayed"] for payload in payloads) == 2
    for code in {payload["hold"]["code"] for payload in payloads}:
        await confirm(api.partner(club.partners[perk.partner_id]), hold={"code": code})
    payloads = await asyncio.gather(*(claim(api.member(member), perk) for _ in range(20)))
    errors = [payload["userErrors"][0] for payload in payloads]
    assert {error["code"] for error in errors} == {"ALLOWANCE_EXHAUSTED"}
    assert all(error["resetsAt"] is not None for error in errors)


async def test_wrong_codes_all_get_one_answer_and_are_slowed_down(api: Api, club: Club) -> None:
    perk = await club.perk()
    partner, stranger = club.partners[perk.partner_id], await club.partner()
    held = await claim(api.member(await club.member(partner)), perk)
    voice = api.partner(stranger)
    wrong = ["0000-0000-0000-00", "nonsense", held["hold"]["code"]]
    answers = [await confirm(voice, hold={"code": code}) for code in wrong]
    assert [answer["userErrors"] for answer in answers] == [[{"code": "NOT_AVAILABLE", "path": ["hold"]}]] * 3
    for _ in range(60):
        answer = await voice(CONFIRM, input={"hold": {"code": "0" * 14}, "idempotencyKey": uuid4().hex})
    assert answer.code == "THROTTLED"
    assert 1 <= answer.error["extensions"]["retryAfter"] <= 60
    assert (await confirm(api.partner(partner), hold={"code": held["hold"]["code"]}))["userErrors"] == []


async def test_releasing_twice_is_releasing_once(api: Api, club: Club) -> None:
    perk = await club.perk(units=1)
    member = await club.member(club.partners[perk.partner_id])
    voice = api.member(member)
    hold = (await claim(voice, perk))["hold"]["id"]
    for _ in range(2):
        assert (await voice(RELEASE, hold=hold)).data["releaseHold"] == {
            "hold": {"state": "RELEASED"},
            "userErrors": [],
        }
    assert await club.taken(perk) == 0


async def test_nobody_releases_anothers_hold(api: Api, club: Club) -> None:
    perk = await club.perk()
    partner = club.partners[perk.partner_id]
    hold = (await claim(api.member(await club.member(partner)), perk))["hold"]["id"]
    for voice in (api.member(await club.member(partner)), api.partner(await club.partner())):
        assert (await voice(RELEASE, hold=hold)).data["releaseHold"]["userErrors"] == [{"code": "NOT_AVAILABLE"}]


async def test_a_redemption_is_reversed_once(api: Api, club: Club) -> None:
    perk = await club.perk(units=1)
    partner = club.partners[perk.partner_id]
    alias = await club.consent(await club.member(), partner)
    voice = api.partner(partner)
    held = await claim(voice, perk, member={"alias": alias})
    redemption = (await confirm(voice, hold={"id": held["hold"]["id"]}))["redemption"]["id"]
    wanted = {"redemption": redemption, "reason": "broken", "borneBy": "PROGRAMME", "idempotencyKey": "a"}
    first = (await voice(REVERSE, input=wanted)).data["reverseRedemption"]
    again = (await voice(REVERSE, input=wanted)).data["reverseRedemption"]
    other = (await voice(REVERSE, input=wanted | {"idempotencyKey": "b"})).data["reverseRedemption"]
    assert first["reversal"] == {"reason": "broken", "borneBy": "PROGRAMME", "stock": "RESTOCK"}
    assert again["replayed"] is True
    assert again["reversal"] == first["reversal"]
    assert other["userErrors"] == [{"code": "ALREADY_REVERSED"}]
    assert await club.taken(perk) == 0
    stranger = (await api.partner(await club.partner())(REVERSE, input=wanted)).data["reverseRedemption"]
    assert stranger["userErrors"] == [{"code": "NOT_AVAILABLE"}]


async def test_withdrawn_consent_stops_a_confirmation(api: Api, club: Club) -> None:
    perk = await club.perk()
    partner = club.partners[perk.partner_id]
    member = await club.member(partner)
    held = await claim(api.member(member), perk)
    await club.withdraw(member, partner)
    answer = await confirm(api.partner(partner), hold={"code": held["hold"]["code"]})
    assert answer["userErrors"] == [{"code": "CONSENT_MISSING", "path": ["hold"]}]


async def test_keys_have_an_edge(api: Api, club: Club) -> None:
    perk = await club.perk()
    voice = api.member(await club.member(club.partners[perk.partner_id]))
    assert (await claim(voice, perk, idempotencyKey="k" * 255))["userErrors"] == []
    for key in ("", "k" * 256, "a\nb"):
        answer = await voice(CLAIM, input={"perk": {"handle": perk.handle}, "idempotencyKey": key})
        assert answer.code == "BAD_INPUT"
