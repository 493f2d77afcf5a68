"""Erasure and access requests over the API: as staff ask for them, and as partners and the member see them after."""

from pathlib import Path
from typing import Any

from tests.api import Api, Voice
from tests.asking import opened
from tests.commands import Perks
from tests.factories import Club

ERASE = "mutation($input: EraseMemberInput!) { eraseMember(input: $input) { member { id state externalId } } }"
EXPORT = "mutation($input: ExportMemberInput!) { exportMember(input: $input) { personalData } }"
CHECK = """query($alias: String!, $perk: ID!) {
  member(by: {alias: $alias}) { id }
  eligibility(member: {alias: $alias}, perk: {id: $perk}) { eligible refusals { code } }
}"""


async def done(voice: Voice, query: str, member: Any) -> Any:
    return await voice(query, input={"member": {"id": f"member_{member.id.hex}"}})


async def test_to_its_partner_an_erased_member_looks_like_a_stranger(club: Club, api: Api) -> None:
    perk = await club.perk()
    partner = club.partners[perk.partner_id]
    member = await club.member(partner)
    alias = await club.consent(member, partner)
    brand = api.partner(partner)
    asked = {"perk": f"perk_{perk.id.hex}"}
    assert (await brand(CHECK, alias=alias, **asked)).data["member"] is not None
    erased = (await done(api.staff(), ERASE, member)).data["eraseMember"]["member"]
    assert (erased["state"], erased["externalId"]) == ("ERASED", f"erased:{member.id}")
    stranger = (await brand(CHECK, alias="NOBODY-OF-THIS-NAME", **asked)).data
    assert (await brand(CHECK, alias=alias, **asked)).data == stranger


async def test_an_open_request_ends_and_its_words_are_gone(club: Club, api: Api) -> None:
    counter = await opened(club, api)
    asked = (await counter.submit())["serviceRequest"]
    told = (await done(api.staff(), EXPORT, counter.member)).data["exportMember"]["personalData"]
    assert told["held"]["service_request"][0]["form"]["guests"] == [{"name": "Ada"}]
    await done(api.staff(), ERASE, counter.member)
    [row] = await club.sql("SELECT state, form::text FROM service_request WHERE member_id = $1", counter.member.id)
    assert (row["state"], row["form"]) == ("CANCELLED", "{}")
    said = await club.sql(
        "SELECT text FROM message m JOIN service_request s ON s.id = m.thread_id WHERE s.member_id = $1",
        counter.member.id,
    )
    assert {one["text"] for one in said} == {""}
    assert asked["state"] == "SUBMITTED"


async def test_only_staff_with_the_right_may_ask_or_erase_and_nobody_twice(club: Club, api: Api) -> None:
    partner = await club.partner()
    member = await club.member(partner)
    for voice in (api.member(member), api.partner(partner), api.staff("audit:read"), api.anonymous()):
        for query in (EXPORT, ERASE):
            answer = await done(voice, query, member)
            assert answer.code in ("FORBIDDEN", "INSUFFICIENT_SCOPE", "UNAUTHENTICATED")
    assert (await done(api.staff("members:admin"), ERASE, member)).status == 200
    assert (await done(api.staff("members:admin"), ERASE, member)).code == "NOT_FOUND"


async def test_the_member_can_do_nothing_any_more(club: Club, api: Api) -> None:
    perk = await club.perk()
    member = await club.member(club.partners[perk.partner_id])
    me = api.member(member)
    await done(api.staff(), ERASE, member)
    claim = "mutation($input: ClaimPerkInput!) { claimPerk(input: $input) { hold { id } userErrors { code } } }"
    answer = await me(claim, input={"perk": {"id": f"perk_{perk.id.hex}"}, "idempotencyKey": "once more"})
    assert answer.data["claimPerk"]["hold"] is None
    assert "MEMBERSHIP_SUSPENDED" in {one["code"] for one in answer.data["claimPerk"]["userErrors"]}
    consent = "mutation($input: GrantConsentInput!) { grantConsent(input: $input) { consent { id } } }"
    handle = club.partners[perk.partner_id].handle
    assert (await me(consent, input={"partner": {"handle": handle}, "purpose": "perks"})).code == "NOT_FOUND"


def test_the_commands_need_a_yes_and_say_what_they_did(perks: Perks, folder: Path) -> None:
    people = folder / "people.csv"
    people.write_text("external_id,joined_at\nada,2020-01-01\n")
    assert perks("import", "members", people).code == 0
    found = perks("members", "export", "ada").json
    assert found["held"]["member"][0]["external_id"] == "ada"
    assert found["incomplete"] == []
    refused = perks("members", "erase", "ada")
    assert (refused.code, "no way back" in refused.err) == (2, True)
    assert perks("members", "erase", "ada", "--yes").code == 0
    again = perks("members", "erase", "ada", "--yes")
    assert (again.code, again.faults) == (1, ["perks: no such member"])
    assert perks.query("SELECT count(*) FROM member WHERE external_id = 'ada'") == [(0,)]
