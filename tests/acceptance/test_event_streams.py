"""Subscriptions over plain HTTP: server-sent events and Apollo's multipart responses."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from auth.caller import Caller, CallerKind
from auth.scopes import scopes_of
from auth.tokens import mint_access_token
from gateway import embedded
from gateway.database import Database
from gateway.settings import Settings
from schema import staying
from tests.api import Api, Voice
from tests.factories import Club
from tests.followers import AVAILABILITY, EVENTS, PARTS, streamed, until
from tests.serving import serving

VIEWER = "{ viewer { kind } }"


@pytest.fixture(scope="module")
def address(servers: embedded.Servers, database: Database, secret: bytes) -> Settings:
    return Settings(
        database_url=database.engine.url.render_as_string(hide_password=False),
        redis_url=servers.redis_url,
        secret=SecretStr(secret.decode()),
    )


@pytest.fixture(scope="module")
async def served(address: Settings) -> AsyncIterator[Api]:
    """With workers; what stays shows that it lives every half second."""
    defaults = staying.Bounds.__init__.__defaults__
    staying.Bounds.__init__.__defaults__ = (*(defaults or ())[:-1], 0.5)
    try:
        async with serving(address, work=True) as api:
            yield api
    finally:
        staying.Bounds.__init__.__defaults__ = defaults


async def by(club: Club, **settings: Any) -> dict[str, str]:
    return {"id": f"perk_{(await club.perk(**settings)).id.hex}"}


def events(text: str) -> list[tuple[str, Any]]:
    """Name and data of each event (HTML standard, "Interpreting an event stream")."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(one.split(": ", 1) for one in block.split("\n") if not one.startswith(":") and ": " in one)
        if fields:
            found.append((fields["event"], json.loads(fields["data"]) if fields["data"] else None))
    return found


def parts(text: str) -> list[Any]:
    """The JSON of each whole part of a multipart response with the boundary `graphql`."""
    head, *found = text.split("--graphql")
    assert head == ""
    bodies = []
    for part in found[:-1]:
        headers, _, body = part.partition("\r\n\r\n")
        assert headers == "\r\nContent-Type: application/json"
        bodies.append(json.loads(body.removesuffix("\r\n")))
    return bodies


async def change(club: Club, by: dict[str, str]) -> None:
    """The perk has one unit less, and the log says so."""
    perk = club.perks[UUID(by["id"].removeprefix("perk_"))]
    await club.hold(await club.member(club.partners[perk.partner_id]), perk)


async def test_server_sent_events_tell_the_present_state_and_each_change(served: Api, club: Club) -> None:
    perk = await by(club, units=2)
    async with streamed(served, served.staff(), AVAILABILITY, EVENTS, perk=perk) as (response, pieces):
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert (response.headers["cache-control"], response.headers["x-accel-buffering"]) == ("no-store", "no")
        assert response.headers["x-request-id"]
        first = events(await until(pieces, "\n\n", patience_s=5) + await until(pieces, "capacityRemaining"))
        [(name, result)] = first
        assert (name, result["data"]["perkAvailability"]["capacityRemaining"]) == ("next", 2)
        await change(club, perk)
        text = await until(pieces, '"capacityRemaining":1')
        assert [name for name, _ in events(text)] == ["next"]


async def test_multipart_responses_tell_the_same(served: Api, club: Club) -> None:
    perk = await by(club, units=2)
    async with streamed(served, served.staff(), AVAILABILITY, PARTS, perk=perk) as (response, pieces):
        assert response.headers["content-type"] == 'multipart/mixed;boundary="graphql";subscriptionSpec="1.0"'
        text = await until(pieces, '"capacityRemaining":2')
        await change(club, perk)
        text += await until(pieces, '"capacityRemaining":1')
        results = [part["payload"]["data"]["perkAvailability"] for part in parts(text) if part]
        assert [one["capacityRemaining"] for one in results] == [2, 1]


@pytest.mark.parametrize(("headers", "beat"), [(EVENTS, ":\n\n"), (PARTS, "{}\r\n--graphql")])
async def test_a_quiet_stream_shows_that_it_lives(served: Api, club: Club, headers: dict[str, str], beat: str) -> None:
    async with streamed(served, served.staff(), AVAILABILITY, headers, perk=await by(club)) as (_, pieces):
        await until(pieces, "capacityRemaining")
        assert await until(pieces, beat, patience_s=3)


@pytest.mark.parametrize("headers", [EVENTS, PARTS])
async def test_a_stream_ends_with_its_token_and_says_so(served: Api, club: Club, headers: dict[str, str]) -> None:
    voice = short_lived(served, 2)
    async with streamed(served, voice, AVAILABILITY, headers, perk=await by(club)) as (_, pieces):
        text = "".join([piece async for piece in pieces])
    if headers is EVENTS:
        *_, (name, fault), (end, nothing) = events(text)
        assert (name, end, nothing) == ("next", "complete", None)
    else:
        assert text.endswith("--graphql--\r\n")
        fault = parts(text)[-1]
        assert fault["payload"] is None
    assert fault["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"


def short_lived(api: Api, seconds: float) -> Voice:
    service, lifetime = api.service, timedelta(seconds=seconds)
    caller = Caller(CallerKind.STAFF, "desk", scopes_of(CallerKind.STAFF), client_id="console")
    return Voice(api.client, mint_access_token(service.ring, service.authority, caller, service.clock(), lifetime))


async def test_a_client_of_nothing_but_events_hears_of_faults_by_an_event(served: Api, club: Club) -> None:
    cases = [
        (served.staff(), "{", {}, "GRAPHQL_PARSE_FAILED"),
        (served.staff(), "subscription { nothing }", {}, "GRAPHQL_VALIDATION_FAILED"),
        (served.staff(), AVAILABILITY, {}, "BAD_USER_INPUT"),
        (served.anonymous(), AVAILABILITY, {"perk": await by(club)}, "UNAUTHENTICATED"),
        (served.staff(), AVAILABILITY, {"perk": {"handle": "not/there"}}, "NOT_FOUND"),
    ]
    for voice, query, variables, code in cases:
        async with streamed(served, voice, query, EVENTS, **variables) as (response, pieces):
            (name, result), (end, _) = events("".join([piece async for piece in pieces]))
        assert (response.status_code, name, end) == (200, "next", "complete")
        assert result["errors"][0]["extensions"]["code"] == code
        assert result["errors"][0]["extensions"]["requestId"] == response.headers["x-request-id"]


async def test_requests_that_are_no_graphql_are_refused_by_their_status(served: Api, club: Club) -> None:
    perk = await by(club)
    body = {"query": AVAILABILITY, "variables": {"perk": perk}}
    wrong = await served.client.post("/graphql", json=body, headers=EVENTS | {"authorization": "Bearer x"})
    assert (wrong.status_code, wrong.json()["errors"][0]["extensions"]["code"]) == (401, "UNAUTHENTICATED")
    by_get = await served.client.get(
        "/graphql", params={"query": "subscription { holdState(hold: 1) { id } }"}, headers=EVENTS
    )
    assert by_get.status_code == 405
    query = await served.client.post("/graphql", json={"query": VIEWER}, headers=EVENTS)
    assert query.status_code == 406


@pytest.mark.parametrize("accept", ["application/json", "*/*", "multipart/mixed", "application/graphql-response+json"])
async def test_a_subscription_is_not_answered_where_no_stream_is_asked_for(
    served: Api, club: Club, accept: str
) -> None:
    body = {"query": AVAILABILITY, "variables": {"perk": await by(club)}}
    answer = await served.client.post("/graphql", json=body, headers={"accept": accept})
    if accept == "multipart/mixed":
        assert answer.status_code == 406
    else:
        assert answer.json()["errors"][0]["extensions"]["code"] == "BAD_REQUEST"


async def test_plain_queries_of_clients_that_also_take_streams_are_plain(served: Api) -> None:
    accept = "application/graphql-response+json, application/json, text/event-stream, multipart/mixed"
    answer = await served.client.post("/graphql", json={"query": VIEWER}, headers={"accept": accept})
    assert answer.headers["content-type"].startswith("application/graphql-response+json")
    assert answer.json() == {"data": {"viewer": {"kind": "ANONYMOUS"}}}


async def test_who_leaves_leaves_nothing_behind(served: Api, club: Club) -> None:
    perk = await by(club)
    for headers in (EVENTS, PARTS):
        async with streamed(served, served.staff(), AVAILABILITY, headers, perk=perk) as (_, pieces):
            await until(pieces, "capacityRemaining")
            assert len(served.service.resources.feeds) == 1
        for _ in range(100):
            if not len(served.service.resources.feeds):
                break
            await asyncio.sleep(0.05)
        assert not served.service.resources.feeds._tasks


async def test_when_the_server_stops_streams_end_at_once(address: Settings, club: Club) -> None:
    loop, stack = asyncio.get_running_loop(), serving(address)
    api = await stack.__aenter__()
    async with streamed(api, api.staff(), AVAILABILITY, EVENTS, perk=await by(club)) as (_, pieces):
        await until(pieces, "capacityRemaining")
        began = loop.time()
        stopping = asyncio.create_task(stack.__aexit__(None, None, None))
        text = "".join([piece async for piece in pieces])
        assert "complete" not in text  # so that the client comes again
    await stopping
    assert loop.time() - began < 3
