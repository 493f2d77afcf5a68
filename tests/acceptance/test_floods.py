"""A flood at the token endpoint is answered 429, and whoever is honest does not notice it."""

import asyncio
from collections import Counter
from uuid import uuid4

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from auth.attempts import address_of
from auth.clients import register_client
from gateway.rate_limits import CLIENT
from gateway.serving import config
from gateway.settings import Settings, SettingsInvalid, read_settings
from tests.api import Api
from tests.factories import Club

GRANT = {"grant_type": "client_credentials"}
Credentials = tuple[str, str]


async def registered(club: Club) -> Credentials:
    """A client of a partner of its own."""
    partner = await club.partner()
    async with club.database.sessions.begin() as session:
        client, secret = await register_client(session, partner, "server", ["perks:read"], club.now)
    return client.id, secret


def source(api: Api, address: str) -> httpx.AsyncClient:
    """The service as it is reached from an address."""
    transport = api.client._transport
    assert isinstance(transport, httpx.ASGITransport)
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(transport.app, client=(address, 1)), base_url=api.client.base_url
    )


def anywhere() -> str:
    """An address that no other test uses."""
    return f"2001:db8:{uuid4().hex[:4]}:{uuid4().hex[:4]}::1"


async def ask(http: httpx.AsyncClient, credentials: Credentials) -> httpx.Response:
    return await http.post("/oauth/token", data=GRANT, auth=credentials)


async def flood(http: httpx.AsyncClient, client_id: str, requests: int) -> Counter[int]:
    """The statuses of so many wrong secrets, all at once."""
    answers = await asyncio.gather(*(ask(http, (client_id, f"wrong-{n}")) for n in range(requests)))
    return Counter(answer.status_code for answer in answers)


async def test_wrong_secrets_are_stopped_by_429_that_says_when_to_come_back(api: Api, club: Club) -> None:
    async with source(api, anywhere()) as http:
        client = await registered(club)
        assert await flood(http, client[0], CLIENT.attempts + 20) == {401: CLIENT.attempts, 429: 20}
        refused = await ask(http, client)
    assert (refused.status_code, refused.json()["error"]) == (429, "temporarily_unavailable")
    assert 0 < int(refused.headers["Retry-After"]) <= CLIENT.seconds
    assert refused.headers["Cache-Control"] == "no-store"
    assert client[0] not in refused.text


async def test_a_flood_from_elsewhere_stops_nobody(api: Api, club: Club) -> None:
    client = await registered(club)
    async with source(api, anywhere()) as attacker, source(api, anywhere()) as honest:
        await flood(attacker, client[0], CLIENT.attempts + 1)
        assert (await ask(honest, client)).status_code == 200


async def test_who_was_right_before_is_served_in_the_midst_of_a_flood_from_its_own_address(
    api: Api, club: Club
) -> None:
    client = await registered(club)
    async with source(api, anywhere()) as http:
        assert (await ask(http, client)).status_code == 200
        assert set(await flood(http, client[0], CLIENT.attempts + 20)) == {401}
        for n in range(6):
            await flood(http, f"client_{n}", CLIENT.attempts)
        assert (await ask(http, (f"client_{uuid4().hex}", "x"))).status_code == 429
        assert (await ask(http, client)).status_code == 200


async def test_a_proxy_is_believed_only_when_it_is_named() -> None:
    seen = []

    async def note(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(address_of(scope))

    for trusted in ("", "10.0.0.0/8, 192.0.2.1"):
        for proxy in ("10.1.2.3", "192.0.2.1", "203.0.113.9"):
            served = config(note, Settings(trusted_proxies=trusted))
            served.load()
            headers = [(b"x-forwarded-for", b"198.51.100.7")]
            scope = {"type": "http", "client": (proxy, 1), "scheme": "http", "headers": headers}
            await served.loaded_app(scope, None, None)
    assert seen == ["10.1.2.3", "192.0.2.1", "203.0.113.9", "198.51.100.7", "198.51.100.7", "203.0.113.9"]


@pytest.mark.parametrize("wrong", ["everybody", "*", "10.0.0.1/8", "10.0.0.0/8;192.0.2.1"])
def test_a_proxy_that_is_no_address_is_told_at_the_start(wrong: str) -> None:
    with pytest.raises(SettingsInvalid, match="PERKS_TRUSTED_PROXIES"):
        read_settings(trusted_proxies=wrong)
