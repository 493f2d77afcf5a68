"""`perks audit report`, the figures of an exported log as a page, and `perks audit names`, what its ids are called."""

import csv
import io
from datetime import date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from gateway.auditing.figures import Window
from gateway.auditing.files import Unsound, open_export
from gateway.auditing.report import Named, count_export, read_names, render_report
from gateway.commands import AsJson, on_service, show
from gateway.commands.auditing import DIFFERENT, Beside, Export, Keys, checked_keys, reading, require_another
from gateway.paper.showing import as_uuid
from gateway.whole_files import write_whole
from partners.errors import BadInput
from partners.notes import NoteInvalid

if TYPE_CHECKING:
    from gateway.app import Service

NAMES = """
SELECT id, name, NULL AS currency FROM partner
UNION ALL SELECT id, handle || ': ' || title, currency FROM perk ORDER BY name, id
"""


def report_audit(
    export: Export,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page to write.", show_default=False)],
    names: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="What ids are called: id,name[,currency].", show_default=False),
    ] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="At or after, as 2026-11-01.")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Before, as 2026-12-01.")] = None,
    zone: Annotated[str, typer.Option(help="The zone of days, as Europe/Zurich.")] = "UTC",
    partner: Annotated[
        str | None, typer.Option(metavar="ID", help="Of one partner: its id, or its name in --names.")
    ] = None,
    checkpoint: Beside = None,
    key: Keys = None,
    as_json: AsJson = False,
) -> None:
    """Write a page of what an export says, by partner, perk, tier and day, after deriving its root again."""
    verifiers = checked_keys(key)
    days = checked_zone(zone)
    with reading():
        named = {} if names is None else read_names(names)
        whose = None if partner is None else partner_of(partner, named)
        window = Window(read_time("--since", since, days), read_time("--until", until, days), days, whose)
        if window.since is not None and window.until is not None and window.since >= window.until:
            raise BadInput("--until: later than --since")
        found = open_export(export, checkpoint)
        require_another("--out", out, found.path, found.checkpoint, *([names] if names else []))
        try:
            figures, proof = count_export(found, verifiers, window)
        except (Unsound, NoteInvalid) as fault:
            typer.echo(f"perks: not sound: {fault}", err=True)
            raise typer.Exit(DIFFERENT) from None
        write_whole(out, render_report(figures, proof, named).encode())
    if as_json:
        show({"file": str(out), "entries": figures.entries, "counted": figures.counted, "signedBy": proof.keys})
    else:
        signed = f"signed by {', '.join(proof.keys)}" if proof.keys else "its signature was not checked, give --key"
        typer.echo(f"{figures.counted} of {figures.entries} entries counted in {out}; {signed}")


def name_audit(
    file: Annotated[Path, typer.Argument(metavar="CSV", help="The file to write.", show_default=False)],
) -> None:
    """Write what the ids of partners and perks are called, for a report: the log itself holds no names."""

    async def work(service: "Service") -> list[tuple[str, Named]]:
        async with service.database.connection() as connection:
            return [(str(row["id"]), Named(row["name"], row["currency"])) for row in await connection.fetch(NAMES)]

    found = on_service(work)
    lines = io.StringIO(newline="")
    table = csv.writer(lines)
    table.writerow(["id", "name", "currency"])
    table.writerows([id, named.name, named.currency or ""] for id, named in found)
    write_whole(file, lines.getvalue().encode())
    typer.echo(f"{len(found)} names in {file}")


def checked_zone(name: str) -> ZoneInfo:
    """A time zone; BadInput."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BadInput(f"--zone: unknown time zone {name[:60]!r}") from None


def read_time(option: str, text: str | None, zone: ZoneInfo) -> datetime | None:
    """A day, which begins at midnight of the zone, or a time; BadInput."""
    if text is None:
        return None
    try:
        if len(text) == 10:
            return datetime.combine(date.fromisoformat(text), time(), zone)
        at = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(f"{option}: a day as 2026-11-01, or a time as 2026-11-01T09:00:00+01:00") from None
    return at if at.tzinfo else at.replace(tzinfo=zone)


def partner_of(text: str, names: dict[str, Named]) -> str:
    """The id of a partner, given as one or by its name; BadInput."""
    try:
        return as_uuid(text)
    except ValueError:
        found = [id for id, named in names.items() if named.name == text]
    if len(found) != 1:
        raise BadInput(f"--partner: {text[:60]!r} is not an id, and {len(found) or 'nothing'} of --names has that name")
    return found[0]
