"""The `perks` command: what goes wrong is told in one line, with exit code 1, or 2 when it was used wrongly."""

import signal
import sys
from collections.abc import Sequence
from typing import Any, ClassVar

import typer

from gateway.commands import auditing
from gateway.commands.nouns import Nouns
from gateway.embedded_postgres import EmbeddedError
from partners.errors import BadInput, PerksError

FAILED, WRONG_USE, INTERRUPTED = 1, 2, 130
UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # which typer does not export


class Commands(Nouns):
    """Where each command is but `audit`, which is at hand: auditors have files, and no wish to wait for the rest."""

    places: ClassVar[dict[str, str]] = {
        "serve": "gateway.commands.serving:serve",
        "work": "gateway.commands.serving:work",
        "migrate": "gateway.commands.serving:migrate",
        "demo": "gateway.commands.demo:demo",
        "doctor": "gateway.commands.doctor:doctor",
        "import": "gateway.commands.imports:app",
        "partners": "gateway.commands.partners:app",
        "clients": "gateway.commands.clients:app",
        "codes": "gateway.commands.codes:app",
        "exports": "gateway.commands.exports:app",
        "members": "gateway.commands.members:app",
        "people": "gateway.commands.people:app",
        "tokens": "gateway.commands.tokens:app",
        "keys": "gateway.commands.keys:app",
        "schema": "gateway.commands.schema:app",
        "statements": "gateway.commands.statements:statements",
        "webhooks": "gateway.commands.webhooks:app",
        "witness": "gateway.commands.witness:app",
    }


app = typer.Typer(
    cls=Commands,
    name="perks",
    help="One GraphQL endpoint between a membership programme and the brands that treat its best members well.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong use, 3 done but for bad lines.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(auditing.app, name="audit")


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
    Nouns.before_import = staticmethod(quieten)
    sys.exit(run())


def quieten() -> None:
    """Logs of what a command starts are for warnings; `serve` and `work` say more."""
    import structlog

    from gateway.logs import configure_logs

    structlog.reset_defaults()
    configure_logs("WARNING", as_json=False)
