"""Signing in and out with a browser: cookies, forged forms, and nowhere to be led astray."""

import re
from datetime import timedelta

import httpx
import pytest
from pydantic import SecretStr

from auth.sessions import SESSION_LASTS
from gateway import embedded
from gateway.app import Gateway
from gateway.database import Database
from gateway.settings import Settings
from partners.errors import BadInput
from partners.tables import MemberState
from tests.api import Api
from tests.browsers import Browser, browser, mark_of, person_of, text_of
from tests.factories import Club


def cookies_of(response: httpx.Response) -> dict[str, str]:
    """Each cookie that is set, with its flags."""
    return {line.partition("=")[0]: line.partition("=")[2] for line in response.headers.get_list("set-cookie")}


async def test_somebody_signs_in_sees_who_they_are_and_signs_out(api: Api, club: Club) -> None:
    visitor = browser(api)
    assert "You are not signed in." in text_of(await visitor.get("/account"))
    response = await visitor.sign_in(await person_of(club.database, member=await club.member(), name="Ines Keller"))
    assert (response.status_code, response.headers["location"]) == (303, "/account")
    account = await visitor.get("/account")
    assert "Member of Meridian Club" in text_of(account)
    assert "Signed in as Ines Keller" in text_of(account)
    out = await visitor.send(account, "/sign-out")
    assert out.headers["location"] == "/account"
    assert "You are not signed in." in text_of(await visitor.get("/account"))


async def test_signing_out_ends_the_session_itself_not_only_the_cookie(api: Api, club: Club) -> None:
    visitor, thief = browser(api), browser(api)
    await visitor.sign_in(await person_of(club.database, name="Ines Keller"))
    thief.client.cookies.update(visitor.client.cookies)
    assert "Ines Keller" in text_of(await thief.get("/account"))
    await visitor.send(await visitor.get("/account"), "/sign-out")
    assert "You are not signed in." in text_of(await thief.get("/account"))


async def test_cookies_are_kept_from_scripts_and_other_sites(api: Api, club: Club) -> None:
    visitor = browser(api)
    first = cookies_of(await visitor.get("/sign-in"))
    assert first.keys() == {"perks-browser"}
    second = cookies_of(await visitor.sign_in(await person_of(club.database)))
    assert second.keys() == {"perks"}
    for flags in (first["perks-browser"], second["perks"]):
        assert re.fullmatch(r"[A-Za-z0-9_-]{43}; HttpOnly; (Max-Age=\d+; )?Path=/; SameSite=lax", flags)
    assert f"Max-Age={int(SESSION_LASTS.total_seconds())};" in second["perks"]
    assert cookies_of(await visitor.get("/account")) == {}


async def test_under_https_cookies_are_of_this_host_alone(
    servers: embedded.Servers, database: Database, secret: bytes, club: Club
) -> None:
    address = "https://127.0.0.1:8443"
    settings = settings_at(address, servers, database, secret)
    gateway = Gateway(settings, clock=lambda: club.now, work=False)
    async with gateway.living(), httpx.AsyncClient(transport=httpx.ASGITransport(gateway), base_url=address) as client:
        visitor = Browser(client)
        page = await visitor.get("/sign-in")
        response = await visitor.sign_in(await person_of(club.database, name="Ines Keller"))
        for name, flags in (cookies_of(page) | cookies_of(response)).items():
            assert name.startswith("__Host-perks")
            assert "; Secure" in flags
            assert "Path=/;" in flags
            assert "Domain" not in flags
        assert "Ines Keller" in text_of(await visitor.get("/account"))
        cookie = client.cookies["__Host-perks"]
    async with (
        gateway.living(),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(gateway), base_url=address, cookies={"perks": cookie}
        ) as client,
    ):
        assert "You are not signed in." in text_of(await client.get("/account"))


def settings_at(address: str, servers: embedded.Servers, database: Database, secret: bytes) -> Settings:
    return Settings(
        database_url=database.engine.url.render_as_string(hide_password=False),
        redis_url=servers.redis_url,
        secret=SecretStr(secret.decode()),
        base_url=address,
        built_in_sign_in=True,
    )


async def test_the_built_in_sign_in_stops_a_service_that_others_reach(
    servers: embedded.Servers, database: Database, secret: bytes
) -> None:
    gateway = Gateway(settings_at("https://perks.example", servers, database, secret), work=False)
    with pytest.raises(BadInput, match="PERKS_BUILT_IN_SIGN_IN"):
        async with gateway.living():
            pass


async def test_without_built_in_people_and_provider_nobody_signs_in(
    servers: embedded.Servers, database: Database, secret: bytes, club: Club
) -> None:
    handle = await person_of(club.database)
    settings = settings_at("http://127.0.0.1:8000", servers, database, secret)
    gateway = Gateway(settings.model_copy(update={"built_in_sign_in": False}), clock=lambda: club.now, work=False)
    async with (
        gateway.living(),
        httpx.AsyncClient(transport=httpx.ASGITransport(gateway), base_url="http://127.0.0.1:8000") as client,
    ):
        page = await client.get("/sign-in")
        assert (page.status_code, "Nobody can sign in here yet" in text_of(page)) == (503, True)
        refused = await client.post("/sign-in", data={"mark": "0" * 64, "person": handle})
        assert refused.status_code == 403
        for path in ("/sign-in/start", "/sign-in/callback?code=x&state=y"):
            assert (await client.get(path)).status_code == 404


async def test_a_new_sign_in_is_a_new_session_and_the_former_one_is_over(api: Api, club: Club) -> None:
    visitor, thief = browser(api), browser(api)
    await visitor.sign_in(await person_of(club.database, name="First"))
    planted = visitor.client.cookies["perks"]
    await visitor.sign_in(await person_of(club.database, name="Second"))
    assert visitor.client.cookies["perks"] != planted
    thief.client.cookies.set("perks", planted)
    assert "You are not signed in." in text_of(await thief.get("/account"))


async def test_a_suspended_member_is_signed_out_and_can_not_come_back(api: Api, club: Club) -> None:
    member = await club.member()
    handle, visitor = await person_of(club.database, member=member), browser(api)
    await visitor.sign_in(handle)
    await club.sql("UPDATE member SET state = $2 WHERE id = $1", member.id, MemberState.SUSPENDED)
    assert "You are not signed in." in text_of(await visitor.get("/account"))
    refused = await visitor.sign_in(handle)
    assert (refused.status_code, "perks" in cookies_of(refused)) == (400, False)


@pytest.mark.parametrize(
    "then",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "/account/../..//evil.example",
        "/account\r\nlocation: https://evil.example",
        "/device?user_code=x&next=https://evil.example",
        "/authorize/../oauth/authorize",
        "javascript:alert(1)",
        "/sign-out",
        "account",
        "",
    ],
)
async def test_signing_in_leads_to_our_own_pages_only(api: Api, club: Club, then: str) -> None:
    visitor = browser(api)
    handle = await person_of(club.database)
    page = await visitor.client.get("/sign-in", params={"then": then})
    assert "evil" not in page.text
    values = {"mark": mark_of(page), "then": then, "person": handle}
    response = await visitor.post("/sign-in", {name: value for name, value in values.items() if "\r" not in value})
    assert response.headers["location"] == "/account"
    out = await visitor.post("/sign-out", {"mark": mark_of(await visitor.get("/account")), "then": then or "x"})
    assert out.status_code == 400 if "\r" in then else out.headers["location"] == "/account"


@pytest.mark.parametrize("then", ["/consents", "/device?user_code=BCDF-GHJK", "/consents/brand/withdraw"])
async def test_who_has_to_sign_in_first_goes_on_where_they_were(api: Api, club: Club, then: str) -> None:
    visitor = browser(api)
    asked = await visitor.get(then)
    assert asked.headers["location"].startswith("/sign-in?then=")
    page = await visitor.get(asked.headers["location"])
    values = {"mark": mark_of(page), "then": then, "person": await person_of(club.database)}
    assert (await visitor.post("/sign-in", values)).headers["location"] == then


async def test_a_form_without_its_mark_is_refused(api: Api, club: Club) -> None:
    visitor, other = browser(api), browser(api)
    handle = await person_of(club.database)
    await visitor.get("/sign-in")
    foreign = mark_of(await other.get("/sign-in"))
    for mark in ("", "0" * 64, foreign, "é"):
        refused = await visitor.post("/sign-in", {"mark": mark, "person": handle})
        assert (refused.status_code, "form has expired" in text_of(refused)) == (403, True)
        assert "perks" not in cookies_of(refused)


async def test_a_mark_of_before_the_sign_in_or_of_another_session_is_refused(api: Api, club: Club) -> None:
    visitor = browser(api)
    before = mark_of(await visitor.get("/sign-in"))
    await visitor.sign_in(await person_of(club.database, name="First"))
    first = mark_of(await visitor.get("/account"))
    await visitor.sign_in(await person_of(club.database, name="Second"))
    for mark in (before, first):
        assert (await visitor.post("/sign-out", {"mark": mark})).status_code == 403
    assert "Second" in text_of(await visitor.get("/account"))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "none"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:8001"}, 403),
        ({"origin": "null", "sec-fetch-site": "same-origin"}, 303),
        ({"origin": "http://127.0.0.1:8000"}, 303),
        ({"origin": "null"}, 303),
        ({}, 303),
    ],
)
async def test_a_form_has_to_come_from_this_site(api: Api, club: Club, headers: dict[str, str], status: int) -> None:
    visitor = browser(api)
    await visitor.sign_in(await person_of(club.database))
    mark = mark_of(await visitor.get("/account"))
    assert (await visitor.post("/sign-out", {"mark": mark}, headers=headers)).status_code == status


@pytest.mark.parametrize(
    ("content", "media", "status"),
    [
        (b"mark=a&mark=b", "application/x-www-form-urlencoded", 400),
        (b"mark=%ff", "application/x-www-form-urlencoded", 400),
        (b"mark=%00", "application/x-www-form-urlencoded", 400),
        (b"{}", "application/json", 400),
        (b"", "multipart/form-data", 400),
        (b"mark=" + b"x" * 1_000_000, "application/x-www-form-urlencoded", 413),
    ],
)
async def test_a_malformed_form_is_shown_as_a_page(api: Api, content: bytes, media: str, status: int) -> None:
    visitor = browser(api)
    for path in ("/sign-in", "/sign-out"):
        response = await visitor.client.post(path, content=content, headers={"content-type": media})
        assert response.status_code == status
        assert response.headers["content-type"].startswith("text/html")


async def test_every_page_is_for_this_browser_alone_and_loads_nothing_from_elsewhere(api: Api, club: Club) -> None:
    visitor = browser(api)
    await visitor.sign_in(await person_of(club.database, member=await club.member()))
    for path in (
        "/account",
        "/sign-in",
        "/consents",
        "/device",
        "/oauth/authorize",
        "/authorize/x",
        "/consents/x/withdraw",
    ):
        response = await visitor.get(path)
        headers = response.headers
        policy = headers["content-security-policy"]
        for part in ("default-src 'none'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"):
            assert part in policy.split("; ")
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert "<script" not in response.text
        assert "style=" not in response.text
        assert re.findall(r'(?:href|src|action)="(?!/|#|data:image)', response.text) == []


async def test_the_stylesheet_may_be_kept_for_ever_because_its_name_changes(api: Api) -> None:
    visitor = browser(api)
    [path] = re.findall(r'rel="stylesheet" href="([^"]+)"', (await visitor.get("/account")).text)
    styles = await visitor.get(path)
    assert (styles.status_code, styles.headers["content-type"]) == (200, "text/css; charset=utf-8")
    assert "immutable" in styles.headers["cache-control"]
    assert "prefers-color-scheme: dark" in styles.text
    assert "url(" not in styles.text


async def test_a_session_that_ended_before_a_form_was_sent_changes_nothing(api: Api, club: Club) -> None:
    partner = await club.partner()
    member = await club.member(partner)
    visitor = browser(api)
    await visitor.sign_in(await person_of(club.database, member=member))
    path = f"/consents/{partner.handle}/withdraw"
    page = await visitor.get(path)
    await club.sql(
        "UPDATE browser_session SET expires_at = $2 WHERE member_id = $1", member.id, club.now - timedelta(1)
    )
    response = await visitor.post(path, {"mark": mark_of(page)})
    assert (response.status_code, "sign in again" in text_of(response)) == (403, True)
    assert f"/sign-in?then=%2Fconsents%2F{partner.handle}%2Fwithdraw" in response.text
