"""`perks clients`: what partners sign in with."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from sqlmodel import col, select

from auth.caller import CallerKind
from auth.clients import register_client
from auth.scopes import SCOPES, scopes_of, split_scopes
from auth.tables import Client
from gateway.commands import AsJson, on_service, show, show_rows
from gateway.commands.partners import partner_of
from partners.tables import Partner

if TYPE_CHECKING:
    from gateway.app import Service

app = typer.Typer(help="Register and list partners' OAuth clients.", no_args_is_help=True)


@app.command("add")
def add_client(
    partner: Annotated[str, typer.Argument(metavar="PARTNER", help="The partner's handle.", show_default=False)],
    name: Annotated[str, typer.Option(help="What it is, as: server, point of sale.", show_default=False)],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help=f"What it may do; give it several times. Default: all. {' '.join(SCOPES[CallerKind.PARTNER])}",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Register a client of a partner and print its id and its secret, which can't be shown again."""
    scopes = split_scopes(" ".join(scope or [])) or scopes_of(CallerKind.PARTNER)

    async def work(service: "Service") -> dict[str, Any]:
        async with service.database.sessions.begin() as session:
            owner = await partner_of(session, partner)
            client, secret = await register_client(session, owner, name, scopes, service.clock())
            return {"client_id": client.id, "client_secret": secret, "partner": partner, "scopes": client.scopes}

    made = on_service(work)
    if as_json:
        show(made)
        return
    typer.echo(f"client id      {made['client_id']}\nclient secret  {made['client_secret']}")
    typer.echo("Keep the secret: only its hash is stored.", err=True)


@app.command("list")
def list_clients(as_json: AsJson = False) -> None:
    """List all clients, each partner's in the order they were made, without secrets."""

    async def work(service: "Service") -> list[dict[str, Any]]:
        query = select(Client, Partner.handle).join(Partner, col(Partner.id) == Client.partner_id)
        async with service.database.sessions() as session:
            found = await session.execute(query.order_by(Partner.handle, col(Client.created_at)))
            return [
                {
                    "partner": handle,
                    "client_id": client.id,
                    "name": client.name,
                    "state": client.state,
                    "scopes": client.scopes,
                }
                for client, handle in found
            ]

    show_rows(on_service(work), as_json=as_json)
