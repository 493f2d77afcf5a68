"""Signed notes, the checkpoints in them and the cosignatures of witnesses, as outside tools read them.

C2SP signed-note, tlog-checkpoint and tlog-cosignature.
"""

import re
from base64 import b64decode, b64encode
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from partners.errors import BadInput
from partners.merkle import HASH_BYTES

ED25519 = b"\x01"  # the signature type of C2SP signed-note
COSIGNATURE = b"\x04"  # the one of C2SP tlog-cosignature
KEY_ID_BYTES = 4
TIME_BYTES = 8
TIME_MAX = SIZE_MAX = 2**63 - 1
SIGNATURES_MAX = 100  # what Go's sumdb/note reads, too; C2SP wants 16 at least
NAME = re.compile(r"[^\s+]+")
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\ud800-\udfff]")
SIGNATURE = re.compile(rf"— ({NAME.pattern}) (\S+)")
CHECKPOINT = re.compile(r"([^\n]+)\n(0|[1-9][0-9]{0,18})\n([^\n]+)\n(?:[^\n]+\n)*")


class NoteInvalid(ValueError):
    """A note, checkpoint or verifier key that can't be trusted; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """What an auditor needs to have of a log or of a witness: its name and its Ed25519 key of 32 bytes."""

    name: str
    public: bytes
    kind: bytes = ED25519
    """ED25519 of a log, COSIGNATURE of a witness, whose signatures tell the time they were made."""

    @property
    def key_id(self) -> bytes:
        """4 bytes that tell this key from others of the name (C2SP signed-note, "Signatures")."""
        return sha256(self.name.encode() + b"\n" + self.kind + self.public).digest()[:KEY_ID_BYTES]

    @property
    def label(self) -> str:
        """The key for people, `name+id`."""
        return f"{self.name}+{self.key_id.hex()}"

    def __str__(self) -> str:
        return f"{self.label}+{encoded(self.kind + self.public)}"

    @classmethod
    def parse(cls, text: str) -> "Verifier":
        """The verifier key that `str` writes, of a log or of a witness; NoteInvalid."""
        name, _, rest = text.strip().partition("+")
        key_id, _, key = rest.partition("+")
        raw = decoded(key)
        if not is_name(name) or len(raw) != 1 + HASH_BYTES or raw[:1] not in (ED25519, COSIGNATURE):
            raise NoteInvalid("not a verifier key: name+id+base64 of an Ed25519 key")
        verifier = cls(name, raw[1:], raw[:1])
        if verifier.key_id.hex() != key_id:
            raise NoteInvalid(f"not a verifier key: its id should be {verifier.key_id.hex()}, not {key_id}")
        return verifier

    def verify(self, signature: bytes, text: str) -> int | None:
        """Checks a signature of a note's text; when a witness gave it, in Unix seconds. NoteInvalid."""
        time, message = None, text.encode()
        if self.kind == COSIGNATURE:
            time = int.from_bytes(signature[:TIME_BYTES], "big")
            signature, message = signature[TIME_BYTES:], cosigned(text, time)
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except InvalidSignature:
            raise NoteInvalid(f"the signature of {self.label} is not of this text") from None
        if time is not None and time > TIME_MAX:
            raise NoteInvalid(f"the signature of {self.label} is of no time that can be")
        return time


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature that holds: whose it is, its line in the note, and when it was given if a witness did."""

    verifier: Verifier
    line: str
    time: int | None
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree of the log: its origin, its size in leaves and its root of 32 bytes (C2SP tlog-checkpoint)."""

    origin: str
    size: int
    root: bytes

    def __str__(self) -> str:
        return f"{self.origin}\n{self.size}\n{encoded(self.root)}\n"

    @classmethod
    def parse(cls, text: str) -> "Checkpoint":
        """The checkpoint that a note's text is; its extension lines are allowed and not read. NoteInvalid."""
        lines = CHECKPOINT.fullmatch(text)
        root = decoded(lines[3]) if lines else b""
        if lines is None or len(root) != HASH_BYTES or int(lines[2]) > SIZE_MAX:
            raise NoteInvalid("not a checkpoint: a line each of origin, size and root")
        return cls(lines[1], int(lines[2]), root)


def origin_of(issuer: str) -> str:
    """The log's name from the address callers reach us at: `https://perks.example` has `perks.example/log`."""
    origin = f"{issuer.rpartition('://')[2].strip('/')}/log"
    if not is_name(origin) or origin.startswith("/"):
        raise BadInput(f"{issuer!r} can't name a log: it needs a host, and no space or +")
    return origin


def verifier_of(name: str, key: bytes, kind: bytes = ED25519) -> Verifier:
    """The public side of a key, a seed of 32 bytes."""
    return Verifier(name, Ed25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw(), kind)


def sign_checkpoint(checkpoint: Checkpoint, *keys: bytes) -> str:
    """The checkpoint as a note that the log's seeds of 32 bytes have signed under the name of its origin."""
    return sign_note(str(checkpoint), checkpoint.origin, *keys)


def open_checkpoint(note: str, *verifiers: Verifier) -> Checkpoint:
    """The checkpoint in a note that a key of its log signed; NoteInvalid, too, when a signature of any of these
    keys is wrong. A log has several keys while one replaces another; keys of witnesses alone open nothing."""
    checkpoint = Checkpoint.parse(note_text(note))
    of_logs = [verifier for verifier in verifiers if verifier.kind == ED25519]
    own = [verifier for verifier in of_logs if verifier.name == checkpoint.origin]
    if of_logs and not own:
        names = ", ".join(dict.fromkeys(verifier.name for verifier in of_logs))
        raise NoteInvalid(f"a checkpoint of another log: {checkpoint.origin}, and the key is of {names}")
    open_note(note, *own)
    read_signatures(note, *verifiers)
    return checkpoint


def sign_note(text: str, name: str, *keys: bytes) -> str:
    """A text that ends in a newline, a blank line, and a line for the signature of each key (C2SP signed-note)."""
    return f"{text}\n{''.join(signature_line(text, name, key) for key in keys)}"


def signature_line(text: str, name: str, key: bytes) -> str:
    """The line, with its newline, by which a seed of 32 bytes signs a note's text."""
    signature = Ed25519PrivateKey.from_private_bytes(key).sign(text.encode())
    return f"— {name} {encoded(verifier_of(name, key).key_id + signature)}\n"


def cosignature_line(text: str, name: str, key: bytes, time: int) -> str:
    """The line by which a witness says that it knows of no larger tree at `time`, in Unix seconds."""
    signature = Ed25519PrivateKey.from_private_bytes(key).sign(cosigned(text, time))
    stamped = time.to_bytes(TIME_BYTES, "big") + signature
    return f"— {name} {encoded(verifier_of(name, key, COSIGNATURE).key_id + stamped)}\n"


def cosigned(text: str, time: int) -> bytes:
    """What a witness signs (C2SP tlog-cosignature, "Ed25519 signed message")."""
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def open_note(note: str, *verifiers: Verifier) -> str:
    """The text of a note that one of these keys signed at least; others may have signed too. NoteInvalid."""
    if not read_signatures(note, *verifiers):
        signers = ", ".join(label for label, *_ in signatures_in(note))
        wanted = " or ".join(verifier.label for verifier in verifiers) or "any key that is known"
        raise NoteInvalid(f"not signed by {wanted} but by {signers}")
    return note_text(note)


def read_signatures(note: str, *verifiers: Verifier) -> list[Signature]:
    """The signatures of these keys, in order; what others signed is passed over.

    NoteInvalid when what claims to be of one of them is not, since somebody then has tampered with the note.
    """
    text, known = note_text(note), {verifier.label: verifier for verifier in verifiers}
    return [
        Signature(known[label], line, known[label].verify(signature, text))
        for label, signature, line in signatures_in(note)
        if label in known
    ]


def signatures_in(note: str) -> list[tuple[str, bytes, str]]:
    """Of each signature line the signer's label, the signature and the line; NoteInvalid."""
    lines = note[len(note_text(note)) + 1 : -1].split("\n")
    if len(lines) > SIGNATURES_MAX:
        raise NoteInvalid(f"not a signed note: more than {SIGNATURES_MAX} signatures")
    return [(*read_signature(line), f"{line}\n") for line in lines]


def read_signature(line: str) -> tuple[str, bytes]:
    """The signer's label and its signature from a signature line; NoteInvalid."""
    parts = SIGNATURE.fullmatch(line)
    raw = decoded(parts[2]) if parts else b""
    if parts is None or len(raw) <= KEY_ID_BYTES:
        raise NoteInvalid("not a signed note: a signature line can't be read")
    return f"{parts[1]}+{raw[:KEY_ID_BYTES].hex()}", raw[KEY_ID_BYTES:]


def note_text(note: str) -> str:
    """The text of a signed note, which nobody has verified yet; NoteInvalid."""
    text, blank, signatures = note.rpartition("\n\n")
    if not blank or not signatures.endswith("\n") or CONTROL.search(note):
        raise NoteInvalid("not a signed note: lines of text, a blank line, and lines of signatures")
    return text + "\n"


def is_name(text: str) -> bool:
    """Whether a log or a witness may have this name (C2SP signed-note, "Format")."""
    return bool(NAME.fullmatch(text)) and not CONTROL.search(text)


def encoded(raw: bytes) -> str:
    """Base 64 (RFC 4648 section 4)."""
    return b64encode(raw).decode()


def decoded(text: str) -> bytes:
    """The bytes of base 64 in its one canonical spelling; none at all of anything else."""
    try:
        raw = b64decode(text, validate=True)
    except ValueError:
        return b""
    return raw if encoded(raw) == text else b""
