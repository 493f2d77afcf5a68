"""Verifies against the log's own key: a whole export, or the proof of one entry."""

from collections.abc import Sequence
from pathlib import Path

from gateway.auditing.files import open_export, read_note
from gateway.auditing.fsck import Report, check_export
from partners import tlog_proofs
from partners.merkle import is_included
from partners.notes import NoteInvalid, Verifier, open_checkpoint


def verify_log(file: Path, checkpoint: Path, verifier_key: str) -> Report:
    """Whether an export is all that the log signed, from its files alone; OSError when one can't be read."""
    try:
        verifier = Verifier.parse(verifier_key)
    except NoteInvalid as fault:
        return Report(None, f"{checkpoint.name}: {fault}")
    return check_export(open_export(file, checkpoint), [verifier])


def verify_proof(proof: Path, hashed: bytes, verifiers: Sequence[Verifier]) -> Report:
    """Whether the entry of a leaf hash is in the log, from a `.tlog-proof` file alone; OSError of the file."""
    try:
        found = tlog_proofs.parse(read_note(proof))
        signed = open_checkpoint(found.note, *verifiers)
        if not is_included(found.index, signed.size, hashed, found.hashes, signed.root):
            raise NoteInvalid(f"the proof does not lead from this entry at index {found.index} to the signed root")
    except NoteInvalid as fault:
        return Report(None, f"{proof.name}: {fault}")
    return Report(signed, None)
