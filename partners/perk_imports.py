"""A perk from a line of a file: made, changed, published or paused by the functions that the API uses."""

from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from partners import catalogue
from partners.actors import Actor
from partners.catalogue import Offer, PerkSettings
from partners.errors import BadInput, NotFound
from partners.import_rows import Outcome, PerkRow
from partners.programme import Programme
from partners.references import PerkRef
from partners.tables import PerkState

SAME = ("description", "time_zone", "opens_on", "closes_on", "hold_seconds", "reversal_days", "rules")


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
    version, wanted = offer.perk.version, settings_of(row, **stored_settings(offer))
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
        settings=settings_of(row, time_zone=programme.time_zone),
        programme=programme,
        actor=actor,
        now=now,
    )


def settings_of(row: PerkRow, **otherwise: Any) -> PerkSettings:
    """The perk that the line describes, with `otherwise` where it says nothing."""
    said = {name: value for name in SAME if (value := getattr(row, name)) is not None}
    if row.capacity is not None:
        said["units"] = row.capacity
    return PerkSettings(**(otherwise | {"title": row.title} | said))


def stored_settings(offer: Offer) -> dict[str, Any]:
    """The perk as it is."""
    perk = {name: getattr(offer.perk, name) for name in SAME if name != "rules"}
    return perk | {"rules": offer.policy.rules, "units": offer.capacity.units}


def differs(offer: Offer, wanted: PerkSettings, programme: Programme) -> bool:
    """Whether the perk is not what is wanted; BadInput when it can't be."""
    stored = PerkSettings(title=offer.perk.title, **stored_settings(offer))
    return (
        catalogue.columns_of(wanted) != catalogue.columns_of(stored)
        or wanted.units != stored.units
        or catalogue.check_settings(wanted, programme) != offer.policy.rules
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
