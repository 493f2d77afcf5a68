"""`perks audit`: the log as files, which anybody can verify without the service."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.audit_files import Exported, checkpoint_of, export_log, read_note, verify_log
from gateway.commands import AsJson, on_service, show
from gateway.running import addressed, kept_secret
from gateway.settings import SettingsInvalid, read_settings
from partners.errors import BadInput
from partners.keys import derive_keys
from partners.log import sequence
from partners.notes import Checkpoint, NoteInvalid, Verifier, note_text, origin_of, verifier_of

if TYPE_CHECKING:
    from gateway.app import Service

app = typer.Typer(help="Export the log, verify an export, print the key that verifies it.", no_args_is_help=True)


@app.command("export")
def export_audit(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A file to write, or a folder for log.jsonl.", show_default=False)
    ],
    as_json: AsJson = False,
) -> None:
    """Write the log, an entry a line, and FILE.checkpoint, its signed root."""

    async def work(service: "Service") -> Exported:
        origin = origin_of(service.settings.address)
        async with service.database.connection() as connection:
            while await sequence(connection, service.keys.log, origin):  # what no worker has carried over yet
                pass
        return await export_log(service.database, file)

    done = on_service(work)
    if as_json:
        show({"file": str(done.file), "checkpoint": str(done.checkpoint), "entries": done.leaves})
    else:
        typer.echo(f"{done.leaves} entries in {done.file}, their signed root in {done.checkpoint}")


@app.command("verify")
def verify_audit(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An exported log.", show_default=False)],
    checkpoint: Annotated[
        Path | None, typer.Option(help="The signed checkpoint. Default: FILE.checkpoint.", show_default=False)
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="VERIFIER",
            help="The log's key, from `perks audit key`. Default: this installation's own.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Verify an export from its files alone: complete, unaltered, and signed. Exit code 1 when it is not."""
    note = checkpoint or checkpoint_of(file)
    report = verify_log(file, note, own_key(note) if key is None else checked_key(key))
    signed = report.checkpoint
    if as_json:
        show({"sound": report.sound, "entries": signed and signed.size, "fault": report.fault})
    elif report.sound and signed is not None:
        typer.echo(f"sound: {signed.size} entries, all and unaltered, signed by {signed.origin}")
    else:
        typer.echo(f"perks: not sound: {report.fault}", err=True)
    if not report.sound:
        raise typer.Exit(1)


@app.command("key")
def print_key() -> None:
    """Print the key that verifies the log: give it to auditors by another way than the log."""
    with addressed(join=True) as settings:
        if settings.secret is None:
            raise SettingsInvalid("PERKS_SECRET: the log's key comes from it")
        seed = derive_keys(settings.secret.get_secret_value().encode()).log
        typer.echo(str(verifier_of(origin_of(settings.address), seed)))


def checked_key(key: str) -> str:
    """The key as it is; BadInput unless it is one."""
    try:
        return str(Verifier.parse(key))
    except NoteInvalid as fault:
        raise BadInput(f"--key: {fault}") from None


def own_key(note: Path) -> str:
    """This installation's key, under the name that the checkpoint gives the log; SettingsInvalid without a secret."""
    settings = read_settings()
    kept = settings.data_folder / "secret"
    if settings.secret is None and not kept.exists():
        raise SettingsInvalid("whose log is it? Give --key, or the PERKS_SECRET of this installation")
    secret = settings.secret.get_secret_value() if settings.secret else kept_secret(settings.data_folder)
    try:
        origin = Checkpoint.parse(note_text(read_note(note))).origin
    except NoteInvalid:
        origin = "unknown/log"  # what is wrong with the checkpoint will be told by who verifies it
    return str(verifier_of(origin, derive_keys(secret.encode()).log))
