"""Partners and perks as the API shows them."""

from collections.abc import Collection
from datetime import date, datetime
from functools import lru_cache
from uuid import UUID

import strawberry
from strawberry.scalars import JSON

from partners import catalogue, tables
from partners.actors import ActorKind
from partners.browsing import Detail, Offered, OfferFilter, browse
from partners.policies import CACHED_MAX, Policy
from partners.references import reachable_member
from partners.tables import PartnerKind, PartnerState, PerkKind, PerkState
from schema.codes import PerkCodes, count_pools
from schema.context import Context, Info
from schema.eligibility import MAY_ASK, READ, Decision, decided
from schema.ids import PARTNER, PERK, optional_id, show_id
from schema.nodes import Node
from schema.paging import Connection, connect, page_size, read_cursor
from schema.perk_options import MAY_COUNT, PerkOption, Pool, Shelf
from schema.permissions import Authenticated, Members, Partners, Staff, field, object_type
from schema.references import MemberBy, PartnerBy, PerkBy
from schema.selection import selected

strawberry.enum(PartnerKind, description="The trade of a brand.")
strawberry.enum(PartnerState, description="A suspended partner gets no token and no yes.")
strawberry.enum(PerkState, description="Only a published perk can be claimed.")

MAY_BROWSE = Partners("perks:read") | Members("me:read") | Staff()


@object_type(permission=Authenticated, description="A brand that checks eligibility and supplies perks.")
class Partner(Node):
    handle: str = field(description="Its name in addresses and handles.")
    name: str = field(description="Its name for people.")
    kind: PartnerKind = field(description="Its trade.")
    state: PartnerState = field(description="Whether it is served.")

    @classmethod
    def of(cls, row: tables.Partner) -> "Partner":
        """What is public of a partner."""
        return cls(
            id=strawberry.ID(show_id(PARTNER, row.id)),
            handle=row.handle,
            name=row.name,
            kind=PartnerKind(row.kind),
            state=PartnerState(row.state),
        )


@lru_cache(maxsize=4096)
def partner_of(id: UUID, handle: str, name: str, kind: str, state: str) -> Partner:
    """The partner of an offer: one object for all of its perks, since a page shows few partners many times."""
    return Partner(
        id=strawberry.ID(show_id(PARTNER, id)),
        handle=handle,
        name=name,
        kind=PartnerKind(kind),
        state=PartnerState(state),
    )


@object_type(permission=Authenticated, description="One condition on who may have a perk.")
class Rule:
    kind: str = field(description="Its kind, as `tier_at_least`.")
    sentence: str = field(description="What it asks for, for people.")
    settings: JSON = field(description="Its settings, as they are written in `rules` of a perk's input.")


@lru_cache(maxsize=CACHED_MAX)
def rules_of(policy: Policy) -> list[Rule]:
    """The rules of one version, which never change."""
    return [
        Rule(kind=kind, sentence=sentence, settings=JSON(settings)) for kind, sentence, settings in policy.described
    ]


@object_type(permission=Authenticated, description="How those who wait are treated.")
class WaitlistTerms:
    offer_seconds: int = field(description="How long an offer stands.")
    offers: int = field(description="How many offers may lapse before one drops out.")
    skip: bool = field(description="Whether whoever comes after a party that is too large may go before it.")


# Read only where it is asked for: a page of the catalogue is the same without.
DETAILS = frozenset({"options", "pools", "waitlist", "selfService", "returnsAllowance", "lowAt"})
NO_DETAIL = Detail({}, None, self_service=False, returns_allowance=True, low_at=None, options=(), pools=())


def wants_detail(names: frozenset[str]) -> bool:
    """Whether anything of it is selected; the settings of a perk, not of its rules."""
    return not DETAILS.isdisjoint(names) or any(one.endswith(".settings") and one != "rules.settings" for one in names)


@object_type(permission=Authenticated, description="A catalogue entry that a partner offers.")
class Perk(Node):
    handle: str = field(description="Its name, as `partner/perk`.")
    kind: PerkKind = field(description="What is offered.")
    state: PerkState = field(description="Only a published perk can be claimed.")
    title: str = field(description="Its name for people.")
    description: str = field(description="What the member gets.")
    partner: Partner = field(description="Whose offer it is.")
    time_zone: str = field(description="The zone of its dates and of its allowance's periods.")
    opens_on: date | None = field(description="First day, in its zone; null: open since ever.")
    closes_on: date | None = field(description="Last day, in its zone, inclusive; null: open for ever.")
    opens_at: datetime | None = field(description="The first instant of its first day.")
    capacity: int | None = field(description="Units in all; null is no limit.")
    capacity_remaining: int | None = field(description="Units that nobody holds or has; null is no limit.")
    hold_seconds: int = field(description="How long a hold lasts.")
    policy_version: int = field(description="The version of its rules.")
    rules: list[Rule] = field(description="Its rules, all of which must agree.")
    units_max: int = field(description="How many one claim may take, as the largest party.")
    currency: str | None = field(description="Of the amounts that claims state: ISO 4217.")
    waitlist_open: bool = field(description="Whether members can wait for it when nothing is left.")
    waiting_count: int = field(permission=MAY_COUNT, description="How many wait for it.")
    settings: JSON = field(description="What its kind was told: `perkKinds` has the schema.")
    options: list[PerkOption] = field(description="What there is to choose from; none: nothing.")
    pools: list[Pool] = field(
        permission=MAY_COUNT, description="How its units are kept for tiers, where it has no options."
    )
    waitlist: WaitlistTerms | None = field(description="How those who wait are treated; null: nobody can.")
    self_service: bool = field(description="Whether members confirm their holds by themselves.")
    returns_allowance: bool = field(description="Whether a reversal gives the use back to the member, as a rule.")
    low_at: int | None = field(permission=MAY_COUNT, description="Alarm when no more than so many are left.")
    codes: PerkCodes | None = field(permission=MAY_COUNT, description="Its pool of codes, where it gives codes.")
    row_id: strawberry.Private[UUID]
    eligibility: Decision | None = field(
        permission=MAY_ASK,
        description="The answer for the member that the list was asked for, or for the member who asks; else null.",
    )

    @classmethod
    def of(cls, offered: Offered, decision: Decision | None = None, shelf: Shelf | None = None) -> "Perk":
        """What is public of an offer, with its own answer for one member; the rest of it where there is a `shelf`."""
        known = offered.known
        facts = known.perk
        detail = NO_DETAIL if shelf is None else shelf.detail
        return cls(
            id=strawberry.ID(show_id(PERK, known.perk_id)),
            row_id=known.perk_id,
            handle=offered.handle,
            kind=PerkKind(offered.kind),
            state=PerkState(facts.state),
            title=offered.title,
            description=offered.description,
            partner=partner_of(
                known.partner_id,
                offered.partner_handle,
                offered.partner_name,
                offered.partner_kind,
                facts.partner_state,
            ),
            time_zone=facts.zone,
            opens_on=facts.opens_on,
            closes_on=facts.closes_on,
            opens_at=facts.opens_at,
            capacity=facts.units,
            capacity_remaining=facts.left,
            hold_seconds=known.hold_seconds,
            policy_version=known.policy_version,
            rules=rules_of(known.policy),
            units_max=facts.units_max,
            currency=facts.currency,
            waitlist_open=facts.waitlist,
            waiting_count=facts.waiting,
            settings=JSON(detail.settings),
            options=[] if shelf is None else shelf.options(),
            pools=[] if shelf is None else shelf.pools(None),
            waitlist=None if detail.waitlist is None else WaitlistTerms(**detail.waitlist),
            self_service=detail.self_service,
            returns_allowance=detail.returns_allowance,
            low_at=detail.low_at,
            codes=None,
            eligibility=decision,
        )


@strawberry.input(description="Which perks; every condition that is given must hold.")
class PerkFilter:
    partner: strawberry.ID | None = strawberry.field(default=None, description="Of this partner.")
    kind: PerkKind | None = strawberry.field(default=None, description="Of this kind.")
    state: PerkState | None = strawberry.field(default=None, description="In this state.")


async def find_perk(info: Info, by: PerkBy) -> Perk | None:
    """One perk within the caller's sight, with the caller's own answer when a member asks."""
    perks = await show_perks(info, OfferFilter.of(by.reference()), first=1)
    return perks[0] if perks else None


async def find_perks(
    info: Info,
    filter: PerkFilter | None = None,
    member: MemberBy | None = None,
    first: int | None = None,
    after: str | None = None,
) -> Connection[Perk]:
    """A page of the catalogue with each perk's answer: one statement."""
    size, wanted = page_size(first), filter or PerkFilter()
    perks = await show_perks(
        info,
        OfferFilter(partner_id=optional_id(PARTNER, wanted.partner), kind=wanted.kind, state=wanted.state),
        member=member,
        first=size + 1,
        after=read_cursor(after),
    )
    page: Connection[Perk] = connect(perks, size, after, id_of=lambda perk: perk.row_id, node_of=lambda perk: perk)
    return page


async def show_perks(
    info: Info, wanted: OfferFilter, *, member: MemberBy | None = None, first: int, after: UUID | None = None
) -> list[Perk]:
    """Perks within the caller's sight, each with its answer where a member is meant."""
    context, actor = info.context, info.context.actor
    names = selected(info)
    detailed, to_member = wants_detail(names), actor.kind is ActorKind.MEMBER
    meant = member is not None or actor.member_id is not None or actor.alias is not None
    reference = reachable_member(actor, None if member is None else member.reference()) if meant else None
    answered = meant and "eligibility" in names
    async with context.resources.connection() as connection:
        offers = await browse(
            connection,
            actor,
            wanted,
            now=context.now,
            member=reference if answered or (detailed and to_member) else None,
            asker=context.asker(READ),
            first=first,
            after=after,
            detailed=detailed,
        )
    perks = [
        Perk.of(one, Decision.of(decided(context, one.known)) if answered else None, shelf_of(context, one))
        for one in offers
    ]
    await count_pools(info, perks)
    return perks


def shelf_of(context: Context, offered: Offered) -> Shelf | None:
    """What there is to choose from, where that was read."""
    if offered.detail is None:
        return None
    to_member = context.actor.kind is ActorKind.MEMBER
    return Shelf(offered.known, offered.detail, context.resources.programme.ranks, context.now, to_member)


async def perks_by_id(info: Info, ids: Collection[UUID]) -> dict[UUID, Perk]:
    """The perks of rows that the caller may see already, whatever became of them since: one statement."""
    context = info.context
    async with context.resources.connection() as connection:
        offers = await browse(
            connection,
            None,
            OfferFilter(ids=ids),
            now=context.now,
            first=len(ids),
            detailed=wants_detail(selected(info)),
        )
    perks = [Perk.of(offered, None, shelf_of(context, offered)) for offered in offers]
    await count_pools(info, perks)
    return {perk.row_id: perk for perk in perks}


async def find_partner(info: Info, by: PartnerBy) -> Partner | None:
    """One partner within the caller's sight."""
    id, handle = by.names()
    async with info.context.reading() as session:
        found = await catalogue.list_partners(session, info.context.actor, id=id, handle=handle, first=1, after=None)
    return Partner.of(found[0]) if found else None


async def find_partners(info: Info, first: int | None = None, after: str | None = None) -> Connection[Partner]:
    """A page of partners: one statement."""
    size = page_size(first)
    async with info.context.reading() as session:
        found = await catalogue.list_partners(session, info.context.actor, first=size + 1, after=read_cursor(after))
    page: Connection[Partner] = connect(found, size, after, id_of=lambda row: row.id, node_of=Partner.of)
    return page
