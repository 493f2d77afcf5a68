"""The windows of an allowance: calendar periods in the perk's own zone, and rolling ones that end now."""

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

from partners.facts import Use, start_of_day
from partners.values import value

MOMENT = timedelta(microseconds=1)


class Period(StrEnum):
    """How often an allowance comes back. ROLLING looks back over so many hours from each moment."""

    DAY = "DAY"
    WEEK = "WEEK"
    MONTH = "MONTH"
    YEAR = "YEAR"
    EVER = "EVER"
    ROLLING = "ROLLING"


class Weekday(StrEnum):
    """On which day a week starts; ISO 8601 says Monday."""

    MONDAY = "MONDAY"
    TUESDAY = "TUESDAY"
    WEDNESDAY = "WEDNESDAY"
    THURSDAY = "THURSDAY"
    FRIDAY = "FRIDAY"
    SATURDAY = "SATURDAY"
    SUNDAY = "SUNDAY"


# How far back uses have to be read (s): a period's longest length and the clock changes of two days.
LOOK_BACK = {
    Period.DAY: 3 * 86_400,
    Period.WEEK: 9 * 86_400,
    Period.MONTH: 33 * 86_400,
    Period.YEAR: 368 * 86_400,
    Period.EVER: 36_525 * 86_400,
}


@value
class Window:
    """From `starts` until before `ends`; null is unbounded."""

    starts: datetime | None
    ends: datetime | None

    def holds(self, at: datetime) -> bool:
        """Whether an instant is within."""
        return (self.starts is None or at >= self.starts) and (self.ends is None or at < self.ends)

    def used(self, uses: Iterable[Use], by_amount: bool) -> int:
        """What was used within: units, or minor units of money."""
        return sum(use.amount if by_amount else use.units for use in uses if self.holds(use.at))


def rolling_window(hours: int, now: datetime) -> Window:
    """What counts at `now` for a rolling allowance: uses less than so many hours ago. It has no upper end, since a
    claim that was asked a moment later may have been first."""
    return Window(now - timedelta(hours=hours) + MOMENT, None)


@lru_cache(maxsize=4096)
def calendar_window(period: Period, now: datetime, zone: str, week_starts: Weekday = Weekday.MONDAY) -> Window:
    """The period that `now` falls in, in UTC: it begins and ends where the zone's days do."""
    if period is Period.EVER:
        return Window(None, None)
    first = first_day(period, now.astimezone(ZoneInfo(zone)).date(), week_starts)
    return Window(start_of_day(first, zone), start_of_day(day_after(period, first), zone))


def first_day(period: Period, day: date, week_starts: Weekday = Weekday.MONDAY) -> date:
    """The first calendar day of the period that `day` belongs to."""
    if period is Period.WEEK:
        return day - timedelta(days=(day.weekday() - list(Weekday).index(week_starts)) % 7)
    if period is Period.MONTH:
        return day.replace(day=1)
    if period is Period.YEAR:
        return day.replace(month=1, day=1)
    return day


def day_after(period: Period, first: date) -> date:
    """The first day after the period that begins on `first`."""
    if period is Period.DAY:
        return first + timedelta(days=1)
    if period is Period.WEEK:
        return first + timedelta(days=7)
    if period is Period.MONTH:
        return (first + timedelta(days=31)).replace(day=1)
    return first.replace(year=first.year + 1)


def frees_at(uses: Iterable[Use], window: Window, surplus: int, by_amount: bool, hours: int) -> datetime | None:
    """When a rolling window will have let go of `surplus`, with nothing used meanwhile; None when it can't."""
    for use in sorted((use for use in uses if window.holds(use.at)), key=lambda use: use.at):
        surplus -= use.amount if by_amount else use.units
        if surplus <= 0:
            return use.at + timedelta(hours=hours)
    return None
