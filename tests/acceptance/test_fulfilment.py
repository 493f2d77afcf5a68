"""After a redemption: delivery, the address by consent, fulfilment and check-in, over the API."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from partners import consents
from tests.api import Api, Voice
from tests.browsers import browser, person_of, text_of
from tests.factories import Club
from tests.fulfilling import HOME, SETTINGS, SHIPPING, Redeemed, Statements, a_party, a_sample, redeemed

OPERATIONS = Path(__file__).parents[2] / "schema" / "operations"
ADDRESS = {
    "name": HOME.name,
    "lines": list(HOME.lines),
    "postalCode": HOME.postal_code,
    "city": HOME.city,
    "countryCode": HOME.country_code,
    "region": HOME.region,
    "phone": HOME.phone,
}
SHOWN = "address { name lines postalCode city region countryCode phone }"
READ = f"query($id: ID!) {{ redemption(id: $id) {{ fulfilment fulfilmentDetails {{ method {SHOWN} }} }} }}"
PLAIN = "query($id: ID!) { redemption(id: $id) { fulfilment fulfilmentDetails { method location carrier checkedIn } } }"


def operation(name: str) -> str:
    return (OPERATIONS / f"{name}.graphql").read_text(encoding="utf-8")


def id_of(one: Redeemed) -> str:
    return f"redemption_{one.id.hex}"


async def choose(voice: Voice, one: Redeemed, **input: Any) -> dict[str, Any]:
    answer = await voice(operation("ChooseDelivery"), input={"redemption": id_of(one)} | input)
    found: dict[str, Any] = answer.data["chooseDelivery"]
    return found


async def update(voice: Voice, one: Redeemed, state: str, **more: Any) -> dict[str, Any]:
    answer = await voice(operation("UpdateFulfilment"), input={"redemption": id_of(one), "state": state} | more)
    found: dict[str, Any] = answer.data["updateFulfilment"]
    return found


async def enter(voice: Voice, code: str, key: str | None = None, **more: Any) -> dict[str, Any]:
    input = {"redemption": {"code": code}, "idempotencyKey": key or uuid4().hex} | more
    found: dict[str, Any] = (await voice(operation("CheckIn"), input=input)).data["checkIn"]
    return found


async def address_of(voice: Voice, one: Redeemed) -> Any:
    return (await voice(READ, id=id_of(one))).data["redemption"]["fulfilmentDetails"]["address"]


async def test_a_sample_goes_from_the_members_choice_to_its_door(api: Api, club: Club) -> None:
    sample = await a_sample(club)
    member, partner = api.member(sample.member), api.partner(sample.partner)
    chosen = await choose(member, sample, method="SHIPPING", address=ADDRESS)
    assert chosen["userErrors"] == []
    assert chosen["redemption"]["fulfilmentDetails"] == {"method": "SHIPPING", "location": None}
    assert await address_of(partner, sample) == ADDRESS
    sent = await update(partner, sample, "SCHEDULED", carrier="Post", tracking="99.01")
    assert sent["redemption"]["fulfilment"] == "SCHEDULED"
    assert sent["redemption"]["fulfilmentDetails"]["tracking"] == "99.01"
    assert await address_of(member, sample) == ADDRESS
    done = await update(partner, sample, "FULFILLED")
    assert done["redemption"]["fulfilmentDetails"]["fulfilledAt"] is not None
    assert await address_of(partner, sample) is None
    told = await member("{ disclosures { nodes { kind perkHandle } } }")
    assert told.data["disclosures"]["nodes"][0] == {"kind": "ADDRESS", "perkHandle": sample.perk.handle}


async def test_the_member_reads_on_its_page_that_the_address_was_told(api: Api, club: Club) -> None:
    sample = await a_sample(club)
    await sample.choose(SHIPPING)
    assert await address_of(api.partner(sample.partner), sample) == ADDRESS
    visitor = browser(api)
    await visitor.sign_in(await person_of(club.database, member=sample.member))
    page = text_of(await visitor.get("/consents"))
    assert f"{sample.partner.name} was told where to send “A perk”" in page
    assert "See the address you give for a delivery, until it is sent." in page


async def test_a_page_of_shipments_is_one_statement_more_and_one_disclosure_for_each_address(
    api: Api, club: Club
) -> None:
    perk = await club.perk(settings=SETTINGS, units=10)
    samples = [await redeemed(club, perk) for _ in range(4)]
    for sample in samples[:3]:
        await sample.choose(SHIPPING)
    await club.consent(samples[2].member, samples[2].partner, scopes=consents.USUAL)
    voice, perk_id = api.partner(samples[0].partner), f"perk_{perk.id.hex}"
    bare = "query($perk: ID!) { redemptions(filter: {perk: $perk}) { nodes { id fulfilment } } }"
    with Statements(api.service.database) as statements:
        page = await voice(operation("Shipments"), perk=perk_id)
    nodes = page.data["redemptions"]["nodes"]
    assert [node["fulfilmentDetails"]["address"] for node in reversed(nodes)] == [ADDRESS, ADDRESS, None, None]
    assert [await one.disclosures() for one in samples] == [["ADDRESS"], ["ADDRESS"], [], []]
    with Statements(api.service.database) as fewer:
        await voice(bare, perk=perk_id)
    assert (len(statements), len(fewer)) == (2, 1)


async def test_no_address_is_told_unless_it_is_asked_for(api: Api, club: Club) -> None:
    sample = await a_sample(club)
    await sample.choose(SHIPPING)
    answer = await api.partner(sample.partner)(PLAIN, id=id_of(sample))
    assert answer.data["redemption"]["fulfilmentDetails"] == {
        "method": "SHIPPING",
        "location": None,
        "carrier": None,
        "checkedIn": 0,
    }
    assert await sample.disclosures() == []


async def test_only_with_its_scope_a_token_reads_an_address_and_staff_never_do(api: Api, club: Club) -> None:
    sample = await a_sample(club)
    await sample.choose(SHIPPING)
    weak = await api.partner(sample.partner, "redemptions:read")(READ, id=id_of(sample))
    assert (weak.code, weak.error["extensions"]["missingScopes"]) == ("INSUFFICIENT_SCOPE", ["member.address:read"])
    assert (await api.staff()(READ, id=id_of(sample))).code == "FORBIDDEN"
    assert (await api.staff()(PLAIN, id=id_of(sample))).data["redemption"]["fulfilmentDetails"]["method"] == "SHIPPING"
    assert await sample.disclosures() == []


async def test_a_token_of_one_member_reads_that_members_address(api: Api, club: Club) -> None:
    sample = await a_sample(club)
    await sample.choose(SHIPPING)
    voice = api.bound(sample.partner, sample.alias)
    assert await address_of(voice, sample) == ADDRESS
    assert "ADDRESS" in await sample.disclosures()
    await club.withdraw(sample.member, sample.partner)
    assert (await voice(READ, id=id_of(sample))).data["redemption"] is None


async def test_an_address_without_consent_and_none_look_alike(api: Api, club: Club) -> None:
    perk = await club.perk(settings=SETTINGS)
    given, withdrawn, without = [await redeemed(club, perk) for _ in range(3)]
    for sample in (given, withdrawn, without):
        await sample.choose(SHIPPING)
    await club.sql("UPDATE fulfilment SET address = NULL, address_until = NULL WHERE redemption_id = $1", given.id)
    await club.withdraw(withdrawn.member, withdrawn.partner)
    await club.consent(without.member, without.partner, scopes=consents.USUAL)
    voice = api.partner(given.partner)
    bodies = [(await voice(READ, id=id_of(one))).body for one in (given, withdrawn, without)]
    assert bodies[0] == bodies[1] == bodies[2]


async def test_what_grant_consent_gives_by_itself_leaves_the_address_out(api: Api, club: Club) -> None:
    sample = await a_sample(club)
    member = api.member(sample.member)
    grant = "mutation($input: GrantConsentInput!) { grantConsent(input: $input) { consent { scopes } } }"
    partner = {"handle": sample.partner.handle}
    usual = await member(grant, input={"partner": partner})
    assert usual.data["grantConsent"]["consent"]["scopes"] == sorted(consents.USUAL)
    named = await member(grant, input={"partner": partner, "scopes": ["member.address:read"]})
    assert named.data["grantConsent"]["consent"]["scopes"] == ["member.address:read"]


async def test_nobody_fulfils_for_another(api: Api, club: Club) -> None:
    sample = await a_sample(club)
    stranger, other = api.partner(await club.partner()), api.member(await club.member())
    assert (await update(stranger, sample, "FULFILLED"))["userErrors"][0]["code"] == "NOT_AVAILABLE"
    assert (await choose(other, sample, method="PICKUP", location="old-town"))["userErrors"][0][
        "code"
    ] == "NOT_AVAILABLE"
    assert (await enter(stranger, sample.code))["userErrors"][0] == {
        "code": "NOT_AVAILABLE",
        "message": "Not available.",
        "path": ["redemption"],
    }
    assert (await sample.row())["state"] == "PENDING"


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (
            {"method": "SHIPPING", "address": ADDRESS | {"city": "\n"}},
            "address.city: 1 to 100 printable characters",
        ),
        ({"method": "SHIPPING", "address": ADDRESS | {"lines": []}}, "address.lines: 1 to 4"),
        ({"method": "SHIPPING"}, "address: for SHIPPING, and only for that"),
        ({"method": "PICKUP", "location": "nowhere"}, "location: the handle of one of the perk's pick-up locations"),
    ],
)
async def test_a_choice_that_can_not_be_is_named(api: Api, club: Club, given: dict[str, Any], fault: str) -> None:
    sample = await a_sample(club)
    answer = await api.member(sample.member)(operation("ChooseDelivery"), input={"redemption": id_of(sample)} | given)
    assert (answer.code, answer.error["message"]) == ("BAD_INPUT", fault)
    assert HOME.name not in str(answer.body)


async def test_a_wrong_step_is_a_user_error_and_a_wrong_input_an_error(api: Api, club: Club) -> None:
    sample = await a_sample(club)
    voice = api.partner(sample.partner)
    assert (await update(voice, sample, "NO_SHOW"))["userErrors"][0]["code"] == "WRONG_STATE"
    answer = await voice(operation("UpdateFulfilment"), input={"redemption": id_of(sample), "state": "FAILED"})
    assert (answer.code, answer.error["extensions"]["faults"]) == (
        "BAD_INPUT",
        ["reason: 1 to 500 printable characters"],
    )
    assert (
        await voice(operation("UpdateFulfilment"), input={"redemption": "x", "state": "FAILED"})
    ).code == "BAD_INPUT"


async def test_guests_come_in_by_the_code_that_they_show(api: Api, club: Club) -> None:
    party = await a_party(club, 3)
    voice = api.partner(party.partner, "redemptions:write")
    first = await enter(voice, party.code, "one", units=2)
    assert first["redemption"]["fulfilmentDetails"]["checkedIn"] == 2
    assert (first["redemption"]["option"], first["redemption"]["units"]) == ("tonight", 3)
    again = await enter(voice, party.code, "one", units=2)
    assert (again["replayed"], again["redemption"]["fulfilmentDetails"]["checkedIn"]) == (True, 2)
    assert (await enter(voice, party.code, units=2))["userErrors"][0]["code"] == "UNITS_EXCEEDED"
    input = {"redemption": {"code": party.code}, "idempotencyKey": "one", "units": 1}
    assert (await voice(operation("CheckIn"), input=input)).code == "IDEMPOTENCY_KEY_REUSED"
    assert (await enter(voice, party.code))["redemption"]["fulfilmentDetails"]["checkedIn"] == 3


async def test_too_many_wrong_codes_are_throttled_and_right_ones_are_not(api: Api, club: Club) -> None:
    party = await a_party(club, 10)
    voice = api.partner(party.partner, name="door")
    for _ in range(10):
        assert (await enter(voice, party.code, units=1))["userErrors"] == []
    wrong = {"redemption": {"code": "0000-0000-0000-00"}}
    answers = []
    for _ in range(101):
        answer = await voice(operation("CheckIn"), input=wrong | {"idempotencyKey": uuid4().hex})
        answers.append(answer.body.get("errors", [{"extensions": {"code": "NONE"}}])[0]["extensions"]["code"])
    assert answers[0] == "NONE"
    assert answers[-1] == "THROTTLED"


async def test_a_party_before_the_doors_open_is_told_when_they_do_not(api: Api, club: Club) -> None:
    party = await a_party(club, begins=timedelta(days=2))
    refused = await enter(api.partner(party.partner), party.code)
    assert refused["userErrors"][0]["code"] == "OUTSIDE_WINDOW"


async def test_a_no_show_is_corrected_by_staff(api: Api, club: Club) -> None:
    party = await a_party(club, 2)
    await club.sql("UPDATE redemption SET fulfilment = 'NO_SHOW' WHERE id = $1", party.id)
    done = await update(api.staff(), replace(party), "FULFILLED", units=1)
    assert done["redemption"]["fulfilment"] == "FULFILLED"
    assert (await party.row())["checked_in"] == 1


async def test_a_member_has_no_hand_in_fulfilment(api: Api, club: Club) -> None:
    party = await a_party(club)
    voice = api.member(party.member)
    input = {"redemption": {"code": party.code}, "idempotencyKey": "x"}
    assert (await voice(operation("CheckIn"), input=input)).code == "FORBIDDEN"
    input = {"redemption": id_of(party), "state": "FULFILLED"}
    assert (await voice(operation("UpdateFulfilment"), input=input)).code == "FORBIDDEN"
