"""Clients of subscriptions that say exactly what a test wants said: over a WebSocket, and as a stream over HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.api import Answer, Api, Voice

PROTOCOL = "graphql-transport-ws"
PATIENCE_S = 20
AVAILABILITY = "subscription($perk: PerkBy!) { perkAvailability(perk: $perk) { perk state capacityRemaining } }"
HOLD = "subscription($hold: ID!) { holdState(hold: $hold) { id state expiresAt } }"


@dataclass
class Line:
    """One WebSocket, message by message."""

    socket: ClientConnection
    ids: list[int] = field(default_factory=lambda: [0])

    async def say(self, type: str, **more: Any) -> None:
        await self.socket.send(json.dumps({"type": type, **more}))

    async def hear(self, type: str | None = None, patience_s: float = PATIENCE_S) -> dict[str, Any]:
        async with asyncio.timeout(patience_s):
            message: dict[str, Any] = json.loads(await self.socket.recv())
        assert type is None or message["type"] == type, message
        return message

    async def silent(self, seconds: float = 0.3) -> bool:
        """Whether nothing comes for so long."""
        try:
            async with asyncio.timeout(seconds):
                await self.socket.recv()
        except TimeoutError:
            return True
        return False

    async def init(self, voice: Voice | None = None) -> None:
        payload = {} if voice is None or voice.token is None else {"Authorization": f"Bearer {voice.token}"}
        await self.say("connection_init", payload=payload)
        await self.hear("connection_ack")

    async def subscribe(self, query: str, id: str | None = None, **variables: Any) -> str:
        self.ids[0] += 1
        id = id or str(self.ids[0])
        await self.say("subscribe", id=id, payload={"query": query, "variables": variables})
        return id

    async def next(self, patience_s: float = PATIENCE_S) -> dict[str, Any]:
        """The data of the next result."""
        message = await self.hear("next", patience_s)
        assert "errors" not in message["payload"], message
        data: dict[str, Any] = message["payload"]["data"]
        return data

    async def closed(self) -> tuple[int, str]:
        """Code and reason with which the other side closes, whatever it says before."""
        async with asyncio.timeout(PATIENCE_S):
            with suppress(ConnectionClosed):
                while True:
                    await self.socket.recv()
        code, reason = self.socket.close_code, self.socket.close_reason
        assert code is not None
        return code, reason or ""


@asynccontextmanager
async def line(api: Api, *protocols: str, **headers: str) -> AsyncIterator[Line]:
    """A WebSocket to the service, before anything is said."""
    address = str(api.client.base_url).replace("http", "ws", 1).rstrip("/") + "/graphql"
    offered = [Subprotocol(one) for one in protocols or (PROTOCOL,)]
    async with connect(address, subprotocols=offered, additional_headers=headers, max_size=None) as socket:
        yield Line(socket)


@asynccontextmanager
async def following(api: Api, voice: Voice, query: str, **variables: Any) -> AsyncIterator[Line]:
    """A WebSocket on which one subscription has begun."""
    async with line(api) as opened:
        await opened.init(voice)
        await opened.subscribe(query, **variables)
        yield opened


EVENTS = {"accept": "text/event-stream"}
PARTS = {"accept": "multipart/mixed;subscriptionSpec=1.0, application/json"}


@asynccontextmanager
async def streamed(
    api: Api, voice: Voice, query: str, headers: dict[str, str], **variables: Any
) -> AsyncIterator[tuple[httpx.Response, AsyncIterator[str]]]:
    """A streaming response and its pieces of text as they come."""
    sent = headers if voice.token is None else {**headers, "authorization": f"Bearer {voice.token}"}
    body = {"query": query, "variables": variables}
    async with api.client.stream("POST", "/graphql", json=body, headers=sent) as response:
        yield response, response.aiter_text()


async def until(pieces: AsyncIterator[str], wanted: str, patience_s: float = PATIENCE_S) -> str:
    """The text up to and with the piece in which `wanted` comes."""
    text = ""
    async with asyncio.timeout(patience_s):
        async for piece in pieces:
            text += piece
            if wanted in text:
                return text
    raise AssertionError(f"the stream ended without {wanted!r}: {text!r}")


async def first_result(voice: Voice, query: str, variables: dict[str, Any]) -> Answer:
    """The first result of a subscription, by the application itself; then the client leaves."""
    transport = voice.client._transport
    assert isinstance(transport, httpx.ASGITransport)
    body, told, text = json.dumps({"query": query, "variables": variables}).encode(), asyncio.Event(), b""
    status, asked = 0, False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if not asked:
            asked = True
            return {"type": "http.request", "body": body, "more_body": False}
        await told.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal status, text
        status = message.get("status", status)
        text += message.get("body", b"")
        if b"\n\n" in text.partition(b"event: next")[2]:
            told.set()

    headers = [(b"content-type", b"application/json"), (b"accept", b"text/event-stream")]
    if voice.token is not None:
        headers.append((b"authorization", f"Bearer {voice.token}".encode()))
    scope = {"type": "http", "method": "POST", "path": "/graphql", "query_string": b"", "headers": headers, "state": {}}
    async with asyncio.timeout(PATIENCE_S):
        await transport.app(scope, receive, send)  # type: ignore[arg-type]
    found = text.partition(b"data: ")[2].partition(b"\n")[0] if status == 200 else text
    return Answer(status, json.loads(found), {})
