"""`node(id:)`: anything with a global id, as far as the caller's scopes and sight reach."""

from uuid import UUID

import strawberry

from auth.caller import CallerKind
from partners.access import RightFilter
from partners.actors import ActorKind
from partners.browsing import OfferFilter
from partners.references import MemberRef
from schema.access import load_access
from schema.audit import load_entry as load_audit_entry
from schema.catalogue import MAY_BROWSE, find_partner, show_perks
from schema.claims import load_hold
from schema.consents import load_consent
from schema.context import Info
from schema.exports import MAY_EXPORT, load_export
from schema.ids import (
    ACCESS,
    ALIAS,
    CONSENT,
    ENDPOINT,
    ENTRY,
    EXPORT,
    HOLD,
    MEMBER,
    PARTNER,
    PERK,
    REDEMPTION,
    REVERSAL,
    REVIEW,
    SERVICE,
    WAIT,
    split_id,
)
from schema.members import MAY_SEE_TIER, Member, view
from schema.nodes import Node
from schema.permissions import Members, Partners, Permission, Staff
from schema.redemptions import load_redemption, load_reversal
from schema.references import PartnerBy
from schema.reviews import MAY_REVIEW, load_review
from schema.service_requests import load_service_request
from schema.waitlist import load_entry
from schema.webhooks import MAY_SEE_WEBHOOKS, load_endpoint

MAY_READ = Partners("redemptions:read") | Members("me:read") | Staff("audit:read")
MAY_LOOK_UP: dict[str, Permission] = {
    PERK: MAY_BROWSE,
    PARTNER: MAY_BROWSE,
    HOLD: MAY_READ,
    REDEMPTION: MAY_READ,
    MEMBER: Members("me:read") | Staff("members:admin"),
    ALIAS: MAY_SEE_TIER,
    CONSENT: Members("me:consents") | Staff("consents:admin"),
    REVERSAL: MAY_READ,
    ACCESS: MAY_READ,
    SERVICE: MAY_READ,
    ENTRY: Staff("audit:read"),
    WAIT: MAY_READ,
    EXPORT: MAY_EXPORT,
    REVIEW: MAY_REVIEW,
    ENDPOINT: MAY_SEE_WEBHOOKS,
}


async def find_node(info: Info, id: strawberry.ID) -> Node | None:
    """The thing, or null: for what is not there, out of sight, or not within the token's scopes."""
    context = info.context
    kind = id.partition("_")[0]
    permission = MAY_LOOK_UP.get(kind)
    if permission is None or not permission.admits(context.caller):
        return None
    if kind == ALIAS:
        return await find_alias(info, id.removeprefix(f"{ALIAS}_"))
    found = split_id(id)
    return None if found is None else await find_row(info, *found)


async def find_alias(info: Info, alias: str) -> Member | None:
    """The member that a partner knows by this alias."""
    actor = info.context.actor
    if actor.kind is not ActorKind.PARTNER or actor.alias not in (None, alias):
        return None
    return await view(info, MemberRef(alias=alias))


async def find_row(info: Info, kind: str, id: UUID) -> Node | None:
    """One row of a kind, within the caller's sight."""
    context = info.context
    if kind == PARTNER:
        return await find_partner(
            info, PartnerBy(id=strawberry.Some(strawberry.ID(f"{PARTNER}_{id.hex}")), handle=None)
        )
    if kind == HOLD:
        return await load_hold(info, id)
    if kind == REDEMPTION:
        return await load_redemption(info, id)
    if kind == REVERSAL:
        return await load_reversal(info, id)
    if kind == REVIEW:
        return await load_review(info, id)
    if kind == SERVICE:
        return await load_service_request(info, id)
    if kind == ACCESS:
        return await load_access(info, RightFilter(id=id))
    if kind == CONSENT:
        return await load_consent(info, id)
    if kind == ENDPOINT:
        return await load_endpoint(info, id)
    if kind == WAIT:
        return await load_entry(info, id)
    if kind == EXPORT:
        return await load_export(info, id)
    if kind == MEMBER:
        visible = context.caller.kind is CallerKind.STAFF or context.caller.member_id == id
        return await view(info, MemberRef(id=id)) if visible else None
    if kind == ENTRY:
        return await load_audit_entry(info, id)
    perks = await show_perks(info, OfferFilter(ids=[id]), first=1)
    return perks[0] if perks else None
