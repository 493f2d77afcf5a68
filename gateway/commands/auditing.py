"""The commands of `perks audit` that work on files alone, for auditors; they end with codes that cron can act on."""

import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from gateway.auditing.consistency import compare
from gateway.auditing.files import Unsound, open_export, read_note
from gateway.auditing.fsck import Report, check_export
from gateway.auditing.mirror import mirror_log
from gateway.auditing.sources import Address, Folder, Source
from gateway.auditing.verify import verify_proof
from gateway.commands import AsJson, show
from gateway.commands.nouns import Nouns
from partners import tlog_proofs
from partners.errors import BadInput
from partners.merkle import leaf_hash as hash_of
from partners.notes import Checkpoint, NoteInvalid, Verifier, note_text, verifier_of
from partners.tiles import PROOF_HEADER

DIFFERENT, UNREADABLE = 1, 3
TOKEN = re.compile(rb"[!-~]+")
LEAF_HASH = re.compile("[0-9a-fA-F]{64}")


class Audit(Nouns):
    """What works on the service is imported only when it is asked for."""

    places: ClassVar[dict[str, str]] = {
        "export": "gateway.commands.audit:export_audit",
        "key": "gateway.commands.audit:print_key",
        "reconcile": "gateway.commands.reconciling:reconcile",
        "new-log": "gateway.commands.audit:start_new_log",
        "names": "gateway.commands.auditing_report:name_audit",
        "report": "gateway.commands.auditing_report:report_audit",
    }


app = typer.Typer(
    cls=Audit,
    help="Export the log; mirror, check and compare what was exported, with files alone.",
    epilog="Exit codes: 0 sound, 1 not sound or different, 2 wrong use, 3 a file can't be read.",
    no_args_is_help=True,
)
Export = Annotated[
    Path, typer.Argument(metavar="EXPORT", help="A file of an entry a line, or a folder of tiles.", show_default=False)
]
Beside = Annotated[
    Path | None, typer.Option(help="The signed checkpoint. Default: the one beside it.", show_default=False)
]
Keys = Annotated[
    list[str] | None,
    typer.Option(
        "--key", metavar="VERIFIER", help="A key of the log, from `perks audit key`; repeatable.", show_default=False
    ),
]
HashesOnly = Annotated[bool, typer.Option("--hashes-only", help="Tiles of hashes alone, as a public mirror has them.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing when all is well.")]


@app.command("fsck")
def check_audit(
    export: Export,
    checkpoint: Beside = None,
    key: Keys = None,
    hashes_only: HashesOnly = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Derive an export again, entry by entry and hash by hash, up to its signed root."""
    verifiers = checked_keys(key)
    with reading():
        report = check_export(open_export(export, checkpoint), verifiers, hashes_only=hashes_only)
    what = "hashes of entries, which are not here" if hashes_only else "entries, all and unaltered"
    whose = "signed by {}" if verifiers else "as a checkpoint of {} says; its signature was not checked, give --key"
    end(report, f"{what}, {whose}", as_json=as_json, quiet=quiet)


@app.command("verify")
def verify_audit(
    file: Annotated[Path | None, typer.Argument(metavar="[EXPORT]", help="An export.", show_default=False)] = None,
    checkpoint: Beside = None,
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key",
            metavar="VERIFIER",
            help="A key of the log, from `perks audit key`; repeatable. Default: this installation's own.",
            show_default=False,
        ),
    ] = None,
    proof: Annotated[Path | None, typer.Option(help="Instead of an export, the .tlog-proof of one entry.")] = None,
    entry: Annotated[Path | None, typer.Option(help="With --proof, a file of the entry's bytes.")] = None,
    leaf: Annotated[str | None, typer.Option(metavar="JSON", help="With --proof, the entry itself.")] = None,
    leaf_hash: Annotated[
        str | None, typer.Option(metavar="HEX", help="With --proof, the entry's leafHash alone.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Verify an export, or the proof of one entry, from files alone: complete, unaltered, and signed."""
    verifiers = checked_keys(key)
    if (file is None) == (proof is None) or sum(one is not None for one in (entry, leaf, leaf_hash)) != bool(proof):
        raise BadInput("give either an export, or --proof with one of --entry, --leaf and --leaf-hash")
    with reading():
        if proof is not None:
            report = verify_proof(proof, hashed(entry, leaf, leaf_hash), verifiers or own_keys(proof))
            told = "entries, this one among them, signed by {}"
        elif file is not None:
            export = open_export(file, checkpoint)
            report = check_export(export, verifiers or own_keys(export.checkpoint))
            told = "entries, all and unaltered, signed by {}"
    end(report, told, as_json=as_json, quiet=quiet)


def hashed(entry: Path | None, leaf: str | None, leaf_hash: str | None) -> bytes:
    """The leaf hash of an entry that is given in one of three ways; BadInput, OSError."""
    if leaf_hash is not None:
        if not LEAF_HASH.fullmatch(leaf_hash):
            raise BadInput("--leaf-hash: not 64 hexadecimal digits")
        return bytes.fromhex(leaf_hash)
    return hash_of((leaf or "").encode() if entry is None else entry.read_bytes().removesuffix(b"\n"))


@app.command("consistency")
def compare_audit(
    older: Annotated[Path, typer.Argument(metavar="OLD", help="A checkpoint kept from before, or an export.")],
    newer: Annotated[Path, typer.Argument(metavar="NEW", help="The newer export.")],
    key: Keys = None,
    witness: Annotated[
        list[str] | None,
        typer.Option(metavar="VERIFIER", help="A witness that must have cosigned OLD; repeatable.", show_default=False),
    ] = None,
    quorum: Annotated[
        int | None, typer.Option(help="How many of the witnesses are enough. Default: all.", min=1, show_default=False)
    ] = None,
    hashes_only: HashesOnly = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Check that a log begins with what it was once: nothing rewritten, cut off or rolled back."""
    witnesses = checked_keys(witness, "--witness")
    if quorum is not None and quorum > len(witnesses):
        raise BadInput(f"--quorum: only {len(witnesses)} of --witness are given")
    with reading():
        found = compare(older, newer, checked_keys(key), witnesses, quorum, hashes_only=hashes_only)
    before, now = found.older, found.newer
    told = (
        f"sound: {now.origin} of {now.size} entries begins with {before.size} of {before.origin}"
        if now and before
        else ""
    )
    figures = {
        "sound": found.fault is None,
        "older": before and before.size,
        "newer": now and now.size,
        "fault": found.fault,
    }
    finish(figures, [told], found.fault and f"not sound: {found.fault}", as_json=as_json, quiet=quiet)


@app.command("mirror")
def mirror_audit(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="The address of a log, as https://…/log/, or a folder of tiles.")
    ],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The mirror, made if it is not there.")],
    key: Keys = None,
    token_file: Annotated[
        Path | None, typer.Option(help="A file with a token of staff with audit:read, for entries.", show_default=False)
    ] = None,
    hashes_only: Annotated[bool, typer.Option("--hashes-only", help="Leave the entries; needs no token.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Copy what is new of a log, proving each file; a past that differs from what was seen is refused."""
    verifiers = checked_keys(key)
    figures: dict[str, Any] = {"sound": False, "entries": None, "before": None, "files": None, "fault": None}
    lines: list[str] = []
    with reading():
        token = token_in(token_file) if token_file else None
        try:
            with closing(opened(source, token)) as copied:
                done = mirror_log(copied, folder, verifiers, hashes_only=hashes_only)
        except Unsound as fault:
            figures["fault"] = str(fault)
        else:
            signed = done.checkpoint
            figures |= {"sound": True, "entries": signed.size, "before": done.before, "files": done.files}
            lines = [f"sound: {signed.size} entries of {signed.origin}, {signed.size - done.before} of them new"]
            lines += [f"believed at first sight, compare it: {one}" for one in done.believed]
    finish(figures, lines, figures["fault"] and f"refused: {figures['fault']}", as_json=as_json, quiet=quiet)


def token_in(file: Path) -> str:
    """The token that a file holds; BadInput, OSError."""
    token = file.read_bytes().strip()
    if not TOKEN.fullmatch(token):
        raise BadInput(f"--token-file: {file} holds no token: letters, digits and signs without a space")
    return token.decode()


def opened(source: str, token: str | None) -> Source:
    """A folder or an address."""
    return Address(source, token) if "://" in source else Folder(Path(source))


def end(report: Report, told: str, *, as_json: bool, quiet: bool) -> None:
    """Says what checking a log came to, and ends; `told` is what is said of the number and for the name of the log."""
    signed = report.checkpoint
    lines = [] if signed is None else [f"sound: {signed.size} {told.format(signed.origin)}"]
    for one in report.continued:
        older = one.checkpoint
        whole = "all of which are here" if one.complete else "NOT all of which are here: some were lost or changed"
        lines.append(f"continues {older.origin} with its {older.size} entries, {whole}")
    figures = {
        "sound": report.sound,
        "entries": signed and signed.size,
        "fault": report.fault,
        "origin": signed and signed.origin,
        "root": signed and signed.root.hex(),
        "continues": [
            {"origin": one.checkpoint.origin, "entries": one.checkpoint.size, "complete": one.complete}
            for one in report.continued
        ],
    }
    finish(figures, lines, report.fault and f"not sound: {report.fault}", as_json=as_json, quiet=quiet)


def finish(
    figures: Mapping[str, Any], lines: list[str], fault: str | None, *, as_json: bool, quiet: bool, answer: bool = False
) -> None:
    """Prints the figures as JSON, or the lines, or the one on standard error of what is wrong, and ends with 1 then.

    Where differences are the `answer`, they go to standard output.
    """
    if as_json:
        show(figures)
    elif fault is not None:
        typer.echo(fault if answer else f"perks: {fault}", err=not answer)
    elif not quiet:
        typer.echo("\n".join(lines))
    if fault is not None:
        raise typer.Exit(DIFFERENT)


@contextmanager
def reading() -> Iterator[None]:
    """A file that can't be read ends the command with 3, and one line that names it."""
    try:
        yield
    except OSError as fault:
        typer.echo(f"perks: {fault.filename}: {fault.strerror}" if fault.filename else f"perks: {fault}", err=True)
        raise typer.Exit(UNREADABLE) from None


def require_another(option: str, out: Path | None, *read: Path) -> None:
    """BadInput when what an option has us write is what is read."""
    if out is not None and out.exists() and any(one.exists() and out.samefile(one) for one in read):
        raise BadInput(f"{option}: {out} is what is read; give another file to write")


def checked_keys(keys: list[str] | None, option: str = "--key") -> list[Verifier]:
    """The keys of the command line; BadInput when one is none."""
    try:
        return [Verifier.parse(key) for lines in keys or () for key in lines.split()]
    except NoteInvalid as fault:
        raise BadInput(f"{option}: {fault}") from None


def own_keys(signed: Path) -> list[Verifier]:
    """The keys that this installation's secrets make, under the name that the checkpoint gives the log; BadInput
    without a secret."""
    from gateway.running import kept_secret
    from gateway.settings import read_settings
    from partners.keys import derive_keys

    settings = read_settings()
    kept = settings.data_folder / "secret"
    if settings.secret is None and not kept.exists():
        raise BadInput("whose log is it? Give --key, or the PERKS_SECRET of this installation")
    secret = settings.secret.get_secret_value() if settings.secret else kept_secret(settings.data_folder)
    try:
        note = read_note(signed)
        if note.startswith(PROOF_HEADER):
            note = tlog_proofs.parse(note).note
        origin = Checkpoint.parse(note_text(note)).origin
    except NoteInvalid:
        origin = "unknown/log"  # what is wrong with the checkpoint will be told by who verifies it
    of_log = [settings.log_secret.get_secret_value().encode()] if settings.log_secret else []
    return [verifier_of(origin, derive_keys(secret.encode(), one).log) for one in (*of_log, None)]
