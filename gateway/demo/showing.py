"""`perks demo`: seeds the club, serves it, and tells what to try."""

import asyncio
import socket
from contextlib import closing

import typer
import uvicorn

from auth.people import is_this_machine
from gateway.app import Gateway
from gateway.demo.evidence import HERE
from gateway.demo.handout import FILE, Handout, hand_out, write_private
from gateway.demo.requests import script
from gateway.demo.seeding import seed
from gateway.logs import configure_logs
from gateway.running import addressed, announce, served
from gateway.serving import config, listen
from gateway.settings import Settings, SettingsInvalid


def show(port: int | None) -> None:
    """Serves the demo until Ctrl-C or SIGTERM, which are good ends; without `port` any that is free will do."""
    try:
        with addressed(port=port, graphiql=True) as settings, closing(listen_anywhere(settings)) as listener:
            chosen = with_people(settings.model_copy(update={"port": listener.getsockname()[1]}))
            handout = asyncio.run(prepare(chosen))
            announce(chosen)
            tell(handout, chosen)
            configure_logs(chosen.log_level, as_json=chosen.log_json)
            uvicorn.Server(config(Gateway(chosen), chosen)).run(sockets=[listener])
    except KeyboardInterrupt:
        typer.echo("# stopped; what was done is kept for the next time")


def with_people(settings: Settings) -> Settings:
    """The demo's people can sign in, and its webhooks reach this machine, where nobody but its user reaches them."""
    if not is_this_machine(settings.address):
        return settings.model_copy(update={"built_in_sign_in": False})
    return settings.model_copy(update={"built_in_sign_in": True, "webhook_private_targets": HERE})


def listen_anywhere(settings: Settings) -> socket.socket:
    """The port that was asked for; where none was and the usual one is taken, another, and a line that says so."""
    try:
        return listen(settings)
    except SettingsInvalid:
        if "port" in settings.model_fields_set or settings.base_url is not None:
            raise
        typer.echo(f"# port {settings.port} is taken, so here is another")
        return listen(settings.model_copy(update={"port": 0}))


async def prepare(settings: Settings) -> Handout:
    """The club in the database, and what is handed out of it."""
    async with served(settings, keeps_programme=True) as service:
        await seed(service)
        return await hand_out(service)


def tell(handout: Handout, settings: Settings) -> None:
    """What runs where, and the requests; all of it together is a script that sh can run."""
    write_private(FILE, handout.model_dump_json(by_alias=True, indent=1).encode())
    partners, perks, members = len(handout.clients), len(handout.perks), len(handout.members)
    for line in (
        f"# {partners} partners, {perks} perks and {members:,} members are served at {handout.base_url}",
        f"# GraphiQL: {handout.graphql_url} in a browser; everything for scripts: {FILE}",
        *(
            [f"# sign in as a member, a partner or staff: {settings.address}/account"]
            if settings.built_in_sign_in
            else []
        ),
        f"# data: {settings.data_folder}; stop with Ctrl-C and start again, it goes on",
        "# Paste this into another terminal, line by line or all of it:",
        *script(handout),
    ):
        typer.echo(line)
