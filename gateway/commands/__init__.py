"""The commands of `perks`, a file per noun, and what they share: a service to work on, an actor, and output."""

import asyncio
import getpass
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import orjson
import typer

from partners.actors import Actor, ActorKind

if TYPE_CHECKING:
    from gateway.app import Service

Answer = TypeVar("Answer")
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def on_service(work: "Callable[[Service], Awaitable[Answer]]") -> Answer:
    """Does one command's work: on the servers of the settings, of a service that runs here, or embedded ones."""
    from gateway.running import addressed, served

    async def do() -> Answer:
        async with served(settings) as service:
            return await work(service)

    with addressed(join=True) as settings:
        return asyncio.run(do())


def operator() -> Actor:
    """Who types: staff, named after the system's user; the log shows only that it was staff."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = str(os.getuid())
    return Actor(ActorKind.STAFF, f"command-line:{name}")


def show(value: Any) -> None:
    """One line of JSON."""
    typer.echo(orjson.dumps(value).decode())


def show_rows(rows: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """A table with a line of names, or an array in JSON; lists are told with spaces between."""
    if as_json:
        show(rows)
    elif rows:
        lines = [[*rows[0]], *([told(value) for value in row.values()] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def told(value: Any) -> str:
    """A cell of a table."""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
