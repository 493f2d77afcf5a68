"""Subscriptions by clients that others wrote: graphql-ws, graphql-sse and Apollo Client of npm, and gql of Python."""

import asyncio
import json
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from gql import Client, gql
from gql.transport.aiohttp_websockets import AIOHTTPWebsocketsTransport
from pydantic import SecretStr

from auth.caller import Caller, CallerKind
from auth.scopes import scopes_of
from auth.tokens import mint_access_token
from gateway import embedded
from gateway.database import Database
from gateway.settings import Settings
from partners import tables
from partners.keys import Keys
from partners.programme import Programme
from tests.api import Api
from tests.factories import Club
from tests.followers import AVAILABILITY
from tests.node import installed
from tests.serving import serving


@pytest.fixture(scope="module")
async def served(servers: embedded.Servers, database: Database, secret: bytes) -> AsyncIterator[Api]:
    settings = Settings(
        database_url=database.engine.url.render_as_string(hide_password=False),
        redis_url=servers.redis_url,
        secret=SecretStr(secret.decode()),
    )
    async with serving(settings, work=True) as api:
        yield api


@pytest.fixture
def as_of_now(database: Database, programme: Programme, keys: Keys) -> Club:
    return Club(database, programme, keys, datetime.now(UTC))


def token(api: Api, seconds: int) -> str:
    caller = Caller(CallerKind.STAFF, "desk", scopes_of(CallerKind.STAFF), client_id="console")
    service, lifetime = api.service, timedelta(seconds=seconds)
    return mint_access_token(service.ring, service.authority, caller, service.clock(), lifetime)


async def claim(club: Club, perk: tables.Perk) -> None:
    await club.hold(await club.member(club.partners[perk.partner_id]), perk)


def left(result: dict[str, Any]) -> int:
    assert "data" in result, result
    found: int = result["data"]["perkAvailability"]["capacityRemaining"]
    return found


@asynccontextmanager
async def subscriber(api: Api, client: str, perk: tables.Perk, *seconds: int) -> AsyncIterator[Process]:
    """The script with a token for each of these lifetimes."""
    told = {
        "client": client,
        "url": f"{api.service.settings.address}/graphql",
        "tokens": [token(api, one) for one in seconds],
        "query": AVAILABILITY,
        "variables": {"perk": {"id": f"perk_{perk.id.hex}"}},
    }
    environment = {**os.environ, "PERKS_OUTSIDE": json.dumps(told)}
    folder = await asyncio.to_thread(installed)
    process = await asyncio.create_subprocess_exec(
        "node", "subscriber.mjs", cwd=folder, env=environment, stdin=PIPE, stdout=PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        await process.wait()


async def heard(process: Process, patience_s: float = 20) -> dict[str, Any]:
    assert process.stdout is not None
    async with asyncio.timeout(patience_s):
        found: dict[str, Any] = json.loads(await process.stdout.readline())
    return found


@pytest.mark.long
@pytest.mark.parametrize("client", ["graphql-ws", "graphql-sse", "apollo"])
async def test_clients_of_npm_are_told_the_present_state_and_each_change(
    served: Api, as_of_now: Club, client: str
) -> None:
    perk = await as_of_now.perk(units=3)
    async with subscriber(served, client, perk, 300) as process:
        assert left(await heard(process)) == 3
        for expected in (2, 1):
            await claim(as_of_now, perk)
            assert left(await heard(process)) == expected


@pytest.mark.long
async def test_graphql_ws_comes_again_with_a_new_token_and_is_told_the_present_state(
    served: Api, as_of_now: Club
) -> None:
    perk = await as_of_now.perk(units=3)
    async with subscriber(served, "graphql-ws", perk, 3, 300) as process:
        assert left(await heard(process)) == 3
        assert left(await heard(process)) == 3  # by the second token, when the first had expired
        await claim(as_of_now, perk)
        assert left(await heard(process)) == 2


@pytest.mark.long
async def test_clients_of_npm_are_told_why_there_is_nothing_to_follow(served: Api, as_of_now: Club) -> None:
    perk = await as_of_now.perk()
    perk.id = tables.columns.new_id()
    for client in ("graphql-ws", "graphql-sse", "apollo"):
        async with subscriber(served, client, perk, 300) as process:
            assert "no such perk" in json.dumps(await heard(process))


async def test_gql_of_python_follows_over_a_websocket(served: Api, as_of_now: Club) -> None:
    perk = await as_of_now.perk(units=2)
    transport = AIOHTTPWebsocketsTransport(
        url=f"{served.service.settings.address}/graphql".replace("http", "ws", 1),
        init_payload={"Authorization": f"Bearer {token(served, 300)}"},
        subprotocols=[AIOHTTPWebsocketsTransport.GRAPHQLWS_SUBPROTOCOL],
        keep_alive_timeout=10,
        ping_interval=1,
    )
    async with Client(transport=transport) as session:
        query = gql(AVAILABILITY)
        query.variable_values = {"perk": {"id": f"perk_{perk.id.hex}"}}
        results = session.subscribe(query)
        assert left({"data": await anext(results)}) == 2
        await claim(as_of_now, perk)
        assert left({"data": await anext(results)}) == 1
        await results.aclose()
        assert (await session.execute(gql("{ viewer { kind } }")))["viewer"] == {"kind": "STAFF"}
