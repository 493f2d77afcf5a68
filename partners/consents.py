"""What a member lets a partner see; withdrawing it stops everything at once."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from partners import audit, tables
from partners.actors import Actor
from partners.errors import BadInput, NotFound
from partners.members import keep_alias, lock_member
from partners.references import MemberRef
from partners.tables import ConsentState

PURPOSE_LENGTH_MAX = 200
SCOPES = {
    "member.tier:read": "See your tier.",
    "member.tier.history:read": "See the tiers you had before.",
    "eligibility:read": "Ask which of its perks you may have.",
    "holds:write": "Set its perks aside for you.",
    "redemptions:read": "See which of its perks you used.",
    "redemptions:write": "Record that you used a perk.",
    "redemptions:reverse": "Take such a record back.",
    "member.address:read": "See the address you give for a delivery, until it is sent.",
}
"""What a member can let a partner do, by the name of the scope, in the words that the member reads."""
USUAL = frozenset(SCOPES) - {"member.address:read"}
"""What is meant where nobody says which: an address is given on purpose only."""


async def grant_consent(
    session: AsyncSession,
    reference: MemberRef,
    partner_id: UUID,
    *,
    purpose: str,
    scopes: Collection[str] = USUAL,
    expires_at: datetime | None,
    pairwise_key: bytes,
    actor: Actor,
    now: datetime,
) -> tuple[tables.Consent, str]:
    """A live consent and the alias that the partner will know the member by. Granting again renews the same one: from
    then on purpose, scopes and end are as said last.

    NotFound for member or partner; BadInput for an end that has passed, an empty purpose, no or unknown scopes.
    """
    check_purpose(purpose)
    check_scopes(scopes)
    if expires_at is not None and expires_at <= now:
        raise BadInput("expiresAt: a time that is to come")
    member = await lock_member(session, reference)
    if await session.get(tables.Partner, partner_id) is None:
        raise NotFound("no such partner")
    consent = await live_consent(session, member.id, partner_id)
    if consent is not None and consent.expires_at is not None and consent.expires_at <= now:
        consent.state, consent.withdrawn_at = ConsentState.WITHDRAWN, consent.expires_at
        await session.flush()
        consent = None
    if consent is None:
        consent = tables.Consent(
            member_id=member.id, partner_id=partner_id, purpose="", scopes=[], version=0, granted_at=now
        )
        session.add(consent)
    consent.purpose, consent.scopes, consent.expires_at = purpose.strip(), sorted(set(scopes)), expires_at
    consent.version += 1
    member.version += 1
    alias = await keep_alias(session, pairwise_key, partner_id=partner_id, member_id=member.id)
    await audit.record(session, "consent.granted", subject_of(consent), actor, now)
    return consent, alias


def check_purpose(purpose: str) -> None:
    """BadInput unless it says something, in few words."""
    if not 1 <= len(purpose.strip()) <= PURPOSE_LENGTH_MAX:
        raise BadInput(f"purpose: 1 to {PURPOSE_LENGTH_MAX} characters")


def check_scopes(scopes: Collection[str]) -> None:
    """BadInput names every one that no member can consent to, and refuses a consent to nothing."""
    if unknown := sorted(set(scopes) - SCOPES.keys()):
        raise BadInput(f"scopes: nobody can consent to {', '.join(unknown)}", unknownScopes=unknown)
    if not scopes:
        raise BadInput("scopes: at least one; leave them out for the usual ones")


async def withdraw_consent(
    session: AsyncSession, reference: MemberRef, partner_id: UUID, *, actor: Actor, now: datetime
) -> tables.Consent:
    """Ends the live consent; what is held stays held and can't be confirmed. NotFound when there is none."""
    member = await lock_member(session, reference)
    consent = await live_consent(session, member.id, partner_id)
    if consent is None:
        raise NotFound("no live consent for this partner")
    consent.state, consent.withdrawn_at = ConsentState.WITHDRAWN, now
    member.version += 1
    await audit.record(session, "consent.withdrawn", subject_of(consent), actor, now)
    return consent


async def live_consent(session: AsyncSession, member_id: UUID, partner_id: UUID) -> tables.Consent | None:
    """The consent that is granted, though its time may be over; as it is now, whatever was read before."""
    consent = tables.Consent
    query = select(consent).where(consent.member_id == member_id, consent.partner_id == partner_id, tables.IS_GRANTED)
    return await session.scalar(query.execution_options(populate_existing=True))


async def list_consents(
    session: AsyncSession, member_id: UUID, now: datetime
) -> list[tuple[tables.Consent, tables.Partner]]:
    """A member's live consents with the partners they are for, oldest first."""
    consent = tables.Consent
    rows = await session.execute(
        select(consent, tables.Partner)
        .join(tables.Partner, col(tables.Partner.id) == consent.partner_id)
        .where(consent.member_id == member_id, tables.IS_GRANTED)
        .where(col(consent.expires_at).is_(None) | (col(consent.expires_at) > now))
        .order_by(col(consent.granted_at))
    )
    return [(found, partner) for found, partner in rows]


async def find_consent(session: AsyncSession, consent_id: UUID) -> tuple[tables.Consent, tables.Partner] | None:
    """A consent, live or not, with the partner it is for."""
    consent = tables.Consent
    query = select(consent, tables.Partner).join(tables.Partner, col(tables.Partner.id) == consent.partner_id)
    row = (await session.execute(query.where(consent.id == consent_id))).one_or_none()
    return None if row is None else (row[0], row[1])


async def list_consents_given(
    session: AsyncSession, partner_id: UUID, now: datetime, *, alias: str | None, first: int, after: str | None
) -> list[tuple[tables.Consent, str]]:
    """The live consents to a partner with its aliases of the members, by which they are in order: in that of time two
    partners could match members who came to both (law 8). Of one member with an `alias`."""
    consent, name = tables.Consent, tables.MemberAlias
    query = (
        select(consent, name.alias)
        .join(name, (col(name.partner_id) == consent.partner_id) & (col(name.member_id) == consent.member_id))
        .where(consent.partner_id == partner_id, tables.IS_GRANTED)
        .where(col(consent.expires_at).is_(None) | (col(consent.expires_at) > now))
        .order_by(col(name.alias))
        .limit(first)
    )
    if alias is not None:
        query = query.where(name.alias == alias)
    if after is not None:
        query = query.where(col(name.alias) > after)
    return [(found, known_as) for found, known_as in await session.execute(query)]


def subject_of(consent: tables.Consent) -> audit.Subject:
    """A consent as the subject of an audit entry."""
    return audit.Subject(partner_id=consent.partner_id, member_id=consent.member_id, subject_id=consent.id)
