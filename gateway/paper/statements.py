"""A statement as a page for people, and as CSV for machines."""

import csv
from collections.abc import Iterator
from io import StringIO
from zoneinfo import ZoneInfo

from gateway.paper.showing import moment, rendered
from partners.export_formats import FORMULAS
from partners.statements import Line, Statement
from partners.tables import Bearer

REVERSED = ("reversals", "reversed_units", "reversed_amount_minor")
COLUMNS = (
    *("partner", "month", "time_zone", "final", "perk_id", "perk", "title", "currency"),
    *("redemptions", "units", "amount_minor"),
    *(
        f"{what}_{bearer.lower()}"
        for bearer in Bearer
        for what in ("reversals", "reversed_units", "reversed_amount_minor")
    ),
    *("net_units", "net_amount_minor", "held_before", "held_after", "awaited_before", "awaited_after"),
    *("first_redemption", "first_index", "last_redemption", "last_index", "log", "log_size"),
)
"""In this order for good: a new one comes at the end."""


def statement_page(statement: Statement) -> str:
    """The page, ready to print."""
    zone = ZoneInfo(statement.time_zone)
    return rendered(
        "statement.html",
        {
            "statement": statement,
            "totals": sorted(statement.totals.items(), key=lambda one: one[0] or "~"),
            "bearers": list(Bearer),
            "month": f"{statement.month.starts_at:%B %Y}",
            "starts": f"{statement.month.starts_at:%Y-%m-%d}",
            "ends": f"{statement.month.ends_at:%Y-%m-%d}",
            "made": moment(statement.made_at.astimezone(zone)),
        },
    )


def statement_table(statement: Statement) -> str:
    """CSV (RFC 4180) with a line of names: a row for each perk and currency, and one without amounts for each perk of
    which something is only under way. What is open stands in a perk's first row alone, so that columns add up."""
    out = StringIO()
    table = csv.writer(out)
    table.writerow(COLUMNS)
    table.writerows([safe(cell) for cell in row] for row in rows_of(statement))
    return out.getvalue()


def rows_of(statement: Statement) -> Iterator[list[str | int]]:
    """A cell for each column."""
    head = [statement.name, statement.month.name, statement.time_zone, "true" if statement.final else "false"]
    log: list[str | int] = [statement.log_origin, statement.log_size]
    open_ = {one.perk_id: one for one in statement.open}
    lines = [(line.perk_id, line.handle, line.title, line) for line in statement.lines]
    moved = {line.perk_id for line in statement.lines}
    quiet = [(one.perk_id, one.handle, one.title, None) for one in statement.open if one.perk_id not in moved]
    for id, handle, title, line in [*lines, *quiet]:
        one = open_.pop(id, None)
        under_way = [one.held_before, one.held_after, one.awaited_before, one.awaited_after] if one else [0] * 4
        currency = (line and line.currency) or ""
        yield [*head, f"perk_{id.hex}", handle, title, currency, *numbers_of(line), *under_way, *ends_of(line), *log]


def numbers_of(line: Line | None) -> list[int]:
    """What moved, and the net of it."""
    if line is None:
        return [0] * 14
    sums = [line.redeemed, *(line.reversed[bearer] for bearer in Bearer)]
    return [*(n for one in sums for n in (one.count, one.units, one.amount)), line.net_units, line.net_amount]


def ends_of(line: Line | None) -> list[str | int]:
    """The first and the last redemption with their indexes; empty where there is none."""
    cells: list[str | int] = []
    for end in (line and line.first, line and line.last):
        cells += [f"redemption_{end.redemption_id.hex}", "" if end.index is None else end.index] if end else ["", ""]
    return cells


def safe(cell: str | int) -> str | int:
    """Text that no spreadsheet takes for a formula (OWASP, CSV injection); numbers are ours."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULAS) else cell
