"""`perks clients`: what partners, and the operator's own apps, sign in with."""

import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auth import clients
from auth.caller import ADMITTED, CallerKind
from auth.client_settings import ClientSettings
from auth.clients import Administrator
from auth.scopes import SCOPES, scopes_of, split_scopes
from auth.tables import Client, ClientAuthentication, ClientSecret, ClientState, GrantType
from gateway.commands import AsJson, on_service, operator, show, show_rows, told
from gateway.commands.partners import partner_of
from partners.errors import BadInput, NotFound
from partners.tables import Partner

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from gateway.app import Service

PAGE = 500
GRANTS = {grant.name.lower(): grant for grant in GrantType}
KEEP_IT = "Keep the secret: only its hash is stored."

app = typer.Typer(help="Register, list and change OAuth clients.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(metavar="ID", help="The client_id.", show_default=False)]
Scopes = Annotated[
    list[str] | None,
    typer.Option(
        "--scope",
        help=f"What it may do; give it several times. Default: all. {' '.join(SCOPES[CallerKind.PARTNER])}",
        show_default=False,
    ),
]
Grants = Annotated[
    list[str] | None,
    typer.Option(help=f"A way to a token; several times. {' '.join(GRANTS)}", show_default="client_credentials"),
]


@app.command("add")
def add_client(
    partner: Annotated[
        str | None, typer.Argument(metavar="PARTNER", help="The partner's handle.", show_default=False)
    ] = None,
    *,
    name: Annotated[str, typer.Option(help="What it is, as: server, point of sale.", show_default=False)],
    kind: Annotated[ADMITTED, typer.Option(help="Whom it speaks for: member and staff are our own apps.")] = (
        ADMITTED.PARTNER
    ),
    scope: Scopes = None,
    grant: Grants = None,
    authentication: Annotated[
        ClientAuthentication, typer.Option(help="How it proves who it is; NONE: public.", case_sensitive=False)
    ] = ClientAuthentication.SECRET,
    public_keys: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its JWK Set, for KEY.", show_default=False)
    ] = None,
    redirect: Annotated[
        list[str] | None, typer.Option(metavar="URI", help="Where its users are sent back to; several times.")
    ] = None,
    pushed: Annotated[bool, typer.Option("--pushed", help="Refuse requests that are not pushed.")] = False,
    dpop: Annotated[bool, typer.Option("--dpop", help="Bind its tokens to a key.")] = False,
    purpose: Annotated[str, typer.Option(help="What members are told that it is for.")] = "perks",
    as_json: AsJson = False,
) -> None:
    """Register a client and print its id and its secret, which can't be shown again."""
    caller_kind = CallerKind(kind)
    if (partner is None) == (caller_kind is CallerKind.PARTNER):
        raise BadInput("whose? Name a partner, or give --kind member or --kind staff for an app of our own")
    settings = ClientSettings(
        name=name,
        scopes=split_scopes(" ".join(scope or [])) or scopes_of(caller_kind),
        grant_types=grants_of(grant or ["client_credentials"]),
        authentication=authentication,
        public_keys=None if public_keys is None else read_keys(public_keys),
        redirect_uris=redirect or [],
        requires_pushed=pushed,
        requires_dpop=dpop,
        purpose=purpose,
    )

    async def work(session: "AsyncSession", by: Administrator, service: "Service") -> dict[str, Any]:
        owner = None if partner is None else (await partner_of(session, partner)).id
        client, secret = await clients.create_client(session, owner, settings, by, service.clock(), kind=caller_kind)
        return {"client_id": client.id, "client_secret": secret, "partner": partner, "scopes": client.scopes}

    show_secret(changed(work), as_json=as_json)


def grants_of(names: list[str]) -> list[GrantType]:
    """The grant types of these short names; BadInput."""
    if unknown := sorted(set(names) - GRANTS.keys()):
        raise BadInput(f"--grant: {', '.join(unknown)}: not one of {', '.join(GRANTS)}")
    return [GRANTS[name] for name in names]


def read_keys(file: Path) -> Any:
    """The JSON of a file; BadInput."""
    try:
        return json.loads(file.read_bytes())
    except ValueError:
        raise BadInput(f"{file}: not JSON") from None


def changed(work: "Callable[[AsyncSession, Administrator, Service], Awaitable[dict[str, Any]]]") -> dict[str, Any]:
    """What one transaction of the operator's makes."""

    async def do(service: "Service") -> dict[str, Any]:
        async with service.database.sessions.begin() as session:
            return await work(session, Administrator(operator()), service)

    return on_service(do)


def show_secret(made: Mapping[str, Any], *, as_json: bool) -> None:
    """A client's id and its new secret, if it has one."""
    if as_json:
        show(made)
        return
    typer.echo(f"client id      {made['client_id']}")
    if made["client_secret"] is not None:
        typer.echo(f"client secret  {made['client_secret']}")
        typer.echo(KEEP_IT, err=True)


@app.command("list")
def list_clients(
    partner: Annotated[str | None, typer.Option(metavar="HANDLE", help="Of this partner alone.")] = None,
    as_json: AsJson = False,
) -> None:
    """List all clients in the order they were made, without secrets."""

    async def work(service: "Service") -> list[dict[str, Any]]:
        found: list[tuple[Client, Partner | None]] = []
        async with service.database.sessions() as session:
            which = None if partner is None else (await partner_of(session, partner)).id
            while page := await clients.list_clients(
                session,
                Administrator(operator()),
                partner_id=which,
                first=PAGE,
                after=found[-1][0].id if found else None,
            ):
                found += page
        return [described(*one) for one in found]

    show_rows(on_service(work), as_json=as_json)


def described(client: Client, partner: Partner | None) -> dict[str, Any]:
    """A client as a row."""
    return {
        "partner": None if partner is None else partner.handle,
        "client_id": client.id,
        "name": client.name,
        "state": client.state,
        "scopes": client.scopes,
    }


@app.command("show")
def show_client(id: Id, as_json: AsJson = False) -> None:
    """Show all of a client, with the age of its secrets."""

    async def work(service: "Service") -> dict[str, Any]:
        async with service.database.sessions() as session:
            found = await clients.list_clients(session, Administrator(operator()), id=id, first=1)
            if not found:
                raise NotFound("no such client")
            return whole(*found[0], await clients.secrets_of(session, [id], service.clock()))

    shown = on_service(work)
    if as_json:
        show(shown)
    else:
        width = max(map(len, shown))
        for name, value in shown.items():
            typer.echo(f"{name.ljust(width)}  {told(value)}".rstrip())


def whole(client: Client, partner: Partner | None, secrets: list[ClientSecret]) -> dict[str, Any]:
    """All that may be shown of a client."""
    return described(client, partner) | {
        "kind": client.kind,
        "authentication": client.authentication,
        "grant_types": client.grant_types,
        "redirect_uris": client.redirect_uris,
        "requires_pushed": client.requires_pushed,
        "requires_dpop": client.requires_dpop,
        "purpose": client.purpose,
        "created_at": client.created_at.isoformat(),
        "secrets_since": [one.created_at.isoformat() for one in secrets],
        "secrets_until": [one.expires_at.isoformat() for one in secrets if one.expires_at is not None],
    }


@app.command("rotate-secret")
def rotate_secret(
    id: Id,
    overlap_hours: Annotated[
        int, typer.Option(min=0, max=168, help="How long the last secret stays good beside the new one.")
    ] = 24,
    as_json: AsJson = False,
) -> None:
    """Give a client a new secret and print it; the last one stays good for a while, one that is older does not."""

    async def work(session: "AsyncSession", by: Administrator, service: "Service") -> dict[str, Any]:
        overlap = timedelta(hours=overlap_hours)
        client, secret = await clients.rotate_secret(session, id, overlap, by, service.clock())
        return {"client_id": client.id, "client_secret": secret}

    show_secret(changed(work), as_json=as_json)


@app.command("restrict")
def restrict_client(
    id: Id,
    scope: Annotated[list[str], typer.Option(help="What it keeps; give it several times.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Take all other scopes away from a client, also from tokens that it has."""
    kept = split_scopes(" ".join(scope))

    async def work(session: "AsyncSession", by: Administrator, service: "Service") -> dict[str, Any]:
        client = await clients.lock_client(session, id, by)
        if more := kept.difference(client.scopes):
            raise BadInput(f"--scope: the client does not have {', '.join(sorted(more))}")
        return await updated(session, id, {"scopes": kept}, by, service)

    tell(changed(work), "has left", "scopes", as_json=as_json)


@app.command("redirects")
def set_redirects(
    id: Id,
    uri: Annotated[list[str], typer.Argument(metavar="URI...", help="All of them.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Say where a client's users may be sent back to, instead of what it said before."""

    async def work(session: "AsyncSession", by: Administrator, service: "Service") -> dict[str, Any]:
        return await updated(session, id, {"redirect_uris": uri}, by, service)

    tell(changed(work), "sends users to", "redirect_uris", as_json=as_json)


async def updated(
    session: "AsyncSession", id: str, changes: Mapping[str, Any], by: Administrator, service: "Service"
) -> dict[str, Any]:
    """A client after its change."""
    client = await clients.update_client(session, id, changes, by, service.clock())
    return {"client_id": id, "state": client.state, "scopes": client.scopes, "redirect_uris": client.redirect_uris}


@app.command("disable")
def disable_client(id: Id, as_json: AsJson = False) -> None:
    """Stop a client and the tokens that it has."""
    set_state(id, ClientState.DISABLED, as_json=as_json)


@app.command("enable")
def enable_client(id: Id, as_json: AsJson = False) -> None:
    """Let a disabled client have tokens again."""
    set_state(id, ClientState.ACTIVE, as_json=as_json)


def set_state(id: str, state: ClientState, *, as_json: bool) -> None:
    """Brings a client to a state and says so."""

    async def work(session: "AsyncSession", by: Administrator, service: "Service") -> dict[str, Any]:
        client = await clients.set_client_state(session, id, state, by, service.clock())
        return {"client_id": id, "state": client.state}

    tell(changed(work), "is", "state", as_json=as_json)


def tell(made: Mapping[str, Any], verb: str, field: str, *, as_json: bool) -> None:
    """What became of a client, in a line."""
    if as_json:
        show(made)
    else:
        typer.echo(f"{made['client_id']} {verb} {told(made[field])}")
