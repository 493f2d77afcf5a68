"""A partner's own list as CSV, whoever wrote it: encoding, separator and columns found out, in bounded memory."""

import codecs
import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from partners.errors import BadInput

LINE_MAX = 1_000_000
COLUMNS_MAX = 1_000
BLOCK_BYTES = 1 << 20
SEPARATORS = ",;\t|"
BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
NAMES: dict[str, tuple[str, ...]] = {
    "redemption": ("redemptionid", "redemption", "id", "reference", "ref"),
    "leafHash": ("leafhash", "leaf"),
    "at": ("confirmedat", "redeemedat", "at", "timestamp", "datetime"),
    "date": ("date", "day", "datum"),
    "time": ("time", "uhrzeit"),
    "perk": ("perkid",),
    "units": ("units", "quantity", "qty", "count", "menge", "anzahl"),
    "amount": ("amountminor", "amount", "value", "total", "betrag", "montant"),
    "reversedUnits": ("reversedunits",),
    "reversedAmount": ("reversedamountminor", "reversedamount"),
    "tier": ("tier",),
}
"""What can be compared, and under which headings it is found without being told, the first that is there."""
MINOR = "minor"


class ListInvalid(BadInput):
    """A file that is no list, from a line on."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the list: its number in the file from 1 on, and its cells; `fault` when it can't be taken apart."""

    line: int
    cells: Sequence[str]
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class PartnerList:
    """An open list: how it is written, its headings, and where in a line each field is."""

    encoding: str
    separator: str
    headings: Sequence[str]
    columns: Mapping[str, int]
    rows: Iterator[Row]

    @property
    def ignored(self) -> list[str]:
        """Headings of columns that are not compared."""
        used = set(self.columns.values())
        return [heading for place, heading in enumerate(self.headings) if place not in used]

    def is_minor(self, field: str) -> bool:
        """Whether a column says of itself that it counts minor units."""
        return plain(self.headings[self.columns[field]]).endswith(MINOR)


@contextmanager
def open_list(
    path: Path, mapping: Mapping[str, str], encoding: str | None = None, separator: str | None = None
) -> Iterator[PartnerList]:
    """Opens a list; `mapping` names the columns (heading → field) that are not to be guessed.

    ListInvalid, also while reading rows, names the line where the file stops being CSV; OSError.
    """
    code = encoding or encoding_of(path)
    try:
        "".encode(code)
    except (LookupError, ValueError):
        raise BadInput(f"--encoding: no encoding {code!r}") from None
    with path.open(encoding=code, newline="") as text:
        try:
            lines = bounded(text, path.name)
            first = next(lines, "").removeprefix("\ufeff")
            if not first.strip():
                raise ListInvalid(f"{path.name}: line 1 is empty, it should name the columns")
            parted = separator or separator_of(first, path.name)
            reader = csv.reader(chained(first, lines), delimiter=parted, strict=True)
            headings = [heading.strip() for heading in next(reader)]
            if len(headings) > COLUMNS_MAX:
                raise ListInvalid(f"{path.name}: line 1: more than {COLUMNS_MAX:,} columns")
            columns = columns_of(headings, mapping, path.name)
            yield PartnerList(code, parted, headings, columns, rows_of(reader, len(headings), path.name))
        except UnicodeError as fault:
            raise ListInvalid(f"{path.name}: not in {code} ({fault}); say --encoding") from None
        except csv.Error as fault:
            raise ListInvalid(f"{path.name}: line 1: {fault}") from None


def encoding_of(path: Path) -> str:
    """By its byte order mark, by zeros between letters, else UTF-8 if all of it is that, else Windows-1252."""
    with path.open("rb") as file:
        block = file.read(BLOCK_BYTES)
        for mark, code in BYTE_ORDER_MARKS.items():
            if block.startswith(mark):
                return code
        if block[:4096].count(0) * 3 > len(block[:4096]):
            return "utf-16-le" if block[1:2] == b"\0" else "utf-16-be"
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            while block:
                decoder.decode(block)
                block = file.read(BLOCK_BYTES)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "cp1252"
    return "utf-8"


def bounded(text: TextIO, name: str) -> Iterator[str]:
    """Lines, none of which fills the memory; ListInvalid."""
    number = 0
    while line := text.readline(LINE_MAX + 1):
        number += 1
        if len(line) > LINE_MAX:
            raise ListInvalid(f"{name}: line {number} is longer than {LINE_MAX:,} characters")
        if "\0" in line:
            raise ListInvalid(f"{name}: line {number}, column {line.index(chr(0)) + 1}: a zero byte; say --encoding")
        yield line


def chained(first: str, lines: Iterator[str]) -> Iterator[str]:
    """The first line once more, and those after it."""
    yield first
    yield from lines


def separator_of(first: str, name: str) -> str:
    """What parts the headings: the most frequent of comma, semicolon, tab and bar outside quotes. ListInvalid."""
    outside = re.sub(r'"[^"]*"', "", first)
    found = max(SEPARATORS, key=outside.count)
    if found not in outside:
        raise ListInvalid(f"{name}: line 1: nothing parts its columns, of comma, semicolon, tab and |: say --separator")
    return found


def columns_of(headings: Sequence[str], mapping: Mapping[str, str], name: str) -> dict[str, int]:
    """Where each field is: as mapped, else by its usual names. ListInvalid, BadInput."""
    columns: dict[str, int] = {}
    for heading, field in mapping.items():
        if field not in NAMES:
            raise BadInput(f"--map: there is no field {field!r}, but {', '.join(NAMES)}")
        if headings.count(heading) != 1:
            raise BadInput(f"--map: {name} has no column {heading!r} of its own, but {', '.join(headings)}")
        columns[field] = headings.index(heading)
    told = [plain(heading) for heading in headings]
    for field, names in NAMES.items():
        usual = next((one for one in names if one in told), None)
        if usual is None or field in columns or told.index(usual) in columns.values():
            continue
        if told.count(usual) > 1:
            raise ListInvalid(f"{name}: line 1: two columns are {field}: say --map HEADING={field}")
        columns[field] = told.index(usual)
    if not columns.keys() & {"redemption", "leafHash"}:
        raise ListInvalid(
            f"{name}: line 1: no column has the redemption's id or leaf hash, of {', '.join(headings)}:"
            " say --map HEADING=redemption"
        )
    return columns


def plain(heading: str) -> str:
    """A heading as it is compared: `Leaf-Hash` and `leafHash` are one."""
    return re.sub("[^a-z0-9]", "", heading.lower())


def rows_of(reader: Any, width: int, name: str) -> Iterator[Row]:
    """The lines after the headings; empty ones are passed over. ListInvalid when there is no telling where one ends."""
    line = reader.line_num + 1
    while True:
        try:
            cells = next(islice(reader, 1), None)
        except csv.Error as fault:
            why = "a quote is never closed: it may be cut off" if "end of data" in str(fault) else str(fault)
            raise ListInvalid(f"{name}: line {line}: {why}") from None
        if cells is None:
            return
        if cells:
            wrong = len(cells) != width
            yield Row(line, cells, f"{len(cells)} columns, the headings are {width}" if wrong else None)
        line = reader.line_num + 1
