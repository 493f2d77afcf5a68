"""Whether a log still begins with what it was: what a checkpoint that somebody kept says against a newer export."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.auditing.files import Export, Unsound, checkpoint_of, open_export, read_note
from gateway.auditing.fsck import Part, Report, check_export, continued_logs
from partners.notes import Checkpoint, NoteInvalid, Verifier, note_text, open_checkpoint, read_signatures


@dataclass(frozen=True, slots=True)
class Comparison:
    """What comparing came to: the older checkpoint, the newer one as far as its export was derived again, and the
    first thing that is wrong."""

    older: Checkpoint | None
    newer: Checkpoint | None
    fault: str | None


class Apart(Exception):
    """The newer log does not begin with the older one."""


def compare(
    older: Path,
    newer: Path,
    verifiers: Sequence[Verifier],
    witnesses: Sequence[Verifier] = (),
    quorum: int | None = None,
    *,
    hashes_only: bool = False,
) -> Comparison:
    """Derives the newer export again, and on the way its root at the older checkpoint's size.

    `older` is a checkpoint or an export that has one; one of the keys must have signed both, if there are any, and
    `quorum` of the witnesses the older one: all, unless it is given. OSError when a file can't be read.
    """
    source = signed_file(older)
    try:
        note = read_note(source)
        before = open_checkpoint(note, *verifiers) if verifiers else Checkpoint.parse(note_text(note))
        require_witnesses(note, witnesses, len(witnesses) if quorum is None else quorum)
    except NoteInvalid as fault:
        return Comparison(None, None, f"{source.name}: {fault}")
    export = open_export(newer)
    try:
        part = part_of(before, export)
    except (Apart, NoteInvalid, Unsound) as fault:
        return Comparison(before, None, f"{export.name}: {fault}")
    report = check_export(export, verifiers, [part], hashes_only=hashes_only)
    return Comparison(before, report.checkpoint, report.fault or difference(before, part, report, export))


def signed_file(path: Path) -> Path:
    """The file of a checkpoint: itself, or that of an export."""
    return open_export(path).checkpoint if path.is_dir() or checkpoint_of(path).exists() else path


def require_witnesses(note: str, witnesses: Sequence[Verifier], quorum: int) -> None:
    """NoteInvalid unless so many of the witnesses have cosigned it."""
    seen = {one.verifier.label for one in read_signatures(note, *witnesses)}
    if len(seen) < quorum:
        missing = ", ".join(one.label for one in witnesses if one.label not in seen)
        raise NoteInvalid(f"cosigned by {len(seen)} of the {quorum} witnesses that are wanted; not by {missing}")


def part_of(before: Checkpoint, export: Export) -> Part:
    """Where the older log is in the newer one: its beginning, or after the entry by which a new log continues it."""
    now = export.read_checkpoint()
    if before.origin == now.origin:
        if before.size > now.size:
            raise Apart(
                f"rolled back: it has {now.size} entries, and had {before.size} once; some were cut off, or an older"
                " backup was restored"
            )
        return Part(0, before.size)
    for index, older in continued_logs(export):
        if older.origin == before.origin:
            if before.size > older.size:
                raise Apart(f"it goes on from {older.size} entries of {older.origin}, which had {before.size} once")
            return Part(index + 1, before.size)
    raise Apart(f"another log: {now.origin}, which does not continue {before.origin}")


def difference(before: Checkpoint, part: Part, report: Report, export: Export) -> str | None:
    """What is wrong when the root at the older size is another one."""
    if part.root == before.root:
        return None
    if report.checkpoint is not None and report.checkpoint.origin != before.origin:
        return f"{export.name}: entries of {before.origin} were lost or changed when {report.checkpoint.origin} began"
    return (
        f"{export.name}: forked: its first {before.size} entries are not those that were signed before; who has the"
        " log's key has rewritten it"
    )
