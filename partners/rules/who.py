"""Rules on who the member is: tier, tenure, market, score and segment."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from partners.facts import Facts, Refusal, RefusalCode
from partners.programme import Handle
from partners.rules.shape import RuleModel, days_full

DAYS_MAX = 36_500
LABEL = r"[a-z0-9][a-z0-9_.:-]{0,62}"
Label = Annotated[str, StringConstraints(pattern=f"^{LABEL}$")]
MarketCode = Annotated[str, StringConstraints(pattern="^[A-Z]{2}$")]


class TierAtLeast(RuleModel):
    """The member's tier is this one or a higher one."""

    kind: Literal["tier_at_least"] = "tier_at_least"
    tier: Handle

    @property
    def sentence(self) -> str:
        """As `The member's tier is gold or higher.`"""
        return f"The member's tier is {self.tier} or higher."

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

    kind: Literal["tier_in"] = "tier_in"
    allowed: Annotated[tuple[Handle, ...], Field(min_length=1, max_length=50)]

    @property
    def sentence(self) -> str:
        """As `The member's tier is one of silver, gold.`"""
        return f"The member's tier is one of {', '.join(self.allowed)}."

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
    """The member joined at least so many calendar days ago, in the perk's zone.

    Whole days, since the very instant of joining would let two partners match a member (law 8).
    """

    kind: Literal["member_for"] = "member_for"
    days: Annotated[int, Field(ge=1, le=DAYS_MAX)]

    @property
    def sentence(self) -> str:
        """As `A member for at least 30 days.`"""
        return f"A member for at least {self.days} days."

    def refusal(self, facts: Facts) -> Refusal | None:
        """JOINED_TOO_RECENTLY until the days are full."""
        return refused_until(days_full(facts.member.joined_at, self.days, facts.perk.zone), self.days, self.kind, facts)

    def changes(self, facts: Facts) -> tuple[datetime | None, ...]:
        """When the days are full."""
        return (days_full(facts.member.joined_at, self.days, facts.perk.zone),)


class LinkedFor(RuleModel):
    """The member agreed with the perk's partner at least so many calendar days ago, in the perk's zone.

    Agreeing again renews the same consent and the days go on; after a withdrawal they begin anew. Whole days, as for
    `member_for`: a member may agree with several partners at one moment (law 8).
    """

    kind: Literal["linked_for"] = "linked_for"
    days: Annotated[int, Field(ge=1, le=DAYS_MAX)]

    @property
    def sentence(self) -> str:
        """As `The member agreed with the partner at least 30 days ago.`"""
        return f"The member agreed with the partner at least {self.days} days ago."

    def refusal(self, facts: Facts) -> Refusal | None:
        """JOINED_TOO_RECENTLY until the days are full; CONSENT_MISSING where there is none to count from."""
        since = facts.member.linked_at
        if since is None:
            return Refusal(RefusalCode.CONSENT_MISSING, self.kind)
        return refused_until(days_full(since, self.days, facts.perk.zone), self.days, self.kind, facts)

    def changes(self, facts: Facts) -> tuple[datetime | None, ...]:
        """When the days are full."""
        since = facts.member.linked_at
        return () if since is None else (days_full(since, self.days, facts.perk.zone),)


def refused_until(due: datetime, days: int, rule: str, facts: Facts) -> Refusal | None:
    """JOINED_TOO_RECENTLY before it is due."""
    if facts.now >= due:
        return None
    return Refusal(RefusalCode.JOINED_TOO_RECENTLY, rule, due, required=f"{days} days")


class Market(RuleModel):
    """The member belongs to one of these markets (ISO 3166-1 alpha-2)."""

    kind: Literal["market"] = "market"
    markets: Annotated[tuple[MarketCode, ...], Field(min_length=1, max_length=250)]

    @property
    def sentence(self) -> str:
        """As `The member's market is one of CH, DE.`"""
        return f"The member's market is one of {', '.join(self.markets)}."

    def refusal(self, facts: Facts) -> Refusal | None:
        """WRONG_MARKET, also for a member without one."""
        if facts.member.market in self.markets:
            return None
        # The market itself is not told: it belongs to what identifies a member.
        return Refusal(RefusalCode.WRONG_MARKET, self.kind, required=", ".join(self.markets))


SCORES = frozenset({1, 5} | {step * 10**power for step in (10, 25, 50, 75) for power in range(9)})


def coarse_score(score: int) -> int:
    """ValueError unless it is one of a few: who could ask for any score would soon know a member's own, and two
    partners could match a member by it (law 8)."""
    if score not in SCORES:
        raise ValueError("1, 2.5, 5 or 7.5 times a power of ten, as 1000 or 2500")
    return score


class ScoreAtLeast(RuleModel):
    """The member's score is at least this: 1, 2.5, 5 or 7.5 times a power of ten."""

    kind: Literal["score_at_least"] = "score_at_least"
    score: Annotated[int, Field(ge=1, le=max(SCORES)), AfterValidator(coarse_score)]

    @property
    def sentence(self) -> str:
        """As `The member's score is at least 2,500.`"""
        return f"The member's score is at least {self.score:,}."

    def refusal(self, facts: Facts) -> Refusal | None:
        """SCORE_TOO_LOW; the score itself is told to the member and to staff alone."""
        if facts.member.score >= self.score:
            return None
        current = None if facts.member.to_partner else str(facts.member.score)
        return Refusal(RefusalCode.SCORE_TOO_LOW, self.kind, required=str(self.score), current=current)


class Segment(RuleModel):
    """The member has one of these labels (`any_of`) and none of those (`none_of`), which the operator imports."""

    kind: Literal["segment"] = "segment"
    any_of: Annotated[tuple[Label, ...], Field(max_length=50)] = ()
    none_of: Annotated[tuple[Label, ...], Field(max_length=50)] = ()

    @model_validator(mode="after")
    def says_something(self) -> "Segment":
        """A segment of nothing is a slip of the pen, and so is one that nobody can be in."""
        if not self.any_of and not self.none_of:
            raise ValueError("at least one label in `any_of` or `none_of`")
        if self.any_of and set(self.any_of) <= set(self.none_of):
            raise ValueError("nobody has a label and has it not")
        return self

    @property
    def sentence(self) -> str:
        """As `The member has one of the labels a, b and none of c.`"""
        some = f"one of the labels {', '.join(self.any_of)}" if self.any_of else ""
        none = f"none of {'' if some else 'the labels '}{', '.join(self.none_of)}" if self.none_of else ""
        return f"The member has {' and '.join(filter(None, (some, none)))}."

    def refusal(self, facts: Facts) -> Refusal | None:
        """WRONG_SEGMENT; which labels a member has is told to nobody."""
        labels = facts.member.labels
        if (not self.any_of or not labels.isdisjoint(self.any_of)) and labels.isdisjoint(self.none_of):
            return None
        return Refusal(RefusalCode.WRONG_SEGMENT, self.kind)
