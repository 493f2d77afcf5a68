"""Files as people have them: encodings, headers, quotes and types, each fault with its line."""

import io
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.imports import LINE_BYTES_MAX, Format, format_of, opened, read_records
from partners.errors import BadInput
from partners.import_rows import ActivityRow, MemberRow, PerkRow, in_columns, read_row

HEADER = "external_id,joined_at\n"


def read(content: str | bytes, format: Format = Format.CSV, model: Any = MemberRow) -> list[tuple[int, Any]]:
    """Records, with a fault as its message."""
    raw = content.encode() if isinstance(content, str) else content
    return [
        (number, values.message if isinstance(values, BadInput) else values)
        for number, values in read_records(io.BytesIO(raw), format, model)
    ]


def refusal(content: str | bytes, format: Format = Format.CSV, model: Any = MemberRow) -> str:
    with pytest.raises(BadInput) as caught:
        read(content, format, model)
    return caught.value.message


def row_fault(model: Any, **values: Any) -> str:
    with pytest.raises(BadInput) as caught:
        read_row(model, values, "Europe/Zurich")
    return caught.value.message


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_file_with_or_without_byte_order_mark_and_either_line_end_reads_the_same(mark: str, ends: str) -> None:
    content = f"{mark}external_id,joined_at{ends}Zoë,2026-01-01{ends}"
    assert read(content) == [(2, {"external_id": "Zoë", "joined_at": "2026-01-01"})]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_commas_semicolons_and_tabs_separate_cells(delimiter: str) -> None:
    content = f"external_id{delimiter}joined_at\na{delimiter}2026-01-01\n"
    assert read(content) == [(2, {"external_id": "a", "joined_at": "2026-01-01"})]


def test_a_record_is_known_by_its_first_line_whatever_newlines_it_quotes() -> None:
    content = 'partner,handle,kind,title,description\np,h,SAMPLE,"two\nlines","three\r\nof\nthem"\n\np,i,SAMPLE,t,\n'
    first, second = read(content, model=PerkRow)
    assert first == (
        2,
        {"partner": "p", "handle": "h", "kind": "SAMPLE", "title": "two\nlines", "description": "three\r\nof\nthem"},
    )
    assert second == (7, {"partner": "p", "handle": "i", "kind": "SAMPLE", "title": "t"})


def test_a_broken_line_is_told_by_its_number_and_the_next_one_is_read() -> None:
    content = HEADER + 'a,"x"y\nb\nc,2026-01-01,more\n,\nd,2026-01-01\n'
    assert read(content) == [
        (2, "',' expected after '\"'"),
        (3, "1 cells, and the header has 2"),
        (4, "3 cells, and the header has 2"),
        (6, {"external_id": "d", "joined_at": "2026-01-01"}),
    ]


def test_a_quote_that_nobody_closes_is_told_where_it_opens() -> None:
    assert read(HEADER + 'a,2026-01-01\nb,"2026\nc,2026\n')[1:] == [(3, "a quoted cell is not closed")]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("external_id,tier", "columns missing: joined_at; members have external_id, joined_at, market"),
        ("external_id,joined_at,teir", "columns unknown: teir; members have"),
        ("external_id,joined_at,", r"columns unknown: \(empty\)"),
        ("external_id,joined_at,tier,tier", "columns twice: tier; members have"),
        ("id", "columns missing: external_id, joined_at; unknown: id"),
        ('external_id,"joined_at', "line 1: unexpected end of data"),
    ],
)
def test_columns_that_are_missing_unknown_or_twice_are_named(header: str, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        read(header + "\n")


@pytest.mark.parametrize("format", Format)
def test_an_empty_file_is_told(format: Format) -> None:
    assert refusal("", format).startswith("empty: ")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ((HEADER + "a,2026-01-01\nZoë,2026-01-01\n").encode("latin-1"), "line 3 is not UTF-8 (byte 0xeb): save"),
        ((HEADER + "a,2026-01-01\n").encode("utf-16"), "line 1 is not UTF-8 (byte 0xff): save"),
        ((HEADER + "a,2026-01-01\n").encode("utf-16-le"), "line 1 has a NUL character (is it UTF-16?): save"),
        (HEADER.encode() + b"a" * (LINE_BYTES_MAX + 1), f"line 2 is longer than {LINE_BYTES_MAX} bytes"),
    ],
)
def test_another_encoding_is_refused_before_a_record_is_given(raw: bytes, words: str) -> None:
    with pytest.raises(BadInput) as caught:
        read_records(io.BytesIO(raw), Format.CSV, MemberRow)
    assert caught.value.message.startswith(words)


def test_json_lines_say_the_same_as_cells() -> None:
    content = (
        '{"external_id": 17, "joined_at": "2026-01-01", "tier": null, "market": ""}\n\n[1]\n{"external_id"\n{"x": 1}\n'
    )
    first, second, third, fourth = read(content, Format.JSONL)
    assert first == (1, {"external_id": 17, "joined_at": "2026-01-01"})
    assert second == (3, "not a JSON object")
    assert third[0] == 4
    assert third[1].startswith("not JSON: ")
    assert fourth == (5, "columns unknown: x")


def test_the_format_is_told_by_the_name_or_must_be_said() -> None:
    assert format_of(Path("a.CSV")) is Format.CSV
    assert format_of(Path("a.jsonl")) is format_of(Path("a.ndjson")) is Format.JSONL
    with pytest.raises(BadInput, match="of which format"):
        format_of(Path("-"))


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.csv: No such file"), opened(tmp_path / "none.csv"):
        raise AssertionError


def test_a_large_file_takes_no_more_memory_than_a_small_one() -> None:
    class Endless(io.RawIOBase):
        """20,000 lines that were never in memory together."""

        def __init__(self) -> None:
            self.left: Iterator[bytes] = (b"member-%d,2026-01-01\n" % number for number in range(20_000))
            self.first = True

        def readline(self, size: int | None = -1, /) -> bytes:
            if self.first:
                self.first = False
                return HEADER.encode()
            return next(self.left, b"")

        def seekable(self) -> bool:
            return False

    tracemalloc.start()
    count = sum(1 for _ in read_records(Endless(), Format.CSV, MemberRow))  # type: ignore[arg-type]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20_000
    assert peak < 500_000


def test_a_date_is_of_the_programmes_zone_and_an_end_date_is_inclusive() -> None:
    values = {"external_id": "a", "joined_at": "2026-01-01", "tier": "gold", "tier_until": "2026-12-31"}
    row = read_row(MemberRow, values, "Europe/Zurich")
    assert row.joined_at == datetime(2025, 12, 31, 23, tzinfo=UTC)
    assert row.tier_until == datetime(2026, 12, 31, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["2026-01-01T12:00:00Z", "2026-01-01t12:00:00z", "2026-01-01 13:00:00+01:00", "2026-01-01T12:00:00.000Z"]
)
def test_a_time_is_rfc_3339(text: str) -> None:
    row = read_row(MemberRow, {"external_id": "a", "joined_at": text}, "UTC")
    assert row.joined_at == datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["2026-02-30", "2026-01-01T12:00:00", "1/2/2026", "20260101", "now", 17, "2026-01-01T25:00:00Z"]
)
def test_any_other_time_is_a_fault(text: Any) -> None:
    assert row_fault(MemberRow, external_id="a", joined_at=text).startswith("joined_at: ")


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:00:00-14:00", "0001-01-01"])
def test_a_time_beyond_the_calendar_is_a_fault(text: str) -> None:
    words = row_fault(MemberRow, external_id="a", joined_at=text)
    assert words == "joined_at: not a time between the years 1 and 9999"


def test_every_fault_of_a_line_is_told() -> None:
    words = row_fault(MemberRow, joined_at="x", state="GONE")
    assert "external_id: field required" in words
    assert "joined_at: a date as 2026-05-31, or a time with its offset" in words
    assert "state: input should be 'ACTIVE' or 'SUSPENDED'" in words


@pytest.mark.parametrize("amount", ["1.5", "1e3", "", True, 1.0, "9223372036854775808", "٣٫٥"])
def test_an_amount_is_a_whole_number_of_64_bits(amount: Any) -> None:
    values = {"external_id": "a", "indicator": "spend", "source": "s", "at": "2026-01-01"}
    assert row_fault(ActivityRow, **values, amount=amount).startswith("amount: ")
    assert read_row(ActivityRow, values | {"amount": "-9223372036854775807"}, "UTC").amount == 1 - 2**63


def test_consents_are_handles_with_anything_between() -> None:
    for said in ("a b;c", " a, b ,c ", ["a", "b", "c"]):
        values = {"external_id": "x", "joined_at": "2026-01-01", "consents": said}
        assert read_row(MemberRow, values, "UTC").consents == ("a", "b", "c")


def test_a_perks_rules_are_json_in_a_cell_or_as_they_are() -> None:
    rules = [{"kind": "tier_at_least", "tier": "gold"}]
    named = {"partner": "p", "handle": "h", "kind": "SAMPLE", "title": "t", "opens_on": "2026-01-01", "capacity": "5"}
    for said in (rules, '[{"kind":"tier_at_least","tier":"gold"}]'):
        row = read_row(PerkRow, named | {"rules": said}, "UTC")
        assert row.rules == rules
    assert row.opens_on == date(2026, 1, 1)
    assert row.capacity == 5
    assert row_fault(PerkRow, **named, rules="[{").startswith("rules: not JSON: ")
    assert row_fault(PerkRow, **named, rules='{"kind": 1}').startswith("rules: ")
    assert row_fault(PerkRow, **named | {"opens_on": "2026-01-01T00:00:00Z"}) == "opens_on: a date as 2026-05-31"


def test_messages_of_the_domain_name_columns() -> None:
    assert in_columns("closesOn: not before opensOn") == "closes_on: not before opens_on"
    assert in_columns("endsAt: a time that is to come") == "tier_until: a time that is to come"
    assert in_columns("rules.0.tier: no tier 'x'") == "rules.0.tier: no tier 'x'"
