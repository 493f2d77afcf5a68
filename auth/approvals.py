"""One person's yes to one client: what every code and token hangs from, and what ends them all at once."""

from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from auth.caller import Caller, CallerKind
from auth.revocations import deny
from auth.tables import Approval, ApprovalState, Client, Denied
from partners import audit
from partners.actors import Actor, ActorKind
from partners.errors import Conflict, NotFound
from partners.tables import MemberAlias

AT_WORK = timedelta(hours=12)
LIFETIMES = {
    CallerKind.PARTNER: timedelta(days=365),
    CallerKind.MEMBER: timedelta(days=90),
    CallerKind.STAFF: AT_WORK,
}
"""After so long a person is asked again, however often the tokens were refreshed: nothing offline lives for ever.

A partner's is a point of sale's, or of a member there; its own people are asked again after AT_WORK, as staff are: who
has left is out by the next day."""


def caller_of_approval(
    approval: Approval, client: Client, scopes: frozenset[str], alias: str | None, key_thumbprint: str | None
) -> Caller:
    """The caller that a token of this approval speaks for; `alias` for one bound to a member at a partner.

    A point of sale acts as the client that it is, and not as the person who approved it.
    """
    return Caller(
        CallerKind(approval.kind),
        approval.subject if alias is None and approval.place is None else client.id,
        scopes & frozenset(approval.scopes) & frozenset(client.scopes),
        client_id=client.id,
        partner_id=approval.partner_id,
        member_id=approval.member_id if approval.kind == CallerKind.MEMBER else None,
        alias=alias,
        approval_id=approval.id,
        client_version=client.version,
        key_thumbprint=key_thumbprint,
    )


async def revoke_approvals(session: AsyncSession, which: sa.ColumnElement[bool], reason: str, now: datetime) -> int:
    """Ends the active approvals that match, with all that hangs from them; returns how many there were.

    Safe to repeat. `reason` is for staff: `CONSENT_WITHDRAWN`, `CODE_REUSED`, `REFRESH_TOKEN_REUSED`, `BY_CLIENT`, …
    """
    ended = await session.scalars(
        sa.update(Approval)
        .where(which, col(Approval.state) == ApprovalState.ACTIVE)
        .values(state=ApprovalState.REVOKED, revoked_at=now, reason=reason)
        .returning(col(Approval.id))
    )
    ids = ended.all()
    for id in ids:
        await deny(session, Denied.APPROVAL, str(id), now)
    return len(ids)


async def revoke_approvals_of_consent(session: AsyncSession, consent_id: UUID, reason: str, now: datetime) -> int:
    """The same for all that a member let one partner do."""
    return await revoke_approvals(session, col(Approval.consent_id) == consent_id, reason, now)


async def revoke_approval(session: AsyncSession, id: UUID, reason: str, now: datetime) -> bool:
    """The same for one; False when it had ended already or is not there."""
    return await revoke_approvals(session, col(Approval.id) == id, reason, now) == 1


async def list_approvals(
    session: AsyncSession, client_id: str, *, first: int, after: UUID | None = None
) -> list[tuple[Approval, str | None]]:
    """What a client was approved for, newest first, each with the partner's alias of the member it is bound to."""
    query = (
        sa.select(Approval, col(MemberAlias.alias))
        .outerjoin(
            MemberAlias,
            (col(MemberAlias.partner_id) == col(Approval.partner_id))
            & (col(MemberAlias.member_id) == col(Approval.member_id)),
        )
        .where(col(Approval.client_id) == client_id)
    )
    if after is not None:
        query = query.where(col(Approval.id) < after)
    rows = await session.execute(query.order_by(col(Approval.id).desc()).limit(first))
    return [(approval, alias) for approval, alias in rows]


async def end_approval(session: AsyncSession, id: UUID, actor: Actor, now: datetime) -> None:
    """Revokes an approval of a client in the actor's reach: a partner's are its own. NotFound; Conflict when it has
    ended."""
    approval = await session.get(Approval, id)
    if approval is None or (actor.kind is ActorKind.PARTNER and approval.partner_id != actor.partner_id):
        raise NotFound("no such approval")
    if not await revoke_approval(session, id, "BY_ADMINISTRATOR", now):
        raise Conflict("the approval has ended")
    subject = audit.Subject(approval.partner_id, member_id=approval.member_id, subject_id=id)
    await audit.record(session, "approval.revoked", subject, actor, now)
