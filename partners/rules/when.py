"""Rules on when: early access, windows that come again, and the month of a birthday."""

from datetime import date, datetime
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, NaiveDatetime, model_validator

from partners.allowances import Period, calendar_window
from partners.facts import Facts, Refusal, RefusalCode, start_of_day
from partners.programme import Handle
from partners.recurrence import STARTS_BEFORE, in_words, occurrences, said
from partners.rules.shape import RuleModel

MINUTES_MAX = 31 * 24 * 60


class EarlyAccess(RuleModel):
    """Before the start of a date (in the perk's zone) only this tier or a higher one; then everybody."""

    kind: Literal["early_access"] = "early_access"
    until: Annotated[date, Field(gt=date.min)]  # whose midnight in the east is before the first instant
    tier: Handle

    @property
    def sentence(self) -> str:
        """As `Until 2027-01-15 only black or higher.`"""
        return f"Until {self.until} only {self.tier} or higher."

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


class Recurring(RuleModel):
    """Only within windows that come again: from `starts` (a local time in the perk's zone) for so many minutes, and
    again as `rrule` says (RFC 5545 section 3.3.10, DAILY to YEARLY), for twenty years at most.

    A start that the clocks skip is taken an hour later, one that comes twice is the first. An end as a date is
    inclusive.
    """

    kind: Literal["recurring"] = "recurring"
    starts: Annotated[NaiveDatetime, Field(ge=datetime(2000, 1, 1), lt=STARTS_BEFORE)]
    minutes: Annotated[int, Field(ge=1, le=MINUTES_MAX)]
    rrule: Annotated[str, Field(min_length=1, max_length=200)]

    @model_validator(mode="after")
    def comes(self) -> "Recurring":
        """There is a window at all."""
        if not len(occurrences(self.starts, self.rrule, "UTC")):
            raise ValueError("`rrule`: there is no such day")
        return self

    @property
    def sentence(self) -> str:
        """As `From 18:00 for 2 hours, every week on TU, TH.`"""
        return (
            f"From {self.starts:%H:%M} for {said(self.minutes)}, {in_words(self.rrule)}, since {self.starts:%Y-%m-%d}."
        )

    def refusal(self, facts: Facts) -> Refusal | None:
        """OUTSIDE_WINDOW until the next one begins."""
        since, ahead = occurrences(self.starts, self.rrule, facts.perk.zone).around(facts.now, self.minutes)
        return None if since else Refusal(RefusalCode.OUTSIDE_WINDOW, self.kind, ahead)

    def changes(self, facts: Facts) -> tuple[datetime | None, ...]:
        """When the window closes that is open, and when the next one begins."""
        return occurrences(self.starts, self.rrule, facts.perk.zone).around(facts.now, self.minutes)


class BirthdayMonth(RuleModel):
    """It is the month of the member's birthday, in the perk's zone."""

    kind: Literal["birthday_month"] = "birthday_month"

    @property
    def sentence(self) -> str:
        """Always the same."""
        return "In the month of the member's birthday."

    def refusal(self, facts: Facts) -> Refusal | None:
        """OUTSIDE_WINDOW in the other months; which one it is, a partner has to meet by itself (law 8)."""
        today = facts.now.astimezone(ZoneInfo(facts.perk.zone)).date()
        month = facts.member.birth_month
        if month == today.month:
            return None
        if month is None or facts.member.to_partner:
            return Refusal(RefusalCode.OUTSIDE_WINDOW, self.kind)
        first = date(today.year + (month < today.month), month, 1)
        return Refusal(RefusalCode.OUTSIDE_WINDOW, self.kind, start_of_day(first, facts.perk.zone))

    def changes(self, facts: Facts) -> tuple[datetime | None, ...]:
        """When the month ends: every month, so that it says nothing about any."""
        return (calendar_window(Period.MONTH, facts.now, facts.perk.zone).ends,)
