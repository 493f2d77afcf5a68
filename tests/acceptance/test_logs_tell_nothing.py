"""What a server writes at its most talkative holds no token, secret or code, and nothing that names a member."""

import asyncio
import secrets
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest

from auth.caller import CallerKind
from auth.client_settings import ClientSettings
from auth.clients import Administrator, create_client
from auth.tables import GrantType
from gateway import embedded
from gateway.database import open_database
from partners.actors import SYSTEM
from partners.keys import Keys
from partners.programme import Programme
from tests.browsers import Browser, person_of, told
from tests.commands import start
from tests.factories import Club
from tests.flows import challenge
from tests.node import free_port

BACK = "https://app.example/back"
CLAIM = """mutation($input: ClaimPerkInput!) { claimPerk(input: $input) { hold { id code } } }"""
CONFIRM = (
    """mutation($input: ConfirmHoldInput!) { confirmHold(input: $input) { redemption { id } userErrors { code } } }"""
)


CHOOSE = """mutation($input: ChooseDeliveryInput!) { chooseDelivery(input: $input) {
  redemption { fulfilmentDetails { address { name lines city phone } } } userErrors { code } } }"""
ADDRESS: dict[str, Any] = {
    "name": "Rosa Example",
    "lines": ["Unter den Weiden 77"],
    "postalCode": "8001-XY",
    "city": "Weidenstadt",
    "countryCode": "CH",
    "phone": "+41 44 555 01 23",
}


@dataclass
class Heard:
    """A talkative server on a database of its own, and everything that must not be in what it writes."""

    club: Club
    http: httpx.AsyncClient
    process: subprocess.Popen[str]
    hidden: list[str] = field(default_factory=list)

    def hide(self, *secrets: str | None) -> None:
        self.hidden += [secret for secret in secrets if secret]

    async def post(self, path: str, **options: Any) -> dict[str, Any]:
        answer: dict[str, Any] = (await self.http.post(path, **options)).json()
        self.hide(*(answer.get(name) for name in ("access_token", "refresh_token", "device_code", "user_code")))
        return answer

    async def ask(self, token: str, query: str, **variables: Any) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {token}"}
        return await self.post("/graphql", json={"query": query, "variables": variables}, headers=headers)


@pytest.fixture
async def heard(
    new_database: Callable[[], Awaitable[str]],
    servers: embedded.Servers,
    secret: bytes,
    programme: Programme,
    keys: Keys,
) -> AsyncIterator[Heard]:
    url, port = await new_database(), free_port()
    database = open_database(url, connections=4)
    environment = {
        "DATABASE_URL": url,
        "REDIS_URL": str(servers.redis_url),
        "PERKS_SECRET": secret.decode(),
        "PERKS_LOG_LEVEL": "DEBUG",
        "PERKS_BUILT_IN_SIGN_IN": "true",
    }
    process = start("serve", "--port", str(port), environment=environment)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
        try:
            await up(http)
            yield Heard(Club(database, programme, keys, datetime.now(UTC)), http, process, [secret.decode()])
        finally:
            process.kill()
            process.communicate()
            await database.engine.dispose()


async def up(http: httpx.AsyncClient) -> None:
    for _ in range(300):
        try:
            if (await http.get("/readyz")).status_code == 200:
                return
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.1)
    raise AssertionError("the server did not start")


async def everything(heard: Heard) -> None:
    """A code flow with sign-in, refresh, introspection and revocation, a claim and its use; each also done wrong."""
    club = heard.club
    perk = await club.perk(settings={"shipping": True})
    partner, member = club.partners[perk.partner_id], await club.member()
    grants = (GrantType.AUTHORIZATION_CODE, GrantType.REFRESH_TOKEN, GrantType.CLIENT_CREDENTIALS)
    scopes = frozenset(
        {"eligibility:read", "holds:write", "redemptions:write", "member.tier:read", "member.address:read"}
    )
    settings = ClientSettings("A shop", scopes, grant_types=(*grants, GrantType.DEVICE_CODE), redirect_uris=(BACK,))
    async with club.database.sessions.begin() as session:
        client, secret = await create_client(
            session, partner.id, settings, Administrator(SYSTEM), club.now, kind=CallerKind.PARTNER
        )
    assert secret is not None
    person, wrong, verifier = await person_of(club.database, member=member), "not the secret", secrets.token_urlsafe(48)
    heard.hide(secret, wrong, verifier, member.external_id, str(member.id), member.id.hex)
    code = await approved(heard, client.id, secret, person, verifier)
    form = {"grant_type": "authorization_code", "code": code, "code_verifier": verifier, "redirect_uri": BACK}
    await heard.post("/oauth/token", data=form, auth=(client.id, wrong))
    tokens = await heard.post("/oauth/token", data=form, auth=(client.id, secret))
    refresh = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    bound = (await heard.post("/oauth/token", data=refresh, auth=(client.id, secret)))["access_token"]
    claimed = await heard.ask(
        bound, CLAIM, input={"perk": {"id": f"perk_{perk.id.hex}"}, "idempotencyKey": uuid4().hex}
    )
    hold = claimed["data"]["claimPerk"]["hold"]
    heard.hide(hold["code"])
    confirmed, _ = [
        await heard.ask(bound, CONFIRM, input={"hold": {"code": hold["code"]}, "idempotencyKey": uuid4().hex})
        for _ in range(2)
    ]
    await send_home(heard, bound, confirmed["data"]["confirmHold"]["redemption"]["id"])
    await heard.post("/oauth/introspect", data={"token": bound}, auth=(client.id, secret))
    await heard.http.post("/oauth/revoke", data={"token": tokens["refresh_token"]}, auth=(client.id, secret))
    await heard.ask(bound, "{ viewer { kind } }")
    await heard.post("/oauth/token", data=form, auth=(client.id, secret))
    started = await heard.post("/oauth/device_authorization", data={"place": "Till 3"}, auth=(client.id, secret))
    assert "user_code" in started


async def send_home(heard: Heard, token: str, redemption: str) -> None:
    """To an address that is told back, to one that can't be, and without any right to."""
    heard.hide(ADDRESS["name"], *ADDRESS["lines"], ADDRESS["postalCode"], ADDRESS["city"], ADDRESS["phone"])
    chosen = {"redemption": redemption, "method": "SHIPPING", "address": ADDRESS}
    answer = await heard.ask(token, CHOOSE, input=chosen)
    assert answer["data"]["chooseDelivery"]["redemption"]["fulfilmentDetails"]["address"]["city"] == ADDRESS["city"]
    await heard.ask(token, CHOOSE, input=chosen | {"address": ADDRESS | {"countryCode": "Weidenland"}})
    await heard.ask(token, CHOOSE, input=chosen | {"redemption": f"redemption_{uuid4().hex}"})
    await heard.ask("nonsense", CHOOSE, input=chosen)


async def approved(heard: Heard, client: str, secret: str, person: str, verifier: str) -> str:
    """A code by a pushed request and the pages; cookies and codes are secrets too."""
    asked = {
        "response_type": "code",
        "redirect_uri": BACK,
        "code_challenge": challenge(verifier),
        "code_challenge_method": "S256",
        "state": "a-state-of-the-app",
    }
    pushed = await heard.post("/oauth/par", data=asked, auth=(client, secret))
    visitor = Browser(heard.http)
    page = await visitor.get(f"/oauth/authorize?client_id={client}&request_uri={pushed['request_uri']}")
    while page.status_code == 303:
        page = await visitor.get(page.headers["location"])
    answer = await visitor.sign_in(person, then=dict(page.url.params)["then"])
    question = await visitor.get(answer.headers["location"])
    back = told(await visitor.send(question, question.url.path, "allow"))
    heard.hide(pushed["request_uri"], back["code"], *(cookie.value for cookie in heard.http.cookies.jar))
    return back["code"]


async def test_nothing_secret_is_written_at_debug(heard: Heard) -> None:
    await everything(heard)
    heard.process.terminate()
    out, err = await asyncio.to_thread(heard.process.communicate, timeout=30)
    written = out + err
    assert len(heard.hidden) > 15
    assert [one for one in heard.hidden if one in written] == []
