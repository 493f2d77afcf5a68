"""Partners and perks as the API shows them."""

from datetime import date, datetime

import strawberry
from strawberry.scalars import JSON

from partners import catalogue, tables
from partners.facts import start_of_day
from partners.policies import parsed_policy
from partners.tables import PartnerKind, PartnerState, PerkKind, PerkState
from schema.context import Info
from schema.eligibility import MAY_ASK, Decision, decisions_for
from schema.ids import PARTNER, PERK, optional_id, show_id
from schema.nodes import Node
from schema.paging import Connection, connect, page_size, read_cursor
from schema.permissions import Members, Partners, Staff, field, object_type
from schema.references import MemberBy, PartnerBy, PerkBy

strawberry.enum(PartnerKind, description="The trade of a brand.")
strawberry.enum(PartnerState, description="A suspended partner gets no token and no yes.")
strawberry.enum(PerkKind, description="What is offered.")
strawberry.enum(PerkState, description="Only a published perk can be claimed.")

MAY_BROWSE = Partners("perks:read") | Members("me:read") | Staff()


@object_type(description="A brand that checks eligibility and supplies perks.")
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


@object_type(description="One condition on who may have a perk.")
class Rule:
    kind: str = field(description="Its kind, as `tier_at_least`.")
    sentence: str = field(description="What it asks for, for people.")
    settings: JSON = field(description="Its settings, as they are written in `rules` of a perk's input.")


@object_type(description="A catalogue entry that a partner offers.")
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
    eligibility: Decision | None = field(
        permission=MAY_ASK,
        description="The answer for the member that the list was asked for, or for the member who asks; else null.",
    )

    @classmethod
    def of(cls, offer: catalogue.Offer, decision: Decision | None = None) -> "Perk":
        """What is public of an offer, with its own answer for one member."""
        perk, units = offer.perk, offer.capacity.units
        policy = parsed_policy(perk.id, perk.policy_version, offer.policy.rules)
        return cls(
            id=strawberry.ID(show_id(PERK, perk.id)),
            handle=perk.handle,
            kind=PerkKind(perk.kind),
            state=PerkState(perk.state),
            title=perk.title,
            description=perk.description,
            partner=Partner.of(offer.partner),
            time_zone=perk.time_zone,
            opens_on=perk.opens_on,
            closes_on=perk.closes_on,
            opens_at=None if perk.opens_on is None else start_of_day(perk.opens_on, perk.time_zone),
            capacity=units,
            capacity_remaining=None if units is None else units - offer.capacity.taken,
            hold_seconds=perk.hold_seconds,
            policy_version=perk.policy_version,
            rules=[
                Rule(kind=kind, sentence=sentence, settings=JSON(settings))
                for kind, sentence, settings in policy.described
            ],
            eligibility=decision,
        )


@strawberry.input(description="Which perks; every condition that is given must hold.")
class PerkFilter:
    partner: strawberry.ID | None = strawberry.field(default=None, description="Of this partner.")
    kind: PerkKind | None = strawberry.field(default=None, description="Of this kind.")
    state: PerkState | None = strawberry.field(default=None, description="In this state.")


async def find_perk(info: Info, by: PerkBy) -> Perk | None:
    """One perk within the caller's sight, with the caller's own answer when a member asks."""
    async with info.context.sessions() as session:
        offers = await catalogue.list_offers(session, info.context.actor, reference=by.reference(), first=1, after=None)
    perks = await perks_of(info, offers, None)
    return perks[0] if perks else None


async def find_perks(
    info: Info,
    filter: PerkFilter | None = None,
    member: MemberBy | None = None,
    first: int | None = None,
    after: str | None = None,
) -> Connection[Perk]:
    """A page of the catalogue: one statement for the perks and one for all their answers."""
    size = page_size(first)
    wanted = filter or PerkFilter()
    async with info.context.sessions() as session:
        offers = await catalogue.list_offers(
            session,
            info.context.actor,
            partner_id=optional_id(PARTNER, wanted.partner),
            kind=wanted.kind,
            state=wanted.state,
            first=size + 1,
            after=read_cursor(after),
        )
    perks = await perks_of(info, offers[:size], member)
    page: Connection[Perk] = connect(
        [*zip(offers, [*perks, None], strict=False)],
        size,
        after,
        id_of=lambda row: row[0].perk.id,
        node_of=lambda row: row[1],
    )
    return page


async def perks_of(info: Info, offers: list[catalogue.Offer], member: MemberBy | None) -> list[Perk]:
    """Offers as perks, each with its answer where a member is meant."""
    context = info.context
    if member is None and context.actor.member_id is None:
        return [Perk.of(offer) for offer in offers]
    decisions = await decisions_for(context, member, [offer.perk.id for offer in offers])
    return [Perk.of(offer, decision) for offer, decision in zip(offers, decisions, strict=True)]


async def find_partner(info: Info, by: PartnerBy) -> Partner | None:
    """One partner within the caller's sight."""
    id, handle = by.names()
    async with info.context.sessions() as session:
        found = await catalogue.list_partners(session, info.context.actor, id=id, handle=handle, first=1, after=None)
    return Partner.of(found[0]) if found else None


async def find_partners(info: Info, first: int | None = None, after: str | None = None) -> Connection[Partner]:
    """A page of partners: one statement."""
    size = page_size(first)
    async with info.context.sessions() as session:
        found = await catalogue.list_partners(session, info.context.actor, first=size + 1, after=read_cursor(after))
    page: Connection[Partner] = connect(found, size, after, id_of=lambda row: row.id, node_of=Partner.of)
    return page
