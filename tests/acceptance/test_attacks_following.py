"""Clients that follow in bad faith: they flood, don't read what they are sent, or stay longer than their tokens."""

import asyncio
import gc
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from struct import pack
from typing import Any, ClassVar

import pytest
from pydantic import SecretStr
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from auth.caller import Caller, CallerKind
from auth.scopes import scopes_of
from auth.tokens import mint_access_token
from gateway import embedded
from gateway.database import Database
from gateway.serving import UNREAD_MS
from gateway.settings import Settings
from partners import tables
from schema import http, staying
from tests.api import Api, Voice
from tests.factories import Club
from tests.followers import AVAILABILITY, PROTOCOL
from tests.serving import serving

MEGABYTE = 2**20
HANDSHAKE = (
    "GET /graphql HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: {PROTOCOL}\r\n\r\n"
)


class Opened(http.GraphQLEndpoint):
    """An endpoint that a test can reach."""

    last: ClassVar[list[http.GraphQLEndpoint]] = []

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.last[:] = [self]


@pytest.fixture
async def served(
    servers: embedded.Servers, database: Database, secret: bytes, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Api]:
    monkeypatch.setattr("gateway.app.GraphQLEndpoint", Opened)
    monkeypatch.setattr(staying.Bounds.__init__, "__defaults__", (5_000, 100, 20, 1.0, 0.5))
    monkeypatch.setattr(staying, "READ_S", 1.0)
    service = Settings(
        database_url=database.engine.url.render_as_string(hide_password=False),
        redis_url=servers.redis_url,
        secret=SecretStr(secret.decode()),
    )
    async with serving(service) as api:
        yield api


def frame(opcode: int, payload: bytes) -> bytes:
    """One frame of a client, masked by zeros (RFC 6455, section 5.2)."""
    length = len(payload)
    head = bytes([0x80 | length]) if length < 126 else b"\xfe" + pack("!H", length)
    return bytes([0x80 | opcode]) + head + bytes(4) + payload


def text(**message: object) -> bytes:
    return frame(1, json.dumps(message).encode())


@asynccontextmanager
async def raw(api: Api, opening: bytes) -> AsyncIterator[socket.socket]:
    """A connection that reads only what the test reads, and little at once."""
    loop, address = asyncio.get_running_loop(), api.client.base_url
    with socket.socket() as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        opened.setblocking(False)
        await loop.sock_connect(opened, (address.host, address.port))
        await loop.sock_sendall(opened, opening)
        head = b""
        while b"\r\n\r\n" not in head:
            head += await loop.sock_recv(opened, 1)
        yield opened


async def send_for(opened: socket.socket, data: bytes, times: int, seconds: float) -> None:
    """Sends as much of it as the other side takes within so many seconds."""
    loop = asyncio.get_running_loop()
    with suppress(TimeoutError, OSError):
        async with asyncio.timeout(seconds):
            for _ in range(times):
                await loop.sock_sendall(opened, data)


def buffered() -> int:
    """What the server keeps for all clients until they read it (bytes)."""
    sockets = [one for one in gc.get_objects() if isinstance(one, WebSocketsSansIOProtocol)]
    return sum(one.transport.get_write_buffer_size() for one in sockets if not one.transport.is_closing())


async def test_pings_of_who_reads_nothing_fill_no_memory(served: Api) -> None:
    async with raw(served, HANDSHAKE.encode()) as opened:
        await asyncio.get_running_loop().sock_sendall(opened, text(type="connection_init"))
        await send_for(opened, frame(9, bytes(125)) * 2000, 100, 10)
        assert buffered() < MEGABYTE


async def test_a_flood_of_messages_leaves_others_their_turns_and_ends_at_its_time(served: Api) -> None:
    """There is always a next message, so that waiting for one never waits."""
    sent, heard, turns = 0, [], 0

    async def receive() -> dict[str, Any]:
        nonlocal sent
        sent += 1
        return {"type": "websocket.connect"} if sent == 1 else {"type": "websocket.receive", "text": '{"type":"pong"}'}

    async def send(message: dict[str, Any]) -> None:
        heard.append(message)

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    scope = {"type": "websocket", "path": "/graphql", "headers": [], "subprotocols": [PROTOCOL], "state": {}}
    waiting = asyncio.create_task(other())
    async with asyncio.timeout(10):
        await Opened.last[0].websocket(scope, receive, send)  # type: ignore[arg-type]
    waiting.cancel()
    assert heard[-1] == {
        "type": "websocket.close",
        "code": 4408,
        "reason": "Connection initialisation timeout",
    }
    assert turns >= sent - 5


def brief(api: Api, member: tables.Member) -> Voice:
    """A caller whose token ends in a second."""
    service = api.service
    caller = Caller(
        CallerKind.MEMBER, str(member.id), scopes_of(CallerKind.MEMBER), client_id="app", member_id=member.id
    )
    token = mint_access_token(service.ring, service.authority, caller, service.clock(), timedelta(seconds=2))
    return Voice(api.client, token)


async def gone(api: Api) -> bool:
    """Whether nobody has a place, follows anything or is written to within ten seconds."""
    for _ in range(100):
        if not len(api.service.resources.feeds) and not places():
            return True
        await asyncio.sleep(0.1)
    return False


def places() -> int:
    return len(Opened.last[0].places)


async def test_who_does_not_read_loses_its_place_with_its_token(served: Api, club: Club) -> None:
    perk, voice = await club.perk(), brief(served, await club.member())
    async with raw(served, HANDSHAKE.encode()) as opened:
        loop = asyncio.get_running_loop()
        payload = {"query": AVAILABILITY, "variables": {"perk": {"id": f"perk_{perk.id.hex}"}}}
        begin = text(type="connection_init", payload={"Authorization": f"Bearer {voice.token}"})
        await loop.sock_sendall(opened, begin + text(type="subscribe", id="1", payload=payload))
        await send_for(opened, text(type="ping", payload={"a": "a" * 60_000}), 1000, 1)
        assert places() == 1
        assert await gone(served)


async def test_a_stream_that_nobody_reads_ends(served: Api, club: Club, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where what is written is never taken."""
    body = {"query": AVAILABILITY, "variables": {"perk": {"id": f"perk_{(await club.perk()).id.hex}"}}}
    request = {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}
    told = asyncio.Event()

    async def receive() -> dict[str, object]:
        if told.is_set():
            await asyncio.Event().wait()
        told.set()
        return request

    async def send(message: object) -> None:
        if "http.response.body" in str(message):
            await asyncio.Event().wait()

    token = f"Bearer {served.staff().token}".encode()
    headers = [(b"content-type", b"application/json"), (b"accept", b"text/event-stream"), (b"authorization", token)]
    scope = {"type": "http", "method": "POST", "path": "/graphql", "query_string": b"", "headers": headers, "state": {}}
    async with asyncio.timeout(5):
        await Opened.last[0](scope, receive, send)
    assert await gone(served)


async def test_a_connection_on_which_nothing_is_read_is_ended_by_the_system(served: Api) -> None:
    """Also those that ended for us while something was still to be sent."""
    async with raw(served, HANDSHAKE.encode()):
        [one] = [one for one in gc.get_objects() if isinstance(one, WebSocketsSansIOProtocol)]
        option = one.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    assert option == UNREAD_MS
