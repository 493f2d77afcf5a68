"""What tests of webhooks share: a club whose partners are told, and receivers that answer as a test says."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from standardwebhooks import Webhook

from gateway.outside_posts import Answer
from gateway.outside_sockets import OutsideFault
from gateway.webhooks import Courier
from partners import tables
from partners.outside_addresses import FaultKind
from partners.webhooks.endpoints import EndpointSettings, create_endpoint
from partners.webhooks.events import names_of
from partners.webhooks.messages import make_messages, park_messages
from tests.factories import Club, partner_actor
from tests.sequencing import sequencer_on


@dataclass(frozen=True)
class Received:
    """One attempt as its receiver saw it."""

    url: str
    id: str
    body: bytes
    headers: Mapping[str, str]

    @property
    def event(self) -> Any:
        return orjson.loads(self.body)


@dataclass
class Telling:
    """The whole way from the log to receivers on one database, at a time that the test moves."""

    club: Club
    now: datetime
    answers: dict[str, Callable[[Received], Answer]] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)
    secrets: dict[str, str] = field(default_factory=dict)

    def courier(self) -> Courier:
        return Courier(self.club.database, self.club.keys, self.post, lambda: self.now)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        told = Received(url, headers["webhook-id"], body, headers)
        self.received.append(told)
        return self.answers.get(url, lambda _: Answer(204, None, 1))(told)

    async def endpoint(self, partner: tables.Partner, *events: str, url: str | None = None) -> tables.WebhookEndpoint:
        """A new one at an address of its own; its secret is kept."""
        await self.sequence()
        address = url or f"https://hooks.example.com/{partner.handle}/{len(self.secrets)}"
        async with self.club.database.sessions.begin() as session:
            endpoint, made = await create_endpoint(
                session,
                partner.id,
                EndpointSettings(address, events=events),
                keys=self.club.keys,
                actor=partner_actor(partner),
                now=self.now,
            )
        self.secrets[endpoint.url] = made.shown
        return endpoint

    async def sequence(self) -> None:
        await sequencer_on(self.club.database, self.club.keys).carry_over()

    async def make(self) -> None:
        """Everything on record becomes messages."""
        await self.sequence()
        async with self.club.database.connection() as connection:
            while await make_messages(connection, names_of(self.club.keys).delays, self.now):
                pass

    async def tell(self) -> int:
        """The same, and what is due is sent; how many attempts."""
        await self.make()
        return await self.courier().deliver_due()

    async def pass_time(self, by: timedelta, step: timedelta) -> None:
        """Moves the time on, with the workers at work at every step."""
        until = self.now + by
        while self.now < until:
            self.now = min(self.now + step, until)
            await self.tell()
            async with self.club.database.connection() as connection:
                await park_messages(connection, self.now)

    async def until_received(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.received) < count:  # noqa: ASYNC110 - whoever sends may be anybody
                await asyncio.sleep(0.01)

    def told(self, url: str) -> list[Any]:
        """What a receiver got, verified by an outside library, in its order."""
        return [one.event for one in self.received if one.url == url]

    async def states(self, endpoint: UUID) -> dict[str, int]:
        rows = await self.club.sql(
            "SELECT state, count(*) AS n FROM webhook_message WHERE endpoint_id = $1 GROUP BY state", endpoint
        )
        return {row["state"]: row["n"] for row in rows}

    def verify(self, received: Received) -> Any:
        """By the `standardwebhooks` library, which goes by the real clock: the same is signed again for its now;
        raises for what does not fit."""
        webhook, headers = Webhook(self.secrets[received.url]), dict(received.headers)
        at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
        assert webhook.sign(received.id, at, received.body.decode()) in headers["webhook-signature"].split()
        now = datetime.now(UTC)
        headers["webhook-timestamp"] = str(int(now.timestamp()))
        headers["webhook-signature"] = webhook.sign(received.id, now, received.body.decode())
        return webhook.verify(received.body, headers)


def status(code: int, retry_after: int | None = None) -> Callable[[Received], Answer]:
    """Always the same answer."""
    return lambda _: Answer(code, retry_after, 1)


def hangs_up(_: Received) -> Answer:
    """No answer."""
    raise OutsideFault(FaultKind.CONNECT, "the connection broke")
