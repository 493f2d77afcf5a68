"""What a member lets a partner see: listed, granted and withdrawn by the member or by staff in its name."""

from datetime import datetime

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
from schema.permissions import Authenticated, field, object_type
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


@strawberry.input(description="A consent for a partner.")
class GrantConsentInput:
    partner: PartnerBy = strawberry.field(description="To whom.")
    member: MemberBy | None = strawberry.field(default=None, description="Staff: whose. Members leave it out.")
    purpose: str = strawberry.field(default="perks", description="What for, 1 to 200 characters.")
    scopes: list[str] | None = strawberry.field(
        default=None, description="What the partner may do, by names of its scopes; null: all that can be consented to."
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
            scopes=consents.SCOPES if input.scopes is None else input.scopes,
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
