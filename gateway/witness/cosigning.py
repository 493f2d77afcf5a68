"""The rules of a witness: it signs a checkpoint of a log it knows, when that contains all that it signed before."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import structlog

from gateway.witness.identity import Identity
from gateway.witness.records import Record, Records
from gateway.witness.submissions import Submission
from partners.errors import BadInput
from partners.merkle import is_consistent
from partners.notes import ED25519, Checkpoint, NoteInvalid, Verifier, note_text, open_checkpoint, read_signatures

log = structlog.get_logger()

MALFORMED, UNTRUSTED, UNKNOWN, CONFLICT, INCONSISTENT = 400, 403, 404, 409, 422


class Refused(Exception):
    """The witness does not sign: the status of HTTP, and why.

    `size` is what it signed last, told when the log began its proof elsewhere.
    """

    def __init__(self, status: int, why: str, size: int | None = None) -> None:
        super().__init__(why)
        self.status, self.size = status, size


@dataclass(frozen=True, slots=True)
class Witness:
    """A witness, the keys of each log that it watches by the log's origin, and what it remembers of them."""

    identity: Identity
    logs: Mapping[str, tuple[Verifier, ...]]
    records: Records
    clock: Callable[[], datetime]

    def sign(self, body: bytes) -> str:
        """The signature line for what a log submits; the disk has the checkpoint by then. Refused, RecordDamaged.

        Any number of threads and processes may be at it: what one signs the next one has to contain.
        """
        try:
            submission = Submission.parse(body)
        except NoteInvalid as fault:
            raise Refused(MALFORMED, str(fault)) from None
        keys = self.logs.get(submission.checkpoint.origin)
        if keys is None:
            raise Refused(UNKNOWN, "this witness does not watch that log")
        try:
            checkpoint = open_checkpoint(submission.note, *keys)
        except NoteInvalid as fault:
            raise Refused(UNTRUSTED, str(fault)) from None
        with self.records.alone(checkpoint.origin) as record:
            require_growth(record, submission, checkpoint)
            text = note_text(submission.note)
            line = self.identity.cosign(text, int(self.clock().timestamp()))
            signatures = [one.line for one in read_signatures(submission.note, *keys)]
            record.keep("".join([text, "\n", *signatures, line]))
        return line

    def newest(self, origin: str) -> str | None:
        """The newest checkpoint of a log that it signed, as a note. RecordDamaged."""
        return self.records.of(origin).note() if origin in self.logs else None


def require_growth(record: Record, submission: Submission, checkpoint: Checkpoint) -> None:
    """Refused unless the checkpoint contains what was signed before, as the proof shows. RecordDamaged."""
    latest = record.latest()
    if submission.old != latest.size:
        raise Refused(CONFLICT, f"the last one signed has {latest.size} entries", latest.size)
    if checkpoint.size == latest.size and checkpoint.root != latest.root:
        kept = record.keep_conflict(submission.note)
        log.error("witness.fork", origin=checkpoint.origin, size=latest.size, proof=str(kept))
        raise Refused(CONFLICT, "another tree of this size was signed before: the log has forked")
    if not is_consistent(latest.size, checkpoint.size, latest.root, checkpoint.root, submission.proof):
        log.warning("witness.inconsistent", origin=checkpoint.origin, old=latest.size, size=checkpoint.size)
        raise Refused(INCONSISTENT, "the proof does not show that the log has only grown")


def open_witness(folder: Path, identity: Identity, keys: Iterable[str], clock: Callable[[], datetime]) -> Witness:
    """A witness of the logs whose verifier keys are given, several of one log while it replaces its key. BadInput."""
    logs: dict[str, tuple[Verifier, ...]] = {}
    for key in keys:
        try:
            verifier = Verifier.parse(key)
        except NoteInvalid as fault:
            raise BadInput(f"--log: {fault}") from None
        if verifier.kind != ED25519:
            raise BadInput("--log: this is the key of a witness; the one of a log is told by `perks audit key`")
        logs[verifier.name] = (*logs.get(verifier.name, ()), verifier)
    if not logs:
        raise BadInput("--log: the verifier key of a log at least, as `perks audit key` tells it")
    return Witness(identity, logs, Records(folder / "logs", identity.verifier), clock)
