"""What is left of an approval at this moment: it, the client, the member's consent and the partner have to agree."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from auth.tables import Approval, ApprovalState, Client, ClientState
from partners.tables import IS_GRANTED, Consent, MemberAlias, Partner, PartnerState
from partners.values import value


@value
class Rights:
    """A live approval, the scopes that still hold, and the alias of the member that it speaks for at a partner."""

    approval: Approval
    scopes: frozenset[str]
    alias: str | None


async def find_rights(session: AsyncSession, approval_id: UUID, now: datetime) -> Rights | None:
    """The effective right: client ∩ approval ∩ live consent ∩ partner status. None when nothing is left. One statement.

    A consent counts only at the partner that the client belongs to.
    """
    row = (await session.execute(_OF_APPROVAL, {"now": now, "approval_id": approval_id})).one_or_none()
    return None if row is None else rights_of(row)


def _rights() -> sa.Select[Approval, list[str], list[str], str]:
    now = sa.bindparam("now", type_=sa.DateTime(timezone=True))
    live_consent = (
        (col(Consent.id) == col(Approval.consent_id))
        & (col(Consent.partner_id) == col(Client.partner_id))
        & IS_GRANTED
        & (col(Consent.expires_at).is_(None) | (col(Consent.expires_at) > now))
    )
    name = (col(MemberAlias.partner_id) == col(Consent.partner_id)) & (
        col(MemberAlias.member_id) == col(Consent.member_id)
    )
    return (
        sa.select(Approval, col(Client.scopes), col(Consent.scopes), col(MemberAlias.alias))
        .join(Client, col(Client.id) == col(Approval.client_id))
        .outerjoin(Partner, col(Partner.id) == col(Client.partner_id))
        .outerjoin(Consent, live_consent)
        .outerjoin(MemberAlias, name)
        .where(
            col(Approval.state) == ApprovalState.ACTIVE,
            col(Approval.expires_at) > now,
            col(Client.state) == ClientState.ACTIVE,
            col(Partner.id).is_(None) | (col(Partner.state) == PartnerState.ACTIVE),
        )
    )


RIGHTS = _rights()
"""Approvals that are alive at `:now`, each as the four columns that `rights_of` reads; say which with `where`.

Made once: to build such a statement costs more than to send it.
"""
_OF_APPROVAL = RIGHTS.where(col(Approval.id) == sa.bindparam("approval_id", type_=sa.Uuid))


def rights_of(row: Sequence[Any]) -> Rights | None:
    """One row of `RIGHTS`; None when the consent is over or no scope is left."""
    approval, of_client, of_consent, alias = row[:4]
    scopes = frozenset(approval.scopes) & frozenset(of_client)
    if approval.consent_id is not None:
        if of_consent is None or alias is None:
            return None
        scopes &= frozenset(of_consent)
    return Rights(approval, scopes, alias) if scopes else None
