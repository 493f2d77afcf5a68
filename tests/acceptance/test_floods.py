"""A flood at the token endpoint is answered 429, and whoever is honest does not notice it."""

import asyncio
from collections import Counter
from uuid import uuid4

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from auth.attempts import address_of
from auth.client_settings import ClientSettings
from auth.clients import Administrator, create_client, register_client
from auth.tables import ClientAuthentication, GrantType
from gateway.rate_limits import CLIENT
from gateway.serving import config
from gateway.settings import Settings, SettingsInvalid, read_settings
from partners.actors import SYSTEM
from tests.api import Api
from tests.factories import Club
from tests.holders import holder

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


async def public(club: Club) -> str:
    """A till, which has no more than its name."""
    settings = ClientSettings(
        "till",
        frozenset({"eligibility:read"}),
        grant_types=[GrantType.DEVICE_CODE],
        authentication=ClientAuthentication.NONE,
    )
    partner = await club.partner()
    async with club.database.sessions.begin() as session:
        client, _ = await create_client(session, partner.id, settings, Administrator(SYSTEM), club.now)
    return client.id


async def test_who_knows_the_name_of_a_public_client_can_not_ask_for_device_codes_without_end(
    api: Api, club: Club
) -> None:
    form = {"client_id": await public(club)}
    async with source(api, anywhere()) as http:
        asked = [http.post("/oauth/device_authorization", data=form) for _ in range(CLIENT.attempts + 5)]
        statuses = Counter(answer.status_code for answer in await asyncio.gather(*asked))
        assert statuses == {200: CLIENT.attempts, 429: 5}


async def test_who_knows_the_name_of_a_public_client_is_not_trusted_for_it(api: Api, club: Club) -> None:
    form = {"client_id": await public(club)}
    async with source(api, anywhere()) as http:
        assert (await http.post("/oauth/device_authorization", data=form)).status_code == 200
        assert (await http.post("/oauth/revoke", data=form | {"token": "any"})).status_code == 200
        guess = form | {"grant_type": GrantType.DEVICE_CODE, "device_code": "wrong"}
        asked = [http.post("/oauth/token", data=guess) for _ in range(CLIENT.attempts)]
        statuses = Counter(answer.status_code for answer in await asyncio.gather(*asked))
        assert statuses == {400: CLIENT.attempts - 2, 429: 2}


async def test_proofs_that_do_not_hold_are_counted_and_a_missing_nonce_is_not(api: Api, club: Club) -> None:
    (client_id, secret), own = await registered(club), holder()
    now, address = api.service.clock(), f"{api.service.settings.address}/oauth/token"
    async with source(api, anywhere()) as http:

        async def ask_with(proof: str) -> str:
            asked = await http.post("/oauth/token", data=GRANT, auth=(client_id, secret), headers={"dpop": proof})
            return str(asked.json()["error"])

        for _ in range(CLIENT.attempts + 1):
            assert await ask_with(own.proof(now, address, None)) == "use_dpop_nonce"
        for _ in range(CLIENT.attempts):
            assert await ask_with("wrong") == "invalid_dpop_proof"
        assert await ask_with("wrong") == "temporarily_unavailable"


async def test_what_can_not_be_is_no_wrong_attempt(api: Api, club: Club) -> None:
    form = {"client_id": await public(club), "place": "x" * 101}
    async with source(api, anywhere()) as http:
        for _ in range(CLIENT.attempts + 1):
            assert (await http.post("/oauth/device_authorization", data=form)).status_code == 400


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
