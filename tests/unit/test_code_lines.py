"""Files of codes in every encoding and shape that a spreadsheet saves, cut into pieces anywhere."""

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from partners.code_lines import BYTES_MAX, LINE_LENGTH_MAX, LINES_MAX, CodeLines, TooLarge
from partners.errors import BadInput
from partners.kinds.code import Code, CodeFormat

ELSEWHERE = "not in the encoding of the file's beginning"


def read(data: bytes, *cuts: int, table: bool = False) -> list[tuple[int, str]]:
    """The lines of a file that comes in pieces; a fault as its message."""
    lines, found, start = CodeLines(table=table), [], 0
    for cut in sorted(cuts):
        found += lines.feed(data[start:cut])
        start = cut
    found += lines.feed(data[start:], last=True)
    return [(number, code.message if isinstance(code, BadInput) else code) for number, code in found]


@pytest.mark.parametrize(
    "data",
    [
        b"A1\nB2\n",
        b"A1\r\nB2",
        b"  A1 \t\r\nB2   ",
        codecs.BOM_UTF8 + b"A1\nB2\n",
        "\ufeffA1\r\nB2\r\n".encode("utf-16-le"),
        "\ufeffA1\nB2".encode("utf-16-be"),
    ],
)
def test_lines_are_read_in_every_encoding_that_is_offered(data: bytes) -> None:
    assert read(data) == [(1, "A1"), (2, "B2")]


@given(st.data())
def test_pieces_may_end_anywhere(data: st.DataObject) -> None:
    encoding = data.draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
    lines = data.draw(st.lists(st.text("AZ09-é€𝄞", min_size=0, max_size=5), max_size=8))
    whole = "\r\n".join(lines).encode(encoding)
    cuts = data.draw(st.lists(st.integers(0, len(whole)), max_size=6))
    assert read(whole, *cuts) == [(number, line) for number, line in enumerate(lines, 1) if line]


def test_an_empty_file_and_blank_lines_have_no_codes() -> None:
    assert read(b"") == read(codecs.BOM_UTF8) == read(b"\n\r\n   \n") == []
    assert read(b"\n\nA1\n") == [(3, "A1")]


def test_a_line_in_another_encoding_is_named_and_the_others_are_taken() -> None:
    assert read(b"A1\ncaf\xe9\nB2") == [(1, "A1"), (2, ELSEWHERE), (3, "B2")]
    assert read(b"A1\n\xff\xfeX\nB2") == [(1, "A1"), (2, ELSEWHERE), (3, "B2")]


def test_utf_16_that_begins_midway_or_without_its_mark_is_named_line_by_line() -> None:
    found = read(b"A1\n" + "B2\nC3\n".encode("utf-16-le"))
    assert found[0] == (1, "A1")
    assert {why for _, why in found[1:]} == {ELSEWHERE}
    assert {why for _, why in read("A1\nB2".encode("utf-16-be"))} == {ELSEWHERE}


def test_utf_8_after_utf_16_gives_no_code_that_a_pool_takes() -> None:
    found = read("\ufeffA1\n".encode("utf-16-le") + b"B2\nC3\n")
    assert found[0] == (1, "A1")
    assert all(why == ELSEWHERE or CodeFormat().fault(why) for _, why in found[1:])
    assert len(found) > 1


def test_a_second_byte_order_mark_is_no_part_of_a_code() -> None:
    [_, (number, text)] = read(codecs.BOM_UTF8 + b"A1\n" + codecs.BOM_UTF8 + b"B2")
    assert number == 2
    assert CodeFormat().fault(text) == "U+FEFF is no character of a code"


@pytest.mark.parametrize("encoding", ["utf-32-le", "utf-32-be"])
def test_utf_32_is_refused(encoding: str) -> None:
    with pytest.raises(BadInput, match="UTF-32"):
        read("\ufeffA1\n".encode(encoding))


def test_a_file_has_at_most_ten_megabytes() -> None:
    lines = CodeLines()
    for _ in range(10):
        lines.feed(b"A" * (BYTES_MAX // 10 - 1) + b"\n")
    with pytest.raises(TooLarge) as refused:
        lines.feed(b"A")
    assert refused.value.code == "BODY_TOO_LARGE"


def test_a_file_has_at_most_200_000_lines() -> None:
    assert len(read(b"A\n" * (LINES_MAX - 1) + b"A")) == LINES_MAX
    with pytest.raises(TooLarge):
        read(b"A\n" * LINES_MAX + b"A")


def test_one_endless_line_is_kept_no_longer_than_a_line_may_be() -> None:
    lines = CodeLines()
    for _ in range(50):
        assert lines.feed(b"A" * 100_000) == []
    assert len(lines._rest) == LINE_LENGTH_MAX + 1
    [(number, fault)] = lines.feed(b"", last=True)
    assert (number, str(fault)) == (1, f"a line has at most {LINE_LENGTH_MAX} characters")


@pytest.mark.parametrize(
    "data",
    [
        b"code\nA1\nB2",
        b"id;Code;note\n1;A1;x\n2; B2 ;y",
        b'id,"CODE"\n1,"A1"\n2,B2',
        b"note\tcode\nx\tA1\ny\tB2",
    ],
)
def test_a_table_has_its_codes_in_their_column(data: bytes) -> None:
    assert read(data, table=True) == [(2, "A1"), (3, "B2")]


def test_a_table_of_one_column_needs_no_header() -> None:
    assert read(b'A1\n"B,2"\n', table=True) == [(1, "A1"), (2, "B,2")]


def test_lines_that_are_none_of_the_table_are_named() -> None:
    found = read(b'id,code\n1,A1\n2\n3,"B2\n4,\n5,C3', table=True)
    assert found == [(2, "A1"), (3, "no line of the table"), (4, "no line of the table"), (5, "no code"), (6, "C3")]


def test_a_table_without_a_column_of_codes_is_refused() -> None:
    with pytest.raises(BadInput, match="none of them is 'code'"):
        read(b"id,voucher\n1,A1\n", table=True)
    with pytest.raises(BadInput, match="no line of a table"):
        read(b'"A1\n', table=True)


@pytest.mark.parametrize("table", [False, True])
def test_a_line_that_is_too_long_is_never_cut_into_another_code(table: bool) -> None:
    """Wherever the pieces end: the code stands behind the ten thousandth character."""
    head = b"other,code\n" + b"x" * (LINE_LENGTH_MAX - 6) + b"," if table else b" " * (LINE_LENGTH_MAX - 5)
    whole = head + b"ABCDEFGHIJ\nNEXT,NEXT\n"
    for cut in range(len(head), len(head) + 12):
        [long, following] = [code for _, code in read(whole, cut, table=table)]
        assert long == f"a line has at most {LINE_LENGTH_MAX} characters"
        assert following.endswith("NEXT")


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("A", None),
        ("x" * 200, None),
        ("GIFT 12-34!~", None),
        ("", "0 characters: a code has 1 to 200"),
        ("x" * 201, "201 characters: a code has 1 to 200"),
        ("A\tB", "U+0009 is no character of a code"),
        ("é", "U+00E9 is no character of a code"),
        ("\x7f", "U+007F is no character of a code"),
    ],
)
def test_a_code_is_printable_ascii_unless_its_partner_says_otherwise(code: str, fault: str | None) -> None:
    assert CodeFormat().fault(code) == fault


def test_a_partner_says_what_its_codes_look_like() -> None:
    format = CodeFormat(characters="ÄÖÜ", length_min=2, length_max=3)
    assert [format.fault(code) for code in ("ÄÖ", "ÄÖÜ")] == [None, None]
    assert all(format.fault(code) for code in ("Ä", "ÄÖÜÄ", "AB"))


@pytest.mark.parametrize(
    "settings",
    [
        {"format": {"length_min": 5, "length_max": 4}},
        {"format": {"length_min": 0}},
        {"format": {"length_max": 201}},
        {"format": {"characters": ""}},
        {"format": {"characters": " "}},
        {"format": {"characters": "A\n"}},
        {"format": {"pattern": ".*"}},
        {"when_empty": "EXPLODE"},
        {"length_max": True},
    ],
)
def test_impossible_settings_of_codes_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Code.model_validate(settings)
