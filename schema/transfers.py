"""A brand is sold: staff open the window, and the buyer carries its members over."""

from datetime import datetime

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from auth.approvals import revoke_approvals_of_consent
from partners import catalogue, tables, transfers
from partners.errors import NotFound
from schema.catalogue import Partner
from schema.context import Context, Info
from schema.ids import TRANSFER, show_id
from schema.permissions import Partners, Staff, field, object_type
from schema.references import PartnerBy

MAY_TRANSFER = Staff("partners:admin")
MAY_CARRY_OVER = Partners("links:write")


@object_type(permission=MAY_TRANSFER, description="The sale of a brand to another partner.")
class PartnerTransfer:
    id: strawberry.ID = field(description="Names it in the audit log.")
    seller: Partner = field(name="from", description="Whose members' consents may be carried over.")
    buyer: Partner = field(name="to", description="Who may do so.")
    reason: str = field(description="Why, for staff.")
    created_at: datetime = field(description="Since when.")
    ends_at: datetime = field(description="Until when.")


@strawberry.input(description="The sale of a brand.")
class TransferPartnerInput:
    seller: PartnerBy = strawberry.field(name="from", description="Whose members' consents may be carried over.")
    buyer: PartnerBy = strawberry.field(name="to", description="Who may do so, for 60 days.")
    reason: str = strawberry.field(description="Why, 1 to 500 characters; staff see it.")


@object_type(permission=MAY_TRANSFER, description="What became of it.")
class TransferPartnerPayload:
    transfer: PartnerTransfer | None = field(description="The window, which is the open one when there is one.")


@strawberry.input(description="A member of a brand that you bought.")
class TransferMemberInput:
    alias: str = strawberry.field(description="The former owner's alias of the member.")


@object_type(permission=MAY_CARRY_OVER, description="What became of it.")
class TransferMemberPayload:
    alias: str = field(description="Your own alias of the member, whose consent is yours now.")


async def transfer_partner(info: Info, input: TransferPartnerInput) -> TransferPartnerPayload:
    """Opens the window in which the buyer may carry members over."""
    context = info.context
    async with context.sessions.begin() as session:
        seller = await named(context, session, input.seller)
        buyer = await named(context, session, input.buyer)
        transfer = await transfers.open_transfer(
            session, seller, buyer, reason=input.reason, actor=context.actor, now=context.now
        )
    return TransferPartnerPayload(
        transfer=PartnerTransfer(
            id=strawberry.ID(show_id(TRANSFER, transfer.id)),
            seller=Partner.of(seller),
            buyer=Partner.of(buyer),
            reason=transfer.reason,
            created_at=transfer.created_at,
            ends_at=transfer.ends_at,
        )
    )


async def named(context: Context, session: AsyncSession, by: PartnerBy) -> tables.Partner:
    """The partner that staff name; NotFound."""
    id, handle = by.names()
    found = await catalogue.list_partners(session, context.actor, id=id, handle=handle, first=1, after=None)
    if not found:
        raise NotFound("no such partner")
    return found[0]


async def transfer_member(info: Info, input: TransferMemberInput) -> TransferMemberPayload:
    """Moves a member's consent, and ends all that the former owner had of it."""
    context, caller = info.context, info.context.caller
    assert caller.partner_id is not None
    async with context.sessions.begin() as session:
        moved = await transfers.move_member(
            session,
            input.alias,
            caller.partner_id,
            client_id=caller.client_id or caller.id,
            pairwise_key=context.resources.keys.pairwise,
            actor=context.actor,
            now=context.now,
        )
        if moved.ended is not None:
            await revoke_approvals_of_consent(session, moved.ended, "CONSENT_MOVED", context.now)
    return TransferMemberPayload(alias=moved.alias)
