"""Calendar periods of an allowance, in the perk's own zone: which one a moment falls in and when the next begins."""

from datetime import date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

from partners.facts import start_of_day


class Period(StrEnum):
    """How often an allowance comes back; a week starts on Monday (ISO 8601)."""

    DAY = "DAY"
    WEEK = "WEEK"
    MONTH = "MONTH"
    YEAR = "YEAR"
    EVER = "EVER"


@lru_cache(maxsize=4096)
def period_key(period: Period, now: datetime, zone: str) -> str:
    """The period that `now` falls in, by name: its letter and first day, as in `M2026-11-01`; `EVER` is one."""
    return day_key(period, now.astimezone(ZoneInfo(zone)).date())


def day_key(period: Period, day: date) -> str:
    """The name of the period that a calendar day belongs to."""
    return Period.EVER.value if period is Period.EVER else f"{period.value[0]}{first_day(period, day).isoformat()}"


@lru_cache(maxsize=4096)
def resets_at(period: Period, now: datetime, zone: str) -> datetime | None:
    """The first instant of the next period, in UTC; never for `EVER`."""
    if period is Period.EVER:
        return None
    day = first_day(period, now.astimezone(ZoneInfo(zone)).date())
    if period is Period.DAY:
        following = day + timedelta(days=1)
    elif period is Period.WEEK:
        following = day + timedelta(days=7)
    elif period is Period.MONTH:
        following = (day + timedelta(days=31)).replace(day=1)
    else:
        following = day.replace(year=day.year + 1)
    return start_of_day(following, zone)


def first_day(period: Period, day: date) -> date:
    """The first calendar day of the period that `day` belongs to."""
    if period is Period.WEEK:
        return day - timedelta(days=day.weekday())
    if period is Period.MONTH:
        return day.replace(day=1)
    if period is Period.YEAR:
        return day.replace(month=1, day=1)
    return day


def keys_around(now: datetime) -> list[str]:
    """Every period's name that `now` may fall in, in any zone of the world: what to count before the zone is known."""
    return keys_around_day(now.date())


@lru_cache(maxsize=8)
def keys_around_day(day: date) -> list[str]:
    """Zones reach from UTC-12 to UTC+14, so the local date is this day, the one before or the one after."""
    days = [day + timedelta(days=offset) for offset in (-1, 0, 1)]
    return sorted({day_key(period, one) for period in Period for one in days})
