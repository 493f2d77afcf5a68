"""`perks schema`: the API's SDL, for code generators and reviews."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The GraphQL schema.", no_args_is_help=True)


@app.command("export")
def export_schema(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Where to. Default: standard output.")] = None,
) -> None:
    """Write the schema as SDL, with who may select each field. Needs no database."""
    from schema.root import SCHEMA  # builds the whole API, which no other command here needs

    text = SCHEMA.as_str().rstrip() + "\n"
    if file is None:
        typer.echo(text, nl=False)
    else:
        file.write_text(text, encoding="utf-8")
