"""The rules that every perk has without declaring them: membership, consent, states, window and capacity."""

from datetime import datetime
from typing import Protocol

from partners.facts import Facts, Refusal, RefusalCode
from partners.tables import PartnerState, PerkState


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


def capacity(facts: Facts) -> Refusal | None:
    """CAPACITY_EXHAUSTED; a released or expired hold may change that at any time."""
    return Refusal(RefusalCode.CAPACITY_EXHAUSTED, "capacity") if facts.perk.left == 0 else None


STANDING: tuple[Standing, ...] = (membership, consent, partner, publication, window, capacity)


def standing_changes(facts: Facts) -> tuple[datetime | None, ...]:
    """Instants at which one of these may answer differently with no event but time."""
    return (facts.perk.opens_at, facts.perk.closes_at, facts.member.consent_expires_at)
