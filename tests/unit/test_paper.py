"""Numbers on paper: exact, aligned, and never rounded to what they are not."""

from datetime import date, timedelta
from random import Random

import pytest

from gateway.auditing.figures import Tally
from gateway.auditing.periods import periods_of
from gateway.auditing.waits import Waits
from gateway.paper.charts import columns, share
from gateway.paper.showing import as_uuid, money, number, percent, rendered, wait
from partners.currencies import CURRENCIES, WITH_THOUSANDTHS, WITHOUT_MINOR_UNITS


def told(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("minor", "currency", "shown"),
    [
        (123_456, "CHF", "1,234.56 CHF"),
        (5, "EUR", "0.05 EUR"),
        (-5, "EUR", "−0.05 EUR"),
        (-123_400, "CHF", "−1,234.00 CHF"),
        (1_234, "JPY", "1,234 JPY"),
        (1_234, "KWD", "1.234 KWD"),
        (0, None, "–"),
        (1_200, None, "1,200 minor units"),
    ],
)
def test_amounts_have_the_digits_of_their_currency(minor: int, currency: str | None, shown: str) -> None:
    assert told(money(minor, currency)) == shown


def test_every_exception_is_a_currency() -> None:
    assert WITHOUT_MINOR_UNITS | WITH_THOUSANDTHS <= CURRENCIES


def test_numbers_have_commas_and_a_real_minus() -> None:
    assert (number(-1_234_567), number(0)) == ("−1,234,567", "0")


@pytest.mark.parametrize(
    ("milliseconds", "shown"),
    [
        (None, "–"),
        (0, "0 ms"),
        (999, "999 ms"),
        (1_000, "1.0 s"),
        (59_900, "59.9 s"),
        (60_000, "1 min"),
        (61_000, "1 min 1 s"),
        (3_600_000, "1 h"),
        (5_400_000, "1 h 30 min"),
        (86_400_000 + 7_200_000, "1 d 2 h"),
    ],
)
def test_times_are_told_in_the_two_units_that_matter(milliseconds: int | None, shown: str) -> None:
    assert told(wait(milliseconds)) == shown


def test_a_share_is_all_or_nothing_only_when_it_is() -> None:
    shares = [(0, 10), (1, 100_000), (99_999, 100_000), (10, 10), (1, 3), (0, 0)]
    assert [told(percent(*one)) for one in shares] == ["0 %", "0.1 %", "99.9 %", "100 %", "33.3 %", "–"]


def test_percentiles_are_within_half_a_per_cent_of_the_exact_ones() -> None:
    chance, waits = Random(1), Waits()
    times = sorted(int(chance.expovariate(1 / 200_000)) for _ in range(10_000))
    for time in times:
        waits.add(time)
    for per_cent in (1, 50, 90, 99, 100):
        exact = times[-(-len(times) * per_cent // 100) - 1]
        found = waits.within(per_cent)
        assert found is not None
        assert abs(found - exact) <= 0.005 * exact + 1
    assert len(waits.times) < 4_000
    assert Waits().within(50) is None


def test_a_clock_that_ran_backwards_took_no_time() -> None:
    waits = Waits()
    waits.add(-5)
    assert waits.within(50) == 0


@pytest.mark.parametrize(
    ("days", "unit", "labels"), [(1, "day", 1), (62, "day", 62), (63, "week", 10), (400, "month", 14)]
)
def test_days_become_weeks_and_months_with_the_empty_ones_between(days: int, unit: str, labels: int) -> None:
    first = date(2026, 11, 3)
    tallies: dict[str, Tally] = {}
    for day in {first, first + timedelta(days=days - 1)}:
        tallies[day.isoformat()] = Tally()
        tallies[day.isoformat()].add([("units", 2)])
    periods = periods_of(tallies)
    assert (periods.unit, len(periods.labels)) == (unit, labels)
    assert sum(periods.counts("units")) == 2 * len(tallies)


def test_a_clock_that_was_wrong_by_centuries_draws_no_centuries() -> None:
    periods = periods_of({"0001-01-01": Tally(), "9999-12-31": Tally()})
    assert periods.labels == ["0001-01", "9999-12"]
    assert periods_of({}).labels == []


def test_charts_escape_what_they_are_told() -> None:
    drawn = columns(["<b>"], [1], [0], '"><script>')
    assert "<script>" not in drawn
    assert "<b>" not in drawn
    assert drawn.count("<rect") == 1
    assert "<svg" in columns([], [], [], "nothing")
    assert 'width="0.0"' in share(0, 0)


def test_an_id_is_read_in_either_spelling() -> None:
    plain = "01890a5d-ac96-774b-bcce-b302099a8057"
    assert as_uuid(plain) == as_uuid("perk_01890a5dac96774bbcceb302099a8057") == plain
    with pytest.raises(ValueError, match="badly formed"):
        as_uuid("perk_")


def test_a_page_that_lacks_a_name_is_an_error() -> None:
    with pytest.raises(Exception, match="undefined"):
        rendered("report.html", {})
