"""The rules that every perk has without declaring them: membership, consent, states, window and capacity."""

from datetime import datetime
from typing import Protocol

from partners.facts import HEAD_START, Facts, Refusal, RefusalCode
from partners.tables import PartnerState, PerkKind, PerkState


class Standing(Protocol):
    """A rule without settings."""

    def __call__(self, facts: Facts) -> Refusal | None:
        """Why it refuses, or None."""
        ...


def membership(facts: Facts) -> Refusal | None:
    """MEMBERSHIP_SUSPENDED."""
    return Refusal(RefusalCode.MEMBERSHIP_SUSPENDED, "membership") if facts.member.suspended else None


def consent(facts: Facts) -> Refusal | None:
    """CONSENT_MISSING: a redemption tells the partner of the member, so the member must have agreed to it."""
    return None if facts.member.consented else Refusal(RefusalCode.CONSENT_MISSING, "consent")


def partner(facts: Facts) -> Refusal | None:
    """PARTNER_SUSPENDED."""
    if facts.perk.partner_state == PartnerState.ACTIVE:
        return None
    return Refusal(RefusalCode.PARTNER_SUSPENDED, "partner")


def publication(facts: Facts) -> Refusal | None:
    """PERK_PAUSED, and NOT_STARTED for a draft."""
    if facts.perk.state == PerkState.PUBLISHED:
        return None
    code = RefusalCode.PERK_PAUSED if facts.perk.state == PerkState.PAUSED else RefusalCode.NOT_STARTED
    return Refusal(code, "publication")


def window(facts: Facts) -> Refusal | None:
    """NOT_STARTED before the first day, ENDED after the last, which is inclusive."""
    opens, closes = facts.perk.opens_at, facts.perk.closes_at
    if opens is not None and facts.now < opens:
        return Refusal(RefusalCode.NOT_STARTED, "window", opens)
    if closes is not None and facts.now >= closes:
        return Refusal(RefusalCode.ENDED, "window")
    return None


def review(facts: Facts) -> Refusal | None:
    """UNDER_REVIEW while staff look into the member's claims on the partner's perks."""
    return Refusal(RefusalCode.UNDER_REVIEW, "review") if facts.member.under_review else None


def option(facts: Facts) -> Refusal | None:
    """PERK_PAUSED for an option that is closed, ENDED from its cut-off on; without one named, when it is so for all."""
    options = facts.perk.options
    if not options:
        return None
    meant = facts.perk.option(facts.said.option)
    considered = options if meant is None else (meant,)
    if any(one.open and (one.closes_at is None or facts.now < one.closes_at) for one in considered):
        return None
    code = RefusalCode.ENDED if any(one.open for one in considered) else RefusalCode.PERK_PAUSED
    return Refusal(code, "option")


def units(facts: Facts) -> Refusal | None:
    """UNITS_NOT_ALLOWED: more at once than the perk gives."""
    if 1 <= facts.said.units <= facts.perk.units_max:
        return None
    return Refusal(RefusalCode.UNITS_NOT_ALLOWED, "units", required=f"1 to {facts.perk.units_max}")


def capacity(facts: Facts) -> Refusal | None:
    """CAPACITY_EXHAUSTED, CODE_POOL_EMPTY for codes, until a pool is released that has enough; what comes back may
    lift it before."""
    wanted = max(1, facts.said.units)
    if has_room(facts, wanted):
        return None
    code = RefusalCode.CODE_POOL_EMPTY if facts.perk.kind == PerkKind.CODE else RefusalCode.CAPACITY_EXHAUSTED
    ahead = sorted({until for pool in facts.perk.pools for _, until in pool.schedule if until > facts.now})
    released = next((until for until in ahead if has_room(facts.at(until), wanted)), None)
    return Refusal(code, "capacity", released, required=str(facts.said.units), current=str(facts.room))


def has_room(facts: Facts, wanted: int) -> bool:
    """Whether so many units are within the member's reach."""
    return facts.room is None or facts.room >= wanted


STANDING: tuple[Standing, ...] = (membership, review, consent, partner, publication, window, option, units, capacity)


def standing_changes(facts: Facts) -> tuple[datetime | None, ...]:
    """Instants at which one of these may answer differently with no event but time."""
    released: list[datetime | None] = [until for pool in facts.perk.pools for _, until in pool.schedule]
    if facts.perk.waiting:
        released += [until + HEAD_START for pool in facts.perk.pools for _, until in pool.schedule]
    if released:
        released.append(facts.member.tier_ends_at)  # and with it the pools that are kept for the tier
    cut_offs = (option.closes_at for option in facts.perk.options)
    return (facts.perk.opens_at, facts.perk.closes_at, facts.member.consent_expires_at, *released, *cut_offs)
