"""A brand is sold: for sixty days its buyer may carry its members' consents over, one by one."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlmodel import col

from partners import audit, tables
from partners.actors import Actor
from partners.consents import subject_of
from partners.errors import BadInput, Conflict, NotFound
from partners.members import keep_alias, lock_member
from partners.references import MemberRef, check_name
from partners.tables import Consent, ConsentState, Disclosure, DisclosureKind, MemberAlias, PartnerTransfer

WINDOW = timedelta(days=60)
REASON_LENGTH_MAX = 500


async def open_transfer(
    session: AsyncSession, seller: tables.Partner, buyer: tables.Partner, *, reason: str, actor: Actor, now: datetime
) -> PartnerTransfer:
    """A window of 60 days, the open one when there is one; Conflict while the seller is being sold to another."""
    if seller.id == buyer.id:
        raise BadInput("to: another partner than from")
    if not 1 <= len(reason.strip()) <= REASON_LENGTH_MAX or not reason.isprintable():
        raise BadInput(f"reason: 1 to {REASON_LENGTH_MAX} characters, all of them printable")
    await session.get(tables.Partner, seller.id, with_for_update=True)
    open_ = await session.scalar(
        sa.select(PartnerTransfer).where(
            col(PartnerTransfer.from_partner_id) == seller.id, col(PartnerTransfer.ends_at) > now
        )
    )
    if open_ is not None:
        if open_.to_partner_id != buyer.id:
            raise Conflict("the partner is being transferred to another one")
        return open_
    transfer = PartnerTransfer(
        from_partner_id=seller.id,
        to_partner_id=buyer.id,
        reason=reason.strip(),
        created_at=now,
        ends_at=now + WINDOW,
    )
    session.add(transfer)
    await session.flush()
    for partner in (seller, buyer):
        subject = audit.Subject(partner.id, subject_id=transfer.id)
        await audit.record(session, "partner.transferred", subject, actor, now)
    return transfer


@dataclass(frozen=True, slots=True)
class Moved:
    """The buyer's alias of a member, and the seller's consent if this call ended it."""

    alias: str
    ended: UUID | None


async def move_member(
    session: AsyncSession,
    alias: str,
    buyer_id: UUID,
    *,
    client_id: str,
    pairwise_key: bytes,
    actor: Actor,
    now: datetime,
) -> Moved:
    """Moves the consent of the member that the seller knew as `alias` to the buyer; a second time, the same answer.

    Each answer is a disclosure to the client that asked.

    One and the same NotFound for an unknown alias, a member without a live consent and a window that is closed: one
    statement finds all of it, so that the time it takes tells no more (law 9).
    """
    check_name(alias)
    found = (await session.execute(_movable(alias, buyer_id, now))).first()
    if found is None:
        raise NotFound("no such member")
    member_id, seller_id = found
    member = await lock_member(session, MemberRef(id=member_id))
    session.add(
        Disclosure(
            member_id=member_id, at=now, partner_id=buyer_id, client_id=client_id, kind=DisclosureKind.MEMBERSHIP
        )
    )
    granted = await _granted(session, member_id, [seller_id, buyer_id])
    former, own = granted.get(seller_id), granted.get(buyer_id)
    if former is None or not _is_live(former, now):
        if (await session.execute(_movable(alias, buyer_id, now))).first() is None:
            raise NotFound("no such member")
        return Moved(await keep_alias(session, pairwise_key, partner_id=buyer_id, member_id=member_id), None)
    moved = await _move(session, former, own, buyer_id, now)
    member.version += 1
    for consent in (former, moved):
        await audit.record(session, "consent.moved", subject_of(consent), actor, now)
    known_as = await keep_alias(session, pairwise_key, partner_id=buyer_id, member_id=member_id)
    return Moved(known_as, former.id)


async def _move(session: AsyncSession, former: Consent, own: Consent | None, buyer_id: UUID, now: datetime) -> Consent:
    """What the buyer has from now on instead of the seller.

    What the member has agreed with the buyer itself (`own`) stays as it is, because a sale widens nothing; the consent
    that came with the brand is then over as soon as it is written down.
    """
    if own is not None and not _is_live(own, now):
        own.state, own.withdrawn_at, own = ConsentState.WITHDRAWN, own.expires_at, None
    former.state, former.withdrawn_at = ConsentState.WITHDRAWN, now
    await session.flush()
    moved = Consent(
        member_id=former.member_id,
        partner_id=buyer_id,
        state=ConsentState.GRANTED if own is None else ConsentState.WITHDRAWN,
        purpose=former.purpose,
        scopes=former.scopes,
        granted_at=former.granted_at,
        expires_at=former.expires_at,
        withdrawn_at=None if own is None else now,
        moved_from=former.id,
    )
    session.add(moved)
    await session.flush()
    return moved


def _movable(alias: str, buyer_id: UUID, now: datetime) -> sa.Select[UUID, UUID]:
    """The member and the seller, when there is a live consent to move, or one that was moved and a live one since."""
    moved, former = aliased(Consent), aliased(Consent)
    member, seller = col(MemberAlias.member_id), col(PartnerTransfer.from_partner_id)
    was_moved = sa.exists().where(
        col(moved.member_id) == member,
        col(moved.partner_id) == buyer_id,
        col(moved.moved_from) == col(former.id),
        col(former.partner_id) == seller,
    )
    live = sa.exists().where(
        col(Consent.member_id) == member,
        tables.IS_GRANTED,
        col(Consent.expires_at).is_(None) | (col(Consent.expires_at) > now),
        (col(Consent.partner_id) == seller) | ((col(Consent.partner_id) == buyer_id) & was_moved),
    )
    return (
        sa.select(member, seller)
        .join(MemberAlias, (col(MemberAlias.partner_id) == seller) & (col(MemberAlias.alias) == alias))
        .where(col(PartnerTransfer.to_partner_id) == buyer_id, col(PartnerTransfer.ends_at) > now, live)
    )


async def _granted(session: AsyncSession, member_id: UUID, partner_ids: list[UUID]) -> dict[UUID, Consent]:
    """The member's granted consents to these partners, though their time may be over."""
    found = await session.scalars(
        sa.select(Consent).where(
            col(Consent.member_id) == member_id,
            col(Consent.partner_id).in_(partner_ids),
            tables.IS_GRANTED,
        )
    )
    return {consent.partner_id: consent for consent in found}


def _is_live(consent: Consent, now: datetime) -> bool:
    return consent.expires_at is None or consent.expires_at > now
