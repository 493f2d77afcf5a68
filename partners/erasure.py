"""Erasing a member: what identifies a person goes, the counts and the log stay (law 12).

It takes three stages, each of which can be repeated, so that one that was cut short is carried on:

1. `begin_erasure`: to the operator there is no such member, to partners a stranger; nothing can be claimed, used or
   signed in to any more.
2. `end_everything`, then `finish_erasure`: what is open is ended, and everything that says who it was is gone.
3. `forget`, a week later: until then the names by which partners know the member are kept, so that each hears that the
   consent has ended; then no row says who it was, and no leaf can be matched to anybody: only counts are left, under a
   random id.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from asyncpg import Connection
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from partners import audit, tables
from partners.actors import SYSTEM, Actor, ActorKind
from partners.consents import subject_of
from partners.errors import NotFound
from partners.exports import expire_exports_of
from partners.members import ERASED
from partners.personal_data import HOLDINGS, change_holdings
from partners.references import MemberRef
from partners.services.approvals import cancel_request
from partners.services.matters import Asked
from partners.services.steps import LIVE
from partners.tables import ConsentState, MemberState

PARTNERS_TOLD_WITHIN = timedelta(days=7)
REASON = "MEMBER_ERASED"
DESK = Actor(ActorKind.STAFF, "erasure")
MEMBERS_MAX = 100

HELD = "SELECT id FROM hold WHERE member_id = $1 AND state = 'HELD' ORDER BY perk_id, id"
RELEASE = "SELECT release_hold($1, NULL, NULL, NULL, $2, 'system', 'system')"
GRANTED = "SELECT id FROM access_grant WHERE member_id = $1 AND state = 'GRANTED' ORDER BY id"
REVOKE = "SELECT revoke_access($1, NULL, NULL, 'system', $3, $2, 'system', 'system')"
OPEN = text(
    "SELECT EXISTS (SELECT FROM hold WHERE member_id = :member AND state = 'HELD') OR EXISTS ("
    "SELECT FROM access_grant WHERE member_id = :member AND state = 'GRANTED') OR EXISTS ("
    "SELECT FROM service_request WHERE member_id = :member"
    " AND state IN ('SUBMITTED', 'QUOTED', 'APPROVED', 'SCHEDULED'))"
)
UNFINISHED = (
    "SELECT id FROM member WHERE state = 'ERASED' AND audit_salt <> '' AND erased_at IS NULL ORDER BY id LIMIT $1"
)
DUE = "SELECT id FROM member WHERE state = 'ERASED' AND audit_salt <> '' AND erased_at <= $2 ORDER BY id LIMIT $1"


async def begin_erasure(session: AsyncSession, reference: MemberRef, now: datetime) -> UUID:
    """Takes the membership, its consents and the external id away, so that nothing new begins, no import finds whom to
    bring back, and partners see a stranger from here on; the member's id. NotFound, too, for one that is erased.

    `version` makes every claim under way be decided again, and whoever confirms with a consent is waited for.
    """
    member = tables.Member
    found = member.id == reference.id if reference.id is not None else member.external_id == reference.external_id
    locked = await session.scalar(select(member).where(found, col(member.erased_at).is_(None)).with_for_update())
    if locked is None:
        raise NotFound("no such member")
    locked.state, locked.external_id = MemberState.ERASED, f"{ERASED}{locked.id}"
    locked.market = locked.household = locked.birth_month = None
    locked.labels, locked.reviews, locked.score = [], [], 0
    locked.version += 1
    consents = select(tables.Consent).where(tables.Consent.member_id == locked.id, tables.IS_GRANTED)
    for consent in await session.scalars(consents.order_by(col(tables.Consent.id))):
        consent.state, consent.withdrawn_at = ConsentState.WITHDRAWN, now
        await audit.record(session, "consent.withdrawn", subject_of(consent), SYSTEM, now, notes=[REASON])
    return locked.id


async def end_everything(connection: "Connection[Any]", member_id: UUID, now: datetime) -> None:
    """Releases what is held and takes standing rights away, each in a transaction of its own, since each begins with
    the lock of its perk. Waits end by themselves (partners/promotion.py)."""
    for hold in await connection.fetch(HELD, member_id):
        await connection.execute(RELEASE, hold["id"], now)
    for right in await connection.fetch(GRANTED, member_id):
        await connection.execute(REVOKE, right["id"], now, REASON)


async def open_requests(session: AsyncSession, member_id: UUID) -> Sequence[tuple[UUID, int]]:
    """The member's bespoke requests that somebody waits for, with the revision of each."""
    request, thread = tables.ServiceRequest, tables.Thread
    rows = await session.execute(
        select(request.id, thread.revision)
        .join(thread, col(thread.id) == request.id)
        .where(request.member_id == member_id, col(request.state).in_(LIVE))
    )
    return [(row[0], row[1]) for row in rows]


async def end_request(session: AsyncSession, request_id: UUID, revision: int, now: datetime) -> None:
    """Cancels one of them; what was redeemed for it is given back."""
    await cancel_request(session, Asked(request_id, revision, DESK, now), REASON)


async def finish_erasure(session: AsyncSession, member_id: UUID, actor: Actor, now: datetime) -> bool:
    """Clears everything that says who the member was, and puts on record that it is gone (`member.erased`). False when
    something is open still, which was on its way as the erasure began: end it, and come again.

    Exports that partners keep of the member go, too.
    """
    # Members and their consents are locked last, as everywhere.
    after = [one for one in HOLDINGS if one.table == "consent"]
    await change_holdings(
        session, [one for one in HOLDINGS if one.table != "consent"], member_id, lambda one: one.erasing
    )
    names = select(tables.MemberAlias.partner_id).where(tables.MemberAlias.member_id == member_id)
    await expire_exports_of(session, list(await session.scalars(names)), now)
    member = await session.get(tables.Member, member_id, with_for_update=True, populate_existing=True)
    if member is None or member.state != MemberState.ERASED or member.erased_at is not None:
        return True
    if await session.scalar(OPEN, {"member": member_id}):
        return False
    await audit.record(session, "member.erased", audit.Subject(member_id=member_id, subject_id=member_id), actor, now)
    member.erased_at = now
    member.version += 1
    await session.flush()
    await change_holdings(session, after, member_id, lambda one: one.erasing)
    return True


async def forget(session: AsyncSession, member_id: UUID, now: datetime) -> None:
    """Takes away the last that leads to the member: aliases, consents, whom audit entries are about, and the salt
    without which no leaf can be matched to anybody. What was written by whoever had begun before the erasure, and was
    done after it, is cleared with the rest; and exports of entries, which name the member until now, go."""
    await change_holdings(session, HOLDINGS, member_id, lambda one: one.erasing)
    # What points to a member goes first, and the salt, which says that it is done, last.
    await change_holdings(session, [*HOLDINGS[1:], HOLDINGS[0]], member_id, lambda one: one.forgetting)
    await expire_exports_of(session, [], now)


async def unfinished(connection: "Connection[Any]") -> list[UUID]:
    """Members whose erasure was cut short, at most a hundred."""
    return [row["id"] for row in await connection.fetch(UNFINISHED, MEMBERS_MAX)]


async def due(connection: "Connection[Any]", now: datetime) -> list[UUID]:
    """Members to forget now, at most a hundred."""
    return [row["id"] for row in await connection.fetch(DUE, MEMBERS_MAX, now - PARTNERS_TOLD_WITHIN)]
