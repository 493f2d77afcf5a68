"""Calendar periods against the time zone database: every zone, changes of the clock, leap days, ends of years."""

from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from partners.allowances import Period, day_key, first_day, keys_around, period_key, resets_at
from partners.facts import PerkFacts, start_of_day
from partners.programme import zones

TICK = timedelta(microseconds=1)
zone_names = st.sampled_from(sorted(zones() - {"Factory", "localtime"}))
# From 2012 on no clock has gone back over midnight, and no zone has skipped a day.
moments = st.datetimes(datetime(2012, 1, 1), datetime(2037, 12, 31), timezones=st.just(UTC))
recurring = st.sampled_from([period for period in Period if period is not Period.EVER])


@given(recurring, moments, zone_names)
@example(Period.DAY, datetime(2018, 11, 3, 12, tzinfo=UTC), "America/Sao_Paulo")
@example(Period.DAY, datetime(2026, 10, 24, 23, tzinfo=UTC), "Europe/Zurich")
@example(Period.WEEK, datetime(2024, 12, 31, 23, tzinfo=UTC), "Asia/Tokyo")
@example(Period.MONTH, datetime(2024, 2, 29, 12, tzinfo=UTC), "Pacific/Kiritimati")
@example(Period.YEAR, datetime(2024, 12, 31, 11, tzinfo=UTC), "Etc/GMT+12")
def test_a_period_lasts_until_its_reset_and_not_a_tick_longer(period: Period, now: datetime, zone: str) -> None:
    again, key = resets_at(period, now, zone), period_key(period, now, zone)
    assert again is not None
    assert again > now
    assert period_key(period, again - TICK, zone) == key
    assert period_key(period, again, zone) != key
    first = first_day(period, again.astimezone(ZoneInfo(zone)).date())
    assert first == again.astimezone(ZoneInfo(zone)).date()
    assert again == start_of_day(first, zone)


@given(recurring, moments, zone_names)
def test_the_name_of_a_period_is_its_letter_and_first_day(period: Period, now: datetime, zone: str) -> None:
    local = now.astimezone(ZoneInfo(zone)).date()
    key = period_key(period, now, zone)
    first = date.fromisoformat(key[1:])
    assert key[0] == period[0]
    assert first <= local
    assert day_key(period, first) == key
    if period is Period.WEEK:
        assert first.isocalendar()[:2] == local.isocalendar()[:2]
        assert first.isoweekday() == 1
    elif period is Period.MONTH:
        assert (first.year, first.month, first.day) == (local.year, local.month, 1)
    elif period is Period.YEAR:
        assert (first.year, first.month, first.day) == (local.year, 1, 1)
    else:
        assert first == local


def test_what_comes_once_never_comes_back() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert period_key(Period.EVER, now, "UTC") == "EVER"
    assert resets_at(Period.EVER, now, "UTC") is None


@given(st.sampled_from(Period), moments, zone_names)
def test_the_names_around_a_moment_hold_the_one_of_every_zone(period: Period, now: datetime, zone: str) -> None:
    assert period_key(period, now, zone) in keys_around(now)


@given(st.sampled_from(Period), moments, zone_names, st.integers(0, 10 * 3600))
def test_one_list_of_names_serves_a_batch_of_questions(period: Period, now: datetime, zone: str, earlier: int) -> None:
    assert period_key(period, now - timedelta(seconds=earlier), zone) in keys_around(now)


@given(st.dates(date(1995, 1, 1), date(2037, 12, 31)), zone_names)
@example(date(2018, 11, 4), "America/Sao_Paulo")
@example(date(2024, 3, 31), "Asia/Beirut")
@example(date(2022, 3, 22), "Asia/Tehran")
@example(date(2011, 12, 30), "Pacific/Apia")
@example(date(2012, 11, 4), "America/Havana")
def test_a_day_starts_at_its_first_instant_that_exists(day: date, zone: str) -> None:
    start = start_of_day(day, zone)
    assert start.tzinfo is UTC
    assert start.astimezone(ZoneInfo(zone)).date() >= day
    assert (start - TICK).astimezone(ZoneInfo(zone)).date() < day


@pytest.mark.parametrize(
    ("zone", "day", "starts", "hours"),
    [
        ("America/Sao_Paulo", date(2018, 11, 4), "2018-11-04T03:00", 23),  # 00:00 does not exist
        ("Asia/Beirut", date(2024, 3, 31), "2024-03-30T22:00", 23),
        ("Europe/Zurich", date(2026, 3, 29), "2026-03-28T23:00", 23),
        ("Europe/Zurich", date(2026, 10, 25), "2026-10-24T22:00", 25),
        ("America/Havana", date(2026, 11, 1), "2026-11-01T04:00", 25),  # 00:00 comes twice
        ("Australia/Lord_Howe", date(2026, 4, 5), "2026-04-04T13:00", 24.5),
        ("Pacific/Kiritimati", date(2024, 2, 29), "2024-02-28T10:00", 24),
    ],
)
def test_days_on_which_the_clock_changes(zone: str, day: date, starts: str, hours: float) -> None:
    start, end = start_of_day(day, zone), start_of_day(day + timedelta(days=1), zone)
    assert start == datetime.fromisoformat(starts).replace(tzinfo=UTC)
    assert end - start == timedelta(hours=hours)


@pytest.mark.parametrize(
    ("period", "now", "key", "again"),
    [
        (Period.WEEK, "2027-01-01T12:00", "W2026-12-28", "2027-01-04"),  # the 53rd week
        (Period.WEEK, "2024-12-30T00:00", "W2024-12-30", "2025-01-06"),  # week 1 of 2025
        (Period.MONTH, "2024-02-29T12:00", "M2024-02-01", "2024-03-01"),
        (Period.MONTH, "2026-01-31T12:00", "M2026-01-01", "2026-02-01"),
        (Period.MONTH, "2026-12-31T23:59", "M2026-12-01", "2027-01-01"),
        (Period.YEAR, "2024-02-29T12:00", "Y2024-01-01", "2025-01-01"),
        (Period.DAY, "2024-02-28T23:59", "D2024-02-28", "2024-02-29"),
    ],
)
def test_ends_of_weeks_months_and_years(period: Period, now: str, key: str, again: str) -> None:
    moment = datetime.fromisoformat(now).replace(tzinfo=UTC)
    assert period_key(period, moment, "UTC") == key
    assert resets_at(period, moment, "UTC") == datetime.fromisoformat(again).replace(tzinfo=UTC)


@given(st.dates(date(1995, 1, 1), date(2037, 12, 31)), zone_names)
def test_the_last_day_of_a_window_is_inclusive(day: date, zone: str) -> None:
    perk = PerkFacts(zone=zone, opens_on=day, closes_on=day)
    assert perk.opens_at is not None
    assert perk.closes_at is not None
    last = (perk.closes_at - TICK).astimezone(ZoneInfo(zone)).date()
    assert last <= day < perk.closes_at.astimezone(ZoneInfo(zone)).date()
    assert perk.opens_at <= perk.closes_at


@pytest.mark.parametrize("hours", range(-12, 15))
def test_the_names_around_a_moment_reach_from_the_date_line_to_the_date_line(hours: int) -> None:
    for minute in (0, 1, 719, 720, 1439):
        now = datetime(2026, 12, 31, tzinfo=UTC) + timedelta(minutes=minute)
        local = now.astimezone(timezone(timedelta(hours=hours))).date()
        assert day_key(Period.DAY, local) in keys_around(now)
