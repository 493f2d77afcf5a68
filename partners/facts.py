"""Everything that a rule may know about one member and one perk at one moment; rules never ask for more."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

from partners.tables import MemberState, PartnerState, PerkState
from partners.values import value


class RefusalCode(StrEnum):
    """The closed list of reasons for a no, part of the API; a code is never reused (docs/errors.md)."""

    NOT_A_MEMBER = "NOT_A_MEMBER"
    MEMBERSHIP_SUSPENDED = "MEMBERSHIP_SUSPENDED"
    TIER_TOO_LOW = "TIER_TOO_LOW"
    TIER_EXPIRED = "TIER_EXPIRED"
    JOINED_TOO_RECENTLY = "JOINED_TOO_RECENTLY"
    NOT_STARTED = "NOT_STARTED"
    ENDED = "ENDED"
    EARLY_ACCESS_ONLY = "EARLY_ACCESS_ONLY"
    WRONG_MARKET = "WRONG_MARKET"
    PERK_PAUSED = "PERK_PAUSED"
    PARTNER_SUSPENDED = "PARTNER_SUSPENDED"
    CONSENT_MISSING = "CONSENT_MISSING"
    ALLOWANCE_EXHAUSTED = "ALLOWANCE_EXHAUSTED"
    CAPACITY_EXHAUSTED = "CAPACITY_EXHAUSTED"
    HOLD_EXPIRED = "HOLD_EXPIRED"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
    REVERSAL_WINDOW_CLOSED = "REVERSAL_WINDOW_CLOSED"
    ALREADY_REVERSED = "ALREADY_REVERSED"
    NOT_AVAILABLE = "NOT_AVAILABLE"


@value
class Refusal:
    """One failing rule: its code, the rule's kind, when time alone could change it, and figures that explain it."""

    code: RefusalCode
    rule: str
    eligible_again_at: datetime | None = None
    required: str | None = None
    current: str | None = None


@value
class MemberFacts:
    """What is known of the member; `tier` is the one in force now, `tier_lapsed` that there was one before."""

    state: str
    joined_at: datetime
    market: str | None = None
    tier: str | None = None
    tier_ends_at: datetime | None = None
    tier_lapsed: bool = False
    consented: bool = True
    consent_expires_at: datetime | None = None

    @property
    def suspended(self) -> bool:
        """A suspended member keeps everything and may use nothing."""
        return self.state != MemberState.ACTIVE


@value
class PerkFacts:
    """What is known of the perk and its partner; a null bound of the window or of the capacity is none."""

    state: str = PerkState.PUBLISHED
    partner_state: str = PartnerState.ACTIVE
    zone: str = "UTC"
    opens_on: date | None = None
    closes_on: date | None = None
    units: int | None = None
    taken: int = 0

    @property
    def opens_at(self) -> datetime | None:
        """The first instant of the window."""
        return None if self.opens_on is None else start_of_day(self.opens_on, self.zone)

    @property
    def closes_at(self) -> datetime | None:
        """The first instant after the window: its last date is inclusive."""
        return None if self.closes_on is None else start_of_day(self.closes_on + timedelta(days=1), self.zone)

    @property
    def left(self) -> int | None:
        """Units that nobody has; null is no limit."""
        return None if self.units is None else max(0, self.units - self.taken)


@value
class Facts:
    """One member, one perk, one moment. `used` counts the member's uses of this perk by allowance period."""

    now: datetime
    ranks: Mapping[str, int]
    member: MemberFacts
    perk: PerkFacts
    used: Mapping[str, int]

    @property
    def rank(self) -> int:
        """The rank of the member's tier; 0 without one."""
        return 0 if self.member.tier is None else self.ranks.get(self.member.tier, 0)

    def is_at_least(self, tier: str) -> bool:
        """Whether the member's tier ranks as high as `tier`; a tier unknown to the programme is out of reach."""
        return tier in self.ranks and self.rank >= self.ranks[tier]

    def at(self, later: datetime) -> "Facts":
        """The same facts at a later moment, with no event but time: what ends until then has ended."""
        member = self.member
        if member.tier_ends_at is not None and member.tier_ends_at <= later:
            member = replace(member, tier=None, tier_ends_at=None, tier_lapsed=True)
        if member.consent_expires_at is not None and member.consent_expires_at <= later:
            member = replace(member, consented=False, consent_expires_at=None)
        return replace(self, now=later, member=member)


@lru_cache(maxsize=4096)
def start_of_day(day: date, zone: str) -> datetime:
    """The first instant of a calendar day in a zone, in UTC: where clocks skip midnight, the first that exists."""
    local = datetime.combine(day, time(), ZoneInfo(zone))
    return local.astimezone(UTC)
