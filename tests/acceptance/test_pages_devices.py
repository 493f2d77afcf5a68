"""A person connects a point of sale: sees what it is before saying yes, and says where it stands."""

import pytest
from httpx import Response

from auth.caller import CallerKind
from auth.client_settings import ClientSettings
from auth.clients import Administrator, create_client
from auth.devices import ask_for_device
from auth.scopes import MEMBER_BOUND, scopes_of
from auth.tables import GrantType
from gateway.rate_limits import USER_CODE
from partners import tables
from partners.actors import SYSTEM
from tests.api import Api
from tests.browsers import Browser, browser, person_of, text_of
from tests.factories import Club

HOSTILE = "<script>alert(1)</script>"
OWN = scopes_of(CallerKind.PARTNER) - MEMBER_BOUND


async def waiting(club: Club, partner: tables.Partner, *, name: str = "Till 4", place: str | None = "Zurich") -> str:
    """The code that a point of sale shows."""
    settings = ClientSettings(
        name, frozenset({"eligibility:read", "redemptions:write"}), grant_types=(GrantType.DEVICE_CODE,)
    )
    async with club.database.sessions.begin() as session:
        client, _ = await create_client(session, partner.id, settings, Administrator(SYSTEM), club.now)
        codes = await ask_for_device(
            session, club.keys.devices, client, client.scopes, place=place, dpop_jkt=None, now=club.now
        )
    return codes.user_code


async def administrator(api: Api, club: Club, partner: tables.Partner) -> Browser:
    visitor = browser(api)
    await visitor.sign_in(await person_of(club.database, partner=partner, scopes=OWN))
    return visitor


async def looked_up(visitor: Browser, code: str) -> Response:
    return await visitor.send(await visitor.get("/device"), "/device", "look", user_code=code)


async def state_of(club: Club, partner: tables.Partner) -> tuple[str, str | None]:
    [row] = await club.sql(
        "SELECT d.state, a.place FROM device_authorization d JOIN client c ON c.id = d.client_id"
        " LEFT JOIN approval a ON a.id = d.approval_id WHERE c.partner_id = $1",
        partner.id,
    )
    return row["state"], row["place"]


@pytest.mark.parametrize("typed", [str, str.lower, lambda code: code.replace("-", " "), lambda code: f" {code} "])
async def test_what_is_approved_is_shown_before_it_is_approved(api: Api, club: Club, typed: object) -> None:
    assert callable(typed)
    partner = await club.partner(name="Silverline")
    code = await waiting(club, partner)
    visitor = await administrator(api, club, partner)
    page = await looked_up(visitor, typed(code))
    for shown in (code, "Till 4", "Silverline", "Confirm holds of your own perks, which redeems them."):
        assert shown in text_of(page)
    assert 'value="Zurich"' in page.text
    assert await state_of(club, partner) == ("PENDING", None)
    done = await visitor.send(page, "/device", "approve", place="Geneva, counter 2")
    assert "Till 4 of Silverline is connected at Geneva, counter 2." in text_of(done)
    assert await state_of(club, partner) == ("APPROVED", "Geneva, counter 2")


async def test_a_device_is_denied(api: Api, club: Club) -> None:
    partner = await club.partner()
    page = await looked_up(visitor := await administrator(api, club, partner), await waiting(club, partner))
    assert "Till 4 gets nothing." in text_of(await visitor.send(page, "/device", "deny", place=""))
    assert await state_of(club, partner) == ("DENIED", None)


@pytest.mark.parametrize("place", ["", "   ", "x" * 101])
async def test_a_device_is_not_approved_without_a_place(api: Api, club: Club, place: str) -> None:
    partner = await club.partner()
    page = await looked_up(visitor := await administrator(api, club, partner), await waiting(club, partner, place=None))
    again = await visitor.send(page, "/device", "approve", place=place)
    assert again.status_code == 400
    assert '<a href="#place">Say where the device stands' in again.text
    assert 'aria-invalid="true"' in again.text
    assert (await state_of(club, partner))[0] == "PENDING"
    assert "is connected" in text_of(await visitor.send(again, "/device", "approve", place="Bern"))


async def test_another_partners_code_and_a_wrong_one_are_the_same(api: Api, club: Club) -> None:
    partner, other = await club.partner(), await club.partner()
    code = await waiting(club, partner)
    visitor = await administrator(api, club, other)
    answers = [text_of(await looked_up(visitor, typed)).replace(typed, "") for typed in (code, "BBBB-BBBB")]
    assert answers[0] == answers[1]
    assert "There is no device with this code" in answers[0]


async def test_a_code_is_answered_once(api: Api, club: Club) -> None:
    partner = await club.partner()
    page = await looked_up(visitor := await administrator(api, club, partner), await waiting(club, partner))
    await visitor.send(page, "/device", "approve", place="Bern")
    for button in ("approve", "deny"):
        late = await visitor.send(page, "/device", button, place="Basel")
        assert (late.status_code, "There is no device" in text_of(late)) == (400, True)
    assert await state_of(club, partner) == ("APPROVED", "Bern")


async def test_codes_can_not_be_tried_out(api: Api, club: Club) -> None:
    partner = await club.partner()
    code = await waiting(club, partner)
    visitor = await administrator(api, club, partner)
    for _ in range(USER_CODE.attempts):
        assert (await looked_up(visitor, "BBBB-BBBB")).status_code == 400
    refused = await looked_up(visitor, code)
    assert (refused.status_code, "Too many attempts" in text_of(refused)) == (429, True)
    assert int(refused.headers["retry-after"]) > 0


async def test_a_link_fills_the_code_in_and_leaves_the_rest_to_the_person(api: Api, club: Club) -> None:
    partner = await club.partner()
    code = await waiting(club, partner)
    visitor = await administrator(api, club, partner)
    page = await visitor.get(f"/device?user_code={code}")
    assert f'value="{code}"' in page.text
    assert "Till 4" not in page.text
    assert await state_of(club, partner) == ("PENDING", None)


async def test_members_connect_no_devices(api: Api, club: Club) -> None:
    visitor = browser(api)
    assert (await visitor.get("/device")).headers["location"] == "/sign-in?then=%2Fdevice"
    await visitor.sign_in(await person_of(club.database, member=await club.member()))
    assert (await visitor.get("/device")).status_code == 403


async def test_what_others_wrote_about_a_device_is_shown_as_text(api: Api, club: Club) -> None:
    partner = await club.partner(name=HOSTILE)
    code = await waiting(club, partner, name=HOSTILE, place=f'"{HOSTILE}')
    visitor = await administrator(api, club, partner)
    page = await looked_up(visitor, code)
    done = await visitor.send(page, "/device", "approve")
    wrong = await looked_up(visitor, HOSTILE[:20])
    for one in (page, done, wrong, await visitor.get(f"/device?user_code={HOSTILE}")):
        assert "<script" not in one.text
    assert HOSTILE in text_of(page)
