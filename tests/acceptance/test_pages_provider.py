"""Signing in with the operator's identity provider: who comes back as whom, and what is refused on the way."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest
from pydantic import SecretStr
from starlette.responses import JSONResponse, Response

from auth.sign_in import FLOW_LASTS
from gateway import embedded
from gateway.app import Gateway, Service
from gateway.database import Database
from gateway.settings import Settings
from partners.tables import MemberState, PartnerState
from tests.browsers import Browser, text_of
from tests.factories import Club
from tests.flows import Clock
from tests.issuers import new_key, outside_issuer, signed
from tests.openid import CLIENT_ID, CLIENT_SECRET, OpenIdProvider

IDENTITY = """
[sign_in]
issuer = "{issuer}"
client_id = "{client_id}"
client_secret_env = "PERKS_TEST_SIGN_IN_SECRET"
partner_claim = "brand"
staff_claim = ["realm", "groups"]
staff_scopes = {{ "audit" = ["audit:read"], "desk" = ["partners:admin", "members:admin"] }}
"""


@dataclass(frozen=True)
class Door:
    """A service whose people sign in elsewhere, at a time of the test's own."""

    service: Service
    gateway: Gateway
    provider: OpenIdProvider
    clock: Clock

    def browser(self) -> Browser:
        address = self.service.settings.address
        return Browser(httpx.AsyncClient(transport=httpx.ASGITransport(self.gateway), base_url=address))

    async def begin(self, visitor: Browser, then: str = "/account") -> str:
        """Where the browser is sent to."""
        response = await visitor.client.get(f"/sign-in?then={then}", follow_redirects=False)
        assert response.headers["location"].startswith("/sign-in/start?")
        response = await visitor.get(response.headers["location"])
        assert response.status_code == 303, text_of(response)
        return str(response.headers["location"])

    async def signs_in(self, visitor: Browser, then: str = "/account", **claims: Any) -> httpx.Response:
        """All the way."""
        answer = self.provider.signs_in(await self.begin(visitor, then), **claims)
        return await visitor.get(f"/sign-in/callback?{urlencode(answer)}")


@pytest.fixture(scope="module")
def serving() -> Iterator[OpenIdProvider]:
    with outside_issuer(OpenIdProvider) as provider:
        yield provider


@pytest.fixture
async def door(
    serving: OpenIdProvider,
    servers: embedded.Servers,
    database: Database,
    secret: bytes,
    club: Club,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Door]:
    serving.reset()
    monkeypatch.setenv("PERKS_TEST_SIGN_IN_SECRET", CLIENT_SECRET)
    identity = tmp_path / "identity.toml"
    identity.write_text(IDENTITY.format(issuer=serving.address, client_id=CLIENT_ID))
    settings = Settings(
        database_url=database.engine.url.render_as_string(hide_password=False),
        redis_url=servers.redis_url,
        secret=SecretStr(secret.decode()),
        identity=identity,
    )
    clock = Clock(club.now)
    serving.now = club.now
    gateway = Gateway(settings, clock=clock, work=False)
    async with gateway.living() as service:
        yield Door(service, gateway, serving, clock)


async def account(visitor: Browser) -> str:
    return text_of(await visitor.get("/account"))


async def test_a_member_comes_back_as_the_member(door: Door, club: Club) -> None:
    member, visitor = await club.member(), door.browser()
    response = await door.signs_in(visitor, "/consents", sub=member.external_id, name="Ines Keller")
    assert (response.status_code, response.headers["location"]) == (303, "/consents")
    assert "Signed in as Ines Keller" in await account(visitor)
    [row] = await club.sql("SELECT kind, subject, scopes FROM browser_session WHERE member_id = $1", member.id)
    assert (row["kind"], row["subject"]) == ("member", str(member.id))
    assert not [name for name in visitor.client.cookies if name.startswith("perks-sign-in")]


async def test_a_partners_administrator_comes_back_with_the_partners_rights_but_none_over_members(
    door: Door, club: Club
) -> None:
    partner, visitor = await club.partner(name="Silverline"), door.browser()
    await door.signs_in(visitor, sub="marc", brand=partner.handle)
    assert "Administrator of Silverline" in await account(visitor)
    [row] = await club.sql("SELECT subject, scopes FROM browser_session WHERE partner_id = $1", partner.id)
    assert row["subject"] == f"{door.provider.address}|marc"
    assert "devices:enrol" in row["scopes"]
    assert "member.tier:read" not in row["scopes"]


async def test_staff_come_back_with_what_their_groups_are_worth(door: Door, club: Club) -> None:
    visitor = door.browser()
    await door.signs_in(visitor, sub="noor", realm={"groups": ["audit", "desk", "others"]})
    [row] = await club.sql("SELECT scopes FROM browser_session WHERE subject = $1", f"{door.provider.address}|noor")
    assert sorted(row["scopes"]) == ["audit:read", "members:admin", "partners:admin"]


@pytest.mark.parametrize(("groups", "status"), [("audit", 303), ("audit desk", 403), ("help desk", 403)])
async def test_a_group_with_blanks_in_its_name_is_one_group(door: Door, groups: str, status: int) -> None:
    response = await door.signs_in(door.browser(), sub="noor", realm={"groups": groups})
    assert response.status_code == status


@pytest.mark.parametrize("state", ["unknown", "suspended"])
async def test_who_is_nobody_here_is_told_so_and_has_no_session(door: Door, club: Club, state: str) -> None:
    member, partner, visitor = await club.member(), await club.partner(), door.browser()
    await club.sql("UPDATE member SET state = $2 WHERE id = $1", member.id, MemberState.SUSPENDED)
    await club.sql("UPDATE partner SET state = $2 WHERE id = $1", partner.id, PartnerState.SUSPENDED)
    claims = [{"sub": "nobody"}, {"sub": "x", "brand": "no-brand"}, {"sub": "x", "realm": {"groups": ["others"]}}]
    if state == "suspended":
        claims = [{"sub": member.external_id}, {"sub": "x", "brand": partner.handle}]
    for one in claims:
        door.provider.changed = {}
        refused = await door.signs_in(visitor, **one)
        assert (refused.status_code, "We know who you are" in text_of(refused)) == (403, True)
    assert "You are not signed in." in await account(visitor)


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "https://evil.example"},
        {"aud": "another"},
        {"aud": [CLIENT_ID, "another"]},
        {"aud": [CLIENT_ID, "another"], "azp": "another"},
        {"azp": "another"},
        {"exp": -60},
        {"iat": 600},
        {"nonce": "another"},
        {"nonce": None},
        {"exp": None},
        {"iat": None},
        {"sub": None},
        {"sub": ""},
        {"sub": "a\0"},
        {"aud": None},
    ],
)
async def test_an_id_token_that_does_not_hold_signs_nobody_in(door: Door, club: Club, changed: dict[str, Any]) -> None:
    seconds = int(door.clock.at.timestamp())
    times = {name: seconds + value for name, value in changed.items() if name in ("exp", "iat") and value is not None}
    member, visitor = await club.member(), door.browser()
    refused = await door.signs_in(visitor, **({"sub": member.external_id} | changed | times))
    assert (refused.status_code, "You are not signed in" in text_of(refused)) == (403, True)
    assert "You are not signed in." in await account(visitor)


async def test_an_audience_of_several_is_good_when_the_token_was_made_for_us(door: Door, club: Club) -> None:
    member, visitor = await club.member(), door.browser()
    claims = {"sub": member.external_id, "aud": [CLIENT_ID, "another"], "azp": CLIENT_ID}
    assert (await door.signs_in(visitor, **claims)).status_code == 303


@pytest.mark.parametrize("header", [{"alg": "none"}, {"alg": "HS256"}, {"alg": "ES384"}, {"kid": None}, {"kid": "x"}])
async def test_an_id_token_that_is_not_signed_as_agreed_signs_nobody_in(
    door: Door, club: Club, header: dict[str, Any]
) -> None:
    door.provider.header = header
    refused = await door.signs_in(door.browser(), sub=(await club.member()).external_id)
    assert refused.status_code == 403


async def test_an_id_token_of_another_key_signs_nobody_in(door: Door, club: Club) -> None:
    member, visitor = await club.member(), door.browser()
    answer = door.provider.signs_in(await door.begin(visitor))
    nonce = door.provider.codes[answer["code"]]["nonce"]
    claims = door.provider.claims(door.clock.at, sub=member.external_id, aud=CLIENT_ID, nonce=nonce)
    forged = signed(claims, new_key(), kid=door.provider.key.kid, typ="JWT")

    async def forge() -> Response:
        return JSONResponse({"id_token": forged})

    door.provider.answers["/token"] = forge
    refused = await visitor.get(f"/sign-in/callback?{urlencode(answer)}")
    assert (refused.status_code, "signature" in text_of(refused)) == (403, True)


async def test_the_answer_to_another_sign_in_is_refused(door: Door, club: Club) -> None:
    member, visitor, attacker = await club.member(), door.browser(), door.browser()
    theirs = door.provider.signs_in(await door.begin(attacker), sub=member.external_id)
    await door.begin(visitor)
    for answer in (theirs, theirs | {"state": ""}, {"code": theirs["code"]}):
        refused = await visitor.get(f"/sign-in/callback?{urlencode(answer)}")
        assert (refused.status_code, "another browser" in text_of(refused)) == (403, True)
    assert door.provider.forms == []


async def test_a_sealed_note_of_one_sign_in_is_no_good_for_another(door: Door, club: Club) -> None:
    visitor, attacker = door.browser(), door.browser()
    theirs = door.provider.signs_in(await door.begin(attacker), sub=(await club.member()).external_id)
    mine = door.provider.signs_in(await door.begin(visitor))
    [planted] = [name for name in attacker.client.cookies if name.startswith("perks-sign-in")]
    [own] = [name for name in visitor.client.cookies if name.startswith("perks-sign-in")]
    visitor.client.cookies.set(planted, visitor.client.cookies[own])
    refused = await visitor.get(f"/sign-in/callback?{urlencode(theirs)}")
    assert "another sign-in" in text_of(refused)
    for sealed in ("", "x", "a" * 80, "é"):
        visitor.client.cookies.set(own, sealed.encode("ascii", "ignore").decode())
        assert (await visitor.get(f"/sign-in/callback?{urlencode(mine)}")).status_code == 403


async def test_two_tabs_sign_in_beside_each_other(door: Door, club: Club) -> None:
    member, visitor = await club.member(), door.browser()
    first, second = await door.begin(visitor), await door.begin(visitor, "/consents")
    for address, then in ((second, "/consents"), (first, "/account")):
        answer = door.provider.signs_in(address, sub=member.external_id)
        response = await visitor.get(f"/sign-in/callback?{urlencode(answer)}")
        assert response.headers["location"] == then


async def test_an_answer_counts_once_and_within_ten_minutes(door: Door, club: Club) -> None:
    member, visitor = await club.member(), door.browser()
    answer = door.provider.signs_in(await door.begin(visitor), sub=member.external_id)
    door.clock.at += FLOW_LASTS
    assert "expired" in text_of(await visitor.get(f"/sign-in/callback?{urlencode(answer)}"))
    door.clock.at -= FLOW_LASTS - timedelta(seconds=1)
    assert (await visitor.get(f"/sign-in/callback?{urlencode(answer)}")).status_code == 303
    assert (await visitor.get(f"/sign-in/callback?{urlencode(answer)}")).status_code == 403


@pytest.mark.parametrize(
    ("supported", "said", "status"),
    [
        (None, None, 303),
        (None, "right", 303),
        (None, "https://evil.example", 403),
        (True, "right", 303),
        (True, None, 403),
        (True, "https://evil.example", 403),
    ],
)
async def test_an_answer_has_to_be_of_the_provider_that_was_asked(
    door: Door, club: Club, supported: bool | None, said: str | None, status: int
) -> None:
    door.provider.metadata = {"authorization_response_iss_parameter_supported": supported}
    member, visitor = await club.member(), door.browser()
    answer = door.provider.signs_in(await door.begin(visitor), sub=member.external_id)
    if said is not None:
        answer["iss"] = door.provider.address if said == "right" else said
    assert (await visitor.get(f"/sign-in/callback?{urlencode(answer)}")).status_code == status


@pytest.mark.parametrize("methods", [None, ["client_secret_basic", "client_secret_post"], ["client_secret_post"]])
async def test_we_prove_who_we_are_as_the_provider_wants(door: Door, club: Club, methods: list[str] | None) -> None:
    door.provider.metadata = {"token_endpoint_auth_methods_supported": methods}
    response = await door.signs_in(door.browser(), sub=(await club.member()).external_id)
    assert response.status_code == 303
    assert ("client_secret" in door.provider.forms[0]) == (methods == ["client_secret_post"])


async def test_who_cancels_is_told_that_they_are_not_signed_in(door: Door) -> None:
    visitor = door.browser()
    state = door.provider.signs_in(await door.begin(visitor))["state"]
    refused = await visitor.get(f"/sign-in/callback?{urlencode({'error': 'access_denied', 'state': state})}")
    assert (refused.status_code, "did not sign you in" in text_of(refused)) == (403, True)


Answer = Callable[[], Awaitable[Response]]


async def away() -> Response:
    return Response(status_code=503)


async def page() -> Response:
    return Response("<html>", media_type="text/html")


async def endless() -> Response:
    return Response(b" " * 300_000 + b"{}", media_type="application/json")


async def nothing() -> Response:
    return JSONResponse({"access_token": "x"})


@pytest.mark.parametrize(("answer", "status"), [(away, 503), (page, 503), (endless, 503), (nothing, 403)])
async def test_a_provider_that_does_not_answer_as_it_should_is_a_page_and_no_session(
    door: Door, club: Club, answer: Answer, status: int
) -> None:
    visitor = door.browser()
    door.provider.answers["/token"] = answer
    refused = await door.signs_in(visitor, sub=(await club.member()).external_id)
    assert refused.status_code == status
    assert "You are not signed in." in await account(visitor)


async def test_a_provider_that_is_away_at_the_start_is_a_page(door: Door) -> None:
    door.provider.answers["/.well-known/openid-configuration"] = away
    response = await door.browser().get("/sign-in/start")
    assert (response.status_code, "back in a moment" in text_of(response)) == (503, True)


async def test_who_signs_out_for_somebody_else_has_to_sign_in_anew_there(door: Door) -> None:
    visitor = door.browser()
    page = await visitor.get("/sign-in?then=/account&again=1")
    assert page.status_code == 200
    [start] = [part.partition('"')[0] for part in page.text.split('href="') if part.startswith("/sign-in/start")]
    response = await visitor.get(start.replace("&amp;", "&"))
    asked = dict(parse_qsl(urlsplit(response.headers["location"]).query))
    assert asked["prompt"] == "login"
