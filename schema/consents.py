"""What a member lets a partner see: listed, granted and withdrawn by the member or by staff in its name."""

from datetime import date, datetime
from uuid import UUID

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from auth.withdrawal import withdraw_consent as withdraw_with_tokens
from partners import catalogue, consents, tables
from partners.errors import NotFound
from partners.references import MemberRef, reachable_member
from partners.tables import ConsentState
from schema.catalogue import Partner
from schema.context import Context, Info
from schema.ids import CONSENT, show_id
from schema.nodes import Node
from schema.paging import Connection, connect, page_size, read_name_cursor
from schema.permissions import Authenticated, Partners, field, object_type
from schema.references import MemberBy, PartnerBy

strawberry.enum(ConsentState, description="Withdrawn for good: a member who consents again gives a new one.")


@object_type(permission=Authenticated, description="What a member lets one partner see and do.")
class Consent(Node):
    partner: Partner = field(description="To whom.")
    state: ConsentState = field(description="Whether it holds.")
    scopes: list[str] = field(description="What the partner may do, by the names of its scopes.")
    version: int = field(description="1, and one more with each renewal.")
    purpose: str = field(description="What for, in the words the member agreed to.")
    granted_at: datetime = field(description="When it was given.")
    expires_at: datetime | None = field(description="When it ends by itself; null: it does not.")
    withdrawn_at: datetime | None = field(description="When it was withdrawn.")

    @classmethod
    def of(cls, consent: tables.Consent, partner: tables.Partner) -> "Consent":
        """A consent as its member sees it."""
        return cls(
            id=strawberry.ID(show_id(CONSENT, consent.id)),
            partner=Partner.of(partner),
            state=ConsentState(consent.state),
            scopes=list(consent.scopes),
            version=consent.version,
            purpose=consent.purpose,
            granted_at=consent.granted_at,
            expires_at=consent.expires_at,
            withdrawn_at=consent.withdrawn_at,
        )


@object_type(permission=Partners("consents:read"), description="A live consent, as the partner that it was given to.")
class ConsentGiven:
    alias: str = field(description="Your name of the member.")
    scopes: list[str] = field(description="What you may do, by the names of scopes.")
    purpose: str = field(description="What for, in the words the member agreed to.")
    granted_on: date = field(description="The day that it was given on, in UTC.")
    ends_on: date | None = field(description="The day that it ends on by itself, in UTC; null: it does not.")

    @classmethod
    def of(cls, consent: tables.Consent, alias: str) -> "ConsentGiven":
        """What the member knows that the partner knows. Days, since a member may consent to several partners in one
        moment, by which they could match the member (law 8)."""
        return cls(
            alias=alias,
            scopes=list(consent.scopes),
            purpose=consent.purpose,
            granted_on=consent.granted_at.date(),
            ends_on=None if consent.expires_at is None else consent.expires_at.date(),
        )


@strawberry.input(description="A consent for a partner.")
class GrantConsentInput:
    partner: PartnerBy = strawberry.field(description="To whom.")
    member: MemberBy | None = strawberry.field(default=None, description="Staff: whose. Members leave it out.")
    purpose: str = strawberry.field(default="perks", description="What for, 1 to 200 characters.")
    scopes: list[str] | None = strawberry.field(
        default=None, description="What the partner may do, by names of its scopes; null: all but the address."
    )
    expires_at: datetime | None = strawberry.field(default=None, description="When it ends by itself.")


@strawberry.input(description="The end of a consent.")
class WithdrawConsentInput:
    partner: PartnerBy = strawberry.field(description="From whom.")
    member: MemberBy | None = strawberry.field(default=None, description="Staff: whose. Members leave it out.")


@object_type(permission=Authenticated, description="What became of it.")
class ConsentPayload:
    consent: Consent | None = field(description="The consent as it is now.")


async def named(
    context: Context, session: AsyncSession, by: PartnerBy, member: MemberBy | None
) -> tuple[MemberRef, tables.Partner]:
    """Member and partner that a consent is between; NotFound for a partner out of sight."""
    id, handle = by.names()
    reference = reachable_member(context.actor, None if member is None else member.reference())
    found = await catalogue.list_partners(session, context.actor, id=id, handle=handle, first=1, after=None)
    if not found:
        raise NotFound("no such partner")
    return reference, found[0]


async def grant_consent(info: Info, input: GrantConsentInput) -> ConsentPayload:
    """Gives or renews a consent; the partner will know the member by an alias of its own."""
    context = info.context
    async with context.sessions.begin() as session:
        reference, partner = await named(context, session, input.partner, input.member)
        consent, _ = await consents.grant_consent(
            session,
            reference,
            partner.id,
            purpose=input.purpose,
            scopes=consents.USUAL if input.scopes is None else input.scopes,
            expires_at=input.expires_at,
            pairwise_key=context.resources.keys.pairwise,
            actor=context.actor,
            now=context.now,
        )
    return ConsentPayload(consent=Consent.of(consent, partner))


async def withdraw_consent(info: Info, input: WithdrawConsentInput) -> ConsentPayload:
    """Ends a consent at once, with every token of the member there: from now on the partner is told what it is told
    of a stranger."""
    context = info.context
    async with context.sessions.begin() as session:
        reference, partner = await named(context, session, input.partner, input.member)
        consent = await withdraw_with_tokens(session, reference, partner.id, actor=context.actor, now=context.now)
    return ConsentPayload(consent=Consent.of(consent, partner))


async def list_consents(info: Info) -> list[Consent]:
    """The live consents of the member who asks."""
    member_id = info.context.actor.member_id
    assert member_id is not None
    async with info.context.reading() as session:
        return [Consent.of(*row) for row in await consents.list_consents(session, member_id, info.context.now)]


async def load_consent(info: Info, id: UUID) -> Consent | None:
    """One consent, to staff and to the member who gave it."""
    member_id = info.context.actor.member_id
    async with info.context.reading() as session:
        row = await consents.find_consent(session, id)
    return None if row is None or member_id not in (None, row[0].member_id) else Consent.of(*row)


async def find_consents_given(
    info: Info, first: int | None = None, after: str | None = None
) -> Connection[ConsentGiven]:
    """A page of the live consents to the partner who asks; a token that speaks for one member sees that member's."""
    actor, size = info.context.actor, page_size(first)
    assert actor.partner_id is not None
    async with info.context.reading() as session:
        rows = await consents.list_consents_given(
            session,
            actor.partner_id,
            info.context.now,
            alias=actor.alias,
            first=size + 1,
            after=read_name_cursor(after),
        )
    page: Connection[ConsentGiven] = connect(
        rows, size, after, id_of=lambda row: row[1], node_of=lambda row: ConsentGiven.of(*row)
    )
    return page
