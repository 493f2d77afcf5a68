"""Signed notes and the checkpoints in them, as outside tools read them (C2SP signed-note, tlog-checkpoint)."""

import re
from base64 import b64decode, b64encode
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from partners.errors import BadInput
from partners.merkle import HASH_BYTES

ED25519 = b"\x01"  # the signature type of C2SP signed-note
KEY_ID_BYTES = 4
NAME = re.compile(r"[^\s+]+")
SIGNATURE = re.compile(rf"— ({NAME.pattern}) (\S+)")
CHECKPOINT = re.compile(r"([^\n]+)\n(0|[1-9][0-9]{0,18})\n([^\n]+)\n(?:[^\n]+\n)*")


class NoteInvalid(ValueError):
    """A note, checkpoint or verifier key that can't be trusted; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """What an auditor needs to have of a log: its name and its Ed25519 key of 32 bytes."""

    name: str
    public: bytes

    @property
    def key_id(self) -> bytes:
        """4 bytes that tell this key from others of the name (C2SP signed-note, "Ed25519 signatures")."""
        return sha256(self.name.encode() + b"\n" + ED25519 + self.public).digest()[:KEY_ID_BYTES]

    @property
    def label(self) -> str:
        """The key for people, `name+id`."""
        return f"{self.name}+{self.key_id.hex()}"

    def __str__(self) -> str:
        return f"{self.label}+{encoded(ED25519 + self.public)}"

    @classmethod
    def parse(cls, text: str) -> "Verifier":
        """The verifier key that `str` writes; NoteInvalid."""
        name, _, rest = text.strip().partition("+")
        key_id, _, key = rest.partition("+")
        public = decoded(key)
        if not NAME.fullmatch(name) or len(public) != 1 + HASH_BYTES or not public.startswith(ED25519):
            raise NoteInvalid("not a verifier key: name+id+base64 of an Ed25519 key")
        verifier = cls(name, public[1:])
        if verifier.key_id.hex() != key_id:
            raise NoteInvalid(f"not a verifier key: its id should be {verifier.key_id.hex()}, not {key_id}")
        return verifier


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
        if lines is None or len(root) != HASH_BYTES:
            raise NoteInvalid("not a checkpoint: a line each of origin, size and root")
        return cls(lines[1], int(lines[2]), root)


def origin_of(issuer: str) -> str:
    """The log's name from the address callers reach us at: `https://perks.example` has `perks.example/log`."""
    origin = f"{issuer.rpartition('://')[2].strip('/')}/log"
    if not NAME.fullmatch(origin) or origin.startswith("/"):
        raise BadInput(f"{issuer!r} can't name a log: it needs a host, and no space or +")
    return origin


def verifier_of(origin: str, key: bytes) -> Verifier:
    """The public side of the log's key, a seed of 32 bytes."""
    return Verifier(origin, Ed25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw())


def sign_checkpoint(checkpoint: Checkpoint, key: bytes) -> str:
    """The checkpoint as a signed note, by the log's seed of 32 bytes under the name of its origin."""
    return sign_note(str(checkpoint), checkpoint.origin, key)


def open_checkpoint(note: str, verifier: Verifier) -> Checkpoint:
    """The checkpoint in a note that this log signed; NoteInvalid."""
    checkpoint = Checkpoint.parse(note_text(note))
    if checkpoint.origin != verifier.name:
        raise NoteInvalid(f"a checkpoint of another log: {checkpoint.origin}, and the key is of {verifier.name}")
    open_note(note, verifier)
    return checkpoint


def sign_note(text: str, name: str, key: bytes) -> str:
    """A text that ends in a newline, a blank line, and the line of the signature (C2SP signed-note)."""
    signature = Ed25519PrivateKey.from_private_bytes(key).sign(text.encode())
    return f"{text}\n— {name} {encoded(verifier_of(name, key).key_id + signature)}\n"


def open_note(note: str, verifier: Verifier) -> str:
    """The text of a note that this key signed; others may have signed too. NoteInvalid."""
    text = note_text(note)
    signatures = [read_signature(line) for line in note[len(text) + 1 : -1].split("\n")]
    for label, signature in signatures:
        if label == verifier.label:
            try:
                Ed25519PublicKey.from_public_bytes(verifier.public).verify(signature, text.encode())
            except InvalidSignature:
                raise NoteInvalid(f"the signature of {label} is not of this text") from None
            return text
    raise NoteInvalid(f"not signed by {verifier.label} but by {', '.join(label for label, _ in signatures)}")


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
    if not blank or not signatures.endswith("\n") or any(sign < " " and sign != "\n" for sign in note):
        raise NoteInvalid("not a signed note: lines of text, a blank line, and lines of signatures")
    return text + "\n"


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
