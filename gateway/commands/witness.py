"""`perks witness`: watch somebody's log, so that it can't show you one past and others another."""

import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from gateway.logs import configure_logs
from gateway.witness.cosigning import open_witness
from gateway.witness.identity import open_identity
from partners.errors import BadInput

app = typer.Typer(
    help="Watch that logs only grow, and sign what you have seen; needs no database.", no_args_is_help=True
)

Folder = Annotated[
    Path,
    typer.Option(metavar="DIR", help="Where the witness keeps its key and what it has signed.", show_default=False),
]
Name = Annotated[
    str | None,
    typer.Option(help="What it is called, as witness.example/w1. Needed the first time.", show_default=False),
]


@app.command("serve")
def serve_witness(
    folder: Folder,
    logs: Annotated[
        list[str],
        typer.Option("--log", metavar="VERIFIER", help="A log's key; again for each key and log.", show_default=False),
    ],
    name: Name = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 is any that is free.", min=0, max=65535)] = 8100,
) -> None:
    """Answer logs that ask for a signature, until told to stop; print the witness's key and its address first."""
    from gateway.witness.serving import serve

    configure_logs("INFO", as_json=False)
    witness = open_witness(folder, open_identity(folder, name), logs, lambda: datetime.now(UTC))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as fault:
        raise BadInput(f"can't listen on {host}:{port}: {fault.strerror}; choose another with --port") from None
    with listener:
        shown = f"[{host}]" if ":" in host else host
        typer.echo(f"{witness.identity.verifier} http://{shown}:{listener.getsockname()[1]}")
        serve(witness, listener)


@app.command("key")
def print_key(folder: Folder, name: Name = None) -> None:
    """Print the witness's key, which whoever trusts it needs; it is made the first time."""
    typer.echo(str(open_identity(folder, name).verifier))
