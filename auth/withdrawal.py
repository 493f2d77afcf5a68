"""A member takes consent back, and with it every token that speaks for the member at that partner."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from auth.approvals import revoke_approvals_of_consent
from partners import consents, tables
from partners.actors import Actor
from partners.references import MemberRef

REASON = "CONSENT_WITHDRAWN"


async def withdraw_consent(
    session: AsyncSession, reference: MemberRef, partner_id: UUID, *, actor: Actor, now: datetime
) -> tables.Consent:
    """Ends the live consent and revokes the approvals that hang from it, in one transaction; NotFound without one.

    Their tokens are dead once it commits: in this process at once, in the others when they hear of it.
    """
    consent = await consents.withdraw_consent(session, reference, partner_id, actor=actor, now=now)
    await revoke_approvals_of_consent(session, consent.id, REASON, now)
    return consent
