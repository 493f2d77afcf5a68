"""The `perks` command: every command with its help; a failure is one line and exit code 1, wrong use exit code 2."""

import asyncio
import sys
from typing import Annotated

import structlog
import typer

from gateway.embedded import EmbeddedError
from gateway.logs import configure_logs
from gateway.running import addressed, bring_up_to_date
from gateway.serving import serve as serve_http
from partners.errors import PerksError

app = typer.Typer(
    name="perks",
    help="One GraphQL endpoint between a membership programme and the brands that treat its best members well.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 is any that is free.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes.", min=1, max=64)] = None,
    graphiql: Annotated[bool | None, typer.Option(help="Show GraphiQL to browsers.")] = None,
) -> None:
    """Serve the API and run the workers, in one process or several."""
    with addressed(host=host, port=port, workers=workers, graphiql=graphiql) as settings:
        serve_http(settings)


@app.command()
def migrate() -> None:
    """Bring the database to this version's shape."""
    with addressed() as settings:
        typer.echo(f"the database is at revision {asyncio.run(bring_up_to_date(settings))}")


def main() -> None:
    """Runs a command; what is expected to go wrong is told in one line."""
    structlog.reset_defaults()
    configure_logs("WARNING", as_json=False)
    try:
        app()
    except (PerksError, EmbeddedError) as fault:
        typer.echo(f"perks: {fault}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
