"""Bespoke requests within an actor's reach: a partner's own, a member's own, or all for staff.

A draft is its member's alone, also once it is thrown away. That there is a request is its partner's own affair; what
the member said in it is shown while the member lets the partner read its redemptions, and every such answer is kept as
a disclosure.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from partners import tables
from partners.actors import Actor, ActorKind
from partners.redemptions import consents_to, named_by
from partners.references import Asker
from partners.tables import DisclosureKind, ServiceState
from partners.tables.columns import new_id
from partners.threads import breaches
from partners.values import value

READS = "redemptions:read"


@value
class RequestFilter:
    """Every condition that is given must hold. `breached`: whether an answer or the end is or was late.

    `just_made`: what the actor moved in this request, which needs no leave to be told of.
    """

    id: UUID | None = None
    partner_id: UUID | None = None
    perk_id: UUID | None = None
    member_id: UUID | None = None
    alias: str | None = None
    state: ServiceState | None = None
    breached: bool | None = None
    just_made: bool = False


@value
class Seen:
    """A request with its thread; `shown`: whether the caller may know what was said in it, and by whom."""

    request: tables.ServiceRequest
    thread: tables.Thread
    shown: bool


def reach(query: Any, actor: Actor) -> Any:
    """The query of what this actor may mean at all; a token that speaks for one member reaches that member's alone."""
    request = tables.ServiceRequest
    if actor.kind is ActorKind.MEMBER:
        return query.where(request.member_id == actor.member_id)
    query = query.where(col(request.submitted_at).is_not(None))
    if actor.kind is ActorKind.PARTNER:
        query = query.where(request.partner_id == actor.partner_id)
    if actor.alias is not None:
        query = query.where(request.member_id == named_by(actor, actor.alias))
    return query


def scoped_requests(actor: Actor, wanted: RequestFilter, columns: Any, now: datetime) -> Any:
    """The query that every read goes through; by an alias a partner reaches only who lets it read."""
    request, thread = tables.ServiceRequest, tables.Thread
    query = reach(columns.join(thread, col(thread.id) == request.id), actor)
    for name in ("id", "partner_id", "perk_id", "member_id", "state"):
        if (wants := getattr(wanted, name)) is not None:
            query = query.where(getattr(request, name) == wants)
    for alias in {actor.alias, wanted.alias} - {None}:
        query = query.where(request.member_id == named_by(actor, alias))
        if not wanted.just_made:
            query = query.where(consents_to(actor, request.member_id, READS, now))
    if wanted.breached is not None:
        query = query.where(breaches(now) if wanted.breached else sa.not_(breaches(now)))
    return query


async def list_requests(
    session: AsyncSession, actor: Actor, wanted: RequestFilter, *, first: int, after: UUID | None, now: datetime
) -> list[Seen]:
    """Requests within the actor's reach, newest first, as many as `first`, by one statement."""
    request, thread = tables.ServiceRequest, tables.Thread
    shown: Any = sa.true()
    if actor.kind is ActorKind.PARTNER:
        shown = sa.func.coalesce(consents_to(actor, request.member_id, READS, now), sa.false())
    columns = sa.select(request, thread, shown.label("shown")).select_from(request)
    query = scoped_requests(actor, wanted, columns, now).order_by(col(request.id).desc()).limit(first)
    if after is not None:
        query = query.where(col(request.id) < after)
    return [Seen(*row) for row in await session.execute(query)]


async def count_requests(session: AsyncSession, actor: Actor, wanted: RequestFilter, now: datetime) -> int:
    """How many there are in all."""
    columns = select(sa.func.count()).select_from(tables.ServiceRequest)
    counted: int | None = await session.scalar(scoped_requests(actor, wanted, columns, now))
    return counted or 0


async def keep_disclosures(session: AsyncSession, rows: Sequence[Seen], asker: Asker, now: datetime) -> None:
    """Keeps that a partner was told what these say, before anybody hears it; one statement."""
    told = [
        {
            "member_id": row.request.member_id,
            "id": new_id(),
            "at": now,
            "partner_id": asker.partner_id,
            "client_id": asker.client_id,
            "kind": DisclosureKind.SERVICE,
            "perk_id": row.request.perk_id,
        }
        for row in rows
        if row.shown
    ]
    if told:
        await session.execute(sa.insert(tables.Disclosure), told)
