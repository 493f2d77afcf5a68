"""Who a token speaks for, what it may do and within which limits: the first thing to ask."""

from datetime import datetime

import strawberry

from auth.caller import CallerKind
from schema.catalogue import Partner, find_partner
from schema.context import Info
from schema.eligibility import CHECKS_MAX
from schema.ids import PARTNER, show_id
from schema.members import Member, find_me
from schema.paging import FIRST, FIRST_MAX
from schema.permissions import Public, field, object_type
from schema.references import PartnerBy
from schema.selection import selected

strawberry.enum(CallerKind, description="Whom a token speaks for.")


@object_type(permission=Public, description="What one request may ask at most.")
class ViewerLimits:
    checks: int = field(description="Questions in one `eligibilities`.")
    page: int = field(description="Rows of a page.")
    page_default: int = field(description="Rows of a page when `first` is left out.")


@object_type(permission=Public, description="The caller.")
class Viewer:
    kind: CallerKind = field(description="A partner, a member, staff, or nobody known.")
    id: str = field(description="The client, the member or the person of staff.")
    scopes: list[str] = field(description="What the token may do.")
    expires_at: datetime | None = field(description="When the token ends.")
    partner: Partner | None = field(description="The partner whose client this is.")
    member: Member | None = field(description="The member whose token this is.")
    limits: ViewerLimits = field(description="What one request may ask at most.")


async def find_viewer(info: Info) -> Viewer:
    """The caller, without a statement unless its partner or member is selected."""
    caller, names = info.context.caller, selected(info)
    partner = member = None
    if caller.partner_id is not None and "partner" in names:
        by = PartnerBy(id=strawberry.Some(strawberry.ID(show_id(PARTNER, caller.partner_id))), handle=None)
        partner = await find_partner(info, by)
    if caller.member_id is not None and "member" in names:
        member = await find_me(info)
    return Viewer(
        kind=caller.kind,
        id=caller.id,
        scopes=sorted(caller.scopes),
        expires_at=caller.expires_at,
        partner=partner,
        member=member,
        limits=ViewerLimits(checks=CHECKS_MAX, page=FIRST_MAX, page_default=FIRST),
    )
