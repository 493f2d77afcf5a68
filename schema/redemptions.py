"""Redemptions and their reversals, read by partners (their own), members (theirs) and staff (all)."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from partners import redemptions
from partners.actors import Actor
from partners.members import find_member, view_members
from partners.moments import reversal_told
from partners.redemptions import Redeemed
from partners.references import reachable_member
from partners.tables import Bearer, FulfilmentState, Stock
from schema.catalogue import Perk, perks_by_id
from schema.codes import codes_of
from schema.context import Info
from schema.fulfilments import Fulfilment, fulfilments_by_id
from schema.ids import PARTNER, PERK, REDEMPTION, REVERSAL, optional_id, read_id, show_id
from schema.members import MAY_SEE_TIER, Member
from schema.nodes import Node
from schema.paging import Connection, connect, page_size, read_cursor
from schema.permissions import Authenticated, Members, Partners, field, object_type
from schema.references import MemberBy
from schema.selection import selected

strawberry.enum(FulfilmentState, description="How far the partner is with what it promised.")
strawberry.enum(Bearer, description="Who bears the cost of a reversal.")
strawberry.enum(Stock, description="What becomes of the unit that a reversal gives back.")


@object_type(permission=Authenticated, description="The record that takes a redemption back.")
class Reversal(Node):
    reason: str = field(description="Why.")
    borne_by: Bearer = field(description="Who bears the cost.")
    stock: Stock = field(description="What became of the units.")
    units: int = field(description="How many were taken back.")
    amount_minor: int = field(description="How much of the amount, in minor units of the perk's currency.")
    returns_allowance: bool = field(description="Whether the member may use it again in the same period.")
    reversed_at: datetime = field(description="When; to a partner the day alone of what staff reversed.")
    leaf_hash: str | None = field(
        description="Its leaf in the audit log: SHA-256 in hexadecimal (RFC 6962); to a partner null if staff did it."
    )

    @classmethod
    def of(cls, row: Any, actor: Actor) -> "Reversal":
        """What everybody who sees the redemption may see."""
        reversed_at, leaf_hash = reversal_told(row, actor)
        return cls(
            id=strawberry.ID(show_id(REVERSAL, row.id)),
            reason=row.reason,
            borne_by=Bearer(row.borne_by),
            stock=Stock(row.stock),
            units=row.units,
            amount_minor=row.amount,
            returns_allowance=row.returns_allowance,
            reversed_at=reversed_at,
            leaf_hash=None if leaf_hash is None else leaf_hash.hex(),
        )


@object_type(
    permission=Authenticated, description="A confirmed use of a perk: the record never changes but for its fulfilment."
)
class Redemption(Node):
    perk: Perk | None = field(description="What was redeemed.")
    member: Member | None = field(description="By whom; to a partner null once consent is withdrawn.")
    tier: str | None = field(permission=MAY_SEE_TIER, description="The member's tier when it was claimed.")
    policy_version: int = field(description="The version of the rules that said yes.")
    fulfilment: FulfilmentState = field(description="How far the partner is.")
    fulfilment_details: Fulfilment | None = field(description="When, by whom, where to, and who came.")
    confirmed_at: datetime = field(description="When it was confirmed.")
    units: int = field(description="How many were redeemed.")
    reversed_units: int = field(description="How many of them were taken back.")
    amount_minor: int = field(description="The amount, in minor units of `currency`.")
    currency: str | None = field(description="ISO 4217; null where no amounts are counted.")
    option: str | None = field(description="The handle of the variant or session; null where there is none.")
    reversal: Reversal | None = field(description="What took it back last; null while all of it stands.")
    reversals: list[Reversal] = field(description="All that took parts of it back, in their order.")
    code: str | None = field(
        permission=Partners() | Members(),
        description="The code that it gave, of the partner's own; else null.",
    )
    leaf_hash: str = field(description="Its leaf in the audit log: SHA-256 in hexadecimal (RFC 6962).")

    @classmethod
    def of(cls, row: Redeemed, perk: Perk | None, member: Member | None, beside: "Beside") -> "Redemption":
        """A redemption with what was fetched beside it."""
        redemption = row.redemption
        last = None if row.reversal is None else Reversal.of(row.reversal, beside.actor)
        return cls(
            id=strawberry.ID(show_id(REDEMPTION, redemption.id)),
            perk=perk,
            member=member,
            tier=redemption.tier,
            policy_version=redemption.policy_version,
            fulfilment=FulfilmentState(redemption.fulfilment),
            fulfilment_details=beside.fulfilments.get(redemption.id),
            confirmed_at=redemption.confirmed_at,
            units=redemption.units,
            reversed_units=redemption.reversed_units,
            amount_minor=redemption.amount,
            currency=redemption.currency,
            option=beside.options.get(redemption.option_id),
            reversal=last,
            reversals=beside.reversals.get(redemption.id, [] if last is None else [last]),
            code=beside.codes.get(redemption.id),
            leaf_hash=redemption.leaf_hash.hex(),
        )


@dataclass(frozen=True, slots=True)
class Beside:
    """What was fetched beside a page of redemptions, because somebody asked for it, and for whom."""

    actor: Actor
    options: Mapping[UUID, str]
    reversals: Mapping[UUID, list[Reversal]]
    fulfilments: Mapping[UUID, Fulfilment]
    codes: Mapping[UUID, str]


async def beside(info: Info, rows: Sequence[Redeemed]) -> Beside:
    """The names of options, the reversals of what was reversed more than once, what is known of the fulfilment, and
    partners' codes; a statement each, where needed."""
    names = selected(info)
    options = {row.redemption.option_id for row in rows} - {None} if "option" in names else set()
    several = {row.redemption.id for row in rows if row.redemption.reversals > 1} if "reversals" in names else set()
    handles: Mapping[UUID, str] = {}
    reversals: dict[UUID, list[Reversal]] = {}
    if options or several:
        async with info.context.reading() as session:
            handles = await redemptions.option_handles(session, options)
            for reversal in await redemptions.list_reversals(session, several):
                reversals.setdefault(reversal.redemption_id, []).append(Reversal.of(reversal, info.context.actor))
    ids = {row.redemption.id for row in rows}
    return Beside(info.context.actor, handles, reversals, await fulfilments_by_id(info, ids), await codes_of(info, ids))


async def redemptions_of(info: Info, rows: Sequence[Redeemed], *, known: bool = False) -> list[Redemption]:
    """Rows as the caller may see them; perks and members, when selected, by one statement each.

    Each statement takes a connection and gives it back: whoever waits for a second with one in hand can block all.
    Rows that are about a `known` member tell of it without showing it, and so does a tier.
    """
    asker, names = info.context.asker("redemptions:read"), selected(info)
    known = known or info.context.actor.alias is not None
    perks: dict[UUID, Perk] = {}
    members: dict[UUID, Member] = {}
    if rows and "perk" in names:
        perks = await perks_by_id(info, {row.redemption.perk_id for row in rows})
    if rows and ("member" in names or (known and asker is not None)):
        ids = {row.redemption.member_id for row in rows}
        async with info.context.reading() as session:
            views = await view_members(session, ids, asker=asker, now=info.context.now)
        members = {id: Member.of(view, for_partner=asker is not None) for id, view in views.items()}
    if asker is not None and "tier" in names:
        tiers = {row.redemption.member_id for row in rows if row.redemption.tier is not None}
        await disclose(info, tiers - members.keys())
    fetched = await beside(info, rows)
    return [
        Redemption.of(row, perks.get(row.redemption.perk_id), members.get(row.redemption.member_id), fetched)
        for row in rows
    ]


async def disclose(info: Info, ids: Collection[UUID]) -> None:
    """Keeps that the partner was told the tiers of these members."""
    if ids:
        async with info.context.reading() as session:
            await view_members(session, ids, asker=info.context.asker("member.tier:read"), now=info.context.now)


async def load_redemption(info: Info, id: UUID, *, just_made: bool = False) -> Redemption | None:
    """One redemption within the caller's reach, or one that it has just confirmed or reversed itself."""
    wanted = redemptions.RedemptionFilter(id=id, just_made=just_made)
    async with info.context.reading() as session:
        rows = await redemptions.list_redemptions(
            session, info.context.actor, wanted, first=1, after=None, now=info.context.now
        )
    shown = await redemptions_of(info, rows)
    return shown[0] if shown else None


async def load_reversal(info: Info, id: UUID) -> Reversal | None:
    """What took a redemption back, to whom the redemption is within reach."""
    async with info.context.reading() as session:
        reversal = await redemptions.find_reversal(session, id)
    # Looked for all the same where there is none, so that one of another's takes no longer (law 9).
    redemption = await load_redemption(info, id if reversal is None else reversal.redemption_id)
    if reversal is None or redemption is None:
        return None
    return Reversal.of(reversal, info.context.actor)


async def find_redemption(info: Info, id: strawberry.ID) -> Redemption | None:
    """The same by global id."""
    return await load_redemption(info, read_id(REDEMPTION, id))


@strawberry.input(description="Which redemptions; every condition that is given must hold.")
class RedemptionFilter:
    partner: strawberry.ID | None = strawberry.field(default=None, description="Of this partner's perks.")
    perk: strawberry.ID | None = strawberry.field(default=None, description="Of this perk.")
    member: MemberBy | None = strawberry.field(default=None, description="By this member.")
    reversed: bool | None = strawberry.field(default=None, description="Taken back, or not.")
    since: datetime | None = strawberry.field(default=None, description="Confirmed at or after.")
    until: datetime | None = strawberry.field(default=None, description="Confirmed before.")


async def wanted_by(
    info: Info, session: AsyncSession, filter: RedemptionFilter | None
) -> redemptions.RedemptionFilter | None:
    """The filter in the domain's words; None when it names a member who is not there."""
    if filter is None:
        return redemptions.RedemptionFilter()
    alias = member_id = None
    if filter.member is not None:
        reference = reachable_member(info.context.actor, filter.member.reference())
        alias, member_id = reference.alias, reference.id
        if reference.external_id is not None:
            member = await find_member(session, reference)
            if member is None:
                return None
            member_id = member.id
    return redemptions.RedemptionFilter(
        partner_id=optional_id(PARTNER, filter.partner),
        perk_id=optional_id(PERK, filter.perk),
        member_id=member_id,
        alias=alias,
        reversed=filter.reversed,
        since=filter.since,
        until=filter.until,
    )


async def find_redemptions(
    info: Info, filter: RedemptionFilter | None = None, first: int | None = None, after: str | None = None
) -> Connection[Redemption]:
    """A page of redemptions, newest first."""
    size, seen, actor, now = page_size(first), read_cursor(after), info.context.actor, info.context.now
    async with info.context.reading() as session:
        wanted = await wanted_by(info, session, filter)
        rows = (
            []
            if wanted is None
            else await redemptions.list_redemptions(session, actor, wanted, first=size + 1, after=seen, now=now)
        )
    known = actor.alias is not None or (wanted is not None and wanted.alias is not None)
    shown = await redemptions_of(info, rows[:size], known=known)

    async def count() -> int:
        if wanted is None:
            return 0
        async with info.context.reading() as counting:
            counted = await redemptions.count_redemptions(counting, actor, wanted, now)
        if known and counted and not rows:  # beyond the last page, too, the number tells of the member
            async with info.context.reading() as counting:
                one = await redemptions.list_redemptions(counting, actor, wanted, first=1, after=None, now=now)
            await redemptions_of(info, one, known=True)
        return counted

    page: Connection[Redemption] = connect(
        [*zip(rows, [*shown, None], strict=False)],
        size,
        after,
        id_of=lambda row: row[0].redemption.id,
        node_of=lambda row: row[1],
        counter=count,
    )
    return page
