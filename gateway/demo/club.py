"""Who is in the demo's club and what is offered there; invented from top to bottom, and the same on every machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from partners.catalogue import PerkSettings
from partners.tables import PartnerKind, PerkKind

MEMBERS = 1_000
TIERS = ("member", "silver", "gold", "black")
MARKETS = ("DE", "CH", "FR", "JP", "US", "SG", None)
KNOWS_MOST, KNOWS_NOBODY_OF_THEM = "silverline", "wayfarer"
"""The partner that the walk goes with, and one that must learn nothing of the member it goes for."""
USED, EXCLUSIVE = "silverline/roadside-rescue", "silverline/track-day"
"""The perk that the walk claims, without a limit of units, and one that asks for much."""


@dataclass(frozen=True, slots=True)
class PartnerEntry:
    """A brand and its trade."""

    handle: str
    name: str
    kind: PartnerKind


@dataclass(frozen=True, slots=True)
class PerkEntry:
    """An offer; `uses` of it are redeemed from the start."""

    partner: str
    handle: str
    kind: PerkKind
    settings: PerkSettings
    uses: int = 0
    paused: bool = False

    @property
    def full_handle(self) -> str:
        """As the API names it."""
        return f"{self.partner}/{self.handle}"


@dataclass(frozen=True, slots=True)
class MemberEntry:
    """A person. A tier that has an end has lapsed; who consents to no partner is unknown to all."""

    external_id: str
    market: str | None
    joined_at: datetime
    tier: str | None
    tier_ends_at: datetime | None
    consents_to: tuple[str, ...]


PARTNERS = (
    PartnerEntry("silverline", "Silverline Motor Club", PartnerKind.CAR_CLUB),
    PartnerEntry("atelier-rosee", "Atelier Rosée", PartnerKind.COSMETICS),
    PartnerEntry("wayfarer", "Wayfarer House", PartnerKind.TRAVEL),
)


def perks(today: date) -> list[PerkEntry]:
    """A dozen offers of all five kinds, with windows around `today`."""
    return [*car_club(today), *cosmetics_house(today), *travel_house(today)]


def car_club(today: date) -> list[PerkEntry]:
    """For drivers; one is sold out."""
    alps = ["CH", "DE", "FR"]

    def perk(handle: str, kind: PerkKind, title: str, *rules: dict[str, Any], uses: int = 0, **more: Any) -> PerkEntry:
        settings = PerkSettings(title=title, time_zone="Europe/Zurich", rules=rules, **around(today) | more)
        return PerkEntry("silverline", handle, kind, settings, uses)

    return [
        perk(
            "track-day",
            PerkKind.EVENT,
            "A day on the track with an instructor",
            at_least("gold"),
            {"kind": "member_for", "days": 180},
            {"kind": "market", "markets": alps},
            allowance("YEAR", gold=2, black=6),
            units=400,
        ),
        perk(
            "roadside-rescue",
            PerkKind.SERVICE,
            "Roadside rescue, day and night",
            at_least("silver"),
            allowance("MONTH", silver=2, gold=8, black=30),
        ),
        perk(
            "paddock-lounge",
            PerkKind.ACCESS,
            "The paddock lounge on race days",
            {"kind": "tier_in", "allowed": ["gold", "black"]},
            {"kind": "market", "markets": alps},
        ),
        perk(
            "prototype-drive",
            PerkKind.EVENT,
            "Three drives in next year's prototype",
            {"kind": "tier_in", "allowed": ["black"]},
            allowance("EVER", otherwise=1),
            uses=3,
            units=3,
        ),
    ]


def cosmetics_house(today: date) -> list[PerkEntry]:
    """For everybody, or for some first; one is paused and one is to come."""

    def perk(
        handle: str, kind: PerkKind, title: str, *rules: dict[str, Any], paused: bool = False, uses: int = 0, **more: Any
    ) -> PerkEntry:
        settings = PerkSettings(title=title, time_zone="Europe/Paris", rules=rules, **around(today) | more)
        return PerkEntry("atelier-rosee", handle, kind, settings, uses, paused)

    return [
        perk(
            "serum-sample",
            PerkKind.SAMPLE,
            "The new serum, 5 ml",
            allowance("MONTH", otherwise=1, black=3),
            uses=12,
            units=2_000,
        ),
        perk(
            "winter-set",
            PerkKind.SAMPLE,
            "The winter set, gold members first",
            {"kind": "early_access", "until": (today + timedelta(days=10)).isoformat(), "tier": "gold"},
            allowance("EVER", otherwise=1),
            units=200,
        ),
        perk(
            "skin-consultation",
            PerkKind.SERVICE,
            "A consultation by video, in your evening",
            at_least("silver"),
            allowance("WEEK", otherwise=1),
            paused=True,
            time_zone="America/New_York",
        ),
        perk(
            "private-evening",
            PerkKind.EVENT,
            "An evening at the atelier",
            at_least("gold"),
            {"kind": "member_for", "days": 365},
            units=60,
            opens_on=today + timedelta(days=21),
            closes_on=today + timedelta(days=21),
        ),
    ]


def travel_house(today: date) -> list[PerkEntry]:
    """For travellers, in the zones they land in; one has ended."""

    def perk(
        handle: str, kind: PerkKind, title: str, zone: str, *rules: dict[str, Any], uses: int = 0, **more: Any
    ) -> PerkEntry:
        settings = PerkSettings(title=title, time_zone=zone, rules=rules, **around(today) | more)
        return PerkEntry("wayfarer", handle, kind, settings, uses)

    return [
        perk(
            "suite-upgrade",
            PerkKind.CODE,
            "A code for a suite instead of a room",
            "America/New_York",
            at_least("gold"),
            {"kind": "member_for", "days": 365},
            allowance("YEAR", gold=1, black=4),
            uses=4,
            units=300,
        ),
        perk(
            "airport-transfer",
            PerkKind.SERVICE,
            "From the airport to your door",
            "Asia/Tokyo",
            at_least("silver"),
            {"kind": "market", "markets": ["JP", "SG"]},
            allowance("MONTH", silver=1, gold=2, black=10),
        ),
        perk(
            "airport-lounge",
            PerkKind.ACCESS,
            "Lounges of forty airports",
            "Asia/Singapore",
            at_least("silver"),
            allowance("WEEK", silver=1, gold=3, black=50),
        ),
        perk(
            "summer-fares",
            PerkKind.CODE,
            "Last summer's fares",
            "Europe/London",
            allowance("EVER", otherwise=1),
            opens_on=today - timedelta(days=120),
            closes_on=today - timedelta(days=2),
        ),
    ]


def around(today: date) -> dict[str, Any]:
    """A window that is open."""
    return {"opens_on": today - timedelta(days=30), "closes_on": today + timedelta(days=330)}


def at_least(tier: str) -> dict[str, Any]:
    """A rule: this tier or a higher one."""
    return {"kind": "tier_at_least", "tier": tier}


def allowance(period: str, *, otherwise: int = 0, **units: int) -> dict[str, Any]:
    """A rule: so many uses a period, by tier."""
    return {"kind": "allowance", "period": period, "units": units, "otherwise": otherwise}


def members(now: datetime) -> Sequence[MemberEntry]:
    """A thousand, of whom each partner knows four in five: 10 black, 90 gold, 250 silver, 30 whose tier has lapsed,
    20 who have none yet, and 600 of the first tier. The first is a gold member whom the travel house doesn't know."""
    return [member(number, now) for number in range(1, MEMBERS + 1)]


def member(number: int, now: datetime) -> MemberEntry:
    """The n-th, always the same."""
    place = number % 100
    lapsed = 35 <= place < 38
    joined_at = now - timedelta(days=10 + number * 487 % 1800)
    return MemberEntry(
        external_id=f"member-{number:04}",
        market=MARKETS[number % len(MARKETS)],
        joined_at=joined_at,
        tier=tier_at(place),
        tier_ends_at=joined_at + (now - joined_at) / 2 if lapsed else None,
        consents_to=tuple(one.handle for nth, one in enumerate(PARTNERS) if (number + 2 * nth) % 5),
    )


def tier_at(place: int) -> str | None:
    """The tier of one place in a hundred."""
    if place in (38, 39):
        return None
    return "black" if place == 0 else "gold" if place < 10 or 35 <= place < 38 else "silver" if place < 35 else "member"
