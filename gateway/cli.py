"""The `perks` command: what goes wrong is told in one line, with exit code 1, or 2 when it was used wrongly."""

import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any

import structlog
import typer

from gateway.commands import audit, clients, codes, imports, keys, partners, people, schema, tokens
from gateway.commands.demo import demo
from gateway.commands.doctor import doctor
from gateway.embedded import EmbeddedError
from gateway.logs import configure_logs
from gateway.running import addressed, announce, bring_up_to_date, served
from gateway.settings import Settings
from partners.errors import BadInput, PerksError

FAILED, WRONG_USE, INTERRUPTED = 1, 2, 130
UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # which typer does not export

app = typer.Typer(
    name="perks",
    help="One GraphQL endpoint between a membership programme and the brands that treat its best members well.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong use, 3 done but for bad lines.",
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
    from gateway.serving import serve as serve_http

    with (
        addressed(host=host, port=port, workers=workers, graphiql=graphiql) as settings,
        suppress(KeyboardInterrupt),
    ):
        serve_http(settings)


@app.command()
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


@app.command()
def migrate() -> None:
    """Bring the database to this version's shape."""
    with addressed(join=True) as settings:
        typer.echo(f"the database is at revision {asyncio.run(bring_up_to_date(settings))}")


app.command()(demo)
app.command()(doctor)
app.add_typer(imports.app, name="import")
app.add_typer(partners.app, name="partners")
app.add_typer(clients.app, name="clients")
app.add_typer(codes.app, name="codes")
app.add_typer(people.app, name="people")
app.add_typer(tokens.app, name="tokens")
app.add_typer(keys.app, name="keys")
app.add_typer(schema.app, name="schema")
app.add_typer(audit.app, name="audit")


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code; what is expected to go wrong is told in one line."""
    try:
        return app(arguments, prog_name="perks", standalone_mode=False) or 0
    except UsageError as fault:
        return told(usage(fault), WRONG_USE)
    except BadInput as fault:
        return told(fault.message, WRONG_USE)
    except (PerksError, EmbeddedError) as fault:
        return told(str(fault), FAILED)
    except OSError as fault:
        return told(f"{fault.filename}: {fault.strerror}" if fault.filename else str(fault), FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED


def usage(fault: Any) -> str:
    """What is wrong with the command line, and where to look; just the help where nothing was asked for."""
    message: str = fault.format_message()
    return f"{message.rstrip('.')} (see {fault.ctx.command_path} --help)" if message and fault.ctx else message


def told(fault: str, code: int) -> int:
    """Says on standard error what went wrong, if anything needs saying."""
    if fault:
        typer.echo(f"perks: {fault}", err=True)
    return code


def main() -> None:
    """The entry point; SIGTERM stops like Ctrl-C, so that whatever was started is stopped in good order."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    structlog.reset_defaults()
    configure_logs("WARNING", as_json=False)
    sys.exit(run())
