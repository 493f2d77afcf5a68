"""Everything that a rule may know about one member and one perk at one moment; rules never ask for more."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from uuid import UUID
from zoneinfo import ZoneInfo

from partners.tables import MemberState, PartnerState, PerkKind, PerkState
from partners.values import value


class RefusalCode(StrEnum):
    """The closed list of reasons for a no, part of the API; a code is never reused (docs/errors.md)."""

    NOT_A_MEMBER = "NOT_A_MEMBER"
    MEMBERSHIP_SUSPENDED = "MEMBERSHIP_SUSPENDED"
    TIER_TOO_LOW = "TIER_TOO_LOW"
    TIER_EXPIRED = "TIER_EXPIRED"
    JOINED_TOO_RECENTLY = "JOINED_TOO_RECENTLY"
    SCORE_TOO_LOW = "SCORE_TOO_LOW"
    NOT_STARTED = "NOT_STARTED"
    ENDED = "ENDED"
    OUTSIDE_WINDOW = "OUTSIDE_WINDOW"
    EARLY_ACCESS_ONLY = "EARLY_ACCESS_ONLY"
    WRONG_MARKET = "WRONG_MARKET"
    WRONG_LOCATION = "WRONG_LOCATION"
    WRONG_SEGMENT = "WRONG_SEGMENT"
    PERK_PAUSED = "PERK_PAUSED"
    PARTNER_SUSPENDED = "PARTNER_SUSPENDED"
    CONSENT_MISSING = "CONSENT_MISSING"
    ALLOWANCE_EXHAUSTED = "ALLOWANCE_EXHAUSTED"
    VALUE_LIMIT_REACHED = "VALUE_LIMIT_REACHED"
    HOUSEHOLD_LIMIT_REACHED = "HOUSEHOLD_LIMIT_REACHED"
    DEVICE_ALREADY_USED = "DEVICE_ALREADY_USED"
    DEVICE_MISSING = "DEVICE_MISSING"
    CAPACITY_EXHAUSTED = "CAPACITY_EXHAUSTED"
    CODE_POOL_EMPTY = "CODE_POOL_EMPTY"
    CONFLICTS_WITH_HELD_PERK = "CONFLICTS_WITH_HELD_PERK"
    ALREADY_HELD = "ALREADY_HELD"
    UNDER_REVIEW = "UNDER_REVIEW"
    UNITS_NOT_ALLOWED = "UNITS_NOT_ALLOWED"
    UNITS_EXCEEDED = "UNITS_EXCEEDED"
    AMOUNT_EXCEEDED = "AMOUNT_EXCEEDED"
    EXTENSION_LIMIT_REACHED = "EXTENSION_LIMIT_REACHED"
    NOT_RESTOCKABLE = "NOT_RESTOCKABLE"
    WAITLIST_CLOSED = "WAITLIST_CLOSED"
    ALREADY_WAITING = "ALREADY_WAITING"
    WRONG_STATE = "WRONG_STATE"
    STALE_REVISION = "STALE_REVISION"
    FORM_INVALID = "FORM_INVALID"
    QUOTE_EXPIRED = "QUOTE_EXPIRED"
    EXPORT_LIMIT_REACHED = "EXPORT_LIMIT_REACHED"
    URL_REFUSED = "URL_REFUSED"
    HOLD_EXPIRED = "HOLD_EXPIRED"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
    REVERSAL_WINDOW_CLOSED = "REVERSAL_WINDOW_CLOSED"
    ALREADY_REVERSED = "ALREADY_REVERSED"
    NOT_AVAILABLE = "NOT_AVAILABLE"


UNITS_MISSING = frozenset({RefusalCode.CAPACITY_EXHAUSTED, RefusalCode.CODE_POOL_EMPTY})
"""What others may give back, and what a waitlist is for."""


@value
class Refusal:
    """One failing rule: its code, the rule's kind, when time alone could change it, and figures that explain it."""

    code: RefusalCode
    rule: str
    eligible_again_at: datetime | None = None
    required: str | None = None
    current: str | None = None


@value
class Circumstances:
    """What a caller says about a claim beyond who and what: how many units, which option by its handle, an amount in
    minor units of the perk's currency, the device as its keyed hash, and the place in millionths of a degree (WGS 84,
    latitude and longitude). `waited`: it is an offer to who waits, made by nobody else."""

    units: int = 1
    option: str | None = None
    amount: int = 0
    device: bytes | None = None
    place: tuple[int, int] | None = None
    waited: bool = False


NOTHING_SAID = Circumstances()
HEAD_START = timedelta(seconds=5)
"""What the clock releases to everybody is for those who wait first."""


@value
class Use:
    """What counts towards allowances of one earlier claim."""

    at: datetime
    units: int
    amount: int


@value
class MemberFacts:
    """What is known of the member; `tier` is the one in force now, `tier_lapsed` that there was one before.

    `linked_at` is when the consent to the perk's partner was given. `claimed_at`, the member's claims on all perks of
    the partner, and `exclusions`, the groups of those it holds or has, are read only where a rule needs them.
    `to_partner`: a partner will read the answer, so it must not tell what would match a member (law 8).
    """

    state: str
    joined_at: datetime
    market: str | None = None
    tier: str | None = None
    tier_ends_at: datetime | None = None
    tier_lapsed: bool = False
    consented: bool = True
    consent_expires_at: datetime | None = None
    linked_at: datetime | None = None
    household: str | None = None
    birth_month: int | None = None
    labels: frozenset[str] = frozenset()
    score: int = 0
    under_review: bool = False
    claimed_at: tuple[datetime, ...] = ()
    exclusions: frozenset[str] = frozenset()
    to_partner: bool = False

    @property
    def suspended(self) -> bool:
        """A suspended member keeps everything and may use nothing."""
        return self.state != MemberState.ACTIVE


@value
class OptionFacts:
    """A variant or session that a claim may name."""

    id: UUID
    handle: str
    open: bool
    starts_at: datetime | None
    ends_at: datetime | None
    cut_off_at: datetime | None

    @property
    def closes_at(self) -> datetime | None:
        """From when on nothing is claimed of it."""
        return self.cut_off_at or self.starts_at


@value
class PoolFacts:
    """Some units of an option, or of a perk without options; `schedule` says which tier they take until when."""

    number: int
    option_id: UUID | None
    units: int | None
    taken: int
    kept: int
    schedule: tuple[tuple[str, datetime], ...] = ()

    @property
    def left(self) -> int | None:
        """Units that nobody has and that are not kept for those who wait; null is no limit."""
        return None if self.units is None else max(0, self.units - self.taken - self.kept)

    def tier_at(self, now: datetime) -> str | None:
        """The tier it takes at this moment; None: anybody."""
        return next((tier for tier, until in self.schedule if until > now), None)


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
    kept: int = 0
    kind: str = PerkKind.SAMPLE
    units_max: int = 1
    currency: str | None = None
    waitlist: bool = False
    waiting: int = 0
    options: tuple[OptionFacts, ...] = ()
    pools: tuple[PoolFacts, ...] = ()

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
        """Units that nobody has and that are not kept for those who wait; null is no limit."""
        return None if self.units is None else max(0, self.units - self.taken - self.kept)

    def option(self, handle: str | None) -> OptionFacts | None:
        """The option that a claim means: the one it names, or the only one there is."""
        if handle is None:
            return self.options[0] if len(self.options) == 1 else None
        return next((option for option in self.options if option.handle == handle), None)


@value
class Facts:
    """One member, one perk, one moment. `uses` are what counts of this perk, by subject: member, household, device."""

    now: datetime
    ranks: Mapping[str, int]
    member: MemberFacts
    perk: PerkFacts
    uses: Mapping[str, Sequence[Use]]
    said: Circumstances = NOTHING_SAID

    @property
    def rank(self) -> int:
        """The rank of the member's tier; 0 without one."""
        return 0 if self.member.tier is None else self.ranks.get(self.member.tier, 0)

    def is_at_least(self, tier: str) -> bool:
        """Whether the member's tier ranks as high as `tier`; a tier unknown to the programme is out of reach."""
        return tier in self.ranks and self.rank >= self.ranks[tier]

    def open_pools(self, option_id: UUID | None) -> list[PoolFacts]:
        """The pools of an option (None: of a perk without any) that are open to the member now, those kept for the
        highest tier first. While somebody waits, others come to a pool a moment after the clock released it."""
        now = self.now - HEAD_START if self.perk.waiting and not self.said.waited else self.now
        reach = [
            (0 if tier is None else self.ranks.get(tier, 0), pool)
            for pool in self.perk.pools
            if pool.option_id == option_id and ((tier := pool.tier_at(now)) is None or self.is_at_least(tier))
        ]
        return [pool for _, pool in sorted(reach, key=lambda one: (-one[0], one[1].number))]

    @property
    def room(self) -> int | None:
        """Units within the member's reach, of the option it means or else of the option with most; null is no limit."""
        if not self.perk.pools:
            return self.perk.left
        meant = self.perk.option(self.said.option)
        options = [None] if not self.perk.options else [meant.id] if meant else [one.id for one in self.perk.options]
        rooms = [[pool.left for pool in self.open_pools(option)] for option in options]
        if any(left is None for room in rooms for left in room):
            return None
        return max(sum(left for left in room if left is not None) for room in rooms)

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
