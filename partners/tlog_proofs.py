"""An entry's place in the log as one text that anybody can verify offline (C2SP tlog-proof)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from partners.merkle import HASH_BYTES, is_included, leaf_hash
from partners.notes import SIZE_MAX, Checkpoint, NoteInvalid, Verifier, decoded, encoded, open_checkpoint
from partners.tiles import PROOF_HEADER

HASHES_MAX = 63
INDEX = re.compile(r"index (0|[1-9][0-9]{0,18})")
EXTRA = "extra "


@dataclass(frozen=True, slots=True)
class TlogProof:
    """That an entry is in the log: its index, the hashes from its leaf up to the root, and the checkpoint as a note.

    `extra` is whatever its maker added; nobody has signed it.
    """

    index: int
    hashes: tuple[bytes, ...]
    note: str
    extra: bytes = b""

    def verify(self, entry: bytes, verifiers: Sequence[Verifier]) -> Checkpoint:
        """The checkpoint that the entry, byte for byte, is proven to be under; NoteInvalid says what is wrong.

        `verifiers` are the keys of the log; keys of witnesses among them make their signatures be checked, too.
        """
        checkpoint = open_checkpoint(self.note, *verifiers)
        if self.index >= checkpoint.size:
            raise NoteInvalid(f"a tree of {checkpoint.size} entries has no index {self.index}")
        if not is_included(self.index, checkpoint.size, leaf_hash(entry), self.hashes, checkpoint.root):
            raise NoteInvalid(f"the proof does not lead from this entry at index {self.index} to the signed root")
        return checkpoint


def render(index: int, hashes: Sequence[bytes], checkpoint_note: str, extra: bytes = b"") -> str:
    """The proof as text: what a `.tlog-proof` file has in it."""
    before = [f"{EXTRA}{encoded(extra)}"] if extra else []
    return "\n".join([PROOF_HEADER, *before, f"index {index}", *map(encoded, hashes), "", checkpoint_note])


def parse(text: str) -> TlogProof:
    """The proof that a text is, not verified yet; NoteInvalid says which line is wrong."""
    head, blank, note = text.partition("\n\n")
    header, *lines = head.split("\n")
    if header != PROOF_HEADER or not blank:
        raise NoteInvalid(f"not a proof: it begins with {PROOF_HEADER}, and a blank line is before its checkpoint")
    extra = read_extra(lines.pop(0)) if lines and lines[0].startswith(EXTRA) else b""
    place = INDEX.fullmatch(lines[0]) if lines else None
    if place is None or int(place[1]) > SIZE_MAX:
        raise NoteInvalid("not a proof: no line tells the index")
    return TlogProof(int(place[1]), read_hashes(lines[1:]), note, extra)


def read_extra(line: str) -> bytes:
    """What the maker of the proof added; NoteInvalid."""
    extra = decoded(line.removeprefix(EXTRA))
    if not extra:
        raise NoteInvalid("not a proof: its extra data are not base64")
    return extra


def read_hashes(lines: Sequence[str]) -> tuple[bytes, ...]:
    """The hashes of a proof, one a line and at most 63, since no tree needs more; NoteInvalid."""
    hashes = tuple(map(decoded, lines))
    if len(hashes) > HASHES_MAX:
        raise NoteInvalid(f"not a proof: more than {HASHES_MAX} hashes")
    for number, one in enumerate(hashes, 1):
        if len(one) != HASH_BYTES:
            raise NoteInvalid(f"not a proof: hash {number} is not 32 bytes in base64")
    return hashes
