"""`perks codes`: partners' codes from files into the pools of their perks, and how many there are."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.commands import AsJson, on_service, operator, show
from gateway.imports import opened
from partners import pool_codes
from partners.code_lines import CodeLines, Line
from partners.pool_codes import Batch, Report, Stocked
from partners.references import PerkRef

if TYPE_CHECKING:
    from gateway.app import Service

CHUNK_BYTES = 65_536
DONE_WITH_BAD_LINES = 3

app = typer.Typer(help="Fill the pools of perks of kind CODE, and count them.", no_args_is_help=True)
Perk = Annotated[str, typer.Argument(metavar="PARTNER/PERK", help="The perk's handle.", show_default=False)]
File = Annotated[Path, typer.Argument(metavar="FILE", help="The file; - is standard input.", show_default=False)]


@app.command("add")
def add_codes(
    perk: Perk,
    file: File,
    table: Annotated[
        bool | None, typer.Option("--csv/--lines", help="CSV, or a code a line. Default: by its name.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add codes from a file, in one transaction; what can't be added is named with its line."""
    as_table = file.suffix.lower() == ".csv" if table is None else table

    async def work(service: "Service") -> tuple[Report, Stocked]:
        actor, now = operator(), service.clock()
        async with service.database.connection() as connection:
            pool = await pool_codes.find_pool(connection, PerkRef(handle=perk), actor)
        batch = Batch(pool, service.keys.sealing)
        for lines in lines_of(file, as_table):
            await batch.take(lines)
        async with service.database.connection() as connection:
            async with connection.transaction():
                report = await pool_codes.add_codes(connection, batch, actor, now)
            stocked = await pool_codes.count_codes(connection, [pool.perk_id], now)
        return report, stocked[pool.perk_id]

    report, stocked = on_service(work)
    for line, why in report.faults:
        typer.echo(f"line {line}: {why}", err=True)
    counts = {"added": report.added, "duplicates": report.duplicates, "malformed": report.malformed}
    if as_json:
        show(counts | stocked.numbers())
    else:
        typer.echo(f"codes: {', '.join(f'{count} {name}' for name, count in counts.items())}; {stocked.free} are free")
    if report.duplicates or report.malformed:
        raise typer.Exit(DONE_WITH_BAD_LINES)


def lines_of(path: Path, table: bool) -> Iterator[list[Line]]:
    """A file in pieces."""
    lines = CodeLines(table=table)
    with opened(path) as file:
        while chunk := file.read(CHUNK_BYTES):
            yield lines.feed(chunk)
    yield lines.feed(b"", last=True)


@app.command("status")
def show_status(perk: Perk, as_json: AsJson = False) -> None:
    """Say how many codes a pool has."""

    async def work(service: "Service") -> Stocked:
        async with service.database.connection() as connection:
            pool = await pool_codes.find_pool(connection, PerkRef(handle=perk), operator())
            return (await pool_codes.count_codes(connection, [pool.perk_id], service.clock()))[pool.perk_id]

    found = on_service(work).numbers()
    if as_json:
        show(found)
    else:
        typer.echo(f"{perk}: " + ", ".join(f"{count} {name}" for name, count in found.items() if name != "lowAt"))
