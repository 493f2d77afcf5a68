"""`perks audit` on the service: the log as files, the keys that verify it, and going on after entries were lost."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.commands import AsJson, on_service, operator, show
from gateway.high_water import vouch
from gateway.log_export import Exported, export_log, export_tiles
from gateway.new_log import NewLog, begin_new_log
from gateway.sequencer import sequencer_of
from partners.log_keys import read_verifiers
from partners.notes import Verifier, verifier_of

if TYPE_CHECKING:
    from gateway.app import Service

app = typer.Typer(help="Export the log, print its keys, go on under a new name.", no_args_is_help=True)


@app.command("export")
def export_audit(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A file to write, or a folder for log.jsonl.", show_default=False)
    ],
    tiles: Annotated[bool, typer.Option("--tiles", help="Write a folder of tiles, as /log/ serves them.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the log, an entry a line, and FILE.checkpoint, its signed root; or with --tiles a folder of tiles."""

    async def work(service: "Service") -> Exported:
        await sequencer_of(service).carry_over()  # what no worker has carried over yet
        async with service.database.connection() as connection:
            note = await connection.fetchval("SELECT checkpoint FROM log_head WHERE size > 0")
        if note is not None:
            await vouch(service.database.connection, service.high_water, note)
        return await (export_tiles if tiles else export_log)(service.database, file)

    done = on_service(work)
    if as_json:
        show({"file": str(done.file), "checkpoint": str(done.checkpoint), "entries": done.leaves})
    else:
        typer.echo(f"{done.leaves} entries in {done.file}, their signed root in {done.checkpoint}")


@app.command("key")
def print_key() -> None:
    """Print the keys that verify the log, a line each: give them to auditors by another way than the log."""

    async def work(service: "Service") -> list[Verifier]:
        sequencer = sequencer_of(service)
        async with service.database.connection() as connection:
            await sequencer.examine(connection)
            origin = await connection.fetchval("SELECT origin FROM log_head WHERE origin <> ''")
            signing = await read_verifiers(connection, origin or "", signing=True)
        return signing or [verifier_of(sequencer.origin, service.keys.log)]  # of a log that is still to begin

    for verifier in on_service(work):
        typer.echo(str(verifier))


@app.command("new-log")
def start_new_log(
    origin: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Default: the old name with /2, /3, … at its end.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Go on under a new name, after a restore or a failover that lost entries: what is left, behind an entry that
    holds the last checkpoint of the old log."""

    async def work(service: "Service") -> NewLog:
        return await begin_new_log(sequencer_of(service), origin, operator())

    done = on_service(work)
    if as_json:
        show({"origin": done.origin, "entries": done.size, "continued": done.continued, "continuedSize": done.signed})
    else:
        typer.echo(
            f"{done.origin} goes on with {done.size} entries; {done.continued} ends, of which {done.signed} were signed"
        )
        typer.echo("Give auditors and witnesses the new keys: `perks audit key`")
