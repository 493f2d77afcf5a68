"""`perks audit reconcile`: a partner's own list against the log, as text, JSON, or a line of CSV per difference."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from gateway.auditing.books import Books, read_books
from gateway.auditing.cells import Numbers, Times
from gateway.auditing.files import Unsound, open_export
from gateway.auditing.fsck import check_export
from gateway.auditing.lists import open_list
from gateway.auditing.reconcile import Difference, Kind, Reading, Reconciliation, Total
from gateway.commands import AsJson
from gateway.commands.auditing import Export, Keys, Quiet, checked_keys, finish, reading, require_another
from partners.errors import BadInput

LINES_TOLD_MAX = 20
JSON_TOLD_MAX = 1_000
TOLERANCE_MAX = 31 * 24 * 3600
FORMULA = ("=", "+", "-", "@", "\t")


def reconcile(
    export: Export,
    file: Annotated[Path, typer.Argument(metavar="CSV", help="The partner's list, a redemption a line.")],
    partner: Annotated[str, typer.Option(help="The partner's id.")],
    mapping: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="HEADING=FIELD", help="What a column is; repeatable.", show_default=False),
    ] = None,
    zone: Annotated[str | None, typer.Option(help="Whose clock times without an offset are of.")] = None,
    dates: Annotated[str | None, typer.Option(metavar="dmy|mdy", help="Of dates with slashes.")] = None,
    decimals: Annotated[int, typer.Option(help="Of amounts; 0 are minor units.", min=0, max=3)] = 0,
    decimal_mark: Annotated[str | None, typer.Option(metavar=".|,", help="Default: as the numbers show.")] = None,
    separator: Annotated[str | None, typer.Option(help="Of columns. Default: as the first line shows.")] = None,
    encoding: Annotated[str | None, typer.Option(help="Default: as the bytes show.")] = None,
    tolerance: Annotated[float, typer.Option(help="Seconds that the list's clock may differ.", min=0)] = 0,
    since: Annotated[str | None, typer.Option(help="The list begins then: a date of the zone, or a time.")] = None,
    until: Annotated[str | None, typer.Option(help="The list ends before then.")] = None,
    key: Keys = None,
    out: Annotated[Path | None, typer.Option("--csv", metavar="OUT", help="Write every difference there.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare a partner's own list with the log: what both have, what one alone has, and what differs."""
    clock, owner = zone_of(zone), partner_of(partner)
    if dates not in (None, "dmy", "mdy") or decimal_mark not in (None, ".", ","):
        raise BadInput("--dates is dmy or mdy, --decimal-mark is . or ,")
    if not 0 <= tolerance <= TOLERANCE_MAX:
        raise BadInput(f"--tolerance: 0 to {TOLERANCE_MAX} seconds")
    read = Reading(
        Times(clock, dates), Numbers(decimal_mark), decimals, tolerance, edge(since, clock), edge(until, clock)
    )
    with reading(), open_list(file, mapped(mapping), encoding, tab(separator)) as found:
        opened = open_export(export)
        require_another("--csv", out, file, opened.path, opened.checkpoint)
        fault = check_export(opened, checked_keys(key)).fault
        try:
            books = Books() if fault else read_books(opened, owner, hashes="leafHash" in found.columns)
        except Unsound as odd:
            fault = f"{opened.name}: {odd}"
        if fault:
            finish({"sound": False, "fault": fault}, [], f"not sound: {fault}", as_json=as_json, quiet=quiet)
        with differences_in(out) as told:
            done = Reconciliation(books, found, read, told.take)
            done.run(found.rows)
    say(done, books, told, {"encoding": found.encoding, "ignored": found.ignored}, as_json=as_json, quiet=quiet)


@dataclass(slots=True)
class Told:
    """Differences: all of them into a file, if there is one, and the first ones kept."""

    writer: Any = None
    first: list[Difference] = field(default_factory=list)
    count: int = 0

    def take(self, one: Difference) -> None:
        """One more."""
        self.count += 1
        if len(self.first) < JSON_TOLD_MAX:
            self.first.append(one)
        if self.writer is not None:
            self.writer.writerow([harmless(str(cell)) for cell in asdict(one).values()])


@contextmanager
def differences_in(out: Path | None) -> Iterator[Told]:
    """Where differences go; the file has a line of headings."""
    if out is None:
        yield Told()
        return
    with out.open("w", encoding="utf-8", newline="") as text:
        writer = csv.writer(text)
        writer.writerow([one.name for one in fields(Difference)])
        yield Told(writer)


def harmless(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula: a partner wrote some of them."""
    return f"'{cell}" if cell.startswith(FORMULA) else cell


def say(done: Reconciliation, books: Books, told: Told, how: dict[str, Any], *, as_json: bool, quiet: bool) -> None:
    """What it came to: totals, then the differences."""
    found = {kind: total for kind, total in done.totals.items() if total.redemptions or kind is Kind.MATCHED}
    lines = [f"{kind.value:11} {row(kind, total)}" for kind, total in found.items()]
    if how["ignored"]:
        lines.append(f"not compared: {', '.join(how['ignored'])}")
    if not books.by_id:
        lines.append("the log has no redemption of this partner: is it the partner's id?")
    lines += [line_of(one) for one in told.first[:LINES_TOLD_MAX]]
    if told.count > LINES_TOLD_MAX:
        lines.append(f"… and {told.count - LINES_TOLD_MAX:,} more differences: --csv OUT has all")
    figures = {
        "sound": told.count == 0,
        "totals": {kind.value.replace(" ", "_"): asdict(total) for kind, total in done.totals.items()},
        **how,
        "differences": [asdict(one) for one in told.first],
        "differences_left_out": told.count - len(told.first),
    }
    finish(figures, lines, "\n".join(lines) if told.count else None, as_json=as_json, quiet=quiet, answer=True)


def row(kind: Kind, total: Total) -> str:
    """Redemptions, units and amounts of one kind; both sides' where they are not the same."""
    ours, theirs = (total.our_units, total.our_amount), (total.their_units, total.their_amount)
    text = f"{total.redemptions:>9,}"
    if kind in (Kind.REPEATED, Kind.UNREADABLE):
        return text
    if kind is not Kind.ONLY_THEM:
        text += f"   log: {ours[0]:,} units, {ours[1]:,} minor units"
    if kind is not Kind.ONLY_US:
        text += f"   list: {theirs[0]:,} units, {theirs[1]:,} minor units"
    return text


def line_of(one: Difference) -> str:
    """A difference in a line."""
    place = f"line {one.line}" if one.line else "the log"
    what = f"{place}: {one.kind.value}" + (
        f", {one.redemption or one.leaf_hash}" if one.redemption + one.leaf_hash else ""
    )
    if one.kind is Kind.DIFFERING:
        return f"{what}: {one.field} is {one.ours or 'empty'} in the log, {one.theirs} in the list"
    return f"{what}{f', column {one.field!r}' if one.field else ''}{f': {one.theirs}' if one.theirs else ''}"


def partner_of(text: str) -> UUID:
    """A partner's id, as the API writes it or as a UUID."""
    try:
        return UUID(text.removeprefix("partner_"))
    except ValueError:
        raise BadInput("--partner: not the id of a partner, as partner_ and 32 digits, or a UUID") from None


def mapped(mapping: list[str] | None) -> dict[str, str]:
    """What --map says."""
    pairs = dict(one.rpartition("=")[::2] for one in mapping or ())
    if "" in pairs:
        raise BadInput("--map is HEADING=FIELD")
    return pairs


def tab(separator: str | None) -> str | None:
    """A separator of one character; a tab may be spelt out."""
    found = "\t" if separator in ("\\t", "tab") else separator
    if found is not None and len(found) != 1:
        raise BadInput("--separator is one character, or tab")
    return found


def zone_of(name: str | None) -> ZoneInfo | None:
    """A time zone by its name."""
    try:
        return ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BadInput(f"--zone: no time zone {name!r}; they are as Europe/Zurich") from None


def edge(text: str | None, zone: ZoneInfo | None) -> datetime | None:
    """Where a list begins or ends: an instant with its offset, else one of the zone."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(f"{text!r} is no date as 2026-05-01 and no time as 2026-05-01T00:00:00Z") from None
    if moment.tzinfo is None and zone is None:
        raise BadInput(f"{text}: of which zone? Say --zone")
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)
