"""`perks statements`: the monthly statement of a partner as files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.commands import AsJson, on_service, operator, show
from gateway.paper.statements import statement_page, statement_table
from gateway.whole_files import write_whole
from partners.statements import Statement, make_statement

if TYPE_CHECKING:
    from gateway.app import Service


def statements(
    partner: Annotated[str, typer.Argument(metavar="PARTNER", help="The partner's handle.", show_default=False)],
    month: Annotated[str, typer.Argument(metavar="MONTH", help="As 2026-11.", show_default=False)],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A folder for both files.", show_default=False)] = Path(),
    as_json: AsJson = False,
) -> None:
    """Write a partner's statement of a month, as a page and as CSV."""

    async def work(service: "Service") -> Statement:
        async with service.database.connection() as connection:
            return await make_statement(connection, operator(), month, service.clock(), handle=partner)

    found = on_service(work)
    files = []
    for kind, text in (("html", statement_page(found)), ("csv", statement_table(found))):
        file = out / f"statement-{found.partner}-{found.month.name}.{kind}"
        write_whole(file, text.encode())
        files.append(str(file))
    if as_json:
        show({"files": files, "final": found.final})
    else:
        state = "final" if found.final else "not final: the month is not over"
        typer.echo(f"{' and '.join(files)}; {state}")
