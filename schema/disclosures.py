"""Who asked about a member: the answers that partners were given, as the member and staff read them."""

from datetime import datetime

import strawberry

from auth.names import names_of_clients
from partners import disclosures
from partners.disclosures import Shown
from partners.members import find_member
from partners.references import reachable_member
from partners.tables import DisclosureKind
from schema.catalogue import Partner
from schema.context import Info
from schema.paging import Connection, connect, page_size, read_cursor
from schema.permissions import Members, Staff, field, object_type
from schema.references import MemberBy

MAY_READ_DISCLOSURES = Members("me:consents") | Staff("audit:read")

strawberry.enum(
    DisclosureKind,
    description="What was told: the membership and its tier, whether a perk may be had, the same for a page of perks, "
    "what was redeemed, where to send it, or what a service request says.",
)


@object_type(permission=MAY_READ_DISCLOSURES, description="One answer that a partner was given about a member.")
class Disclosure:
    at: datetime = field(description="When.")
    partner: Partner = field(description="To whom.")
    client_name: str | None = field(description="Which of the partner's applications asked; null once it is gone.")
    kind: DisclosureKind = field(description="What was told.")
    perk_handle: str | None = field(description="About which perk, as `partner/perk`; null: about no single one.")
    perk_title: str | None = field(description="The perk's name for people.")

    @classmethod
    def of(cls, shown: Shown, client_name: str | None) -> "Disclosure":
        """An answer with the names that people know."""
        return cls(
            at=shown.disclosure.at,
            partner=Partner.of(shown.partner),
            client_name=client_name,
            kind=DisclosureKind(shown.disclosure.kind),
            perk_handle=shown.perk_handle,
            perk_title=shown.perk_title,
        )


async def find_disclosures(
    info: Info, member: MemberBy | None = None, first: int | None = None, after: str | None = None
) -> Connection[Disclosure]:
    """A page of them, newest first; none for a member who is not there."""
    size, seen = page_size(first), read_cursor(after)
    reference = reachable_member(info.context.actor, None if member is None else member.reference())
    async with info.context.reading() as session:
        found = None if reference.id is not None else await find_member(session, reference)
        member_id = reference.id if found is None else found.id
        rows = (
            []
            if member_id is None
            else await disclosures.list_disclosures(session, member_id, first=size + 1, after=seen)
        )
        names = await names_of_clients(session, {row.disclosure.client_id for row in rows})

    async def count() -> int:
        async with info.context.reading() as counting:
            return 0 if member_id is None else await disclosures.count_disclosures(counting, member_id)

    page: Connection[Disclosure] = connect(
        rows,
        size,
        after,
        id_of=lambda row: row.disclosure.id,
        node_of=lambda row: Disclosure.of(row, names.get(row.disclosure.client_id)),
        counter=count,
    )
    return page
