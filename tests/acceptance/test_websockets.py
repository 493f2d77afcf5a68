"""GraphQL over WebSocket, message by message: what the protocol says, its close codes, and what it withstands."""

import asyncio
import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from gateway import embedded
from gateway.database import Database
from gateway.settings import Settings
from schema import staying
from tests.api import Api
from tests.factories import Club
from tests.followers import AVAILABILITY, Line, line
from tests.holders import key_client
from tests.serving import serving

SCOPES = frozenset({"perks:read"})
VIEWER = "{ viewer { kind } }"


@pytest.fixture(scope="module")
async def served(servers: embedded.Servers, database: Database, secret: bytes) -> AsyncIterator[Api]:
    service = Settings(
        database_url=database.engine.url.render_as_string(hide_password=False),
        redis_url=servers.redis_url,
        secret=SecretStr(secret.decode()),
    )
    async with serving(service) as api:
        yield api


async def viewer(opened: Line, id: str = "v") -> str:
    await opened.subscribe(VIEWER, id)
    kind: str = (await opened.next())["viewer"]["kind"]
    assert (await opened.hear("complete"))["id"] == id
    return kind


async def test_a_query_is_answered_once_and_completed(served: Api, club: Club) -> None:
    async with line(served) as opened:
        await opened.init(served.member(await club.member()))
        assert await viewer(opened) == "MEMBER"
        assert await viewer(opened) == "MEMBER"  # the id is free again


async def test_a_mutation_runs_as_the_caller(served: Api, club: Club) -> None:
    member = await club.member()
    async with line(served) as opened:
        await opened.init(served.member(member))
        await opened.subscribe("mutation { createPass(input: {}) { pass { code } userErrors { code } } }")
        assert (await opened.next())["createPass"]["pass"]["code"]
        await opened.hear("complete")


async def test_the_token_may_come_with_the_handshake(served: Api, club: Club) -> None:
    voice = served.member(await club.member())
    async with line(served, Authorization=f"Bearer {voice.token}") as opened:
        await opened.init()
        assert await viewer(opened) == "MEMBER"


async def test_the_token_of_the_first_message_goes_before_that_of_the_handshake(served: Api, club: Club) -> None:
    voice = served.member(await club.member())
    async with line(served, Authorization=f"Bearer {served.staff().token}") as opened:
        await opened.say("connection_init", payload={"authorization": f"Bearer {voice.token}"})
        await opened.hear("connection_ack")
        assert await viewer(opened) == "MEMBER"


async def test_without_a_token_only_what_is_public_is_answered(served: Api, club: Club) -> None:
    async with line(served) as opened:
        await opened.say("connection_init")
        await opened.hear("connection_ack")
        assert await viewer(opened) == "ANONYMOUS"
        await opened.subscribe(AVAILABILITY, "a", perk={"handle": "any/thing"})
        message = await opened.hear("error")
        assert (message["id"], message["payload"][0]["extensions"]["code"]) == ("a", "UNAUTHENTICATED")
        assert message["payload"][0]["extensions"]["requestId"]


@pytest.mark.parametrize("when", ["ping before init", "ping after init"])
async def test_a_ping_is_answered_with_its_payload(served: Api, when: str) -> None:
    async with line(served) as opened:
        if "after" in when:
            await opened.init()
        await opened.say("ping", payload={"at": 1})
        assert await opened.hear() == {"type": "pong", "payload": {"at": 1}}
        await opened.say("ping")
        assert await opened.hear() == {"type": "pong"}
        await opened.say("pong")
        assert await opened.silent()


async def test_an_invalid_document_is_an_error_of_its_operation_alone(served: Api) -> None:
    async with line(served) as opened:
        await opened.init()
        for id, (query, code) in {
            "syntax": ("{", "GRAPHQL_PARSE_FAILED"),
            "field": ("{ nothing }", "GRAPHQL_VALIDATION_FAILED"),
            "two": (
                "subscription { a: perkAvailability(perk: {}) b: holdState(hold: 1) }",
                "GRAPHQL_VALIDATION_FAILED",
            ),
            "length": ("{" + " " * 9_000 + "}", "LIMIT_EXCEEDED"),
            "variables": ("query($by: PerkBy!) { perk(by: $by) { id } }", "UNAUTHENTICATED"),
        }.items():
            await opened.subscribe(query, id)
            message = await opened.hear("error")
            assert (message["id"], message["payload"][0]["extensions"]["code"]) == (id, code)
        assert await viewer(opened) == "ANONYMOUS"


async def initialised(opened: Line) -> None:
    await opened.init()


async def nothing(_: Line) -> None:
    return None


Break = Callable[[Line], Awaitable[Any]]
BREAKS: dict[str, tuple[Break, Break, int]] = {
    "an operation before the acknowledgement": (nothing, lambda one: one.subscribe(VIEWER), 4401),
    "a second init": (initialised, lambda one: one.say("connection_init"), 4429),
    "a wrong token": (nothing, lambda one: one.say("connection_init", payload={"Authorization": "Bearer x"}), 4403),
    "no bearer": (nothing, lambda one: one.say("connection_init", payload={"Authorization": "x"}), 4403),
    "a token that is no text": (nothing, lambda one: one.say("connection_init", payload={"Authorization": 1}), 4400),
    "a bound token without a proof": (
        nothing,
        lambda one: one.say("connection_init", payload={"Authorization": "DPoP x"}),
        4403,
    ),
    "no JSON": (initialised, lambda one: one.socket.send("{"), 4400),
    "no object": (initialised, lambda one: one.socket.send("[]"), 4400),
    "no type": (initialised, lambda one: one.socket.send("{}"), 4400),
    "bytes": (initialised, lambda one: one.socket.send(b'{"type":"ping"}'), 4400),
    "an unknown type": (initialised, lambda one: one.say("start"), 4400),
    "what only a server says": (initialised, lambda one: one.say("next", id="1", payload={}), 4400),
    "a payload that is no object": (initialised, lambda one: one.say("ping", payload=[1]), 4400),
    "no id": (initialised, lambda one: one.say("subscribe", payload={"query": VIEWER}), 4400),
    "an empty id": (initialised, lambda one: one.say("subscribe", id="", payload={"query": VIEWER}), 4400),
    "no payload": (initialised, lambda one: one.say("subscribe", id="1"), 4400),
    "no query": (initialised, lambda one: one.say("subscribe", id="1", payload={}), 4400),
    "variables that are no object": (
        initialised,
        lambda one: one.say("subscribe", id="1", payload={"query": VIEWER, "variables": 1}),
        4400,
    ),
    "a complete without an id": (initialised, lambda one: one.say("complete"), 4400),
    "the character U+0000": (initialised, lambda one: one.say("ping", payload={"a": "\0"}), 4400),
    "a message that is too long": (initialised, lambda one: one.say("ping", payload={"a": "x" * 70_000}), 1009),
}


@pytest.mark.parametrize("what", BREAKS)
async def test_what_breaks_the_protocol_ends_the_connection_with_its_code(served: Api, what: str) -> None:
    before, then, code = BREAKS[what]
    async with line(served) as opened:
        await before(opened)
        await then(opened)
        found, reason = await opened.closed()
        assert found == code
        assert reason or code == 1009


async def test_a_token_that_is_bound_to_a_key_comes_with_the_handshake_and_a_proof(
    served: Api, database: Database
) -> None:
    service = served.service
    client = await key_client(database, served.client, service.settings.address, service.clock, scopes=SCOPES)
    nonce = await client.nonce()
    token = await client.bound_token(nonce)
    ath = urlsafe_b64encode(sha256(token.encode()).digest()).rstrip(b"=").decode()
    proof = client.proof("/graphql", nonce, htm="GET", ath=ath)
    headers = {"Authorization": f"DPoP {token}", "DPoP": proof}
    async with line(served, **headers) as opened:
        await opened.init()
        assert await viewer(opened) == "PARTNER"
        assert await viewer(opened) == "PARTNER"
    async with line(served, **headers) as opened:
        await opened.say("connection_init")
        assert await opened.closed() == (4403, "the DPoP proof was used before")
    async with line(served, Authorization=f"DPoP {token}") as opened:
        await opened.say("connection_init")
        assert (await opened.closed())[0] == 4403
    async with line(served) as opened:
        await opened.say("connection_init", payload={"Authorization": f"DPoP {token}"})
        code, reason = await opened.closed()
        assert (code, "in the handshake's headers" in reason) == (4403, True)


async def test_an_id_that_is_in_use_ends_the_connection(served: Api, club: Club) -> None:
    perk = await club.perk()
    async with line(served) as opened:
        await opened.init(served.staff())
        for _ in range(2):
            await opened.subscribe(AVAILABILITY, "same", perk={"id": f"perk_{perk.id.hex}"})
        assert await opened.closed() == (4409, "Subscriber for same already exists")


async def test_who_says_nothing_is_shown_out(served: Api) -> None:
    async with line(served) as opened:
        assert await opened.closed() == (4408, "Connection initialisation timeout")


async def test_another_subprotocol_is_not_acceptable(served: Api) -> None:
    address = str(served.client.base_url).replace("http", "ws", 1) + "/graphql"
    async with connect(address) as socket:
        await socket.wait_closed()
        assert socket.close_code == 4406


async def test_other_addresses_take_no_websockets(served: Api) -> None:
    address = str(served.client.base_url).replace("http", "ws", 1) + "/healthz"
    with pytest.raises(InvalidStatus):
        async with connect(address):
            pass


async def test_what_a_client_completes_is_told_no_further_and_its_id_is_free(served: Api, club: Club) -> None:
    perk = await club.perk(units=2)
    by = {"id": f"perk_{perk.id.hex}"}
    async with line(served) as opened:
        await opened.init(served.staff())
        await opened.subscribe(AVAILABILITY, "one", perk=by)
        await opened.next()
        await opened.say("complete", id="one")
        assert await opened.silent()
        await opened.subscribe(AVAILABILITY, "one", perk=by)
        assert (await opened.next())["perkAvailability"]["capacityRemaining"] == 2
        await opened.say("complete", id="nobody knows")
        assert await opened.silent()


async def test_one_connection_follows_twenty_things_at_most(served: Api, club: Club) -> None:
    perk = await club.perk()
    async with line(served) as opened:
        await opened.init(served.staff())
        for _ in range(20):
            await opened.subscribe(AVAILABILITY, perk={"id": f"perk_{perk.id.hex}"})
            await opened.next()
        id = await opened.subscribe(VIEWER)
        message = await opened.hear("error")
        assert (message["id"], message["payload"][0]["extensions"]["code"]) == (id, "LIMIT_EXCEEDED")
        await opened.say("complete", id="1")
        await asyncio.sleep(0.2)
        assert await viewer(opened) == "STAFF"


async def test_one_caller_has_so_many_connections_at_most(
    servers: embedded.Servers, database: Database, secret: bytes, club: Club, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staying.Bounds.__init__, "__defaults__", (3, 2, 20, 3.0, 10.0))
    service = Settings(
        database_url=database.engine.url.render_as_string(hide_password=False),
        redis_url=servers.redis_url,
        secret=SecretStr(secret.decode()),
    )
    one, another = await club.member(), await club.member()
    async with serving(service) as api, line(api) as first, line(api) as second, line(api) as third:
        await first.init(api.member(one))
        await second.init(api.member(one))
        await third.say("connection_init", payload={"Authorization": f"Bearer {api.member(one).token}"})
        assert (await third.closed())[0] == 1013
        async with line(api) as fourth, line(api) as fifth:
            await fourth.init(api.member(another))
            assert (await fifth.closed())[0] == 1013
        await asyncio.sleep(0.2)
        async with line(api) as sixth:
            await sixth.init(api.member(another))


async def test_when_the_server_stops_clients_are_told_to_come_again(
    servers: embedded.Servers, database: Database, secret: bytes, club: Club
) -> None:
    service = Settings(
        database_url=database.engine.url.render_as_string(hide_password=False),
        redis_url=servers.redis_url,
        secret=SecretStr(secret.decode()),
    )
    perk, loop = await club.perk(), asyncio.get_running_loop()
    stack = serving(service)
    api = await stack.__aenter__()
    async with line(api) as opened:
        await opened.init(api.staff())
        await opened.subscribe(AVAILABILITY, perk={"id": f"perk_{perk.id.hex}"})
        await opened.next()
        began = loop.time()
        stopping = asyncio.create_task(stack.__aexit__(None, None, None))
        assert (await opened.closed())[0] == 1012
        await stopping
        assert loop.time() - began < 3


MESSAGES = st.one_of(
    st.text(max_size=200),
    st.binary(max_size=100),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
        max_leaves=10,
    ).map(json.dumps),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["connection_init", "subscribe", "complete", "ping", "pong", "next", "error", ""])},
        optional={
            "id": st.sampled_from(["1", "2", "", 1, None]),
            "payload": st.one_of(
                st.none(),
                st.just([]),
                st.fixed_dictionaries(
                    {},
                    optional={
                        "query": st.sampled_from([VIEWER, "{", "subscription { holdState(hold: 1) { id } }", 1, None]),
                        "variables": st.sampled_from([None, {}, {"a": 1}, 3]),
                        "operationName": st.sampled_from([None, "", "A", 4]),
                        "extensions": st.sampled_from([None, {}, {"persistedQuery": {}}, []]),
                        "documentId": st.sampled_from([None, "sha256:00", 1]),
                        "Authorization": st.sampled_from(["Bearer x", None, 5]),
                    },
                ),
            ),
        },
    ).map(json.dumps),
)
ENDS = {4400, 4401, 4403, 4406, 4408, 4409, 4429}


async def test_whatever_is_sent_gets_an_answer_or_one_of_the_close_codes(served: Api) -> None:
    loop = asyncio.get_running_loop()
    sent: list[list[str | bytes]] = []

    @settings(max_examples=150, database=None)
    @given(st.lists(MESSAGES, min_size=1, max_size=6), st.booleans())
    def collect(messages: list[str | bytes], first: bool) -> None:
        head: list[str | bytes] = ['{"type":"connection_init"}'] if first else []
        sent.append(head + messages)

    await loop.run_in_executor(None, collect)
    for messages in sent:
        async with line(served) as opened:
            for message in messages:
                await opened.socket.send(message)
            await opened.socket.close()
            assert opened.socket.close_code in {1000, *ENDS}, messages
    async with line(served) as opened:
        await opened.init()
        assert await viewer(opened) == "ANONYMOUS"
