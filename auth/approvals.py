"""One person's yes to one client: what every code and token hangs from, and what ends them all at once."""

from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from auth.caller import Caller, CallerKind
from auth.revocations import deny
from auth.tables import Approval, ApprovalState, Client, Denied

LIFETIMES = {
    CallerKind.PARTNER: timedelta(days=365),
    CallerKind.MEMBER: timedelta(days=90),
    CallerKind.STAFF: timedelta(hours=12),
}
"""After so long a person is asked again, however often the tokens were refreshed: nothing offline lives for ever."""


def caller_of_approval(
    approval: Approval, client: Client, scopes: frozenset[str], alias: str | None, key_thumbprint: str | None
) -> Caller:
    """The caller that a token of this approval speaks for; `alias` for one bound to a member at a partner."""
    return Caller(
        CallerKind(approval.kind),
        client.id if alias is not None else approval.subject,
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


async def revoke_approval(session: AsyncSession, id: UUID, reason: str, now: datetime) -> bool:
    """The same for one; False when it had ended already or is not there."""
    return await revoke_approvals(session, col(Approval.id) == id, reason, now) == 1
