"""Bespoke requests, read by partners (their own), members (theirs) and staff (all)."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import strawberry
from strawberry.scalars import JSON

from partners import tables
from partners.members import find_member, view_members
from partners.moments import end_told
from partners.references import reachable_member
from partners.services import reading as service_reading
from partners.services.reading import READS, Seen
from partners.tables import ServiceState
from schema.catalogue import Perk, perks_by_id
from schema.context import Info
from schema.ids import PARTNER, PERK, SERVICE, optional_id, read_id, show_id
from schema.members import Member
from schema.nodes import Node
from schema.paging import Connection, connect, page_size, read_cursor
from schema.permissions import Authenticated, Members, Partners, Staff, field, object_type
from schema.redemptions import Redemption, load_redemption
from schema.references import MemberBy
from schema.selection import selected
from schema.threads import MAY_READ_WORDS, Clocks, Message, messages_of

strawberry.enum(ServiceState, description="The way of a bespoke request; docs/services.md says who may take each step.")

MAY_READ_USES = Partners("redemptions:read") | Members("me:read") | Staff("audit:read")
WORDS = frozenset({"form", "messages"})


@object_type(permission=Authenticated, description="Money, in whole minor units.")
class Money:
    amount_minor: int = field(description="How much, in minor units of the currency.")
    currency_code: str = field(description="ISO 4217.")


@object_type(permission=Authenticated, description="What the partner offers.")
class ServiceQuote:
    amount: Money | None = field(description="For how much; null: for nothing.")
    terms: str = field(permission=MAY_READ_WORDS, description="On which terms.")
    valid_until: datetime = field(description="Until when the member may say yes.")


@object_type(permission=Authenticated, description="A member asks for something of its own.")
class ServiceRequest(Node):
    perk: Perk | None = field(description="The perk that it is about.")
    member: Member | None = field(description="Who asks; to a partner null once consent is withdrawn.")
    state: ServiceState = field(description="How far it is.")
    form: JSON | None = field(
        permission=MAY_READ_WORDS, description="What was asked; to a partner null once consent is withdrawn."
    )
    amount: Money | None = field(
        description="What was asked for, or offered since; null where the perk counts no amounts."
    )
    quote: ServiceQuote | None = field(description="The partner's last offer.")
    automatic: bool = field(description="Whether it was approved at once, by trust.")
    owner: str | None = field(description="Who looks after it.")
    revision: int = field(description="Rises with every change; each step names the one that its caller has seen.")
    clocks: Clocks = field(description="Whether answers come in time.")
    scheduled_for: datetime | None = field(description="When it will be done.")
    submitted_at: datetime | None = field(description="When it was submitted.")
    ended_at: datetime | None = field(
        description="When it came to an end; to a partner the day alone if cancelled and the member consents to "
        "nothing any more."
    )
    row_id: strawberry.Private[UUID]
    redemption_id: strawberry.Private[UUID | None]
    shown: strawberry.Private[bool]

    @field(permission=MAY_READ_USES, description="What its approval made.")
    async def redemption(self, info: Info) -> Redemption | None:
        if self.redemption_id is None:
            return None
        return await load_redemption(info, self.redemption_id)

    @field(
        permission=MAY_READ_WORDS,
        description="What was said, oldest first; to a partner null once consent is withdrawn.",
    )
    async def messages(
        self, info: Info, first: int | None = None, after: str | None = None
    ) -> Connection[Message] | None:
        return await messages_of(info, self.row_id, first, after) if self.shown else None

    @classmethod
    def of(cls, seen: Seen, perk: Perk | None, member: Member | None, now: datetime) -> "ServiceRequest":
        """A request with what was fetched beside it; nothing of what was said where it may not be shown."""
        row, thread, end = seen.request, seen.thread, end_told(seen, now)
        return cls(
            id=strawberry.ID(show_id(SERVICE, row.id)),
            row_id=row.id,
            perk=perk,
            member=member,
            state=ServiceState(row.state),
            form=JSON(row.form) if seen.shown else None,
            amount=money(row),
            quote=quote_of(row),
            automatic=row.automatic,
            owner=thread.owner,
            revision=thread.revision,
            clocks=Clocks.of(end),
            scheduled_for=row.scheduled_for,
            submitted_at=row.submitted_at,
            ended_at=end.ended_at,
            redemption_id=row.redemption_id,
            shown=seen.shown,
        )


def money(row: tables.ServiceRequest) -> Money | None:
    """The amount of a request, where its perk counts any."""
    if row.amount is None or row.currency is None:
        return None
    return Money(amount_minor=row.amount, currency_code=row.currency)


def quote_of(row: tables.ServiceRequest) -> ServiceQuote | None:
    """The last offer."""
    if row.quote is None:
        return None
    valid_until = datetime.fromisoformat(row.quote["valid_until"])
    return ServiceQuote(amount=money(row), terms=row.quote["terms"], valid_until=valid_until)


async def requests_of(info: Info, rows: Sequence[Seen], *, known: bool = False) -> list[ServiceRequest]:
    """Rows as the caller may see them: perks, members and what a partner was told by one statement each. Rows that are
    about a `known` member tell of it without showing it."""
    context, names = info.context, selected(info)
    asker, shown = context.asker(READS), [row for row in rows if row.shown]
    perks: dict[UUID, Perk] = {}
    members: dict[UUID, Member] = {}
    if rows and "perk" in names:
        perks = await perks_by_id(info, {row.request.perk_id for row in rows})
    if shown and "member" in names:
        async with context.reading() as session:
            ids = {row.request.member_id for row in shown}
            views = await view_members(session, ids, asker=asker, now=context.now)
        members = {id: Member.of(view, for_partner=asker is not None) for id, view in views.items()}
    if asker is not None and (known or names & WORDS or context.actor.alias is not None):
        async with context.reading() as session:
            await service_reading.keep_disclosures(session, shown, asker, context.now)
    return [
        ServiceRequest.of(row, perks.get(row.request.perk_id), members.get(row.request.member_id), context.now)
        for row in rows
    ]


async def load_service_request(info: Info, id: UUID, *, just_made: bool = False) -> ServiceRequest | None:
    """One request within the caller's reach, or one that it has just moved itself."""
    context = info.context
    wanted = service_reading.RequestFilter(id=id, just_made=just_made)
    async with context.reading() as session:
        rows = await service_reading.list_requests(session, context.actor, wanted, first=1, after=None, now=context.now)
    shown = await requests_of(info, rows)
    return shown[0] if shown else None


async def find_service_request(info: Info, id: strawberry.ID) -> ServiceRequest | None:
    """The same by global id."""
    return await load_service_request(info, read_id(SERVICE, id))


@strawberry.input(description="Which requests; every condition that is given must hold.")
class ServiceRequestFilter:
    state: ServiceState | None = strawberry.field(default=None, description="In this state.")
    breached: bool | None = strawberry.field(default=None, description="Whose answers are or were late, or not.")
    partner: strawberry.ID | None = strawberry.field(default=None, description="For this partner's perks.")
    perk: strawberry.ID | None = strawberry.field(default=None, description="For this perk.")
    member: MemberBy | None = strawberry.field(default=None, description="By this member.")


async def wanted_by(info: Info, filter: ServiceRequestFilter | None) -> service_reading.RequestFilter | None:
    """The filter in the domain's words; None when it names a member who is not there."""
    if filter is None:
        return service_reading.RequestFilter()
    alias = member_id = None
    if filter.member is not None:
        reference = reachable_member(info.context.actor, filter.member.reference())
        alias, member_id = reference.alias, reference.id
        if reference.external_id is not None:
            async with info.context.reading() as session:
                found = await find_member(session, reference)
            if found is None:
                return None
            member_id = found.id
    return service_reading.RequestFilter(
        partner_id=optional_id(PARTNER, filter.partner),
        perk_id=optional_id(PERK, filter.perk),
        member_id=member_id,
        alias=alias,
        state=filter.state,
        breached=filter.breached,
    )


async def find_service_requests(
    info: Info, filter: ServiceRequestFilter | None = None, first: int | None = None, after: str | None = None
) -> Connection[ServiceRequest]:
    """A page of requests, newest first."""
    size, seen, actor, now = page_size(first), read_cursor(after), info.context.actor, info.context.now
    wanted = await wanted_by(info, filter)
    rows: list[Seen] = []
    if wanted is not None:
        async with info.context.reading() as session:
            rows = await service_reading.list_requests(session, actor, wanted, first=size + 1, after=seen, now=now)
    known = actor.alias is not None or (wanted is not None and wanted.alias is not None)
    shown = await requests_of(info, rows[:size], known=known)

    async def count() -> int:
        if wanted is None:
            return 0
        async with info.context.reading() as counting:
            counted = await service_reading.count_requests(counting, actor, wanted, now)
        if known and counted and not rows:  # beyond the last page, too, the number tells of the member
            async with info.context.reading() as counting:
                one = await service_reading.list_requests(counting, actor, wanted, first=1, after=None, now=now)
            await requests_of(info, one, known=True)
        return counted

    page: Connection[ServiceRequest] = connect(
        [*zip(rows, [*shown, None], strict=False)],
        size,
        after,
        id_of=lambda row: row[0].request.id,
        node_of=lambda row: row[1],
        counter=count,
    )
    return page
