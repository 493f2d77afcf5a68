"""The endpoints that exist for an actor, and what every change of one leaves on record."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from partners import audit
from partners.actors import Actor, ActorKind
from partners.errors import NotFound
from partners.tables import WebhookEndpoint


async def put_on_record(
    session: AsyncSession,
    done: str,
    endpoint: WebhookEndpoint,
    actor: Actor,
    now: datetime,
    notes: Collection[str] = (),
) -> bytes:
    """An entry of its partner's; the leaf's hash."""
    subject = audit.Subject(endpoint.partner_id, subject_id=endpoint.id)
    return await audit.record(session, f"webhook.{done}", subject, actor, now, notes=list(notes))


async def list_endpoints(
    session: AsyncSession,
    actor: Actor,
    *,
    id: UUID | None = None,
    partner_id: UUID | None = None,
    first: int,
    after: UUID | None = None,
) -> list[WebhookEndpoint]:
    """Endpoints within the actor's reach, in the order in which they were made."""
    query = select(WebhookEndpoint).where(reach(actor)).order_by(col(WebhookEndpoint.id)).limit(first)
    for column, wanted in ((WebhookEndpoint.id, id), (WebhookEndpoint.partner_id, partner_id)):
        if wanted is not None:
            query = query.where(column == wanted)
    if after is not None:
        query = query.where(col(WebhookEndpoint.id) > after)
    return list(await session.scalars(query))


def reach(actor: Actor) -> sa.ColumnElement[bool]:
    """The endpoints that exist for this actor."""
    if actor.kind is ActorKind.PARTNER:
        return col(WebhookEndpoint.partner_id) == actor.partner_id
    return sa.true() if actor.kind is not ActorKind.MEMBER else sa.false()


async def lock_endpoint(session: AsyncSession, endpoint_id: UUID, actor: Actor) -> WebhookEndpoint:
    """An endpoint in the actor's reach, locked so that its changes queue; NotFound."""
    query = select(WebhookEndpoint).where(WebhookEndpoint.id == endpoint_id, reach(actor)).with_for_update()
    endpoint = await session.scalar(query.execution_options(populate_existing=True))
    if endpoint is None:
        raise NotFound("no such endpoint")
    return endpoint
