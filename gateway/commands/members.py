"""`perks members`: what is held about one person, and its erasure."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from auth.erasure import ROWS_MAX, erase_member, read_personal_data
from gateway.commands import AsJson, on_service, operator, show
from partners.errors import BadInput
from partners.references import MemberRef

if TYPE_CHECKING:
    from uuid import UUID

    from gateway.app import Service

app = typer.Typer(help="Answer a person who asks what is held, or to be forgotten.", no_args_is_help=True)
Named = Annotated[
    str, typer.Argument(metavar="EXTERNAL_ID", help="The operator's own id of the member.", show_default=False)
]


@app.command("export")
def export_one(
    external_id: Named,
    out: Annotated[Path | None, typer.Option(help="A file to write. Default: standard output.")] = None,
) -> None:
    """Write everything that is held about one member, as JSON."""

    async def work(service: "Service") -> dict[str, Any]:
        async with service.database.sessions.begin() as session:
            return await read_personal_data(
                session,
                MemberRef(external_id=external_id),
                sealing_key=service.keys.sealing,
                actor=operator(),
                now=service.clock(),
            )

    found = on_service(work)
    document = orjson.dumps(found, option=orjson.OPT_INDENT_2).decode()
    if out is None:
        typer.echo(document)
    else:
        out.touch(mode=0o600)
        out.write_text(document + "\n")
        typer.echo(f"{sum(map(len, found['held'].values()))} rows of {len(found['held'])} tables in {out}")
    if found["incomplete"]:
        typer.echo(f"perks: only {ROWS_MAX} rows each of {', '.join(found['incomplete'])}", err=True)
        raise typer.Exit(1)


@app.command("erase")
def erase_one(
    external_id: Named,
    yes: Annotated[bool, typer.Option("--yes", help="Do it: there is no way back.")] = False,
    as_json: AsJson = False,
) -> None:
    """Forget a member: what identifies goes at once, the partners' names for it a week later, the log stays whole."""
    if not yes:
        raise BadInput("there is no way back; give --yes to erase this member")

    async def work(service: "Service") -> "UUID":
        database, reference = service.database, MemberRef(external_id=external_id)
        return await erase_member(database.sessions.begin, database.connection, reference, operator(), service.clock())

    member_id = on_service(work)
    if as_json:
        show({"member": str(member_id), "erased": True})
    else:
        typer.echo(f"erased; what is left is {member_id}, which nobody can tell who it was")
