"""`perks exports`: redemptions and audit entries of everybody, straight into a file."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from sqlmodel import select

from gateway.commands import AsJson, on_service, operator, show
from gateway.export_file import Progress, export_to_file
from partners import tables
from partners.errors import BadInput, NotFound
from partners.exports import Ask, Wanted
from partners.tables import ExportFormat, ExportKind
from schema.scalars import read_moment

if TYPE_CHECKING:
    from gateway.app import Service

app = typer.Typer(
    help="Export everybody's redemptions or audit entries, as staff see them, into a file (docs/exports.md). What was "
    "interrupted goes on with --resume.",
    no_args_is_help=True,
)
Out = Annotated[Path, typer.Option("--out", metavar="FILE", help="The file to write.", show_default=False)]
As = Annotated[
    str | None, typer.Option("--format", help="csv, jsonl or parquet. Default: by the file's name.", show_default=False)
]
Since = Annotated[str | None, typer.Option(metavar="TIME", help="From this moment on, RFC 3339.", show_default=False)]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Before this moment.", show_default=False)]
OfPartner = Annotated[str | None, typer.Option("--partner", metavar="HANDLE", help="Of it alone.", show_default=False)]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with what was interrupted; Parquet begins anew.")]


@app.command("redemptions")
def export_redemptions(
    out: Out,
    format: As = None,
    since: Since = None,
    until: Until = None,
    partner: OfPartner = None,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Export redemptions, oldest first."""
    run(ExportKind.REDEMPTIONS, out, format, since, until, partner, resume=resume, as_json=as_json)


@app.command("entries")
def export_entries(
    out: Out,
    format: As = None,
    since: Since = None,
    until: Until = None,
    partner: OfPartner = None,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Export audit entries in the order of the log, as far as it is."""
    run(ExportKind.ENTRIES, out, format, since, until, partner, resume=resume, as_json=as_json)


def run(
    kind: ExportKind,
    out: Path,
    format: str | None,
    since: str | None,
    until: str | None,
    partner: str | None,
    *,
    resume: bool,
    as_json: bool,
) -> None:
    """Exports, shows how far it is on a terminal, and says what was written."""
    written = format_of(out, format)
    given = {"since": moment("--since", since), "until": moment("--until", until)}

    async def work(service: "Service") -> Progress:
        of = {} if partner is None else {"partner_id": await partner_id(service, partner)}
        ask = Ask(kind, written, Wanted.model_validate(given | of))
        with reporting() as tell:
            return await export_to_file(service, ask, out, operator(), resume=resume, tell=tell)

    done = on_service(work)
    if as_json:
        show({"file": str(out), "rows": done.rows, "bytes": done.bytes})
    else:
        typer.echo(f"{done.rows:,} rows, {done.bytes:,} bytes in {out}")


def format_of(out: Path, format: str | None) -> ExportFormat:
    """By its name where nothing is said; BadInput for none."""
    name = (format or out.suffix.removeprefix(".")).upper()
    if name not in set(ExportFormat):
        raise BadInput("--format: csv, jsonl or parquet")
    return ExportFormat(name)


def moment(option: str, text: str | None) -> datetime | None:
    """A time that was given; BadInput names the option."""
    try:
        return None if text is None else read_moment(text)
    except ValueError as fault:
        raise BadInput(f"{option}: {fault}") from None


async def partner_id(service: "Service", handle: str) -> object:
    """The partner of this handle; NotFound."""
    async with service.database.reading() as session:
        found = await session.scalar(select(tables.Partner.id).where(tables.Partner.handle == handle))
    if found is None:
        raise NotFound(f"--partner: there is none called {handle}")
    return found


@contextmanager
def reporting() -> Iterator[Callable[[Progress], None]]:
    """Moves a bar on standard error, which only a terminal shows."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=None)
        yield lambda progress: bar.update(task, completed=progress.rows, total=progress.total)
