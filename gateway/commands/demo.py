"""`perks demo`: the product with a club in it, to look at or to be walked through."""

from typing import Annotated

import typer


def demo(
    port: Annotated[
        int | None,
        typer.Option(help="Port to listen on. Default: 8000, or any that is free.", min=0, max=65535),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Walk a demo as its three users and print every answer; exit 0 if all hold.")
    ] = False,
    base_url: Annotated[str | None, typer.Option(help="With --check: walk the demo that runs there.")] = None,
) -> None:
    """Seed a demo club, serve it and print requests to paste, again and again without harm."""
    if base_url is not None and not check:
        raise typer.BadParameter("--base-url goes with --check")
    if check:
        from gateway.demo.checking import check as check_demo

        raise typer.Exit(0 if check_demo(base_url) else 1)
    from gateway.demo.showing import show

    show(port)
