"""Who asked about me: the answers that partners were given about a member, each kept by the statement that found it."""

from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from partners import tables
from partners.tables import PerkState


@dataclass(frozen=True, slots=True)
class Shown:
    """A disclosure as its member reads it; the perk has no name where the answer was about no single one, or about a
    draft, which is the partner's own affair."""

    disclosure: tables.Disclosure
    partner: tables.Partner
    perk_handle: str | None
    perk_title: str | None


async def list_disclosures(session: AsyncSession, member_id: UUID, *, first: int, after: UUID | None) -> list[Shown]:
    """What partners were told of a member, newest first, as many as `first`; `after` is the last one seen."""
    told, perk = tables.Disclosure, tables.Perk
    query = (
        sa.select(told, tables.Partner, col(perk.handle), col(perk.title))
        .join(tables.Partner, col(tables.Partner.id) == told.partner_id)
        .join(perk, sa.and_(col(perk.id) == told.perk_id, col(perk.state) != PerkState.DRAFT), isouter=True)
        .where(col(told.member_id) == member_id)
        .order_by(col(told.id).desc())
        .limit(first)
    )
    if after is not None:
        query = query.where(col(told.id) < after)
    return [Shown(*row) for row in await session.execute(query)]


async def count_disclosures(session: AsyncSession, member_id: UUID) -> int:
    """How many there are in all."""
    counted: int | None = await session.scalar(
        select(sa.func.count()).select_from(tables.Disclosure).where(tables.Disclosure.member_id == member_id)
    )
    return counted or 0
