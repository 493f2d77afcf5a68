"""ADD A RULE HERE: one class with `refusal`, and its name in the union at the foot of the file.

A rule is stored as JSON on the perk's policy and only ever says no, so that adding one never makes anybody eligible.
Never rename or reorder a field; a new field has a default; a code is never reused. Rules never query: what they
need to know is a field of `Facts`.
"""

from abc import abstractmethod
from datetime import date, datetime, timedelta
from typing import Annotated, ClassVar, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter

from partners.allowances import Period, period_key, resets_at
from partners.facts import Facts, Refusal, RefusalCode, start_of_day
from partners.programme import Handle

UNITS_MAX = 1000


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
    """So many uses a member and period, by tier; a tier that is not named has `otherwise`."""

    sentence: ClassVar[str] = "At most {units} uses per {period} by tier."
    kind: Literal["allowance"] = "allowance"
    period: Period
    units: dict[Handle, Annotated[int, Field(ge=0, le=UNITS_MAX)]] = {}
    otherwise: Annotated[int, Field(ge=0, le=UNITS_MAX)] = 0

    def limit(self, tier: str | None) -> int:
        """Uses within one period for a tier."""
        return self.otherwise if tier is None else self.units.get(tier, self.otherwise)

    def key_at(self, now: datetime, zone: str) -> str:
        """The period that `now` falls in."""
        return period_key(self.period, now, zone)

    def refusal(self, facts: Facts) -> Refusal | None:
        """ALLOWANCE_EXHAUSTED until the period ends; where the tier has none, until the tier does, or for ever."""
        limit, used = self.limit(facts.member.tier), facts.used.get(self.key_at(facts.now, facts.perk.zone), 0)
        if used < limit:
            return None
        without_tier = facts.member.tier_ends_at if self.otherwise else None
        again = resets_at(self.period, facts.now, facts.perk.zone) if limit else without_tier
        return Refusal(RefusalCode.ALLOWANCE_EXHAUSTED, self.kind, again, required=str(limit), current=str(used))

    def changes(self, facts: Facts) -> tuple[datetime | None, ...]:
        """When the period ends, and when the tier with its number does."""
        return (resets_at(self.period, facts.now, facts.perk.zone), facts.member.tier_ends_at)

    def tiers(self) -> tuple[str, ...]:
        """Those with a number of their own."""
        return tuple(self.units)


Rule = Annotated[
    TierAtLeast | TierIn | MemberFor | Market | EarlyAccess | Allowance,
    Field(discriminator="kind"),
]
RULES: TypeAdapter[list[Rule]] = TypeAdapter(Annotated[list[Rule], Field(max_length=50)])
