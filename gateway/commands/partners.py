"""`perks partners`: brands on board, suspended and reinstated."""

from typing import TYPE_CHECKING, Annotated

import typer

from auth.clients import set_partner_state
from gateway.commands import AsJson, on_service, operator, show, show_rows
from partners import catalogue, tables
from partners.errors import NotFound
from partners.tables import PartnerKind, PartnerState

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from gateway.app import Service

PAGE = 500

app = typer.Typer(help="On-board partners, list, suspend and reinstate them.", no_args_is_help=True)
Handle = Annotated[str, typer.Argument(metavar="HANDLE", help="The partner's handle.", show_default=False)]


@app.command("add")
def add_partner(
    handle: Handle,
    name: Annotated[str, typer.Option(help="Its name for people.", show_default=False)],
    kind: Annotated[PartnerKind, typer.Option(help="Its trade.", case_sensitive=False)] = PartnerKind.OTHER,
    as_json: AsJson = False,
) -> None:
    """On-board a partner."""

    async def work(service: "Service") -> tables.Partner:
        async with service.database.sessions.begin() as session:
            return await catalogue.create_partner(
                session, handle=handle, name=name, kind=kind, actor=operator(), now=service.clock()
            )

    made = described(on_service(work))
    if as_json:
        show(made)
    else:
        typer.echo(f"{handle} is on board; give it a client: perks clients add {handle} --name NAME")


@app.command("list")
def list_partners(as_json: AsJson = False) -> None:
    """List all partners in the order they joined."""

    async def work(service: "Service") -> list[tables.Partner]:
        found: list[tables.Partner] = []
        async with service.database.sessions() as session:
            while page := await catalogue.list_partners(
                session, operator(), first=PAGE, after=found[-1].id if found else None
            ):
                found += page
        return found

    show_rows([described(one) for one in on_service(work)], as_json=as_json)


@app.command("suspend")
def suspend_partner(handle: Handle) -> None:
    """Suspend a partner: no token and no yes from now on."""
    set_state(handle, PartnerState.SUSPENDED)


@app.command("reinstate")
def reinstate_partner(handle: Handle) -> None:
    """Serve a suspended partner again."""
    set_state(handle, PartnerState.ACTIVE)


def set_state(handle: str, state: PartnerState) -> None:
    """Brings a partner to a state and says so; one that has it is left alone."""

    async def work(service: "Service") -> bool:
        async with service.database.sessions.begin() as session:
            partner = await partner_of(session, handle)
            if changes := partner.state != state:
                await set_partner_state(session, partner.id, state, operator(), service.clock())
            return changes

    typer.echo(f"{handle} is {state}{'' if on_service(work) else ' already'}")


async def partner_of(session: "AsyncSession", handle: str) -> tables.Partner:
    """The partner of that handle; NotFound."""
    found = await catalogue.list_partners(session, operator(), handle=handle, first=1, after=None)
    if not found:
        raise NotFound(f"no such partner: {handle}")
    return found[0]


def described(partner: tables.Partner) -> dict[str, str]:
    """A partner as a row."""
    return {"handle": partner.handle, "name": partner.name, "kind": partner.kind, "state": partner.state}
