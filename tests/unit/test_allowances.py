"""Periods against the time zone database: every zone, changes of the clock, leap days, starts of weeks, resets."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from partners.allowances import LOOK_BACK, Period, Weekday, calendar_window, first_day, frees_at, rolling_window
from partners.facts import Facts, MemberFacts, PerkFacts, Use, start_of_day
from partners.programme import zones
from partners.rules import Allowance

TICK = timedelta(microseconds=1)
zone_names = st.sampled_from(sorted(zones() - {"Factory", "localtime"}))
# From 2012 on no clock has gone back over midnight, and no zone has skipped a day.
moments = st.datetimes(datetime(2012, 1, 1), datetime(2037, 12, 31), timezones=st.just(UTC))
calendar = st.sampled_from([period for period in Period if period not in (Period.EVER, Period.ROLLING)])
weekdays = st.sampled_from(Weekday)


@given(calendar, moments, zone_names, weekdays)
@example(Period.DAY, datetime(2018, 11, 3, 12, tzinfo=UTC), "America/Sao_Paulo", Weekday.MONDAY)
@example(Period.DAY, datetime(2026, 10, 24, 23, tzinfo=UTC), "Europe/Zurich", Weekday.MONDAY)
@example(Period.WEEK, datetime(2024, 12, 31, 23, tzinfo=UTC), "Asia/Tokyo", Weekday.SUNDAY)
@example(Period.MONTH, datetime(2024, 2, 29, 12, tzinfo=UTC), "Pacific/Kiritimati", Weekday.MONDAY)
@example(Period.YEAR, datetime(2024, 12, 31, 11, tzinfo=UTC), "Etc/GMT+12", Weekday.MONDAY)
def test_a_period_lasts_until_its_reset_and_not_a_tick_longer(
    period: Period, now: datetime, zone: str, week_starts: Weekday
) -> None:
    window = calendar_window(period, now, zone, week_starts)
    assert window.starts is not None
    assert window.ends is not None
    assert window.holds(now)
    assert calendar_window(period, window.ends - TICK, zone, week_starts) == window
    after = calendar_window(period, window.ends, zone, week_starts)
    assert after.starts == window.ends
    assert not window.holds(window.ends)
    before = calendar_window(period, window.starts - TICK, zone, week_starts)
    assert before.ends == window.starts
    first = first_day(period, window.ends.astimezone(ZoneInfo(zone)).date(), week_starts)
    assert window.ends == start_of_day(first, zone)


@given(calendar, moments, zone_names, weekdays)
def test_a_period_begins_on_its_first_day_in_the_zone(
    period: Period, now: datetime, zone: str, week_starts: Weekday
) -> None:
    local = now.astimezone(ZoneInfo(zone)).date()
    first = first_day(period, local, week_starts)
    assert calendar_window(period, now, zone, week_starts).starts == start_of_day(first, zone)
    assert first <= local
    if period is Period.WEEK:
        assert first.strftime("%A").upper() == week_starts
        assert (local - first).days < 7
        assert first_day(period, local) == date.fromisocalendar(*local.isocalendar()[:2], 1)
    elif period is Period.MONTH:
        assert (first.year, first.month, first.day) == (local.year, local.month, 1)
    elif period is Period.YEAR:
        assert (first.year, first.month, first.day) == (local.year, 1, 1)
    else:
        assert first == local


@given(calendar, moments, zone_names, weekdays)
def test_what_is_read_reaches_back_to_the_start_of_every_period(
    period: Period, now: datetime, zone: str, week_starts: Weekday
) -> None:
    starts = calendar_window(period, now, zone, week_starts).starts
    assert starts is not None
    assert starts > now - timedelta(seconds=LOOK_BACK[period])


def test_what_comes_once_never_comes_back() -> None:
    window = calendar_window(Period.EVER, datetime(2026, 1, 1, tzinfo=UTC), "UTC")
    assert (window.starts, window.ends) == (None, None)
    assert window.holds(datetime(1900, 1, 1, tzinfo=UTC))


GOLD = MemberFacts("ACTIVE", datetime(2000, 1, 1, tzinfo=UTC), "CH", "gold")
rules = st.one_of(
    st.builds(Allowance, period=calendar, otherwise=st.integers(1, 3), week_starts=weekdays),
    st.builds(Allowance, period=st.just(Period.ROLLING), hours=st.integers(1, 100), otherwise=st.integers(1, 3)),
    st.builds(
        Allowance,
        period=st.just(Period.ROLLING),
        hours=st.integers(1, 100),
        otherwise=st.integers(1, 3),
        measure=st.just("amount"),
    ),
)


@given(rules, moments, zone_names, st.lists(st.integers(0, 200 * 3600), min_size=1, max_size=8))
@example(Allowance(period="DAY", otherwise=1), datetime(2026, 10, 25, 0, 30, tzinfo=UTC), "Europe/Zurich", [1800])
@example(Allowance(period="DAY", otherwise=1), datetime(2018, 11, 4, 2, tzinfo=UTC), "America/Sao_Paulo", [60])
@example(Allowance(period="ROLLING", hours=24, otherwise=1), datetime(2026, 3, 29, 2, tzinfo=UTC), "Europe/Zurich", [0])
def test_a_moment_before_it_resets_it_refuses_and_at_that_moment_it_does_not(
    rule: Allowance, now: datetime, zone: str, seconds_ago: list[int]
) -> None:
    used = [Use(now - timedelta(seconds=ago), 1, 1) for ago in seconds_ago]
    facts = Facts(now, {"gold": 1}, GOLD, PerkFacts(zone=zone), {"member": used})
    refusal = rule.refusal(facts)
    if refusal is None:
        assert rule.used(facts) < rule.otherwise
        return
    again = refusal.eligible_again_at
    assert again is not None
    assert again > now
    assert rule.refusal(facts.at(again - TICK)) is not None
    assert rule.refusal(facts.at(again)) is None
    assert again == rule.resets_at(facts)


@given(moments, st.integers(1, 8760))
def test_a_rolling_window_is_just_so_many_hours_long_whatever_clocks_do(now: datetime, hours: int) -> None:
    window = rolling_window(hours, now)
    length = timedelta(hours=hours)
    assert not window.holds(now - length)
    assert window.holds(now - length + TICK)
    assert window.holds(now)
    use = Use(now, 1, 0)
    assert frees_at([use], window, 1, False, hours) == now + length
    assert frees_at([use], window, 2, False, hours) is None


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
    ("period", "now", "starts", "ends", "week_starts"),
    [
        (Period.WEEK, "2027-01-01T12:00", "2026-12-28", "2027-01-04", "MONDAY"),  # the 53rd week
        (Period.WEEK, "2024-12-30T00:00", "2024-12-30", "2025-01-06", "MONDAY"),  # week 1 of 2025
        (Period.WEEK, "2024-12-30T00:00", "2024-12-29", "2025-01-05", "SUNDAY"),
        (Period.WEEK, "2024-12-28T23:59", "2024-12-28", "2025-01-04", "SATURDAY"),
        (Period.WEEK, "2024-03-01T00:00", "2024-02-29", "2024-03-07", "THURSDAY"),  # begins on a leap day
        (Period.MONTH, "2024-02-29T12:00", "2024-02-01", "2024-03-01", "MONDAY"),
        (Period.MONTH, "2023-02-28T23:59", "2023-02-01", "2023-03-01", "MONDAY"),
        (Period.MONTH, "2026-01-31T12:00", "2026-01-01", "2026-02-01", "MONDAY"),
        (Period.MONTH, "2026-12-31T23:59", "2026-12-01", "2027-01-01", "MONDAY"),
        (Period.YEAR, "2024-02-29T12:00", "2024-01-01", "2025-01-01", "MONDAY"),
        (Period.DAY, "2024-02-28T23:59", "2024-02-28", "2024-02-29", "MONDAY"),
        (Period.DAY, "2024-02-29T00:00", "2024-02-29", "2024-03-01", "MONDAY"),
    ],
)
def test_ends_of_weeks_months_and_years(period: Period, now: str, starts: str, ends: str, week_starts: str) -> None:
    moment = datetime.fromisoformat(now).replace(tzinfo=UTC)
    window = calendar_window(period, moment, "UTC", Weekday(week_starts))
    assert window.starts == datetime.fromisoformat(starts).replace(tzinfo=UTC)
    assert window.ends == datetime.fromisoformat(ends).replace(tzinfo=UTC)


def test_a_day_that_a_zone_skips_has_no_uses_of_its_own() -> None:
    # Samoa went from 29 December 2011 to the 31st.
    last = datetime(2011, 12, 30, 9, 59, tzinfo=UTC)
    window = calendar_window(Period.DAY, last, "Pacific/Apia")
    assert window.ends == datetime(2011, 12, 30, 10, tzinfo=UTC)
    assert start_of_day(date(2011, 12, 30), "Pacific/Apia") == start_of_day(date(2011, 12, 31), "Pacific/Apia")
    after = calendar_window(Period.DAY, window.ends, "Pacific/Apia")
    assert (after.starts, after.ends) == (window.ends, window.ends + timedelta(days=1))


@given(st.dates(date(1995, 1, 1), date(2037, 12, 31)), zone_names)
def test_the_last_day_of_a_window_is_inclusive(day: date, zone: str) -> None:
    perk = PerkFacts(zone=zone, opens_on=day, closes_on=day)
    assert perk.opens_at is not None
    assert perk.closes_at is not None
    last = (perk.closes_at - TICK).astimezone(ZoneInfo(zone)).date()
    assert last <= day < perk.closes_at.astimezone(ZoneInfo(zone)).date()
    assert perk.opens_at <= perk.closes_at
