"""A perk from a line of a file: made, changed, published or paused by the functions that the API uses."""

from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from partners import catalogue
from partners.actors import Actor
from partners.catalogue import Offer
from partners.errors import BadInput, NotFound
from partners.import_rows import Outcome, PerkRow
from partners.kinds import KINDS
from partners.perk_settings import PerkSettings, check_settings
from partners.programme import Programme
from partners.references import PerkRef
from partners.tables import PerkKind, PerkState

SAID = (
    "title",
    "description",
    "time_zone",
    "opens_on",
    "closes_on",
    "hold_seconds",
    "reversal_days",
    "rules",
    "settings",
    "waitlist",
    "currency",
    "units_max",
    "self_service",
    "returns_allowance",
    "low_at",
)


async def import_perk(
    session: AsyncSession, row: PerkRow, *, programme: Programme, actor: Actor, now: datetime
) -> Outcome:
    """Makes the perk or brings it to what the line says. BadInput or Conflict says what can't be; then undo."""
    reference = PerkRef(handle=f"{row.partner}/{row.handle}")
    try:
        offer = await catalogue.lock_offer(session, reference, actor)
    except NotFound:
        await create(session, row, programme=programme, actor=actor, now=now)
        offer = await catalogue.lock_offer(session, reference, actor)
        await bring_to_state(session, offer, row.state, actor=actor, now=now)
        return Outcome.NEW
    if offer.perk.kind != row.kind:
        raise BadInput(f"kind: the perk is {offer.perk.kind}, which can't change")
    version, wanted = offer.perk.version, offer.changed(**said_of(row))
    if differs(offer, wanted, programme):
        offer = await catalogue.update_perk(session, offer, wanted, programme=programme, actor=actor, now=now)
    await bring_to_state(session, offer, row.state, actor=actor, now=now)
    return Outcome.UNCHANGED if offer.perk.version == version else Outcome.CHANGED


async def create(session: AsyncSession, row: PerkRow, *, programme: Programme, actor: Actor, now: datetime) -> None:
    """A draft of the line's partner; BadInput when there is no such partner."""
    found = await catalogue.list_partners(session, actor, handle=row.partner, first=1, after=None)
    if not found:
        raise BadInput(f"partner: no such partner: {row.partner}")
    await catalogue.create_perk(
        session,
        found[0],
        handle=row.handle,
        kind=row.kind,
        settings=PerkSettings(**{"time_zone": programme.time_zone} | said_of(row)),
        programme=programme,
        actor=actor,
        now=now,
    )


def said_of(row: PerkRow) -> dict[str, Any]:
    """What the line says of the perk."""
    said = {name: value for name in SAID if (value := getattr(row, name)) is not None}
    return said if row.capacity is None else said | {"units": row.capacity}


def differs(offer: Offer, wanted: PerkSettings, programme: Programme) -> bool:
    """Whether the perk is not what is wanted; BadInput when it can't be."""
    perk, stored, kind = offer.perk, offer.settings, PerkKind(offer.perk.kind)
    terms = check_settings(wanted, kind, programme)
    columns = catalogue.columns_of(wanted, terms)
    settings = KINDS[kind].model_validate(perk.settings).model_dump(mode="json")
    return (
        columns != {name: getattr(perk, name) for name in columns} | {"settings": settings}
        or (wanted.units != stored.units and not terms.options)
        or wanted.low_at != stored.low_at
        or terms.rules != offer.policy.rules
    )


async def bring_to_state(
    session: AsyncSession, offer: Offer, state: PerkState | None, *, actor: Actor, now: datetime
) -> None:
    """Publishes or pauses a locked offer where it is not so yet; BadInput for a draft of what was published."""
    if state is None or state == offer.perk.state:
        return
    if state is PerkState.DRAFT:
        raise BadInput(f"state: the perk is {offer.perk.state}, which can't be a draft again")
    if state is PerkState.PAUSED and offer.perk.state == PerkState.DRAFT:
        await catalogue.set_perk_state(session, offer, PerkState.PUBLISHED, actor=actor, now=now)
    await catalogue.set_perk_state(session, offer, state, actor=actor, now=now)
