"""The way of a browser from an app over sign-in and question back to the app, and what keeps others off it."""

from datetime import timedelta
from urllib.parse import urlsplit

import httpx
import pytest

from auth.caller import CallerKind
from auth.scopes import MEMBER_BOUND, scopes_of
from partners import tables
from partners.tables import ConsentState
from tests.api import Api
from tests.browsers import VERIFIER, Browser, app_of, asking, browser, mark_of, person_of, text_of, told
from tests.factories import Club

HOSTILE = "<script>alert(1)</script>\"'><img src=x>{{7*7}}"


async def led(visitor: Browser, address: str) -> httpx.Response:
    """The page that the browser stands at when no redirect of ours is left to follow."""
    response = await visitor.get(address)
    while response.status_code == 303 and response.headers["location"].startswith("/"):
        response = await visitor.get(response.headers["location"])
    return response


async def asked(api: Api, club: Club, **about: str) -> tuple[Browser, httpx.Response, tables.Member, tables.Partner]:
    """A member who is signed in, before the question of a partner's app."""
    member, partner = await club.member(), await club.partner(name="Silverline")
    visitor = browser(api)
    await visitor.sign_in(await person_of(club.database, member=member, name="Ines"))
    client_id = await app_of(club, partner, **about)
    return visitor, await led(visitor, asking(client_id)), member, partner


async def test_a_member_signs_in_is_asked_says_yes_and_the_app_gets_a_token(api: Api, club: Club) -> None:
    member, partner = await club.member(), await club.partner(name="Silverline")
    client_id = await app_of(club, partner, name="Silverline app", purpose="to treat you well")
    visitor = browser(api)
    page = await led(visitor, asking(client_id))
    assert page.url.path == "/sign-in"
    assert "to continue to Silverline app" in text_of(page)
    response = await visitor.sign_in(await person_of(club.database, member=member), then=dict(page.url.params)["then"])
    question = await led(visitor, response.headers["location"])
    words = text_of(question)
    for shown in ("Silverline asks for your permission", "Silverline app", "to treat you well", "See your tier."):
        assert shown in words
    answered = await visitor.send(question, question.url.path, "allow", lasts="quarter")
    assert answered.headers["location"].startswith("https://app.example/back?")
    back = told(answered)
    assert back.keys() == {"code", "state", "iss"}
    assert (back["state"], back["iss"]) == ("a state", api.service.authority.issuer)
    form = {
        "grant_type": "authorization_code",
        "code": back["code"],
        "client_id": client_id,
        "redirect_uri": "https://app.example/back",
        "code_verifier": VERIFIER,
    }
    token = await api.client.post("/oauth/token", data=form)
    assert token.status_code == 200, token.text
    assert token.json()["scope"] == "eligibility:read member.tier:read"
    rows = await club.sql("SELECT state, expires_at FROM consent WHERE member_id = $1", member.id)
    assert [(row["state"], row["expires_at"]) for row in rows] == [
        (ConsentState.GRANTED, club.now + timedelta(days=90))
    ]


@pytest.mark.parametrize(("lasts", "days"), [("quarter", 90), ("year", 365), ("open", None)])
async def test_a_consent_lasts_as_long_as_the_member_says(api: Api, club: Club, lasts: str, days: int | None) -> None:
    visitor, question, member, _ = await asked(api, club)
    told(await visitor.send(question, question.url.path, "allow", lasts=lasts))
    [row] = await club.sql("SELECT expires_at FROM consent WHERE member_id = $1", member.id)
    assert row["expires_at"] == (None if days is None else club.now + timedelta(days=days))


@pytest.mark.parametrize("values", [{"lasts": "for ever"}, {"lasts": ""}, {"answer": "perhaps"}, {"answer": ""}])
async def test_an_answer_that_is_none_is_asked_for_again(api: Api, club: Club, values: dict[str, str]) -> None:
    visitor, question, member, _ = await asked(api, club)
    again = await visitor.send(question, question.url.path, "allow", **values)
    assert again.status_code == 400
    assert "Please look again" in text_of(again)
    assert await club.sql("SELECT FROM consent WHERE member_id = $1", member.id) == []
    assert "code" in told(await visitor.send(again, again.url.path, "allow"))


async def test_a_no_leads_back_without_a_code_and_leaves_no_consent(api: Api, club: Club) -> None:
    visitor, question, member, _ = await asked(api, club)
    back = told(await visitor.send(question, question.url.path, "refuse"))
    assert (back["error"], back["state"]) == ("access_denied", "a state")
    assert "code" not in back
    assert await club.sql("SELECT FROM consent WHERE member_id = $1", member.id) == []


async def test_a_question_is_answered_once(api: Api, club: Club) -> None:
    visitor, question, _, _ = await asked(api, club)
    assert "code" in told(await visitor.send(question, question.url.path, "allow"))
    for button in ("allow", "refuse"):
        again = await visitor.send(question, question.url.path, button)
        assert (again.status_code, "location" in again.headers) == (400, False)
        assert "answered already" in text_of(again)


@pytest.mark.parametrize("kind", [CallerKind.MEMBER, CallerKind.STAFF])
async def test_the_operators_own_apps_are_not_asked_about(api: Api, club: Club, kind: CallerKind) -> None:
    member = await club.member() if kind is CallerKind.MEMBER else None
    client_id = await app_of(club, kind=kind, scopes=scopes_of(kind))
    visitor = browser(api)
    page = await led(visitor, asking(client_id))
    then = dict(page.url.params)["then"]
    response = await visitor.sign_in(await person_of(club.database, member=member), then=then)
    back = await visitor.get(response.headers["location"])
    assert "code" in told(back)


@pytest.mark.parametrize("redirect_uri", ["http://127.0.0.1:8765/back", "com.example.club:/back"])
async def test_an_own_app_that_any_program_could_pose_as_is_asked_about(
    api: Api, club: Club, redirect_uri: str
) -> None:
    member, visitor = await club.member(), browser(api)
    client_id = await app_of(
        club, kind=CallerKind.MEMBER, name="Member app", scopes=frozenset({"me:read"}), redirect_uri=redirect_uri
    )
    await visitor.sign_in(await person_of(club.database, member=member))
    question = await led(visitor, asking(client_id, redirect_uri=redirect_uri))
    assert "Member app asks for your permission" in text_of(question)
    assert "For how long" not in text_of(question)
    answered = await visitor.send(question, question.url.path, "allow")
    assert answered.headers["location"].startswith(redirect_uri + "?code=")


async def test_who_can_not_answer_is_told_who_can_and_may_change_or_go_back(api: Api, club: Club) -> None:
    member, partner, other = await club.member(), await club.partner(), await club.partner()
    client_id = await app_of(club, partner)
    visitor = browser(api)
    await visitor.sign_in(await person_of(club.database, partner=other, name="Marc"))
    page = await led(visitor, asking(client_id))
    assert page.status_code == 403
    assert "asks for a member. You are signed in as Marc." in text_of(page)
    forced = await visitor.post(page.url.path, {"mark": mark_of(page), "answer": "allow", "lasts": "year"})
    assert (forced.status_code, "location" in forced.headers) == (400, False)
    out = await visitor.send(page, "/sign-out", then=page.url.path)
    where = urlsplit(out.headers["location"])
    assert where.path == "/sign-in"
    response = await visitor.sign_in(await person_of(club.database, member=member), then=page.url.path)
    question = await visitor.get(response.headers["location"])
    assert "code" in told(await visitor.send(question, question.url.path, "allow"))
    await visitor.sign_in(await person_of(club.database, partner=other))
    page = await led(visitor, asking(client_id))
    assert told(await visitor.send(page, page.url.path, "refuse"))["error"] == "access_denied"


async def test_only_the_partners_own_administrator_answers_for_it(api: Api, club: Club) -> None:
    partner, other = await club.partner(), await club.partner()
    own = scopes_of(CallerKind.PARTNER) - MEMBER_BOUND
    client_id = await app_of(club, partner, scopes=frozenset({"perks:read", "perks:write"}))
    visitor = browser(api)
    await visitor.sign_in(await person_of(club.database, partner=other, scopes=own))
    assert (await led(visitor, asking(client_id))).status_code == 403
    await visitor.sign_in(await person_of(club.database, partner=partner, scopes=own))
    question = await led(visitor, asking(client_id))
    assert "Read your own perks." in text_of(question)
    assert "For how long" not in text_of(question)
    assert "code" in told(await visitor.send(question, question.url.path, "allow"))


async def test_a_question_belongs_to_the_browser_that_it_was_shown_in(api: Api, club: Club) -> None:
    _, question, _, _ = await asked(api, club)
    victim = browser(api)
    await victim.sign_in(await person_of(club.database, member=await club.member()))
    page = await victim.get(question.url.path)
    assert (page.status_code, "another browser" in text_of(page)) == (400, True)
    own = await victim.get("/account")
    sent = await victim.post(question.url.path, {"mark": mark_of(own), "answer": "allow", "lasts": "year"})
    assert (sent.status_code, "location" in sent.headers) == (400, False)


@pytest.mark.parametrize("ticket", ["x", "." * 101, "01a201e9-9d29-71a5-9237-0f0641d01c28." + "0" * 64])
async def test_an_invented_ticket_is_a_page_that_says_so(api: Api, ticket: str) -> None:
    page = await browser(api).get(f"/authorize/{ticket}")
    assert page.status_code == 400
    assert "another browser" in text_of(page)


@pytest.mark.parametrize(
    "changed",
    [
        {"client_id": "client_nobody"},
        {"client_id": ""},
        {"redirect_uri": "https://evil.example/back"},
        {"redirect_uri": "https://app.example/back/../x"},
        {"redirect_uri": ""},
        {"redirect_uri": "javascript:alert(1)"},
    ],
)
async def test_what_is_not_registered_is_shown_as_a_page_and_never_redirected_to(
    api: Api, club: Club, changed: dict[str, str]
) -> None:
    client_id = await app_of(club, await club.partner())
    page = await browser(api).get(asking(client_id, **changed))
    assert (page.status_code, "location" in page.headers) == (400, False)
    assert "evil.example" not in page.text
    assert "javascript" not in page.text


@pytest.mark.parametrize("query", ["client_id=a&client_id=b", "x=%ff", "%00", "x", "", "client_id=a%00", "a=b&" * 60])
async def test_a_malformed_request_is_shown_as_a_page(api: Api, query: str) -> None:
    page = await browser(api).get(f"/oauth/authorize?{query}")
    assert (page.status_code, "location" in page.headers) == (400, False)
    assert page.headers["content-type"] == "text/html; charset=utf-8"


async def test_a_mistake_that_the_app_may_hear_of_is_told_to_the_app(api: Api, club: Club) -> None:
    client_id = await app_of(club, await club.partner())
    back = told(await browser(api).get(asking(client_id, code_challenge_method="plain")))
    assert (back["error"], back["state"]) == ("invalid_request", "a state")


async def test_a_posted_request_goes_on_as_a_get_so_that_cookies_come_along(api: Api, club: Club) -> None:
    client_id = await app_of(club, await club.partner())
    address = asking(client_id)
    response = await browser(api).client.post(
        "/oauth/authorize",
        content=urlsplit(address).query,
        headers={"content-type": "application/x-www-form-urlencoded", "sec-fetch-site": "cross-site"},
    )
    assert response.status_code == 303
    assert response.headers["location"] == address


async def test_what_others_wrote_is_shown_as_text(api: Api, club: Club) -> None:
    partner, member = await club.partner(name=HOSTILE), await club.member()
    visitor = browser(api)
    client_id = await app_of(club, partner, name=HOSTILE, purpose=HOSTILE)
    address = asking(client_id, state=HOSTILE)
    sign_in = await led(visitor, address)
    response = await visitor.sign_in(
        await person_of(club.database, member=member, name=HOSTILE), then=dict(sign_in.url.params)["then"]
    )
    question = await visitor.get(response.headers["location"])
    for page in (sign_in, question):
        assert "<script" not in page.text
        assert "<img" not in page.text
        assert HOSTILE in text_of(page)
    assert told(await visitor.send(question, question.url.path, "allow"))["state"] == HOSTILE
    consents = await visitor.get("/consents")
    assert "<script" not in consents.text
    assert HOSTILE in text_of(consents)


async def test_only_the_page_that_leads_to_an_app_lets_forms_lead_there(api: Api, club: Club) -> None:
    visitor, question, _, _ = await asked(api, club)
    assert "form-action 'self' https:;" in question.headers["content-security-policy"]
    account = await visitor.get("/account")
    assert "form-action 'self';" in account.headers["content-security-policy"]
