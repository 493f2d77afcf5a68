"""Who is in the demo's club and what is offered there: invented from top to bottom, the same on every machine."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from gateway.demo.choices import colours, evenings, nothing
from partners.import_rows import MemberRow, PerkRow, read_row
from partners.tables import PartnerKind, PerkKind, PerkState

MEMBERS = 1_000
TIERS = ("member", "silver", "gold", "black")
MARKETS = ("DE", "CH", "FR", "JP", "US", "SG", None)
ALPS = ["CH", "DE", "FR"]

# The parts of the walk: a partner, one that must learn nothing, a perk that many may have, one that asks for much,
# and a member who meets none of what it asks.
PARTNER, STRANGER = "silverline", "wayfarer"
USUAL_PERK, HARD_PERK = "silverline/hand-wash", "silverline/track-day"
NEWCOMER = "member-0074"


@dataclass(frozen=True, slots=True)
class PartnerEntry:
    """A brand and its trade."""

    handle: str
    name: str
    kind: PartnerKind


@dataclass(frozen=True, slots=True)
class PerkEntry:
    """An offer, open from `opens` to `closes`, in days from today; `uses` of it are redeemed from the start.

    `settings` are its kind's, as of today; `codes` are in its pool.
    """

    handle: str
    kind: PerkKind
    title: str
    time_zone: str
    rules: tuple[dict[str, Any], ...]
    capacity: int | None = None
    opens: int = -30
    closes: int = 330
    uses: int = 0
    codes: int = 0
    units_max: int = 1
    settings: Callable[[date], dict[str, Any]] = nothing
    state: PerkState = PerkState.PUBLISHED

    @property
    def partner(self) -> str:
        """Whose it is."""
        return self.handle.partition("/")[0]

    def row(self, today: date) -> PerkRow:
        """The offer with its dates, as an operator would import it."""
        same = ("partner", "kind", "title", "time_zone", "capacity", "units_max", "state")
        values = {name: getattr(self, name) for name in same} | {"settings": self.settings(today)}
        rules = [rule | {"until": shifted(today, rule["until"])} if "until" in rule else rule for rule in self.rules]
        dates = {"opens_on": shifted(today, self.opens), "closes_on": shifted(today, self.closes)}
        own = self.handle.partition("/")[2]
        return read_row(PerkRow, values | dates | {"handle": own, "rules": rules}, self.time_zone)


def shifted(today: date, days: int) -> str:
    """A day so many days from today, as it is written."""
    return (today + timedelta(days=days)).isoformat()


PARTNERS = (
    PartnerEntry("silverline", "Silverline Motor Club", PartnerKind.CAR_CLUB),
    PartnerEntry("atelier-rosee", "Atelier Rosée", PartnerKind.COSMETICS),
    PartnerEntry("wayfarer", "Wayfarer House", PartnerKind.TRAVEL),
)


def perk(handle: str, kind: PerkKind, title: str, time_zone: str, *rules: dict[str, Any], **settings: Any) -> PerkEntry:
    """One line of the catalogue."""
    return PerkEntry(handle, kind, title, time_zone, rules, **settings)


def at_least(tier: str) -> dict[str, Any]:
    """A rule: this tier or a higher one."""
    return {"kind": "tier_at_least", "tier": tier}


def one_of(*tiers: str) -> dict[str, Any]:
    """A rule: just these tiers."""
    return {"kind": "tier_in", "allowed": list(tiers)}


def member_for(days: int) -> dict[str, Any]:
    """A rule: joined so long ago."""
    return {"kind": "member_for", "days": days}


def in_markets(*markets: str) -> dict[str, Any]:
    """A rule: just these markets."""
    return {"kind": "market", "markets": list(markets)}


def first(tier: str, *, for_days: int) -> dict[str, Any]:
    """A rule: this tier before the others; `row` makes a date of the days."""
    return {"kind": "early_access", "until": for_days, "tier": tier}


def allowance(period: str, *, otherwise: int = 0, **units: int) -> dict[str, Any]:
    """A rule: so many uses a period, by tier."""
    return {"kind": "allowance", "period": period, "units": units, "otherwise": otherwise}


PERKS = (
    perk(
        "silverline/track-day",
        PerkKind.EVENT,
        "A day on the track with an instructor",
        "Europe/Zurich",
        at_least("gold"),
        member_for(180),
        in_markets(*ALPS),
        allowance("YEAR", gold=2, black=6),
        capacity=400,
    ),
    perk(
        "silverline/hand-wash",
        PerkKind.SAMPLE,
        "Your car washed by hand",
        "Europe/Zurich",
        at_least("silver"),
        allowance("MONTH", silver=2, gold=8, black=30),
    ),
    perk(
        "silverline/roadside-rescue",
        PerkKind.SERVICE,
        "Roadside rescue, day and night",
        "Europe/Zurich",
        at_least("silver"),
        allowance("MONTH", silver=2, gold=8, black=30),
    ),
    perk(
        "silverline/paddock-lounge",
        PerkKind.ACCESS,
        "The paddock lounge on race days",
        "Europe/Zurich",
        one_of("gold", "black"),
        in_markets(*ALPS),
    ),
    perk(
        "silverline/prototype-drive",
        PerkKind.EVENT,
        "Three drives in the prototype, all taken",
        "Europe/Zurich",
        one_of("black"),
        allowance("EVER", otherwise=1),
        capacity=3,
        uses=3,
    ),
    perk(
        "atelier-rosee/serum-sample",
        PerkKind.SAMPLE,
        "The new serum, 5 ml",
        "Europe/Paris",
        allowance("MONTH", otherwise=1, black=3),
        capacity=2_000,
        uses=12,
    ),
    perk(
        "atelier-rosee/winter-set",
        PerkKind.SAMPLE,
        "The winter set, gold members first",
        "Europe/Paris",
        first("gold", for_days=10),
        allowance("EVER", otherwise=1),
        capacity=200,
    ),
    perk(
        "atelier-rosee/skin-consultation",
        PerkKind.SERVICE,
        "A consultation by video, paused for now",
        "America/New_York",
        at_least("silver"),
        allowance("WEEK", otherwise=1),
        state=PerkState.PAUSED,
    ),
    perk(
        "atelier-rosee/private-evening",
        PerkKind.EVENT,
        "An evening at the atelier, in three weeks",
        "Europe/Paris",
        at_least("gold"),
        member_for(365),
        capacity=60,
        opens=21,
        closes=21,
    ),
    perk(
        "wayfarer/suite-upgrade",
        PerkKind.CODE,
        "A code for a suite instead of a room",
        "America/New_York",
        at_least("gold"),
        member_for(365),
        allowance("YEAR", gold=1, black=4),
        codes=300,
        uses=4,
    ),
    perk(
        "wayfarer/airport-transfer",
        PerkKind.SERVICE,
        "From the airport to your door",
        "Asia/Tokyo",
        at_least("silver"),
        in_markets("JP", "SG"),
        allowance("MONTH", silver=1, gold=2, black=10),
    ),
    perk(
        "wayfarer/airport-lounge",
        PerkKind.ACCESS,
        "Lounges of forty airports",
        "Asia/Singapore",
        at_least("silver"),
        allowance("WEEK", silver=1, gold=3, black=50),
    ),
    perk(
        "wayfarer/summer-fares",
        PerkKind.CODE,
        "Fares of last season, over by now",
        "Europe/London",
        allowance("EVER", otherwise=1),
        opens=-120,
        closes=-2,
        codes=20,
    ),
    perk(
        "silverline/winter-gala",
        PerkKind.EVENT,
        "The winter gala, for parties of up to four",
        "Europe/Zurich",
        at_least("silver"),
        allowance("YEAR", otherwise=4),
        units_max=4,
        settings=evenings,
    ),
    perk(
        "atelier-rosee/lip-colours",
        PerkKind.SAMPLE,
        "A lip colour to try, of three",
        "Europe/Paris",
        allowance("MONTH", otherwise=1),
        settings=colours,
    ),
)


def members(today: date, zone: str) -> list[MemberRow]:
    """A thousand, of whom each partner knows four in five: 10 black, 120 gold, 250 silver, 600 of the first tier and 20
    who have none yet. The first of all is gold, and unknown to the travel house."""
    return [member(number, today, zone) for number in range(1, MEMBERS + 1)]


def member(number: int, today: date, zone: str) -> MemberRow:
    """The n-th, always the same but for the days that have passed."""
    values = {
        "external_id": f"member-{number:04}",
        "joined_at": shifted(today, -10 - number * 487 % 1800),
        "market": MARKETS[number % len(MARKETS)],
        "tier": tier_at(number % 100),
        "consents": [one.handle for nth, one in enumerate(PARTNERS) if (number + 2 * nth) % 5],
    }
    return read_row(MemberRow, values, zone)


def tier_at(place: int) -> str | None:
    """The tier of one place in a hundred."""
    if place in (38, 39):
        return None
    if place == 12:
        return "black"
    return "gold" if place < 10 or 35 <= place < 38 else "silver" if place < 35 else "member"
