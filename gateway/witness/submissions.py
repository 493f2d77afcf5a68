"""What a log sends to a witness: its new checkpoint, and the proof that it contains what the witness last signed."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from partners.notes import SIZE_MAX, Checkpoint, NoteInvalid, encoded, note_text, signatures_in
from partners.tlog_proofs import read_hashes

OLD = re.compile(r"old (0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class Submission:
    """The size that the witness signed last, the proof from there on, and the checkpoint as a note."""

    old: int
    proof: tuple[bytes, ...]
    note: str

    @property
    def checkpoint(self) -> Checkpoint:
        """What the note says; whether the log signed it is another question."""
        return Checkpoint.parse(note_text(self.note))

    @classmethod
    def parse(cls, body: bytes) -> "Submission":
        """The body of a request (C2SP tlog-witness, "add-checkpoint"); NoteInvalid says what is wrong with it."""
        try:
            head, blank, note = body.decode().partition("\n\n")
        except UnicodeDecodeError:
            raise NoteInvalid("not text in UTF-8") from None
        first, *lines = head.split("\n")
        old = OLD.fullmatch(first)
        if old is None or int(old[1]) > SIZE_MAX or not blank:
            raise NoteInvalid("a line as `old 0`, lines of a proof, and a blank line are before the checkpoint")
        submission = cls(int(old[1]), read_hashes(lines), note)
        signatures_in(note)
        if submission.old > submission.checkpoint.size:
            raise NoteInvalid(f"the old size {submission.old} is more than that of the checkpoint")
        return submission


def render(old: int, proof: Sequence[bytes], note: str) -> bytes:
    """The body of a request."""
    return "\n".join([f"old {old}", *map(encoded, proof), "", note]).encode()
