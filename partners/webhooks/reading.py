"""What was told, as the partner sees it: messages, attempts, and how much is still to be told.

What is staggered does not exist before it is told: that it waits would tell the moment at which it happened.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from partners.actors import Actor
from partners.keys import Keys
from partners.tables import MessageState, WebhookDelivery, WebhookEndpoint, WebhookMessage
from partners.values import value
from partners.webhooks.events import IS_STAGGERED, entry_of, public_id
from partners.webhooks.reach import reach

STAGGERED = f"(SELECT {IS_STAGGERED} FROM audit_entry e WHERE e.id = webhook_message.entry_id)"  # noqa: S608  constants


@value
class MessageFilter:
    """Every condition that is given must hold; `id` is a public one."""

    endpoint_id: UUID
    state: MessageState | None = None
    event: str | None = None
    id: UUID | None = None


@value
class Message:
    """One event that an endpoint is told of. `id` is the UUID of its `webhook-id`; `told_at` is when it was first due,
    and of a staggered one says nothing of when it happened."""

    id: UUID
    endpoint_id: UUID
    event: str
    state: MessageState
    attempts: int
    replays: int
    told_at: datetime
    due_at: datetime | None
    ended_at: datetime | None
    staggered: bool


@value
class Tried:
    """One attempt to tell a message."""

    id: UUID
    message: UUID
    number: int
    at: datetime
    duration_ms: int
    status: int | None
    fault: str | None


@value
class Backlog:
    """How many messages of an endpoint are to be told, since when the oldest is due, and how many were given up."""

    pending: int
    oldest_at: datetime | None
    parked: int


async def list_messages(
    session: AsyncSession,
    actor: Actor,
    wanted: MessageFilter,
    *,
    keys: Keys,
    first: int,
    after: UUID | None = None,
    now: datetime,
) -> list[Message]:
    """Messages of an endpoint within the actor's reach, as they were told, newest first; `after` is the public id of
    the last that was seen."""
    message, endpoint = WebhookMessage, WebhookEndpoint
    staggered: sa.ColumnElement[bool] = sa.literal_column(STAGGERED)
    query = (
        sa.select(message, staggered.label("staggered"))
        .join(endpoint, col(endpoint.id) == message.endpoint_id)
        .where(reach(actor), col(message.endpoint_id) == wanted.endpoint_id, col(message.told_at) <= now)
        .order_by(col(message.told_at).desc(), col(message.entry_id).desc())
        .limit(first)
    )
    if wanted.state is not None:
        query = query.where(col(message.state) == wanted.state)
    if wanted.event is not None:
        query = query.where(col(message.action) == wanted.event)
    if wanted.id is not None:
        query = query.where(col(message.entry_id) == entry_of(keys, wanted.id))
    if after is not None:
        last = sa.select(col(message.told_at), col(message.entry_id)).where(
            col(message.endpoint_id) == wanted.endpoint_id, col(message.entry_id) == entry_of(keys, after)
        )
        query = query.where(sa.tuple_(col(message.told_at), col(message.entry_id)) < last.scalar_subquery())
    return [shown(row, bool(row.staggered), keys) for row in await session.execute(query)]


def shown(row: Any, staggered: bool, keys: Keys) -> Message:
    """A message without what tells more than it may."""
    message: WebhookMessage = row[0]
    pending = message.state == MessageState.PENDING
    return Message(
        public_id(keys, message.entry_id),
        message.endpoint_id,
        message.action,
        MessageState(message.state),
        message.attempts,
        message.replays,
        message.told_at,
        message.due_at if pending else None,
        message.ended_at,
        staggered,
    )


async def list_attempts(
    session: AsyncSession,
    actor: Actor,
    endpoint_id: UUID,
    message: UUID | None = None,
    *,
    keys: Keys,
    first: int,
    after: UUID | None = None,
) -> list[Tried]:
    """Attempts of an endpoint within the actor's reach, newest first, all or those of one message (a public id)."""
    tried, endpoint = WebhookDelivery, WebhookEndpoint
    query = (
        select(tried)
        .join(endpoint, col(endpoint.id) == tried.endpoint_id)
        .where(reach(actor), tried.endpoint_id == endpoint_id)
        .order_by(col(tried.id).desc())
        .limit(first)
    )
    if message is not None:
        query = query.where(tried.entry_id == entry_of(keys, message))
    if after is not None:
        query = query.where(col(tried.id) < after)
    return [
        Tried(row.id, public_id(keys, row.entry_id), row.number, row.at, row.duration_ms, row.status, row.fault)
        for row in await session.scalars(query)
    ]


ATTEMPTS_OF = """
SELECT d.id, d.entry_id, d.number, d.at, d.duration_ms, d.status, d.fault
FROM unnest(CAST(:entries AS uuid[])) AS m(entry_id) CROSS JOIN LATERAL (
  SELECT * FROM webhook_delivery t WHERE t.endpoint_id = :endpoint AND t.entry_id = m.entry_id ORDER BY t.id DESC
  LIMIT :each) AS d
ORDER BY d.id DESC
"""


async def attempts_of(
    session: AsyncSession, endpoint_id: UUID, messages: Collection[UUID], *, keys: Keys, each: int
) -> dict[UUID, list[Tried]]:
    """The newest `each` attempts of every one of an endpoint's messages (public ids) that the caller has seen already:
    one statement."""
    about = {"endpoint": endpoint_id, "entries": [entry_of(keys, id) for id in messages], "each": each}
    found: dict[UUID, list[Tried]] = {id: [] for id in messages}
    for row in await session.execute(sa.text(ATTEMPTS_OF), about):
        message = public_id(keys, row.entry_id)
        found[message].append(Tried(row.id, message, row.number, row.at, row.duration_ms, row.status, row.fault))
    return found


async def backlogs(session: AsyncSession, endpoint_ids: Collection[UUID], now: datetime) -> dict[UUID, Backlog]:
    """What each endpoint is still to be told, without what it may not know of yet."""
    message = WebhookMessage
    pending = sa.and_(col(message.state) == MessageState.PENDING, col(message.told_at) <= now)
    query = (
        sa.select(
            col(message.endpoint_id),
            sa.func.count().filter(pending),
            sa.func.min(col(message.pending_since)).filter(pending),
            sa.func.count().filter(col(message.state) == MessageState.PARKED),
        )
        .where(col(message.endpoint_id).in_(endpoint_ids), col(message.state).in_(["PENDING", "PARKED"]))
        .group_by(col(message.endpoint_id))
    )
    found = {row[0]: Backlog(*row[1:]) for row in await session.execute(query)}
    return {id: found.get(id, Backlog(0, None, 0)) for id in endpoint_ids}
