"""`perks serve`, `work` and `migrate`: what runs the service, and what brings its database into shape."""

import asyncio
import signal
from contextlib import suppress
from typing import Annotated

import structlog
import typer

from gateway.logs import configure_logs
from gateway.running import addressed, announce, bring_up_to_date, served
from gateway.settings import Settings


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 is any that is free.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes.", min=1, max=64)] = None,
    graphiql: Annotated[bool | None, typer.Option(help="Show GraphiQL to browsers.")] = None,
) -> None:
    """Serve the API and run the workers, in one process or several."""
    from gateway.serving import serve as serve_http

    with (
        addressed(host=host, port=port, workers=workers, graphiql=graphiql) as settings,
        suppress(KeyboardInterrupt),
    ):
        serve_http(settings)


def work() -> None:
    """Run the workers alone: expire holds, and carry what happened into the log."""
    with addressed(join=True) as settings:
        announce(settings)
        configure_logs(settings.log_level, as_json=settings.log_json)
        asyncio.run(work_until_told(settings))


async def work_until_told(settings: Settings) -> None:
    """Works until SIGINT or SIGTERM."""
    from gateway.app import working

    stop = asyncio.Event()
    for told in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(told, stop.set)
    async with served(settings, keeps_programme=True) as service, working(service):
        structlog.get_logger().info("working")
        await stop.wait()


def migrate() -> None:
    """Bring the database to this version's shape."""
    with addressed(join=True) as settings:
        typer.echo(f"the database is at revision {asyncio.run(bring_up_to_date(settings))}")
