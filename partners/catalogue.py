"""Partners and perks: who offers what, and how an offer changes. Out of sight and not there are one answer."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text, true
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from partners import audit, tables
from partners.actors import Actor, ActorKind
from partners.errors import BadInput, Conflict, NotFound
from partners.kinds import KINDS
from partners.options import keep_units, wished
from partners.perk_settings import TITLE_LENGTH_MAX, PerkSettings, Terms, check_settings, has_options
from partners.policies import reads_of, stored
from partners.programme import HANDLE, Programme
from partners.references import PerkRef
from partners.rules import RULES
from partners.tables import PartnerKind, PartnerState, PerkKind, PerkState


async def create_partner(
    session: AsyncSession, *, handle: str, name: str, kind: PartnerKind, actor: Actor, now: datetime
) -> tables.Partner:
    """A new brand; Conflict when the handle is in use."""
    check_handle(handle)
    if not 1 <= len(name.strip()) <= TITLE_LENGTH_MAX:
        raise BadInput(f"name: 1 to {TITLE_LENGTH_MAX} characters")
    partner = tables.Partner(handle=handle, name=name.strip(), kind=kind, created_at=now)
    statement = insert(tables.Partner).values(partner.model_dump()).on_conflict_do_nothing()
    if await session.scalar(statement.returning(col(tables.Partner.id))) is None:
        raise Conflict("a partner with this handle exists already")
    await audit.record(session, "partner.created", audit.Subject(partner.id, subject_id=partner.id), actor, now)
    return partner


def check_handle(handle: str) -> None:
    """BadInput unless it is a handle: lower-case letters, digits and hyphens, 1 to 63 characters."""
    if not HANDLE.fullmatch(handle):
        raise BadInput("handle: 1 to 63 lower-case letters, digits and hyphens, starting with a letter or digit")


async def create_perk(
    session: AsyncSession,
    partner: tables.Partner,
    *,
    handle: str,
    kind: PerkKind,
    settings: PerkSettings,
    programme: Programme,
    actor: Actor,
    now: datetime,
) -> tables.Perk:
    """A draft of a partner's; its handle becomes `partner/perk`. Conflict when the partner has one so named."""
    check_handle(handle)
    terms = check_settings(settings, kind, programme)
    perk = tables.Perk(
        partner_id=partner.id,
        handle=f"{partner.handle}/{handle}",
        kind=kind,
        created_at=now,
        **{"self_service": terms.kind.self_service} | columns_of(settings, terms),
    )
    perk.pooled = bool(terms.options or terms.pools)
    statement = insert(tables.Perk).values(perk.model_dump()).on_conflict_do_nothing()
    if await session.scalar(statement.returning(col(tables.Perk.id))) is None:
        raise Conflict("a perk with this handle exists already")
    session.add(new_policy(perk, terms.rules, actor, now))
    capacity = tables.Capacity(perk_id=perk.id, units=settings.units, low_at=settings.low_at)
    if not terms.kind.counted_by_hand:
        capacity.units = 0
    session.add(capacity)
    await keep_units(session, perk, capacity, terms, settings.units)
    await audit.record(session, "perk.created", subject_of(perk), actor, now)
    return perk


def new_policy(perk: tables.Perk, rules: list[dict[str, Any]], actor: Actor, now: datetime) -> tables.Policy:
    """The policy of the perk's version, with what a question about it has to read."""
    return tables.Policy(
        perk_id=perk.id,
        version=perk.policy_version,
        rules=rules,
        created_at=now,
        created_by=actor.owner,
        time_zone=perk.time_zone,
        **reads_of(RULES.validate_python(rules)),
    )


def columns_of(settings: PerkSettings, terms: Terms) -> dict[str, Any]:
    """The settings that are columns of the perk's own row."""
    said = {} if settings.self_service is None else {"self_service": settings.self_service}
    return said | {
        "title": settings.title.strip(),
        "description": settings.description,
        "time_zone": settings.time_zone,
        "opens_on": settings.opens_on,
        "closes_on": settings.closes_on,
        "hold_seconds": settings.hold_seconds,
        "reversal_days": settings.reversal_days,
        "settings": terms.settings,
        "waitlist": terms.waitlist,
        "currency": settings.currency,
        "units_max": settings.units_max,
        "returns_allowance": settings.returns_allowance,
    }


SAME = (
    "title",
    "description",
    "time_zone",
    "opens_on",
    "closes_on",
    "hold_seconds",
    "reversal_days",
    "settings",
    "waitlist",
    "currency",
    "units_max",
    "self_service",
    "returns_allowance",
)


@dataclass(frozen=True, slots=True)
class Offer:
    """A perk with its partner, its policy in force and its capacity, as it is changed."""

    perk: tables.Perk
    partner: tables.Partner
    policy: tables.Policy
    capacity: tables.Capacity

    @property
    def settings(self) -> PerkSettings:
        """What it says now; how many there are is said by its options, where it has any."""
        said = {name: getattr(self.perk, name) for name in SAME}
        units = wished(self.capacity) if KINDS[PerkKind(self.perk.kind)].counted_by_hand else None
        return PerkSettings(**said, units=units, rules=self.policy.rules, low_at=self.capacity.low_at)

    def changed(self, **said: Any) -> PerkSettings:
        """What it says now with what is `said` instead. Units that are not said stay as many, unless options say."""
        settings = replace(self.settings, **said)
        if "units" not in said and has_options(PerkKind(self.perk.kind), settings):
            return replace(settings, units=None)
        return settings


async def lock_offer(session: AsyncSession, reference: PerkRef, actor: Actor) -> Offer:
    """An offer within the actor's reach, locked for change: the capacity row first, as everywhere. NotFound."""
    perk, partner, policy, capacity = tables.Perk, tables.Partner, tables.Policy, tables.Capacity
    named = perk.id == reference.id if reference.id is not None else perk.handle == reference.handle
    own = perk.partner_id == actor.partner_id if actor.kind is ActorKind.PARTNER else true()
    locked = await session.scalar(
        select(capacity).join(perk, col(perk.id) == capacity.perk_id).where(named, own).with_for_update(of=capacity)
    )
    if locked is None:
        raise NotFound("no such perk")
    row = await session.execute(
        select(perk, partner, policy)
        .join(partner, col(partner.id) == perk.partner_id)
        .join(policy, (col(policy.perk_id) == perk.id) & (col(policy.version) == perk.policy_version))
        .where(perk.id == locked.perk_id)
    )
    return Offer(*row.one(), locked)


async def update_perk(
    session: AsyncSession,
    offer: Offer,
    settings: PerkSettings,
    *,
    programme: Programme,
    actor: Actor,
    now: datetime,
    stop_claims: bool = False,
) -> Offer:
    """Changes a locked offer. New rules make a new version of the policy; what is held keeps the old one's yes.

    Conflict when units would fall below what is taken; with `stop_claims` there are no new claims and they shrink to
    it as units come back. Conflict when the currency of what is taken or waited for would change.
    """
    perk, capacity, policy = offer.perk, offer.capacity, offer.policy
    terms = check_settings(settings, PerkKind(perk.kind), programme)
    # What is overdue counts as taken until it is swept.
    await session.execute(text("SELECT expire_holds(:perk, :now)"), {"perk": perk.id, "now": now})
    await session.refresh(capacity)
    if capacity.taken + capacity.waiting and perk.currency not in (None, settings.currency):
        told = f"{capacity.taken} are taken and {capacity.waiting} wait"
        raise Conflict(f"currency: {told} in {perk.currency}", taken=capacity.taken, waiting=capacity.waiting)
    await keep_units(session, perk, capacity, terms, settings.units, stop_claims=stop_claims)
    moved = settings.time_zone != perk.time_zone  # its periods are others, so what counted in them was another policy
    for column, value in columns_of(settings, terms).items():
        setattr(perk, column, value)
    capacity.low_at = settings.low_at
    if moved or terms.rules != stored(RULES.validate_python(policy.rules)):
        perk.policy_version += 1
        policy = new_policy(perk, terms.rules, actor, now)
        session.add(policy)
    perk.version += 1
    await audit.record(session, "perk.updated", subject_of(perk), actor, now)
    return Offer(perk, offer.partner, policy, capacity)


async def set_perk_state(
    session: AsyncSession, offer: Offer, state: PerkState, *, actor: Actor, now: datetime
) -> tables.Perk:
    """Publishes or pauses a locked offer; Conflict when it already is, or when a draft is paused."""
    perk = offer.perk
    if perk.state == state or (state is PerkState.PAUSED and perk.state == PerkState.DRAFT):
        raise Conflict(f"the perk is {perk.state}")
    perk.state, perk.version = state, perk.version + 1
    action = "perk.published" if state is PerkState.PUBLISHED else "perk.paused"
    await audit.record(session, action, subject_of(perk), actor, now)
    return perk


def subject_of(perk: tables.Perk) -> audit.Subject:
    """A perk as the subject of an audit entry."""
    return audit.Subject(perk.partner_id, perk.id, subject_id=perk.id, policy_version=perk.policy_version)


async def list_partners(
    session: AsyncSession,
    actor: Actor | None,
    *,
    id: UUID | None = None,
    ids: Collection[UUID] | None = None,
    handle: str | None = None,
    first: int,
    after: UUID | None,
) -> list[tables.Partner]:
    """Partners in the order they joined: a partner sees itself, a member the active ones, staff all."""
    partner = tables.Partner
    query = select(partner).order_by(col(partner.id)).limit(first)
    if actor is not None and actor.kind is ActorKind.PARTNER:
        query = query.where(partner.id == actor.partner_id)
    if actor is not None and actor.kind is ActorKind.MEMBER:
        query = query.where(partner.state == PartnerState.ACTIVE)
    if id is not None:
        query = query.where(partner.id == id)
    if ids is not None:
        query = query.where(col(partner.id).in_(ids))
    if handle is not None:
        query = query.where(partner.handle == handle)
    if after is not None:
        query = query.where(col(partner.id) > after)
    return list(await session.scalars(query))


async def set_partner_state(
    session: AsyncSession, partner_id: UUID, state: PartnerState, *, actor: Actor, now: datetime
) -> None:
    """Suspends or reinstates a partner; NotFound, or Conflict when it is so already."""
    partner = await session.get(tables.Partner, partner_id, with_for_update=True)
    if partner is None:
        raise NotFound("no such partner")
    if partner.state == state:
        raise Conflict(f"the partner is {state}")
    partner.state = state
    action = "partner.suspended" if state is PartnerState.SUSPENDED else "partner.reinstated"
    await audit.record(session, action, audit.Subject(partner_id, subject_id=partner_id), actor, now)
