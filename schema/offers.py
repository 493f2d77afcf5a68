"""The mutations that make and change partners and their perks."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import date
from typing import Any, cast
from uuid import UUID

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession
from strawberry.scalars import JSON
from strawberry.utils.str_converters import to_camel_case

from auth import clients
from partners import catalogue, tables
from partners.catalogue import Offer
from partners.errors import BadInput, NotFound
from partners.perk_settings import PerkSettings
from partners.tables import PartnerKind, PartnerState, PerkKind, PerkState
from schema.catalogue import Partner, Perk, perks_by_id
from schema.context import Context, Info
from schema.permissions import Authenticated, field, object_type
from schema.references import PartnerBy, PerkBy


@strawberry.input(description="A new partner.")
class CreatePartnerInput:
    handle: str = strawberry.field(description="1 to 63 lower-case letters, digits and hyphens; unique.")
    name: str = strawberry.field(description="For people, 1 to 200 characters.")
    kind: PartnerKind = strawberry.field(description="Its trade.")


@object_type(permission=Authenticated, description="What became of it.")
class PartnerPayload:
    partner: Partner | None = field(description="The partner as it is now.")


async def create_partner(info: Info, input: CreatePartnerInput) -> PartnerPayload:
    """On-boards a brand."""
    context = info.context
    async with context.sessions.begin() as session:
        partner = await catalogue.create_partner(
            session, handle=input.handle, name=input.name, kind=input.kind, actor=context.actor, now=context.now
        )
    return PartnerPayload(partner=Partner.of(partner))


@strawberry.input(description="Which partner.")
class PartnerInput:
    partner: PartnerBy = strawberry.field(description="By id or handle.")


async def suspend_partner(info: Info, input: PartnerInput) -> PartnerPayload:
    """Stops a partner and every live token of its clients."""
    return await set_partner_state(info, input, PartnerState.SUSPENDED)


async def reinstate_partner(info: Info, input: PartnerInput) -> PartnerPayload:
    """Serves a suspended partner again; its clients ask for new tokens."""
    return await set_partner_state(info, input, PartnerState.ACTIVE)


async def set_partner_state(info: Info, input: PartnerInput, state: PartnerState) -> PartnerPayload:
    """One change of state."""
    context = info.context
    async with context.sessions.begin() as session:
        partner = await owner_of(context, session, input.partner)
        await clients.set_partner_state(session, partner.id, state, context.actor, context.now)
    return PartnerPayload(partner=Partner.of(partner))


@strawberry.input(description="How those who wait are treated.")
class WaitlistInput:
    offer_seconds: int = strawberry.field(default=172_800, description="How long an offer stands: 300 to 604,800.")
    offers: int = strawberry.field(default=1, description="How many offers may lapse before one drops out: 1 to 10.")
    skip: bool = strawberry.field(
        default=False, description="Whether whoever comes after a party that is too large may go before it."
    )


@strawberry.input(description="A new perk: a draft until it is published.")
class CreatePerkInput:
    handle: str = strawberry.field(description="Its name among the partner's, as `track-day`.")
    kind: PerkKind = strawberry.field(description="What is offered.")
    title: str = strawberry.field(description="For people, 1 to 200 characters.")
    time_zone: str = strawberry.field(description="IANA name, as Europe/Zurich.")
    description: str = strawberry.field(default="", description="What the member gets, at most 5,000 characters.")
    opens_on: date | None = strawberry.field(default=None, description="First day, in its zone.")
    closes_on: date | None = strawberry.field(default=None, description="Last day, in its zone, inclusive.")
    capacity: int | None = strawberry.field(default=None, description="Units in all; null is no limit.")
    hold_seconds: int = strawberry.field(default=900, description="How long a hold lasts: 60 to 86,400.")
    reversal_days: int = strawberry.field(default=90, description="How long the partner may reverse: 0 to 3,650.")
    rules: list[JSON] = strawberry.field(
        default_factory=list, description="Rules by kind with their settings, at most 50; docs/rules.md lists them."
    )
    settings: JSON | None = strawberry.field(
        default=None, description="What its kind can be told, as sessions of an event: see `perkKinds`."
    )
    waitlist: WaitlistInput | None = strawberry.field(default=None, description="Null: nobody can wait.")
    currency: str | None = strawberry.field(default=None, description="Of amounts that claims state: ISO 4217.")
    units_max: int = strawberry.field(default=1, description="How many one claim may take, as the largest party.")
    self_service: bool | None = strawberry.field(
        default=None, description="Whether members confirm their holds by themselves; null: as is usual for its kind."
    )
    returns_allowance: bool = strawberry.field(
        default=True, description="Whether a reversal gives the use back to the member, unless it says otherwise."
    )
    low_at: int | None = strawberry.field(default=None, description="Alarm when no more than so many are left.")
    partner: PartnerBy | None = strawberry.field(default=None, description="Staff: whose. Partners leave it out.")


@strawberry.input(description="Changes to a perk; what is left out stays.")
class UpdatePerkInput:
    perk: PerkBy = strawberry.field(description="Which.")
    title: str | None = strawberry.field(default=strawberry.UNSET, description="See createPerk.")
    description: str | None = strawberry.field(default=strawberry.UNSET, description="See createPerk.")
    time_zone: str | None = strawberry.field(default=strawberry.UNSET, description="See createPerk.")
    opens_on: date | None = strawberry.field(default=strawberry.UNSET, description="Null: open since ever.")
    closes_on: date | None = strawberry.field(default=strawberry.UNSET, description="Null: open for ever.")
    capacity: int | None = strawberry.field(
        default=strawberry.UNSET, description="Null: no limit. Never below what is taken; see stopClaims."
    )
    hold_seconds: int | None = strawberry.field(default=strawberry.UNSET, description="See createPerk.")
    reversal_days: int | None = strawberry.field(default=strawberry.UNSET, description="See createPerk.")
    rules: list[JSON] | None = strawberry.field(
        default=strawberry.UNSET, description="All of them: they make a new version."
    )
    settings: JSON | None = strawberry.field(
        default=strawberry.UNSET,
        description="All of them. Options are told by their handles, pools by their names; what is taken can't go.",
    )
    waitlist: WaitlistInput | None = strawberry.field(
        default=strawberry.UNSET, description="Null: nobody can begin to wait."
    )
    currency: str | None = strawberry.field(default=strawberry.UNSET, description="Not while any is taken.")
    units_max: int | None = strawberry.field(default=strawberry.UNSET, description="See createPerk.")
    self_service: bool | None = strawberry.field(default=strawberry.UNSET, description="See createPerk.")
    returns_allowance: bool | None = strawberry.field(default=strawberry.UNSET, description="See createPerk.")
    low_at: int | None = strawberry.field(default=strawberry.UNSET, description="Null: no alarm.")
    stop_claims: bool = strawberry.field(
        default=False,
        description="Where fewer are wanted than are taken: no new claims, and units that come back are not given "
        "again until it is so many. Else that is CONFLICT, with the figures.",
    )


@strawberry.input(description="Which perk.")
class PerkInput:
    perk: PerkBy = strawberry.field(description="By id or handle.")


@object_type(permission=Authenticated, description="What became of it.")
class PerkPayload:
    perk: Perk | None = field(description="The perk as it is now.")


CLEARABLE = frozenset({"opens_on", "closes_on", "units", "waitlist", "currency", "low_at"})


async def create_perk(info: Info, input: CreatePerkInput) -> PerkPayload:
    """Drafts a perk."""
    context = info.context
    async with context.sessions.begin() as session:
        partner = await owner_of(context, session, input.partner)
        perk = await catalogue.create_perk(
            session,
            partner,
            handle=input.handle,
            kind=input.kind,
            settings=PerkSettings(
                title=input.title,
                time_zone=input.time_zone,
                description=input.description,
                opens_on=input.opens_on,
                closes_on=input.closes_on,
                units=input.capacity,
                hold_seconds=input.hold_seconds,
                reversal_days=input.reversal_days,
                rules=rules_of(input.rules),
                settings={} if input.settings is None else settings_of(input.settings),
                waitlist=None if input.waitlist is None else asdict(input.waitlist),
                currency=input.currency,
                units_max=input.units_max,
                self_service=input.self_service,
                returns_allowance=input.returns_allowance,
                low_at=input.low_at,
            ),
            programme=context.resources.programme,
            actor=context.actor,
            now=context.now,
        )
    return await shown(info, perk.id)


async def shown(info: Info, perk_id: UUID) -> PerkPayload:
    """A perk as it is now, after it was changed."""
    return PerkPayload(perk=(await perks_by_id(info, [perk_id])).get(perk_id))


async def owner_of(context: Context, session: AsyncSession, by: PartnerBy | None) -> tables.Partner:
    """The partner that something is made for: a partner's own, or the one staff name."""
    if (by is None) == (context.actor.partner_id is None):
        raise BadInput("partner: staff say whose it is, a partner's own is understood")
    id, handle = (context.actor.partner_id, None) if by is None else by.names()
    found = await catalogue.list_partners(session, context.actor, id=id, handle=handle, first=1, after=None)
    if not found:
        raise NotFound("no such partner")
    return found[0]


def rules_of(rules: list[JSON]) -> list[Mapping[str, Any]]:
    """Rules as objects; BadInput for anything else."""
    for place, rule in enumerate(rules):
        if not isinstance(rule, dict):
            raise BadInput(f"rules.{place}: an object with a `kind`")
    return cast("list[Mapping[str, Any]]", rules)


def settings_of(settings: JSON) -> Mapping[str, Any]:
    """A kind's settings as an object; BadInput for anything else."""
    if not isinstance(settings, dict):
        raise BadInput("settings: an object")
    return settings


async def update_perk(info: Info, input: UpdatePerkInput) -> PerkPayload:
    """Changes a perk; new rules make a new version of its policy."""
    context = info.context
    async with context.sessions.begin() as session:
        offer = await catalogue.lock_offer(session, input.perk.reference(), context.actor)
        offer = await catalogue.update_perk(
            session,
            offer,
            changed_settings(offer, input),
            programme=context.resources.programme,
            actor=context.actor,
            now=context.now,
            stop_claims=input.stop_claims,
        )
    return await shown(info, offer.perk.id)


def changed_settings(offer: Offer, input: UpdatePerkInput) -> PerkSettings:
    """The perk's settings with what the input says instead; BadInput for a null where there must be something."""
    said: dict[str, Any] = {}
    for one in fields(PerkSettings):
        given = getattr(input, "capacity" if one.name == "units" else one.name)
        if given is strawberry.UNSET:
            continue
        if given is None and one.name not in CLEARABLE:
            raise BadInput(f"{to_camel_case(one.name)}: not null")
        said[one.name] = given
    if "rules" in said:
        said["rules"] = rules_of(said["rules"])
    if "settings" in said:
        said["settings"] = settings_of(said["settings"])
    if said.get("waitlist") is not None:
        said["waitlist"] = asdict(said["waitlist"])
    return offer.changed(**said)


async def publish_perk(info: Info, input: PerkInput) -> PerkPayload:
    """Opens a draft or a paused perk to claims."""
    return await set_state(info, input, PerkState.PUBLISHED)


async def pause_perk(info: Info, input: PerkInput) -> PerkPayload:
    """Stops new claims; what is held stays."""
    return await set_state(info, input, PerkState.PAUSED)


async def set_state(info: Info, input: PerkInput, state: PerkState) -> PerkPayload:
    """One change of state, under the perk's lock."""
    context = info.context
    async with context.sessions.begin() as session:
        offer = await catalogue.lock_offer(session, input.perk.reference(), context.actor)
        await catalogue.set_perk_state(session, offer, state, actor=context.actor, now=context.now)
    return await shown(info, offer.perk.id)
