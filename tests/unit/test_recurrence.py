"""Windows that come again, against the time zone database and against the rule followed day by day."""

from datetime import UTC, date, datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

import pytest
from dateutil.rrule import rrulestr  # type: ignore[import-untyped]
from hypothesis import example, given, settings
from hypothesis import strategies as st

from partners.facts import Facts, MemberFacts, PerkFacts
from partners.programme import zones
from partners.recurrence import DAYS, in_words, occurrences, said
from partners.rules import BirthdayMonth, Recurring

TICK = timedelta(microseconds=1)
MEMBER = MemberFacts("ACTIVE", datetime(2000, 1, 1, tzinfo=UTC), "CH", "gold")
zone_names = st.sampled_from(sorted(zones() - {"Factory", "localtime"}))
starts = st.datetimes(datetime(2012, 1, 1), datetime(2030, 12, 31)).map(lambda at: at.replace(microsecond=0))
moments = st.datetimes(datetime(2012, 1, 1), datetime(2037, 12, 31), timezones=st.just(UTC))
RULES = [
    "FREQ=DAILY",
    "FREQ=DAILY;INTERVAL=3",
    "FREQ=DAILY;COUNT=10",
    "FREQ=WEEKLY;BYDAY=MO,WE,FR",
    "FREQ=WEEKLY;INTERVAL=2;WKST=SU;BYDAY=SU,TU",
    "FREQ=MONTHLY;BYDAY=-1FR",
    "FREQ=MONTHLY;BYMONTHDAY=31",
    "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
    "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29",
    "FREQ=YEARLY;BYWEEKNO=1;BYDAY=MO",
    "FREQ=YEARLY;BYYEARDAY=-1",
]


def facts(now: datetime, zone: str) -> Facts:
    return Facts(now, {"gold": 1}, MEMBER, PerkFacts(zone=zone), {})


def begins(starts: str, rrule: str, zone: str = "UTC") -> list[str]:
    found = occurrences(datetime.fromisoformat(starts), rrule, zone).seconds
    return [datetime.fromtimestamp(one, UTC).isoformat()[:16] for one in found]


@given(starts, st.sampled_from(RULES))
@example(datetime(2024, 2, 29, 12), "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29")
@example(datetime(2012, 12, 31, 23, 59), "FREQ=MONTHLY;BYMONTHDAY=31")
def test_a_rule_means_what_it_means_in_its_own_years(starts: datetime, rrule: str) -> None:
    last = starts + timedelta(days=3 * 365)
    followed = [
        one.replace(tzinfo=UTC).timestamp()
        for one in takewhile(lambda one: one <= last, rrulestr(rrule, dtstart=starts))
    ]
    found = occurrences(starts, rrule, "UTC").seconds
    assert list(found[: len(followed)]) == followed
    assert len(found) == len(followed) or found[len(followed)] > last.replace(tzinfo=UTC).timestamp()


@settings(max_examples=40)
@given(starts, zone_names, st.integers(0, DAYS - 1))
def test_each_local_start_opens_the_window_whatever_clocks_do(starts: datetime, zone: str, days: int) -> None:
    rule = Recurring(starts=starts, minutes=1, rrule="FREQ=DAILY")
    begins = (starts + timedelta(days=days)).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    assert rule.refusal(facts(begins, zone)) is None
    assert rule.refusal(facts(begins + timedelta(seconds=60) - TICK, zone)) is None
    assert rule.refusal(facts(begins - TICK, zone)) is not None
    closed = rule.refusal(facts(begins + timedelta(seconds=60), zone))
    assert closed is not None


@settings(max_examples=60)
@given(starts, st.integers(1, 4000), st.sampled_from(RULES), zone_names, moments)
@example(datetime(2026, 3, 1, 2, 30), 30, "FREQ=DAILY", "Europe/Zurich", datetime(2026, 3, 29, 0, 59, tzinfo=UTC))
@example(datetime(2026, 10, 1, 2, 30), 30, "FREQ=DAILY", "Europe/Zurich", datetime(2026, 10, 25, 1, 29, tzinfo=UTC))
@example(datetime(2018, 11, 1), 30, "FREQ=DAILY", "America/Sao_Paulo", datetime(2018, 11, 4, 2, 59, tzinfo=UTC))
def test_a_moment_before_it_opens_it_is_closed_and_at_that_moment_it_is_open(
    starts: datetime, minutes: int, rrule: str, zone: str, now: datetime
) -> None:
    rule = Recurring(starts=starts, minutes=minutes, rrule=rrule)
    refusal = rule.refusal(facts(now, zone))
    changes = [at for at in rule.changes(facts(now, zone)) if at is not None]
    assert all(at > now for at in changes)
    if refusal is None:
        assert rule.refusal(facts(min(changes) - TICK, zone)) is None
        return
    again = refusal.eligible_again_at
    assert again == min(changes, default=None)
    if again is not None:
        assert rule.refusal(facts(again - TICK, zone)) is not None
        assert rule.refusal(facts(again, zone)) is None


@pytest.mark.parametrize(
    ("zone", "starts", "expected"),
    [
        # 02:30 does not exist on the 29th: an hour later by the clock on the wall.
        ("Europe/Zurich", "2026-03-28T02:30", ["2026-03-28T01:30", "2026-03-29T01:30", "2026-03-30T00:30"]),
        # 02:30 comes twice on the 25th: the first.
        ("Europe/Zurich", "2026-10-24T02:30", ["2026-10-24T00:30", "2026-10-25T00:30", "2026-10-26T01:30"]),
        # 18:00 stays 18:00.
        ("America/New_York", "2026-03-07T18:00", ["2026-03-07T23:00", "2026-03-08T22:00", "2026-03-09T22:00"]),
        # Midnight does not exist on the 4th.
        ("America/Sao_Paulo", "2018-11-03T00:00", ["2018-11-03T03:00", "2018-11-04T03:00", "2018-11-05T02:00"]),
        # Half an hour.
        ("Australia/Lord_Howe", "2026-04-04T12:00", ["2026-04-04T01:00", "2026-04-05T01:30", "2026-04-06T01:30"]),
        # The 30th does not exist at all: its window is that of the 31st.
        ("Pacific/Apia", "2011-12-29T12:00", ["2011-12-29T22:00", "2011-12-30T22:00"]),
    ],
)
def test_days_on_which_the_clock_changes(zone: str, starts: str, expected: list[str]) -> None:
    assert begins(starts, "FREQ=DAILY;COUNT=3", zone) == expected


@pytest.mark.parametrize(
    ("rrule", "zone", "count", "last"),
    [
        ("FREQ=DAILY;UNTIL=20270105", "UTC", 5, "2027-01-05T18:00"),  # a date is inclusive
        ("FREQ=DAILY;UNTIL=20270105T175959", "UTC", 4, "2027-01-04T18:00"),
        ("FREQ=DAILY;UNTIL=20270105T180000", "UTC", 5, "2027-01-05T18:00"),
        ("FREQ=DAILY;UNTIL=20270105T090000Z", "Asia/Tokyo", 5, "2027-01-05T09:00"),
        ("FREQ=DAILY;UNTIL=20270105T085959Z", "Asia/Tokyo", 4, "2027-01-04T09:00"),
        ("RRULE:FREQ=DAILY;COUNT=2", "UTC", 2, "2027-01-02T18:00"),
        ("freq=monthly;bymonthday=31;count=3", "UTC", 3, "2027-05-31T18:00"),
        ("FREQ=YEARLY;COUNT=100", "UTC", 21, "2047-01-01T18:00"),
    ],
)
def test_how_a_rule_ends(rrule: str, zone: str, count: int, last: str) -> None:
    found = begins("2027-01-01T18:00", rrule, zone)
    assert (len(found), found[-1]) == (count, last)


def test_a_leap_day_comes_every_four_years() -> None:
    found = [one[:10] for one in begins("2076-02-29T00:00", "FREQ=YEARLY")]
    assert found == [f"{year}-02-29" for year in (2076, 2080, 2084, 2088, 2092, 2096)]


@given(st.integers(1, 12), moments, zone_names)
@example(2, datetime(2024, 2, 29, 23, 59, tzinfo=UTC), "UTC")
def test_a_birthday_month_is_that_of_the_perks_zone(month: int, now: datetime, zone: str) -> None:
    member = MemberFacts("ACTIVE", now, birth_month=month)
    given = Facts(now, {}, member, PerkFacts(zone=zone), {})
    refusal = BirthdayMonth().refusal(given)
    local = now.astimezone(ZoneInfo(zone))
    assert (refusal is None) == (local.month == month)
    if refusal is not None:
        again = refusal.eligible_again_at
        assert again is not None
        assert BirthdayMonth().refusal(given.at(again)) is None
        assert BirthdayMonth().refusal(given.at(again - TICK)) is not None
        assert date(local.year, local.month, 1) < again.astimezone(ZoneInfo(zone)).date()


def test_rules_and_lengths_in_words() -> None:
    assert in_words("FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,TH") == "every 2 weeks on MO, TH"
    assert in_words("FREQ=DAILY;UNTIL=20271231") == "every day until 20271231"
    assert in_words("FREQ=MONTHLY;BYDAY=-1FR;BYMONTH=6") == "every month on -1FR (BYMONTH=6)"
    assert in_words("FREQ=YEARLY;COUNT=3") == "every year, 3 times in all"
    assert [said(minutes) for minutes in (1, 90, 60, 120, 1440, 2880, 1500)] == [
        "1 minute",
        "90 minutes",
        "1 hour",
        "2 hours",
        "1 day",
        "2 days",
        "25 hours",
    ]
