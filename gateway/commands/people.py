"""`perks people`: whom the built-in sign-in lets in, for development."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from auth.caller import CallerKind
from auth.people import keep_person, list_people
from auth.scopes import scopes_of_people, split_scopes
from gateway.commands import AsJson, on_service, show_rows
from gateway.commands.partners import partner_of
from partners.errors import BadInput, NotFound
from partners.members import find_member
from partners.references import MemberRef

if TYPE_CHECKING:
    from gateway.app import Service

app = typer.Typer(help="Add and list people for the built-in sign-in.", no_args_is_help=True)


@app.command("add")
def add_person(
    handle: Annotated[str, typer.Argument(metavar="HANDLE", help="What tells the person apart.", show_default=False)],
    name: Annotated[str, typer.Option(help="The name that pages show.", show_default=False)],
    member: Annotated[str | None, typer.Option(metavar="EXTERNAL_ID", help="A member, this one.")] = None,
    partner: Annotated[str | None, typer.Option(metavar="HANDLE", help="An administrator of this partner.")] = None,
    staff: Annotated[bool, typer.Option("--staff", help="One of staff.")] = False,
    scope: Annotated[
        list[str] | None,
        typer.Option(help="What it may do; give it several times. Default: all of its kind.", show_default=False),
    ] = None,
) -> None:
    """Add a person, or replace the one of that handle."""
    if (member is not None) + (partner is not None) + staff != 1:
        raise BadInput("who is it? Give one of --member, --partner and --staff")
    kind = CallerKind.MEMBER if member else CallerKind.PARTNER if partner else CallerKind.STAFF
    scopes = split_scopes(" ".join(scope or [])) or scopes_of_people(kind)

    async def work(service: "Service") -> None:
        async with service.database.sessions.begin() as session:
            found = None if member is None else await find_member(session, MemberRef(external_id=member))
            if member is not None and found is None:
                raise NotFound(f"no such member: {member}")
            owner = None if partner is None else await partner_of(session, partner)
            await keep_person(
                session,
                handle,
                name,
                kind,
                member_id=found.id if found else None,
                partner_id=owner.id if owner else None,
                scopes=scopes,
            )

    on_service(work)
    typer.echo(f"{handle} can sign in where PERKS_BUILT_IN_SIGN_IN is on")


@app.command("list")
def list_everybody(as_json: AsJson = False) -> None:
    """List who can sign in."""

    async def work(service: "Service") -> list[dict[str, Any]]:
        async with service.database.sessions() as session:
            found = await list_people(session)
        return [{"handle": one.handle, "name": one.name, "kind": one.kind, "scopes": one.scopes} for one in found]

    show_rows(on_service(work), as_json=as_json)
