"""ADD A RULE HERE: one class with `refusal`, and its name in the union at the foot of the file.

A rule is stored as JSON on the perk's policy and only ever says no, so that adding one never makes anybody eligible.
Never rename or reorder a field; a new field has a default; a code is never reused. Rules never query: what they
need to know is a field of `Facts`.
"""

from abc import abstractmethod
from datetime import date, datetime, timedelta
from typing import Annotated, ClassVar, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, model_validator

from partners.allowances import (
    LOOK_BACK,
    Period,
    Weekday,
    Window,
    calendar_window,
    frees_at,
    rolling_window,
)
from partners.facts import Facts, MemberFacts, Refusal, RefusalCode, start_of_day
from partners.programme import Handle

UNITS_MAX = 1000
AMOUNT_MAX = 10**12  # minor units
HOURS_MAX = 36_525 * 24


class RuleModel(BaseModel):
    """What every rule has: `refusal`, the instants at which time alone may change its answer, and its tiers."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    sentence: ClassVar[str]

    @abstractmethod
    def refusal(self, facts: Facts) -> Refusal | None:
        """Why this rule refuses, or None."""

    def changes(self, facts: Facts) -> tuple[datetime | None, ...]:
        """Instants at which the answer of this rule may change with no event but time."""
        return ()

    def tiers(self) -> tuple[str, ...]:
        """The tiers it names, which the programme must have."""
        return ()

    def needs(self) -> tuple[str, ...]:
        """The facts that are read only for rules that need them: `claims`, `exclusions`."""
        return ()


class TierAtLeast(RuleModel):
    """The member's tier is this one or a higher one."""

    sentence: ClassVar[str] = "The member's tier is {tier} or higher."
    kind: Literal["tier_at_least"] = "tier_at_least"
    tier: Handle

    def refusal(self, facts: Facts) -> Refusal | None:
        """TIER_TOO_LOW, or TIER_EXPIRED when an earlier tier has lapsed and none is in force."""
        return None if facts.is_at_least(self.tier) else tier_refusal(facts, self.kind, self.tier)

    def changes(self, facts: Facts) -> tuple[datetime | None, ...]:
        """When the member's tier ends."""
        return (facts.member.tier_ends_at,)

    def tiers(self) -> tuple[str, ...]:
        """The one it asks for."""
        return (self.tier,)


class TierIn(RuleModel):
    """The member's tier is one of these."""

    sentence: ClassVar[str] = "The member's tier is one of {allowed}."
    kind: Literal["tier_in"] = "tier_in"
    allowed: Annotated[tuple[Handle, ...], Field(min_length=1, max_length=50)]

    def refusal(self, facts: Facts) -> Refusal | None:
        """TIER_TOO_LOW or TIER_EXPIRED, as for `tier_at_least`."""
        return None if facts.member.tier in self.allowed else tier_refusal(facts, self.kind, ", ".join(self.allowed))

    def changes(self, facts: Facts) -> tuple[datetime | None, ...]:
        """When the member's tier ends."""
        return (facts.member.tier_ends_at,)

    def tiers(self) -> tuple[str, ...]:
        """Those it allows."""
        return self.allowed


def tier_refusal(facts: Facts, rule: str, required: str) -> Refusal:
    """No tier now but one before is TIER_EXPIRED; anything else is TIER_TOO_LOW."""
    lapsed = facts.member.tier is None and facts.member.tier_lapsed
    code = RefusalCode.TIER_EXPIRED if lapsed else RefusalCode.TIER_TOO_LOW
    return Refusal(code, rule, required=required, current=facts.member.tier)


class MemberFor(RuleModel):
    """The member joined at least so many calendar days ago, in the perk's zone: whole days, since the very instant
    of joining would let two partners match a member (law 8)."""

    sentence: ClassVar[str] = "A member for at least {days} days."
    kind: Literal["member_for"] = "member_for"
    days: Annotated[int, Field(ge=1, le=36_500)]

    def due(self, facts: Facts) -> datetime:
        """The start of the day on which the days are full."""
        joined = facts.member.joined_at.astimezone(ZoneInfo(facts.perk.zone)).date()
        return start_of_day(joined + timedelta(days=self.days), facts.perk.zone)

    def refusal(self, facts: Facts) -> Refusal | None:
        """JOINED_TOO_RECENTLY until the days are full."""
        due = self.due(facts)
        if facts.now >= due:
            return None
        return Refusal(RefusalCode.JOINED_TOO_RECENTLY, self.kind, due, required=f"{self.days} days")

    def changes(self, facts: Facts) -> tuple[datetime | None, ...]:
        """When the days are full."""
        return (self.due(facts),)


class Market(RuleModel):
    """The member belongs to one of these markets (ISO 3166-1 alpha-2)."""

    sentence: ClassVar[str] = "The member's market is one of {markets}."
    kind: Literal["market"] = "market"
    markets: Annotated[
        tuple[Annotated[str, StringConstraints(pattern="^[A-Z]{2}$")], ...],
        Field(min_length=1, max_length=250),
    ]

    def refusal(self, facts: Facts) -> Refusal | None:
        """WRONG_MARKET, also for a member without one."""
        if facts.member.market in self.markets:
            return None
        # The market itself is not told: it belongs to what identifies a member.
        return Refusal(RefusalCode.WRONG_MARKET, self.kind, required=", ".join(self.markets))


class EarlyAccess(RuleModel):
    """Before the start of a date (in the perk's zone) only this tier or a higher one; then everybody."""

    sentence: ClassVar[str] = "Until {until} only {tier} or higher."
    kind: Literal["early_access"] = "early_access"
    until: Annotated[date, Field(gt=date.min)]  # whose midnight in the east is before the first instant
    tier: Handle

    def refusal(self, facts: Facts) -> Refusal | None:
        """EARLY_ACCESS_ONLY, which ends by itself."""
        opens = start_of_day(self.until, facts.perk.zone)
        if facts.now >= opens or facts.is_at_least(self.tier):
            return None
        return Refusal(RefusalCode.EARLY_ACCESS_ONLY, self.kind, opens, required=self.tier, current=facts.member.tier)

    def changes(self, facts: Facts) -> tuple[datetime | None, ...]:
        """When it opens to everybody, and when a tier that comes first ends."""
        return (start_of_day(self.until, facts.perk.zone), facts.member.tier_ends_at)

    def tiers(self) -> tuple[str, ...]:
        """The one that comes first."""
        return (self.tier,)


class Allowance(RuleModel):
    """So many uses in a period, by the member's tier; a tier that is not named has `otherwise`.

    `per` says who they are counted for: the member, its household or the device. With the `measure` "amount" the limits
    are minor units of the perk's currency. ROLLING needs `hours`.
    """

    sentence: ClassVar[str] = "At most {units} uses per {period} by tier."
    kind: Literal["allowance"] = "allowance"
    period: Period
    units: dict[Handle, Annotated[int, Field(ge=0, le=AMOUNT_MAX)]] = {}
    otherwise: Annotated[int, Field(ge=0, le=AMOUNT_MAX)] = 0
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

    def resets_at(self, facts: Facts, wanted: int = 1) -> datetime | None:
        """When it will let `wanted` through with nothing used meanwhile; None when it never will."""
        window = self.window(facts.now, facts.perk.zone)
        if self.hours is None:
            return window.ends
        surplus = self.used(facts) + wanted - self.limit(facts.member.tier)
        uses = facts.uses.get(self.subject(facts.member), ())
        return frees_at(uses, window, surplus, self.by_amount, self.hours)

    def refusal(self, facts: Facts) -> Refusal | None:
        """ALLOWANCE_EXHAUSTED and its kin until the period ends; where the tier has none, until the tier does, or for
        ever. DEVICE_MISSING where a device counts and none was named."""
        if self.per == "device" and facts.said.device is None:
            return Refusal(RefusalCode.DEVICE_MISSING, self.kind)
        limit, used = self.limit(facts.member.tier), self.used(facts)
        # Of an amount the question is whether there is any left, until a claim says how much.
        wanted = max(1, facts.said.amount) if self.by_amount else facts.said.units
        if used + wanted <= limit:
            return None
        without_tier = facts.member.tier_ends_at if self.otherwise else None
        again = self.resets_at(facts, wanted) if limit >= wanted else without_tier
        return Refusal(self.code, self.kind, again, required=str(limit), current=str(used))

    def changes(self, facts: Facts) -> tuple[datetime | None, ...]:
        """When uses stop to count, and when the tier with its number ends."""
        if self.hours is None:
            return (self.window(facts.now, facts.perk.zone).ends, facts.member.tier_ends_at)
        uses = facts.uses.get(self.subject(facts.member), ())
        return (*(use.at + timedelta(hours=self.hours) for use in uses), facts.member.tier_ends_at)

    def tiers(self) -> tuple[str, ...]:
        """Those with a number of their own."""
        return tuple(self.units)


Rule = Annotated[
    TierAtLeast | TierIn | MemberFor | Market | EarlyAccess | Allowance,
    Field(discriminator="kind"),
]
RULES: TypeAdapter[list[Rule]] = TypeAdapter(Annotated[list[Rule], Field(max_length=50)])
