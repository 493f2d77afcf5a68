"""What every resolver may reach: who calls, when, and the service's own resources."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import strawberry
from asyncpg import Connection
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from auth.caller import Caller
from partners.actors import Actor
from partners.batches import Batcher
from partners.eligibility import Known, Question, learn
from partners.feeds import Feeds, Seen
from partners.holds import Claim, Claimed, claim_batch
from partners.keys import Keys
from partners.live import Availability, read_availability
from partners.outside_addresses import PrivateTargets
from partners.programme import Programme
from partners.references import Asker

Connect = Callable[[], AbstractAsyncContextManager["Connection[Any]"]]
Reading = Callable[[], AbstractAsyncContextManager[AsyncSession]]
Throttle = Callable[[str], Awaitable[None]]
Vouch = Callable[[str], Awaitable[None]]
STATEMENTS_AT_ONCE = 2


@dataclass(slots=True)
class Resources:
    """One process's database, programme and keys, the batchers that stand in front of the database, and all that is
    followed.

    `try_code` reserves a client's attempt at a hold code, THROTTLED after too many; `right_code` gives it back. `vouch`
    is called with each checkpoint of the log before anybody is told it, so that this host does not forget it. `freed`
    is set by whoever gave something back, so that those who wait are offered it at once. `private_targets` are the
    addresses that webhooks may have although they are not public. Who makes a statement has a place in `settling`
    before it asks for a connection: what reads for seconds never takes the connections that claims need.
    """

    sessions: async_sessionmaker[AsyncSession]
    reading: Reading
    connection: Connect
    programme: Programme
    keys: Keys
    try_code: Throttle
    right_code: Throttle
    vouch: Vouch
    questions: Batcher[None, Question, Known | None]
    claims: Batcher[UUID, Claim, Claimed]
    feeds: Feeds
    availability: Batcher[None, UUID, Seen[Availability] | None]
    private_targets: PrivateTargets
    freed: asyncio.Event = field(default_factory=asyncio.Event)
    settling: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(STATEMENTS_AT_ONCE))

    async def learn(self, questions: Sequence[Question]) -> list[Known | None]:
        """What is known for each: a single question joins whatever else is being asked, a list goes on its own."""
        if len(questions) == 1:
            return [await self.questions.submit(None, questions[0])]
        async with self.connection() as connection:
            return await learn(connection, questions)


def open_resources(
    *,
    sessions: async_sessionmaker[AsyncSession],
    reading: Reading,
    connection: Connect,
    programme: Programme,
    keys: Keys,
    try_code: Throttle,
    right_code: Throttle,
    vouch: Vouch,
    feeds: Feeds,
    private_targets: PrivateTargets,
) -> Resources:
    """Resources whose batchers run on this database."""

    async def ask(_: None, questions: Sequence[Question]) -> Sequence[Known | None]:
        async with connection() as bare:
            return await learn(bare, questions)

    async def claim(perk_id: UUID, claims: Sequence[Claim]) -> Sequence[Claimed]:
        async with connection() as bare:
            return await claim_batch(bare, perk_id, claims, keys.codes, programme.ranks)

    async def look(_: None, perk_ids: Sequence[UUID]) -> Sequence[Seen[Availability] | None]:
        async with connection() as bare:
            return await read_availability(bare, perk_ids, feeds.clock())

    return Resources(
        sessions,
        reading,
        connection,
        programme,
        keys,
        try_code,
        right_code,
        vouch,
        questions=Batcher(ask),
        claims=Batcher(claim),
        feeds=feeds,
        availability=Batcher(look),
        private_targets=private_targets,
    )


@dataclass(slots=True)
class Context:
    """One request: its caller, the reading of the clock (each mutation has its own), and its id. `generation` is that
    of the signing keys when the caller came (auth/tokens.py)."""

    caller: Caller
    now: datetime
    request_id: str
    resources: Resources
    generation: int = 0

    @property
    def seconds_left(self) -> float:
        """How long the caller's token is still good for, unless it is revoked."""
        expires_at = self.caller.expires_at
        return math.inf if expires_at is None else (expires_at - self.now).total_seconds()

    @property
    def actor(self) -> Actor:
        """The caller in the domain's words."""
        return self.caller.actor

    def asker(self, scope: str) -> Asker | None:
        """The partner that asks, under the scope that it uses; None for members and staff."""
        caller = self.caller
        if caller.partner_id is None:
            return None
        return Asker(caller.partner_id, scope, caller.client_id or caller.id)

    @property
    def sessions(self) -> async_sessionmaker[AsyncSession]:
        """`begin()` is a mutation's transaction."""
        return self.resources.sessions

    @property
    def reading(self) -> Reading:
        """A session for what only reads; give it back before asking for anything else."""
        return self.resources.reading


Info = strawberry.Info[Context, None]
