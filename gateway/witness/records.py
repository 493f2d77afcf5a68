"""What a witness remembers of each log: the newest checkpoint it signed, in a file that one at a time may change."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from gateway.witness.files import make_folder, replace_file
from partners.merkle import EMPTY_ROOT
from partners.notes import Checkpoint, NoteInvalid, Verifier, note_text, read_signatures


class RecordDamaged(Exception):
    """A record is not what the witness wrote; it signs nothing more of that log, since it can't tell what it signed."""


@dataclass(frozen=True, slots=True)
class Record:
    """The newest checkpoint of one log that a witness signed."""

    file: Path
    origin: str
    witness: Verifier

    def note(self) -> str | None:
        """It, with the log's signatures and the witness's; None while there is none. RecordDamaged, OSError."""
        try:
            note = self.file.read_text(encoding="utf-8")
            if not read_signatures(note, self.witness) or Checkpoint.parse(note_text(note)).origin != self.origin:
                raise NoteInvalid("not signed by this witness, or of another log")
        except FileNotFoundError:
            return None
        except (NoteInvalid, UnicodeDecodeError) as fault:
            raise RecordDamaged(f"{self.file}: {fault}") from None
        return note

    def latest(self) -> Checkpoint:
        """Its tree: the empty one before the first. RecordDamaged, OSError."""
        note = self.note()
        return Checkpoint(self.origin, 0, EMPTY_ROOT) if note is None else Checkpoint.parse(note_text(note))

    def keep(self, note: str) -> None:
        """Remembers a newer one; when this returns, it is on the disk. OSError."""
        replace_file(self.file, note.encode())

    def keep_conflict(self, note: str) -> Path:
        """Puts the first note that contradicts the record beside it: both are signed, which proves the log false."""
        beside = self.file.with_suffix(".conflict")
        if not beside.exists():
            replace_file(beside, note.encode())
        return beside


@dataclass(frozen=True, slots=True)
class Records:
    """The folder of a witness's records, a file for each log."""

    folder: Path
    witness: Verifier

    def of(self, origin: str) -> Record:
        """The record of a log; its name may be anything, so that the file's is its hash."""
        return Record(self.folder / f"{sha256(origin.encode()).hexdigest()}.checkpoint", origin, self.witness)

    @contextmanager
    def alone(self, origin: str) -> Iterator[Record]:
        """The record of a log, for one thread of one process at a time; the lock ends with its process."""
        record = self.of(origin)
        make_folder(self.folder)
        with record.file.with_suffix(".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield record
