"""A member sees who may know what, who asked, and takes it back."""

import re
from datetime import timedelta

import pytest

from partners import tables
from partners.tables import DisclosureKind
from tests.api import Api
from tests.browsers import Browser, app_of, asking, browser, mark_of, person_of, text_of
from tests.factories import Club


async def signed_in(api: Api, club: Club, member: tables.Member) -> Browser:
    visitor = browser(api)
    await visitor.sign_in(await person_of(club.database, member=member))
    return visitor


async def told(club: Club, member: tables.Member, partner: tables.Partner, kind: DisclosureKind, n: int = 1) -> None:
    client_id = await app_of(club, partner, name="Counter <7>")
    perk = await club.perk(partner, title="A day on the track")
    about = {"member_id": member.id, "partner_id": partner.id, "client_id": client_id, "perk_id": perk.id}
    async with club.database.sessions.begin() as session:
        session.add_all(tables.Disclosure(**about, kind=kind, at=club.now + timedelta(minutes=i)) for i in range(n))


async def test_a_member_reads_who_may_know_what_and_until_when(api: Api, club: Club) -> None:
    partner, other = await club.partner(name="Silverline"), await club.partner(name="Wayfarer")
    member = await club.member()
    await club.consent(member, partner, scopes=["member.tier:read"], expires_at=club.now + timedelta(days=90))
    page = text_of(await (await signed_in(api, club, member)).get("/consents"))
    assert "Silverline can See your tier. Withdraw" in page
    assert re.search(r"What for perks Since \d+ \w+ 20\d\d Until \d+ \w+ 20\d\d", page)
    assert other.name not in page
    assert "Who asked about you Nobody." in page


async def test_a_member_withdraws_after_being_asked_once_more(api: Api, club: Club) -> None:
    partner = await club.partner(name="Silverline")
    member = await club.member(partner)
    visitor = await signed_in(api, club, member)
    sure = await visitor.get(f"/consents/{partner.handle}/withdraw")
    assert "Withdraw from Silverline?" in text_of(sure)
    assert "Silverline" in text_of(await visitor.get("/consents"))
    response = await visitor.send(sure, sure.url.path)
    assert (response.status_code, response.headers["location"]) == (303, "/consents")
    assert "No partner knows anything of you." in text_of(await visitor.get("/consents"))
    again = await visitor.post(sure.url.path, {"mark": mark_of(sure)})
    assert again.status_code == 404


async def test_withdrawing_ends_what_an_app_was_allowed(api: Api, club: Club) -> None:
    partner, member = await club.partner(), await club.member()
    visitor = await signed_in(api, club, member)
    begun = await visitor.get(asking(await app_of(club, partner)))
    question = await visitor.get(begun.headers["location"])
    assert (await visitor.send(question, question.url.path, "allow")).status_code == 303
    sure = await visitor.get(f"/consents/{partner.handle}/withdraw")
    await visitor.send(sure, sure.url.path)
    rows = await club.sql("SELECT state, reason FROM approval WHERE member_id = $1", member.id)
    assert [tuple(row) for row in rows] == [("REVOKED", "CONSENT_WITHDRAWN")]


async def test_a_withdrawal_without_the_mark_changes_nothing(api: Api, club: Club) -> None:
    partner = await club.partner(name="Silverline")
    visitor = await signed_in(api, club, await club.member(partner))
    refused = await visitor.post(f"/consents/{partner.handle}/withdraw", {"mark": "0" * 64})
    assert refused.status_code == 403
    assert "Silverline can" in text_of(await visitor.get("/consents"))


async def test_a_member_withdraws_nobody_elses_consent(api: Api, club: Club) -> None:
    partner = await club.partner()
    await club.member(partner)
    visitor = await signed_in(api, club, await club.member())
    account = await visitor.get("/account")
    for response in (
        await visitor.get(f"/consents/{partner.handle}/withdraw"),
        await visitor.post(f"/consents/{partner.handle}/withdraw", {"mark": mark_of(account)}),
    ):
        assert response.status_code == 404
    rows = await club.sql("SELECT state FROM consent WHERE partner_id = $1", partner.id)
    assert [row["state"] for row in rows] == ["GRANTED"]


async def test_consents_are_for_members_who_signed_in(api: Api, club: Club) -> None:
    visitor = browser(api)
    assert (await visitor.get("/consents")).headers["location"] == "/sign-in?then=%2Fconsents"
    await visitor.sign_in(await person_of(club.database, partner=await club.partner()))
    refused = await visitor.get("/consents")
    assert (refused.status_code, "for members" in text_of(refused)) == (403, True)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (DisclosureKind.MEMBERSHIP, "Silverline was told about your membership"),
        (DisclosureKind.ELIGIBILITY, "Silverline was told whether you may have “A day on the track”"),
        (DisclosureKind.CATALOGUE, "Silverline was told which of its perks you may have"),
        (DisclosureKind.REDEMPTIONS, "Silverline was told what you used"),
    ],
)
async def test_a_member_reads_who_asked(api: Api, club: Club, kind: DisclosureKind, sentence: str) -> None:
    partner = await club.partner(name="Silverline")
    member = await club.member(partner)
    await told(club, member, partner, kind)
    page = text_of(await (await signed_in(api, club, member)).get("/consents"))
    assert sentence in page
    assert "Counter <7>" in page
    stranger = await signed_in(api, club, await club.member(partner))
    assert sentence not in text_of(await stranger.get("/consents"))


async def test_who_asked_is_shown_twenty_at_a_time_each_once(api: Api, club: Club) -> None:
    partner = await club.partner()
    member = await club.member(partner)
    await told(club, member, partner, DisclosureKind.MEMBERSHIP, 45)
    visitor = await signed_in(api, club, member)
    seen: list[str] = []
    address = "/consents"
    for size in (20, 20, 5):
        page = await visitor.get(address)
        found = re.findall(r'<p class="quiet"><time datetime="([^"]+)"', page.text)
        assert len(found) == size
        seen += found
        address = next(iter(re.findall(r'href="(/consents\?before=[^"#]+)#asked', page.text)), "")
    assert address == ""
    assert len(set(seen)) == 45
    assert seen == sorted(seen, reverse=True)


@pytest.mark.parametrize("before", ["x", "", "01a201e9-9d29-71a5-9237-0f0641d01c28' OR 1=1", "%00"])
async def test_a_place_in_the_list_that_can_not_be_is_the_beginning(api: Api, club: Club, before: str) -> None:
    visitor = await signed_in(api, club, await club.member())
    assert (await visitor.get(f"/consents?before={before}")).status_code == 200
