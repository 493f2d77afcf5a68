"""Units, options, amounts, parts and more time, over the API and with the documents of `schema/operations`."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from partners import tables
from tests.api import Api, Voice
from tests.factories import Club

OPERATIONS = Path(__file__).parents[2] / "schema" / "operations"


async def do(voice: Voice, operation: str, **given: Any) -> dict[str, Any]:
    """The payload of a mutation, by its example document."""
    field = operation[0].lower() + operation[1:]
    found: dict[str, Any] = (await voice((OPERATIONS / f"{operation}.graphql").read_text(), input=given)).data[field]
    return found


async def claim(voice: Voice, perk: tables.Perk, details: dict[str, Any]) -> dict[str, Any]:
    return await do(voice, "ClaimPerk", perk={"handle": perk.handle}, details=details, idempotencyKey=uuid4().hex)


async def parties(club: Club) -> tables.Perk:
    """Ten units in Swiss francs, up to four at once."""
    perk = await club.perk(units=10, rules=[{"kind": "allowance", "period": "DAY", "otherwise": 6}])
    await club.sql("UPDATE perk SET units_max = 4, currency = 'CHF' WHERE id = $1", perk.id)
    return perk


async def test_a_party_is_held_extended_confirmed_in_part_and_reversed_in_part(api: Api, club: Club) -> None:
    perk = await parties(club)
    partner = club.partners[perk.partner_id]
    member = await club.member(partner)
    hold = (await claim(api.member(member), perk, {"units": 4, "amountMinor": 400}))["hold"]
    assert (hold["units"], hold["amountMinor"], hold["option"], hold["extensionsLeft"]) == (4, 400, None, 2)
    extended = (await do(api.member(member), "ExtendHold", hold=hold["id"]))["hold"]
    assert (extended["state"], extended["extensionsLeft"]) == ("HELD", 1)
    voice = api.partner(partner)
    confirmed = await do(
        voice, "ConfirmHold", hold={"code": hold["code"]}, units=3, amountMinor=300, idempotencyKey=uuid4().hex
    )
    redemption = confirmed["redemption"]
    assert (redemption["units"], redemption["amountMinor"], redemption["currency"]) == (3, 300, "CHF")
    assert await club.taken(perk) == 3
    key = {"redemption": redemption["id"], "reason": "one did not come", "idempotencyKey": "the key"}
    payload = await do(voice, "ReverseRedemption", **key, units=1, amountMinor=100, stock="WAITLIST")
    assert payload["redemption"]["reversedUnits"] == 1
    assert {name: payload["reversal"][name] for name in ("units", "amountMinor", "stock", "returnsAllowance")} == {
        "units": 1,
        "amountMinor": 100,
        "stock": "WAITLIST",
        "returnsAllowance": True,
    }
    again = await do(voice, "ReverseRedemption", **key, units=1, amountMinor=100, stock="WAITLIST")
    assert (again["replayed"], again["reversal"]["id"]) == (True, payload["reversal"]["id"])
    await do(voice, "ReverseRedemption", **key | {"idempotencyKey": "another"})
    late = await do(voice, "ReverseRedemption", **key, units=1, amountMinor=100, stock="WAITLIST")
    assert (late["replayed"], late["reversal"]["id"]) == (True, payload["reversal"]["id"])
    everything = await voice(
        "query($id: ID!) { redemption(id: $id) { reversedUnits reversal { units } reversals { units amountMinor } } }",
        id=redemption["id"],
    )
    assert everything.data["redemption"] == {
        "reversedUnits": 3,
        "reversal": {"units": 2},
        "reversals": [{"units": 1, "amountMinor": 100}, {"units": 2, "amountMinor": 200}],
    }
    assert await club.taken(perk) == 0


@pytest.mark.parametrize("units", [0, -1, 5, 1000, 2**31 - 1])
async def test_a_party_of_none_or_too_many_is_refused(api: Api, club: Club, units: int) -> None:
    perk = await parties(club)
    payload = await claim(api.member(await club.member(club.partners[perk.partner_id])), perk, {"units": units})
    assert payload["hold"] is None
    assert "UNITS_NOT_ALLOWED" in [error["code"] for error in payload["userErrors"]]
    assert await club.taken(perk) == 0


@pytest.mark.parametrize(
    ("details", "message"),
    [
        ({"option": "evening"}, "details.option"),
        ({"amountMinor": -1}, "details.amountMinor"),
        ({"device": ""}, "details.device"),
        ({"device": "x" * 201}, "details.device"),
        ({"device": "a\nb"}, "details.device"),
        ({"place": {"latitude": 90_000_001, "longitude": 0}}, "details.place"),
    ],
)
async def test_what_cannot_be_said_is_bad_input(api: Api, club: Club, details: dict[str, Any], message: str) -> None:
    perk = await parties(club)
    voice = api.member(await club.member(club.partners[perk.partner_id]))
    answer = await voice(
        "mutation($input: ClaimPerkInput!) { claimPerk(input: $input) { replayed } }",
        input={"perk": {"handle": perk.handle}, "details": details, "idempotencyKey": "one"},
    )
    assert answer.code == "BAD_INPUT"
    assert answer.error["message"].startswith(message)


async def test_other_details_under_the_same_key_are_other_content(api: Api, club: Club) -> None:
    perk = await parties(club)
    voice = api.member(await club.member(club.partners[perk.partner_id]))
    claims = "mutation($input: ClaimPerkInput!) { claimPerk(input: $input) { hold { units } replayed } }"
    same = {"perk": {"handle": perk.handle}, "idempotencyKey": "one"}
    first = await voice(claims, input=same | {"details": {"units": 2}})
    assert first.data["claimPerk"] == {"hold": {"units": 2}, "replayed": False}
    other = await voice(claims, input=same | {"details": {"units": 3}})
    assert other.code == "IDEMPOTENCY_KEY_REUSED"
    again = await voice(claims, input=same | {"details": {"units": 2}})
    assert again.data["claimPerk"] == {"hold": {"units": 2}, "replayed": True}


async def test_a_retry_after_a_failed_payment_gets_its_own_hold_back(api: Api, club: Club) -> None:
    perk = await parties(club)
    voice = api.member(await club.member(club.partners[perk.partner_id]))
    first = await claim(voice, perk, {"units": 4})
    again = await claim(voice, perk, {"units": 4})
    assert (again["resumed"], again["hold"]["id"]) == (True, first["hold"]["id"])
    other = await claim(voice, perk, {"units": 3})
    assert [error["code"] for error in other["userErrors"]] == ["ALLOWANCE_EXHAUSTED", "ALREADY_HELD"]


async def test_a_hold_that_a_partner_may_not_see_is_not_its_to_get_back(api: Api, club: Club) -> None:
    """The member made it by itself, and lets the partner set perks aside, but not see which it used."""
    perk = await parties(club)
    partner, member = club.partners[perk.partner_id], await club.member()
    alias = await club.consent(member, partner)
    held = (await claim(api.member(member), perk, {"units": 4}))["hold"]

    async def claimed(*scopes: str) -> dict[str, Any]:
        await club.consent(member, partner, scopes=["holds:write", "redemptions:write", *scopes])
        of_partner: dict[str, Any] = {
            "member": {"alias": alias},
            "details": {"units": 4},
            "idempotencyKey": uuid4().hex,
        }
        return await do(api.partner(partner), "ClaimPerk", perk={"handle": perk.handle}, **of_partner)

    unseen, seen = await claimed(), await claimed("redemptions:read")
    assert (unseen["hold"], [error["code"] for error in unseen["userErrors"]]) == (None, ["ALLOWANCE_EXHAUSTED"])
    assert (seen["hold"]["id"], seen["resumed"]) == (held["id"], True)


async def test_the_question_is_about_the_same_details(api: Api, club: Club) -> None:
    perk = await parties(club)
    voice = api.member(await club.member(club.partners[perk.partner_id]))
    text = (OPERATIONS / "CheckEligibility.graphql").read_text()
    for units, eligible in ((4, True), (5, False)):
        answer = await voice(text, perk={"handle": perk.handle}, details={"units": units})
        assert answer.data["eligibility"]["eligible"] is eligible
    [allowance] = answer.data["eligibility"]["allowances"]
    assert (allowance["period"], allowance["per"], allowance["limit"], allowance["remaining"]) == (
        "DAY",
        "member",
        6,
        6,
    )
