"""Cells of other people's lists: what they mean, and what is said of those that mean nothing."""

from datetime import UTC, datetime
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from gateway.auditing.cells import (
    CellUnclear,
    CellWrong,
    Numbers,
    Times,
    at,
    leaf_hash_of,
    microseconds,
    perk_of,
    redemption_of,
)

ZURICH = ZoneInfo("Europe/Zurich")
ID = UUID("01a20326-9bf1-76fe-a1e1-1adb8eaaaddf")


@pytest.mark.parametrize(
    ("text", "decimals", "value"),
    [
        ("12", 0, 12),
        ("+12", 0, 12),
        ("-3", 0, -3),
        ("2.00", 0, 2),
        ("12.5", 2, 1250),
        ("12,50", 2, 1250),
        ("0.125", 3, 125),
        ("0,125", 3, 125),
        ("1'234.50", 2, 123450),
        ("1’234.50", 2, 123450),
        ("1 234,50", 2, 123450),
        ("1\u202f234,5", 2, 123450),
        ("1.234.567", 0, 1234567),
        ("1,234,567.8", 1, 12345678),
        ("1.234.567,8", 1, 12345678),
        ("9" * 18, 0, 10**18 - 1),
    ],
)
def test_numbers_are_read_as_people_write_them(text: str, decimals: int, value: int) -> None:
    assert Numbers().read(f" {text} ", decimals) == value


@pytest.mark.parametrize(
    ("text", "decimals", "words"),
    [
        ("", 0, "not a number"),
        ("abc", 0, "not a number"),
        ("1e3", 0, "not a number"),
        ("€12", 2, "not a number"),
        ("12.5", 0, "not a whole number; where amounts are not in minor units, say --decimals 2"),
        ("12.505", 2, "say --decimal-mark"),
        ("0.505", 2, "more than 2 decimals"),
        ("1,23,456", 0, "not in threes"),
        ("1.2.3", 2, "not in threes"),
        ("12 34", 0, "not in threes"),
        ("1.5,5.5", 1, "stands at a wrong place"),
        ("9" * 19, 0, "more than 18 digits"),
        ("1234567890123456789.00", 2, "more than 18 digits"),
    ],
)
def test_what_is_no_number_is_told(text: str, decimals: int, words: str) -> None:
    with pytest.raises(CellWrong, match=words):
        Numbers().read(text, decimals)


def test_one_list_writes_its_decimals_one_way() -> None:
    numbers = Numbers()
    with pytest.raises(CellUnclear, match="parts thousands here, or decimals: say --decimal-mark"):
        numbers.read("1,234", 2)
    assert numbers.read("12,50", 2) == 1250
    assert numbers.read("1.234", 2) == 123_400
    with pytest.raises(CellWrong, match="not in threes, and ',' parts decimals"):
        numbers.read("12.50", 2)
    assert Numbers(".").read("1,234", 2) == 123_400


def spans(times: Times, text: str) -> list[tuple[str, float]]:
    """When it begins, and how many seconds wide it is."""
    return [(at(start).strftime("%d %H:%M:%S.%f"), (end - start) / 1e6) for start, end in times.read(text, 2)]


@pytest.mark.parametrize(
    ("text", "begins", "seconds"),
    [
        ("2026-05-31T18:00:00Z", "31 18:00:00.000000", 1),
        ("2026-05-31T18:00:00.25+02:00", "31 16:00:00.250000", 0.01),
        ("2026-05-31 18:00:00.123456789 -0330", "31 21:30:00.123456", 1e-6),
        ("2026-05-31 18:00 UTC", "31 18:00:00.000000", 60),
        ("2026-05-31 18:00", "31 16:00:00.000000", 60),
        ("2026-05-31", "30 22:00:00.000000", 86_400),
        ("31.05.2026 6:05 pm", "31 16:05:00.000000", 60),
        ("31.5.2026 12:05 AM", "30 22:05:00.000000", 60),
        ("2026/05/31 18:00", "31 16:00:00.000000", 60),
        ("2026-03-29", "28 23:00:00.000000", 23 * 3600),
        ("2026-10-25", "24 22:00:00.000000", 25 * 3600),
    ],
)
def test_times_are_as_wide_as_they_are_written(text: str, begins: str, seconds: float) -> None:
    assert spans(Times(ZURICH), text) == [(begins, seconds)]


def test_a_time_that_clocks_showed_twice_may_be_either_and_one_they_never_showed_is_none() -> None:
    assert [begins for begins, _ in spans(Times(ZURICH), "2026-10-25 02:30")] == [
        "25 00:30:00.000000",
        "25 01:30:00.000000",
    ]
    with pytest.raises(CellWrong, match="clocks in Europe/Zurich never showed it"):
        Times(ZURICH).read("2026-03-29 02:30", 2)
    assert spans(Times(ZoneInfo("America/Santiago")), "2026-09-06")[0][1] == 23 * 3600  # it begins at one o'clock


def test_days_and_months_with_slashes_need_to_be_told_apart() -> None:
    with pytest.raises(CellUnclear, match="which is the day, and which the month"):
        Times(ZURICH).read("05/06/2026", 2)
    assert spans(Times(ZURICH, "dmy"), "05/06/2026")[0][0].startswith("04")
    assert spans(Times(ZURICH, "mdy"), "05/06/2026")[0][0].startswith("05")
    with pytest.raises(CellWrong, match="no day of the calendar"):
        Times(ZURICH, "mdy").read("13/06/2026", 2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("yesterday", "not a date"),
        ("31.05.26", "not a date"),
        ("2026-02-30", "no day of the calendar"),
        ("9999-12-31", "no day of the calendar"),
        ("2026-05-31 25:00", "no time of day"),
        ("2026-05-31 13:00 pm", "no time of day"),
        ("2026-05-31 18:00 CEST", "of zones it tells offsets only"),
        ("2026-05-31T18:00+25:00", "no offset from UTC"),
    ],
)
def test_what_is_no_time_is_told(text: str, words: str) -> None:
    with pytest.raises(CellWrong, match=words):
        Times(ZURICH).read(text, 2)


def test_times_without_an_offset_need_a_zone_and_two_kinds_in_one_list_are_refused() -> None:
    with pytest.raises(CellUnclear, match="a time of which zone"):
        Times().read("2026-05-31 18:00", 2)
    times = Times(ZURICH)
    times.read("2026-05-31 18:00", 2)
    with pytest.raises(CellWrong, match="it has an offset, and line 2 has none"):
        times.read("2026-05-31T18:00Z", 7)
    times = Times(ZURICH)
    times.read("2026-05-31T18:00Z", 3)
    with pytest.raises(CellWrong, match="it has no offset, and line 3 has one"):
        times.read("2026-05-31 18:00", 7)


def test_ids_are_read_in_each_of_their_spellings() -> None:
    for text in (str(ID), ID.hex, ID.hex.upper(), f"redemption_{ID.hex}", f" {{{ID}}} "):
        assert redemption_of(text) == ID.bytes
    assert perk_of(f"perk_{ID.hex}") == ID.bytes
    for wrong in ("", "velo/tea", f"perk_{ID.hex}", ID.hex[:-1]):
        with pytest.raises(CellWrong, match="not the id of a redemption"):
            redemption_of(wrong)
    assert leaf_hash_of(bytes(32).hex()) == leaf_hash_of("A" * 43 + "=") == bytes(32)
    for wrong in ("", "00", "g" * 64, "A" * 44):
        with pytest.raises(CellWrong, match="not a leaf hash"):
            leaf_hash_of(wrong)


def test_microseconds_are_exact() -> None:
    moment = datetime(2026, 5, 31, 18, 0, 0, 123456, tzinfo=UTC)
    assert at(microseconds(moment)) == moment
