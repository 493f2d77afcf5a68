"""`perks import`: members, activity and perks from files, any number of times."""

import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Generic, TypeVar

import typer
from asyncpg import DeadlockDetectedError, SerializationError
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn
from sqlmodel import select

from gateway.commands import AsJson, on_service, operator, show
from gateway.imports import Format, format_of, opened, read_records
from partners import tables
from partners.activity_imports import check_activity_row, import_activity
from partners.consents import check_purpose
from partners.errors import BadInput, PerksError, TryAgain
from partners.import_rows import ActivityRow, MemberRow, Outcome, PerkRow, Row, in_columns, read_row
from partners.imports import Import, check_member_row, import_members
from partners.perk_imports import import_perk

if TYPE_CHECKING:
    from gateway.app import Service

CHUNK_LINES = 1_000
TRIES = 5
DONE_WITH_BAD_LINES = 3
BAD = "bad"
PURPOSE = "perks"

app = typer.Typer(
    help="Import CSV (with a header) or JSON Lines, in UTF-8. A bad line is reported with its number and the rest goes "
    "on; then the exit code is 3. Run the same file again whenever you like: what is unchanged is skipped.",
    no_args_is_help=True,
)
File = Annotated[Path, typer.Argument(metavar="FILE", help="The file; - is standard input.", show_default=False)]
AsFormat = Annotated[
    Format | None, typer.Option("--format", help="How the file is written. Default: by its name.", show_default=False)
]
AnyRow = TypeVar("AnyRow", bound=Row)
Outcomes = Sequence[Outcome | PerksError]


@app.command("members")
def import_members_file(
    file: File,
    format: AsFormat = None,
    purpose: Annotated[str, typer.Option(help="What the members consented to, for the column consents.")] = PURPOSE,
    as_json: AsJson = False,
) -> None:
    """Enrol members, and change those who are enrolled.

    Columns: external_id, joined_at; where known also market, tier, tier_until, state (ACTIVE, SUSPENDED), consents
    (handles of partners, with spaces between), household, birth_month (1 to 12) and labels (with spaces between; they
    replace those a member has). A household or labels of - are none. Times are RFC 3339; a date is of the programme's
    time zone, and an end date is inclusive.
    """
    check_purpose(purpose)
    run(file, format, MemberRow, check_member_row, save_members, purpose=purpose, as_json=as_json)


@app.command("activity")
def import_activity_file(file: File, format: AsFormat = None, as_json: AsJson = False) -> None:
    """Add what members did.

    Columns: external_id, indicator, source (its name where it comes from), at, amount (a whole number). The scores of
    these members follow at once.
    """
    run(file, format, ActivityRow, check_activity_row, save_activity, as_json=as_json)


@app.command("perks")
def import_perks_file(file: File, format: AsFormat = None, as_json: AsJson = False) -> None:
    """Make perks, and change those that exist.

    Columns: partner, handle, kind, title; where known also description, time_zone, opens_on, closes_on, capacity,
    hold_seconds, reversal_days, rules (in JSON) and state (DRAFT, PUBLISHED, PAUSED).
    """
    run(file, format, PerkRow, lambda row, brought, now: None, save_perks, as_json=as_json)


async def save_members(service: "Service", rows: Sequence[MemberRow], brought: Import, now: datetime) -> Outcomes:
    """A chunk in one transaction."""
    async with service.database.connection() as connection, connection.transaction():
        return await import_members(connection, rows, brought, now)


async def save_activity(service: "Service", rows: Sequence[ActivityRow], brought: Import, now: datetime) -> Outcomes:
    """A chunk in one transaction."""
    async with service.database.connection() as connection, connection.transaction():
        return await import_activity(connection, rows, brought, now)


async def save_perks(service: "Service", rows: Sequence[PerkRow], brought: Import, now: datetime) -> Outcomes:
    """A chunk in one transaction, each perk undone by itself when it can't be."""
    outcomes: list[Outcome | PerksError] = []
    async with service.database.sessions.begin() as session:
        for row in rows:
            try:
                async with session.begin_nested():
                    outcome = await import_perk(session, row, programme=brought.programme, actor=brought.actor, now=now)
                outcomes.append(outcome)
            except PerksError as fault:
                outcomes.append(fault)
    return outcomes


Check = Callable[[AnyRow, Import, datetime], None]
Save = Callable[["Service", Sequence[AnyRow], Import, datetime], Awaitable[Outcomes]]


@dataclass
class Importing(Generic[AnyRow]):
    """An import under way: a chunk of rows that are fine so far, and the faults between them."""

    service: "Service"
    brought: Import
    model: type[AnyRow]
    check: Check[AnyRow]
    save: Save[AnyRow]
    report: Callable[[int, PerksError], None]
    rows: dict[tuple[str, ...], tuple[int, AnyRow]] = field(default_factory=dict)
    faults: list[tuple[int, PerksError]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    async def take(self, number: int, values: dict[str, Any] | BadInput) -> None:
        """Adds a record; a full chunk, or a second line about the same thing, sends off what is there."""
        try:
            if isinstance(values, BadInput):
                raise values
            row = read_row(self.model, values, self.brought.programme.time_zone)
            self.check(row, self.brought, self.service.clock())
        except BadInput as fault:
            self.faults.append((number, fault))
        else:
            if row.key in self.rows:
                await self.flush()
            self.rows[row.key] = number, row
        if len(self.rows) + len(self.faults) >= CHUNK_LINES:
            await self.flush()

    async def flush(self) -> None:
        """Saves the chunk, then reports its bad lines in their order."""
        taken = list(self.rows.values())
        if taken:
            for (number, _), outcome in zip(taken, await self.saved([row for _, row in taken]), strict=True):
                if isinstance(outcome, PerksError):
                    self.faults.append((number, outcome))
                else:
                    self.counts[outcome] += 1
        for number, fault in sorted(self.faults, key=itemgetter(0)):
            self.report(number, fault)
        self.counts[BAD] += len(self.faults)
        self.rows, self.faults = {}, []

    async def saved(self, rows: Sequence[AnyRow]) -> Outcomes:
        """The chunk's outcomes; what others do at the same moment is no fault, so it is tried again."""
        for _ in range(TRIES - 1):
            with suppress(TryAgain, DeadlockDetectedError, SerializationError):
                return await self.save(self.service, rows, self.brought, self.service.clock())
        return await self.save(self.service, rows, self.brought, self.service.clock())


def run(
    path: Path,
    format: Format | None,
    model: type[AnyRow],
    check: Check[AnyRow],
    save: Save[AnyRow],
    *,
    purpose: str = PURPOSE,
    as_json: bool,
) -> None:
    """Imports a file, tells how many lines became what, and ends with code 3 when some are bad."""
    with opened(path) as file:
        records = read_records(file, format or format_of(path), model)

        async def work(service: "Service") -> Counter[str]:
            with reporting(file) as (report, advance):
                importing = Importing(service, await bring(service, purpose), model, check, save, report)
                for number, values in records:
                    await importing.take(number, values)
                    if not importing.rows:
                        advance()
                await importing.flush()
            return importing.counts

        counts = on_service(work)
    found = {f"{name}": counts[name] for name in (*Outcome, BAD)}
    if as_json:
        show(found)
    else:
        typer.echo(f"{model.noun}: " + ", ".join(f"{count} {name}" for name, count in found.items()))
    if counts[BAD]:
        raise typer.Exit(DONE_WITH_BAD_LINES)


async def bring(service: "Service", purpose: str) -> Import:
    """What the lines are judged by, read once."""
    async with service.database.sessions() as session:
        found = await session.execute(select(tables.Partner.handle, tables.Partner.id))
        partners = {one.handle: one.id for one in found}
    return Import(service.programme, operator(), partners, service.keys.pairwise, purpose)


@contextmanager
def reporting(file: BinaryIO) -> Iterator[tuple[Callable[[int, PerksError], None], Callable[[], None]]]:
    """Ways to report a bad line on standard error, and to move the progress bar, which only a terminal shows."""
    console = Console(stderr=True)
    columns = (BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        total = os.fstat(file.fileno()).st_size if file.seekable() else None
        task = progress.add_task("", total=total)

        def report(number: int, fault: PerksError) -> None:
            line = f"line {number}: {in_columns(fault.message)}"
            console.out("".join(sign if sign.isprintable() else "?" for sign in line), highlight=False)

        yield report, lambda: progress.update(task, completed=file.tell() if total else None)
