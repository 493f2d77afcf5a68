"""How an export is written: CSV, JSON Lines or Parquet, piece by piece, so that no file is ever whole in memory."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import import_module
from typing import Any, Protocol

import orjson

from partners.export_rows import Column
from partners.exports import ParquetUnavailable
from partners.tables import ExportFormat

Rows = Sequence[Sequence[Any]]
FORMULAS = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n")
"""What a spreadsheet may take for the beginning of a formula (OWASP, CSV injection)."""
GROUP_BYTES = 4_000_000
"""Of a Parquet row group before it is compressed: it is in memory some times over."""
PAGE_BYTES = 131_072
"""Of a page of one column: each column's is in memory while a group is written."""
MEDIA = {
    ExportFormat.CSV: "text/csv; charset=utf-8; header=present",
    ExportFormat.JSONL: "application/x-ndjson",
    ExportFormat.PARQUET: "application/vnd.apache.parquet",
}


class Writer(Protocol):
    """One file: its `head`, then rows by `add`, then its `tail`, each giving the bytes that follow, perhaps none."""

    resumable: bool
    """Whether another process may go on with `add` after any piece."""

    def head(self) -> bytes: ...

    def add(self, rows: Rows) -> bytes: ...

    def tail(self) -> bytes: ...


def show_moment(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds, as the API shows it."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


class CsvWriter:
    """RFC 4180 in UTF-8 with a header and no byte order mark. Null is empty, a list has spaces between.

    A text that a spreadsheet might run as a formula has an apostrophe before it.
    """

    resumable = True

    def __init__(self, columns: Mapping[str, Column]) -> None:
        self._columns = columns

    def head(self) -> bytes:
        """The header."""
        return ",".join(self._columns).encode() + b"\r\n"

    def add(self, rows: Rows) -> bytes:
        """A line each."""
        text = io.StringIO(newline="")
        csv.writer(text).writerows([cell(value) for value in row] for row in rows)
        return text.getvalue().encode()

    def tail(self) -> bytes:
        """Nothing."""
        return b""


def cell(value: Any) -> Any:
    """A value as CSV shows it."""
    if value is None or type(value) is int:
        return value
    if type(value) is datetime:
        return show_moment(value)
    text = " ".join(value) if type(value) is list else value
    return f"'{text}" if text.startswith(FORMULAS) else text


class JsonLinesWriter:
    """A JSON object a line, in UTF-8."""

    resumable = True

    def __init__(self, columns: Mapping[str, Column]) -> None:
        self._names = [*columns]
        self._moments = [place for place, column in enumerate(columns.values()) if column is Column.MOMENT]

    def head(self) -> bytes:
        """Nothing."""
        return b""

    def add(self, rows: Rows) -> bytes:
        """A line each."""
        return b"".join(orjson.dumps(self._object(row), option=orjson.OPT_APPEND_NEWLINE) for row in rows)

    def _object(self, row: Sequence[Any]) -> dict[str, Any]:
        values = list(row)
        for place in self._moments:
            if values[place] is not None:
                values[place] = show_moment(values[place])
        return dict(zip(self._names, values, strict=True))

    def tail(self) -> bytes:
        """Nothing."""
        return b""


class ParquetWriter:
    """Typed columns in row groups of about 4 MB, compressed by zstd: instants in UTC by the microsecond, whole numbers
    of 64 bits, names as dictionaries. Its footer knows all that went before: nobody else can go on with it."""

    resumable = False

    def __init__(self, columns: Mapping[str, Column]) -> None:
        """ParquetUnavailable without pyarrow."""
        try:
            pyarrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")  # the extra `parquet`
        except ImportError:
            raise ParquetUnavailable from None
        self._arrow, self._columns = pyarrow, columns
        self._types = types_of(pyarrow)
        self._schema = pyarrow.schema([(name, self._types[column]) for name, column in columns.items()])
        self._sink, self._waiting, self._bytes = Sink(), list[Any](), 0
        self._file: Any = parquet.ParquetWriter(
            self._sink,
            self._schema,
            compression="zstd",
            use_dictionary=[name for name, column in columns.items() if column is Column.NAME],
            data_page_size=PAGE_BYTES,
        )

    def head(self) -> bytes:
        """The file's magic number."""
        return self._sink.take()

    def add(self, rows: Rows) -> bytes:
        """A row group, once there are rows enough."""
        if rows:
            plain = [self._types[Column.TEXT] if column is Column.NAME else self._types[column]
                     for column in self._columns.values()]  # fmt: skip
            values = zip(*rows, strict=True)
            arrays = [self._arrow.array(one, type) for one, type in zip(values, plain, strict=True)]
            self._waiting.append(self._arrow.table(arrays, names=[*self._columns]))
            self._bytes += self._waiting[-1].nbytes
        if self._bytes >= GROUP_BYTES:
            self._flush()
        return self._sink.take()

    def tail(self) -> bytes:
        """What was waiting, and the footer."""
        self._flush()
        self._file.close()
        return self._sink.take()

    def _flush(self) -> None:
        if self._waiting:
            self._file.write_table(self._arrow.concat_tables(self._waiting).combine_chunks().cast(self._schema))
            self._waiting, self._bytes = [], 0


def types_of(arrow: Any) -> dict[Column, Any]:
    """Arrow's type of each kind of column."""
    return {
        Column.TEXT: arrow.string(),
        Column.NAME: arrow.dictionary(arrow.int32(), arrow.string()),
        Column.NAMES: arrow.list_(arrow.string()),
        Column.INTEGER: arrow.int64(),
        Column.MOMENT: arrow.timestamp("us", tz="UTC"),
    }


class Sink(io.RawIOBase):
    """A file that gives away what was written to it."""

    def __init__(self) -> None:
        self._pieces, self._position = list[bytes](), 0

    def writable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """How much was written in all."""
        return self._position

    def write(self, piece: Any) -> int:
        """Keeps a copy until it is taken."""
        taken = bytes(piece)
        self._pieces.append(taken)
        self._position += len(taken)
        return len(taken)

    def take(self) -> bytes:
        """What was written since the last time."""
        taken, self._pieces = b"".join(self._pieces), []
        return taken


WRITERS: dict[ExportFormat, Callable[[Mapping[str, Column]], Writer]] = {
    ExportFormat.CSV: CsvWriter,
    ExportFormat.JSONL: JsonLinesWriter,
    ExportFormat.PARQUET: ParquetWriter,
}
