"""Rules on how often: allowances, perks that exclude each other, and claims that come too fast."""

from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import Field, model_validator

from partners.allowances import (
    LOOK_BACK,
    Period,
    Weekday,
    Window,
    calendar_window,
    frees_at,
    rolling_window,
)
from partners.facts import Facts, MemberFacts, Refusal, RefusalCode
from partners.programme import Handle
from partners.rules.shape import RuleModel

UNITS_MAX = 1000
AMOUNT_MAX = 2**31 - 1  # minor units: what a GraphQL Int holds
HOURS_MAX = 36_525 * 24
CLAIMS_HOURS_MAX = 31 * 24  # as far back as claims are read
Limit = Annotated[int, Field(ge=0, le=AMOUNT_MAX)]
A_PERIOD = {
    Period.DAY: "a day",
    Period.WEEK: "a week",
    Period.MONTH: "a month",
    Period.YEAR: "a year",
    Period.EVER: "in all",
}


class Allowance(RuleModel):
    """So many uses in a period, by the member's tier; a tier that is not named has `otherwise`.

    `per` says who they are counted for: the member, its household (a member of none is one by itself) or the device;
    once per household is 1 with the period EVER. With the `measure` "amount" the limits are minor units of the perk's
    currency. ROLLING looks back over so many `hours` from each moment.
    """

    kind: Literal["allowance"] = "allowance"
    period: Period
    units: dict[Handle, Limit] = Field(default_factory=dict)
    otherwise: Limit = 0
    per: Literal["member", "household", "device"] = "member"
    measure: Literal["units", "amount"] = "units"
    week_starts: Weekday = Weekday.MONDAY
    hours: Annotated[int, Field(ge=1, le=HOURS_MAX)] | None = None

    @model_validator(mode="after")
    def consistent(self) -> "Allowance":
        """Hours go with ROLLING, and units are counted to a thousand."""
        if (self.hours is None) == (self.period is Period.ROLLING):
            raise ValueError("`hours` go with the period ROLLING, and with no other")
        if self.measure == "units" and max([self.otherwise, *self.units.values()]) > UNITS_MAX:
            raise ValueError(f"at most {UNITS_MAX} uses")
        return self

    @property
    def sentence(self) -> str:
        """As `At most 1 use a month for each household.` or `Uses a week: gold 1, black 3, others 0.`"""
        within = f"within any {self.hours} hours" if self.hours else A_PERIOD[self.period]
        whom = {"member": "", "household": " for each household", "device": " on each device"}[self.per]
        what = "minor units of the currency" if self.by_amount else "use" if self.otherwise == 1 else "uses"
        if not self.units:
            return f"At most {self.otherwise:,} {what} {within}{whom}."
        limits = ", ".join(f"{tier} {limit:,}" for tier, limit in self.units.items())
        head = "Minor units of the currency" if self.by_amount else "Uses"
        return f"{head} {within}{whom}: {limits}, others {self.otherwise:,}."

    @property
    def of_claim(self) -> bool:
        """Which device it is, the claim says."""
        return self.per == "device"

    @property
    def by_amount(self) -> bool:
        """Whether money is counted, not uses."""
        return self.measure == "amount"

    @property
    def look_back(self) -> int:
        """How far back uses have to be read (s)."""
        return LOOK_BACK[self.period] if self.hours is None else self.hours * 3600

    @property
    def code(self) -> RefusalCode:
        """What a claim beyond it is told."""
        if self.per == "household":
            return RefusalCode.HOUSEHOLD_LIMIT_REACHED
        if self.per == "device":
            return RefusalCode.DEVICE_ALREADY_USED
        return RefusalCode.VALUE_LIMIT_REACHED if self.by_amount else RefusalCode.ALLOWANCE_EXHAUSTED

    def limit(self, tier: str | None) -> int:
        """What a tier has within one period."""
        return self.otherwise if tier is None else self.units.get(tier, self.otherwise)

    def subject(self, member: MemberFacts) -> str:
        """Whose uses count: a member of no household is one by itself."""
        return "member" if self.per == "household" and member.household is None else self.per

    def window(self, now: datetime, zone: str) -> Window:
        """What counts at `now`."""
        if self.hours is not None:
            return rolling_window(self.hours, now)
        return calendar_window(self.period, now, zone, self.week_starts)

    def used(self, facts: Facts) -> int:
        """What was used of it within the window in force."""
        uses = facts.uses.get(self.subject(facts.member), ())
        return self.window(facts.now, facts.perk.zone).used(uses, self.by_amount)

    def wanted(self, facts: Facts) -> int:
        """What is asked for; of an amount, whether there is any left, until a claim says how much."""
        return max(1, facts.said.amount) if self.by_amount else facts.said.units

    def fits(self, facts: Facts, wanted: int) -> bool:
        """Whether so much is left."""
        return self.used(facts) + wanted <= self.limit(facts.member.tier)

    def resets_at(self, facts: Facts, wanted: int = 1) -> datetime | None:
        """When the calendar period ends; of a rolling one, when it will let `wanted` through with nothing used
        meanwhile (None: never, or now)."""
        window = self.window(facts.now, facts.perk.zone)
        return window.ends if self.hours is None else self.rolls_at(facts, self.limit(facts.member.tier), wanted)

    def rolls_at(self, facts: Facts, limit: int, wanted: int) -> datetime | None:
        """When the rolling window will have let go of enough for this limit."""
        uses = facts.uses.get(self.subject(facts.member), ())
        window, surplus = self.window(facts.now, facts.perk.zone), self.used(facts) + wanted - limit
        return frees_at(uses, window, surplus, self.by_amount, self.hours or 0) if surplus > 0 else None

    def fits_at(self, facts: Facts, wanted: int) -> datetime | None:
        """The first instant to come at which so much is left, with nothing used meanwhile: when the period ends, when
        a rolling window has let go of enough, or when the tier ends and the limit is another; None: never."""
        limits = (self.limit(facts.member.tier), self.otherwise)
        ends = (self.resets_at(facts), *(self.rolls_at(facts, limit, wanted) for limit in limits if self.hours))
        ahead = {one for one in (*ends, facts.member.tier_ends_at) if one is not None and one > facts.now}
        return next((one for one in sorted(ahead) if self.fits(facts.at(one), wanted)), None)

    def refusal(self, facts: Facts) -> Refusal | None:
        """ALLOWANCE_EXHAUSTED and its kin until time gives enough back, or for ever. DEVICE_MISSING where a device
        counts and none was named."""
        if self.per == "device" and facts.said.device is None:
            return Refusal(RefusalCode.DEVICE_MISSING, self.kind)
        wanted = self.wanted(facts)
        if self.fits(facts, wanted):
            return None
        limit, used = self.limit(facts.member.tier), self.used(facts)
        return Refusal(self.code, self.kind, self.fits_at(facts, wanted), required=str(limit), current=str(used))

    def changes(self, facts: Facts) -> tuple[datetime | None, ...]:
        """When uses stop to count, and when the tier with its number ends."""
        if self.hours is None:
            return (self.window(facts.now, facts.perk.zone).ends, facts.member.tier_ends_at)
        uses = facts.uses.get(self.subject(facts.member), ())
        return (*(use.at + timedelta(hours=self.hours) for use in uses), facts.member.tier_ends_at)

    def tiers(self) -> tuple[str, ...]:
        """Those with a number of their own."""
        return tuple(self.units)


class NotTogether(RuleModel):
    """Not with another perk of the same group: whoever holds or has one of a partner's perks with this group in its
    rules can't claim the others, until it is released, expired or given back by a reversal."""

    kind: Literal["not_together"] = "not_together"
    group: Handle

    @property
    def sentence(self) -> str:
        """As `Not together with another perk of the group spa.`"""
        return f"Not together with another perk of the group {self.group}."

    def refusal(self, facts: Facts) -> Refusal | None:
        """CONFLICTS_WITH_HELD_PERK; a claim checks it again under the member's lock."""
        if self.group not in facts.member.exclusions:
            return None
        return Refusal(RefusalCode.CONFLICTS_WITH_HELD_PERK, self.kind, required=self.group)

    def needs(self) -> tuple[str, ...]:
        """The groups of what the member holds or has."""
        return ("exclusions",)


class Velocity(RuleModel):
    """No more than so many claims on all of the partner's perks within so many hours.

    A claim beyond that opens a review: from then on nothing of this partner is for the member, until staff clear it.
    Claims count whatever became of them; those before a review was cleared don't.
    """

    kind: Literal["velocity"] = "velocity"
    claims: Annotated[int, Field(ge=1, le=UNITS_MAX)]
    hours: Annotated[int, Field(ge=1, le=CLAIMS_HOURS_MAX)]

    @property
    def sentence(self) -> str:
        """As `At most 5 claims on the partner's perks within 24 hours; beyond that staff look into them.`"""
        limit = f"At most {self.claims} claims on the partner's perks within {self.hours} hours"
        return f"{limit}; beyond that staff look into them."

    def refusal(self, facts: Facts) -> Refusal | None:
        """UNDER_REVIEW. It names no end: time lifts it only for who does not claim, and staff a review."""
        window = rolling_window(self.hours, facts.now)
        if sum(window.holds(at) for at in facts.member.claimed_at) < self.claims:
            return None
        return Refusal(RefusalCode.UNDER_REVIEW, self.kind, required=f"{self.claims} in {self.hours} hours")

    def changes(self, facts: Facts) -> tuple[datetime | None, ...]:
        """When claims stop to count."""
        return tuple(at + timedelta(hours=self.hours) for at in facts.member.claimed_at)

    def needs(self) -> tuple[str, ...]:
        """The member's claims."""
        return ("claims",)
