"""Files of codes as their bytes come in: lines with their numbers, in whatever encoding a spreadsheet saved them."""

import codecs
import csv
from typing import TypeAlias

from partners.errors import BadInput

BYTES_MAX = 10_000_000
LINES_MAX = 200_000
LINE_LENGTH_MAX = 10_000
COLUMN = "code"
DELIMITERS = ",;\t"
# The longest first: the mark of UTF-16 begins that of UTF-32.
MARKS = (
    (codecs.BOM_UTF32_LE, ""),
    (codecs.BOM_UTF32_BE, ""),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


Line: TypeAlias = tuple[int, str | BadInput]
"""The number of a line, and its code or why it can't be one."""


class TooLarge(BadInput):
    """More bytes or lines than a file of codes may have."""

    code = "BODY_TOO_LARGE"


class CodeLines:
    """The lines of one file: UTF-8, with or without byte order mark, or UTF-16 with one; blank ones are left out.

    A line that can't be decoded is named, and the others are taken. With `table`, the file is CSV: a column `code`
    among several under a header, or one column with or without.
    """

    def __init__(self, *, table: bool = False) -> None:
        self._head = b""
        self._decoder: codecs.IncrementalDecoder | None = None
        self._rest = ""
        self._number = 0
        self._bytes = 0
        self._table = table
        self._place: int | None = None
        self._delimiter = ","

    def feed(self, chunk: bytes, *, last: bool = False) -> list[Line]:
        """The lines that are whole by now (all, at the `last` chunk), each with its number, without spaces around it.

        TooLarge beyond 10 MB or 200,000 lines; BadInput for UTF-32, and for a table without a column of codes.
        """
        self._bytes += len(chunk)
        if self._bytes > BYTES_MAX:
            raise TooLarge(f"a file of codes may have {BYTES_MAX} bytes", allowed=BYTES_MAX)
        lines = (self._rest + self._decoded(chunk, last)).split("\n")
        self._rest = "" if last else lines.pop()[: LINE_LENGTH_MAX + 1]  # the one more tells that it is too long
        found: list[Line] = []
        for line in lines:
            self._number += 1
            text = line.strip(" \t\r")
            if len(line) > LINE_LENGTH_MAX:
                found.append((self._number, BadInput(f"a line has at most {LINE_LENGTH_MAX} characters")))
            elif text and (cell := self._cell(text)) is not None:
                found.append((self._number, cell))
        if self._number > LINES_MAX:
            raise TooLarge(f"a file of codes may have {LINES_MAX} lines", allowed=LINES_MAX)
        return found

    def _decoded(self, chunk: bytes, last: bool) -> str:
        if self._decoder is None:
            self._head += chunk
            if len(self._head) < len(codecs.BOM_UTF32_LE) and not last:
                return ""
            mark, encoding = next((one for one in MARKS if self._head.startswith(one[0])), (b"", "utf-8"))
            if not encoding:
                raise BadInput("the file is in UTF-32: save it in UTF-8")
            chunk = self._head[len(mark) :]
            self._decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
        return self._decoder.decode(chunk, last)

    def _cell(self, text: str) -> str | BadInput | None:
        """The code of a line; None for the header of a table."""
        if "\ufffd" in text or "\0" in text:
            return BadInput("not in the encoding of the file's beginning")
        if not self._table:
            return text
        if self._place is None:
            return self._begun(text)
        cells = cells_of(text, self._delimiter)
        if cells is None or self._place >= len(cells):
            return BadInput("no line of the table")
        return cells[self._place].strip() or BadInput("no code")

    def _begun(self, text: str) -> str | None:
        """The first line says where the codes are."""
        self._delimiter = max(DELIMITERS, key=text.count)
        cells = cells_of(text, self._delimiter)
        if cells is None:
            raise BadInput("the first line is no line of a table")
        names = [cell.strip().lower() for cell in cells]
        if COLUMN not in names and len(cells) > 1:
            raise BadInput(f"the first line names the columns, and none of them is {COLUMN!r}")
        self._place = names.index(COLUMN) if COLUMN in names else 0
        return None if COLUMN in names else cells[0].strip()


def cells_of(text: str, delimiter: str) -> list[str] | None:
    """The cells of one line (RFC 4180), none of which goes on in the next; None for what is no such line."""
    try:
        [cells] = csv.reader([text], delimiter=delimiter, strict=True)
    except (csv.Error, ValueError):
        return None
    return cells
