"""Reads CSV and JSON Lines a line at a time: UTF-8, bounded, each record with the number of its first line."""

import codecs
import csv
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import orjson

from partners.errors import BadInput
from partners.import_rows import Row

if TYPE_CHECKING:
    import _csv

LINE_BYTES_MAX = 1_000_000
DELIMITERS = ",;\t"
STANDARD_INPUT = Path("-")

Record: TypeAlias = tuple[int, dict[str, Any] | BadInput]
"""The number of a record's first line, and its values by column (only those that say something), or its fault."""


class Format(StrEnum):
    """How a file is written."""

    CSV = "csv"
    JSONL = "jsonl"


SUFFIXES = {".csv": Format.CSV, ".jsonl": Format.JSONL, ".ndjson": Format.JSONL}


def format_of(path: Path) -> Format:
    """The format that a file's name tells; BadInput when it tells none."""
    found = SUFFIXES.get(path.suffix.lower())
    if found is None:
        raise BadInput(f"{path}: of which format? Say --format csv or --format jsonl")
    return found


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file, or standard input for `-`; BadInput when it can't be opened."""
    if path == STANDARD_INPUT:
        yield sys.stdin.buffer
        return
    try:
        file = path.open("rb")
    except OSError as fault:
        raise BadInput(f"{path}: {fault.strerror}") from None
    with file:
        yield file


def read_records(file: BinaryIO, format: Format, model: type[Row]) -> Iterator[Record]:
    """The records of a file. BadInput when all of it can't be: another encoding, wrong columns, no line at all.

    A file is read twice, so that one in another encoding is refused before anything of it is taken; a pipe can't be.
    """
    if file.seekable():
        start = file.tell()
        for _ in text_lines(file):
            pass
        file.seek(start)
    lines = text_lines(file)
    return csv_records(lines, model) if format is Format.CSV else json_records(lines, model)


def text_lines(file: BinaryIO) -> Iterator[str]:
    """Lines with their ends, decoded; BadInput names the one that is not UTF-8 or is too long."""
    for number, read in enumerate(iter(partial(file.readline, LINE_BYTES_MAX + 1), b""), 1):
        line = read.removeprefix(codecs.BOM_UTF8) if number == 1 else read
        if len(line) > LINE_BYTES_MAX:
            raise BadInput(f"line {number} is longer than {LINE_BYTES_MAX} bytes")
        try:
            text = line.decode()
        except UnicodeDecodeError as fault:
            found = f"line {number} is not UTF-8 (byte 0x{line[fault.start]:02x})"
            raise BadInput(f"{found}: save the file in UTF-8") from None
        if "\0" in text:
            raise BadInput(f"line {number} has a NUL character (is it UTF-16?): save the file in UTF-8")
        yield text


def csv_records(lines: Iterator[str], model: type[Row]) -> Iterator[Record]:
    """Records under a header of columns, in RFC 4180; semicolons or tabs will do between them, too."""
    first = next(lines, None)
    if first is None:
        raise BadInput(f"empty: the first line names columns: {', '.join(required(model))}, …")
    delimiter = max(DELIMITERS, key=first.count)
    reader = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader)]
    except csv.Error as fault:
        raise BadInput(f"line 1: {fault}") from None
    check_header(header, model)
    return csv_rows(reader, header)


def csv_rows(reader: "_csv.Reader", header: list[str]) -> Iterator[Record]:
    """What follows the header; a record may take several lines, and is known by its first."""
    while True:
        number = reader.line_num + 1
        try:
            cells = [cell.strip() for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as fault:
            known = "a quoted cell is not closed" if "end of data" in str(fault) else str(fault)
            yield number, BadInput(known)
            continue
        if not any(cells):
            continue
        if len(cells) != len(header):
            yield number, BadInput(f"{len(cells)} cells, and the header has {len(header)}")
        else:
            yield number, {name: cell for name, cell in zip(header, cells, strict=True) if cell}


def check_header(header: list[str], model: type[Row]) -> None:
    """BadInput names every column that is missing, unknown or there twice."""
    known = list(model.model_fields)
    faults = {
        "missing": [name for name in required(model) if name not in header],
        "unknown": [name or "(empty)" for name in header if name not in known],
        "twice": [name for name, count in Counter(header).items() if count > 1 and name in known],
    }
    if any(faults.values()):
        told = "; ".join(f"{fault}: {', '.join(names)}" for fault, names in faults.items() if names)
        raise BadInput(f"columns {told}; {model.noun} have {', '.join(known)}")


def required(model: type[Row]) -> list[str]:
    """The columns that every file of this kind has."""
    return [name for name, one in model.model_fields.items() if one.is_required()]


def json_records(lines: Iterator[str], model: type[Row]) -> Iterator[Record]:
    """An object a line; null says as little as an absent name."""
    number = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            values = orjson.loads(line)
        except orjson.JSONDecodeError as fault:
            yield number, BadInput(f"not JSON: {fault}")
            continue
        if not isinstance(values, dict):
            yield number, BadInput("not a JSON object")
        elif unknown := values.keys() - model.model_fields.keys():
            yield number, BadInput(f"columns unknown: {', '.join(sorted(unknown))}")
        else:
            yield number, {name: value for name, value in values.items() if value not in (None, "")}
    if number == 0:
        raise BadInput("empty: not one line")
