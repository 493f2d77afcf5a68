"""Fifty at once over the real HTTP server: what works once works once, however many come together."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator

import httpx
import pytest
import uvicorn
from pydantic import SecretStr

from auth.authorization import PageError
from auth.errors import Unauthenticated
from auth.tables import BrowserSession
from gateway import embedded
from gateway.app import Gateway, foundation_of
from gateway.database import Database
from gateway.settings import Settings
from partners import tables
from tests.factories import Club
from tests.flows import Clock, Flows

AT_ONCE = 50


@pytest.fixture
async def flows(servers: embedded.Servers, database: Database, secret: bytes) -> AsyncIterator[Flows]:
    """The whole service behind uvicorn, on a port of its own."""
    settings = Settings(
        database_url=database.engine.url.render_as_string(hide_password=False),
        redis_url=servers.redis_url,
        secret=SecretStr(secret.decode()),
        base_url="https://perks.example",
    )
    clock = Clock()
    gateway = Gateway(settings, clock=clock, work=False)
    limits = httpx.Limits(max_connections=AT_ONCE)
    with socket.create_server(("127.0.0.1", 0), backlog=AT_ONCE) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with gateway.living() as service, httpx.AsyncClient(base_url=address, timeout=60, limits=limits) as http:
            server = uvicorn.Server(uvicorn.Config(gateway, lifespan="off", log_config=None))
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            yield Flows(foundation_of(service), clock, http)
            server.should_exit = True
            await serving


@pytest.fixture
async def partner(club: Club) -> tables.Partner:
    return await club.partner()


@pytest.fixture
async def person(flows: Flows, club: Club) -> BrowserSession:
    return await flows.member(await club.member())


def outcomes(responses: list[httpx.Response]) -> Counter[tuple[int, str | None]]:
    return Counter((response.status_code, response.json().get("error")) for response in responses)


async def test_one_of_fifty_uses_of_a_code_succeeds_and_the_family_ends(
    flows: Flows, club: Club, partner: tables.Partner, person: BrowserSession
) -> None:
    app = await flows.app(partner)
    code = await flows.code(app, person)
    row = f"authorization_request WHERE client_id = '{app.id}'"
    responses = await club.at_once(row, [flows.post(app, code.form) for _ in range(AT_ONCE)])
    assert outcomes(responses) == {(200, None): 1, (400, "invalid_grant"): AT_ONCE - 1}
    [tokens] = [response.json() for response in responses if response.status_code == 200]
    assert (await flows.approval(tokens["access_token"])).reason == "CODE_REUSED"
    with pytest.raises(Unauthenticated, match="revoked"):
        await flows.caller(tokens["access_token"])
    assert outcomes([await flows.refresh(app, tokens["refresh_token"])]) == {(400, "invalid_grant"): 1}


async def test_fifty_uses_of_a_public_refresh_token_make_one_pair(
    flows: Flows, club: Club, partner: tables.Partner, person: BrowserSession
) -> None:
    app = await flows.public_app(partner)
    first = await flows.tokens(app, person)
    approval = await flows.approval(first["access_token"])
    row = f"refresh_token WHERE approval_id = '{approval.id}'"
    responses = await club.at_once(row, [flows.refresh(app, first["refresh_token"]) for _ in range(AT_ONCE)])
    assert outcomes(responses) == {(200, None): AT_ONCE}
    assert len({response.content for response in responses}) == 1
    [rows] = await club.sql("SELECT count(*) AS made FROM refresh_token WHERE approval_id = $1", approval.id)
    assert rows["made"] == 2
    second = responses[0].json()
    responses = await club.at_once(row, [flows.refresh(app, second["refresh_token"]) for _ in range(AT_ONCE)])
    assert len({response.content for response in responses}) == 1
    # Its successor is in use: whoever still has the first one has stolen it.
    assert outcomes([await flows.refresh(app, first["refresh_token"])]) == {(400, "invalid_grant"): 1}
    assert (await flows.approval(second["access_token"])).reason == "REFRESH_TOKEN_REUSED"


async def test_fifty_late_uses_of_a_public_refresh_token_end_the_family_once(
    flows: Flows, club: Club, partner: tables.Partner, person: BrowserSession
) -> None:
    app = await flows.public_app(partner)
    first = await flows.tokens(app, person)
    second = (await flows.refresh(app, first["refresh_token"])).json()
    approval = await flows.approval(second["access_token"])
    flows.clock.wait(seconds=61)
    row = f"refresh_token WHERE approval_id = '{approval.id}'"
    responses = await club.at_once(row, [flows.refresh(app, first["refresh_token"]) for _ in range(AT_ONCE)])
    assert outcomes(responses) == {(400, "invalid_grant"): AT_ONCE}
    [rows] = await club.sql("SELECT count(*) AS made FROM revocation WHERE key = $1", str(approval.id))
    assert rows["made"] == 1


async def test_fifty_uses_of_a_confidential_refresh_token_are_fifty_access_tokens(
    flows: Flows, partner: tables.Partner, person: BrowserSession
) -> None:
    app = await flows.app(partner)
    token = (await flows.tokens(app, person))["refresh_token"]
    responses = await asyncio.gather(*(flows.refresh(app, token) for _ in range(AT_ONCE)))
    assert outcomes(list(responses)) == {(200, None): AT_ONCE}
    assert len({response.json()["access_token"] for response in responses}) == AT_ONCE
    assert all("refresh_token" not in response.json() for response in responses)


async def test_one_of_fifty_browsers_begins_a_pushed_request(flows: Flows, club: Club, partner: tables.Partner) -> None:
    app = await flows.app(partner)
    pushed = await flows.push(app, flows.asking(app))
    brought = {"client_id": app.id, "request_uri": pushed.json()["request_uri"]}
    row = f"authorization_request WHERE client_id = '{app.id}'"
    visits = [flows.http.get("/oauth/authorize", params=brought) for _ in range(AT_ONCE)]
    responses = await club.at_once(row, visits)
    begun = [response for response in responses if response.status_code == 303]
    assert len(begun) == 1
    assert begun[0].headers["location"].startswith("/authorize/")
    assert Counter(response.status_code for response in responses) == {303: 1, 400: AT_ONCE - 1}


async def test_one_of_fifty_answers_to_a_question_counts(
    flows: Flows, club: Club, partner: tables.Partner, person: BrowserSession
) -> None:
    app = await flows.app(partner)
    request_id = await flows.begin(flows.asking(app))

    async def say_yes() -> str | None:
        try:
            return await flows.allow(request_id, person)
        except PageError:
            return None

    row = f"authorization_request WHERE id = '{request_id}'"
    answers = await club.at_once(row, [say_yes() for _ in range(AT_ONCE)])
    assert len([url for url in answers if url is not None]) == 1
    [rows] = await club.sql("SELECT count(*) AS made FROM approval WHERE client_id = $1", app.id)
    assert rows["made"] == 1
