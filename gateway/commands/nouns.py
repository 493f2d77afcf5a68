"""Groups of commands whose modules are imported only when asked for, so that what needs little starts at once."""

from collections.abc import Callable
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group


class Nouns(TyperGroup):
    """`places` names, for each command that is not imported yet, its module and there its Typer app or function."""

    places: ClassVar[dict[str, str]] = {}
    before_import: ClassVar[Callable[[], None]] = staticmethod(lambda: None)
    """What is to be done once per import; a process of its own quietens the logs of what it starts."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All names, those at hand first."""
        return [*super().list_commands(ctx), *(name for name in self.places if name not in self.commands)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a name, imported if need be; None when there is none."""
        if cmd_name in self.places and cmd_name not in self.commands:
            Nouns.before_import()
            self.add_command(found(cmd_name, self.places[cmd_name]), cmd_name)
        return super().get_command(ctx, cmd_name)


def found(name: str, place: str) -> Any:
    """The command at `module:attribute`."""
    module, _, attribute = place.partition(":")
    thing = getattr(import_module(module), attribute)
    if isinstance(thing, typer.Typer):
        group = get_group(thing)
        group.name = name
        return group
    alone = typer.Typer(add_completion=False)
    alone.command(name)(thing)
    return get_command(alone)
