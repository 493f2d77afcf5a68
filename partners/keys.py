"""The domain's keys, each derived from the operator's one secret for one purpose."""

from dataclasses import dataclass

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SECRET_BYTES_MIN = 32
LABELS = (b"pairwise/1", b"hold-codes/1", b"log/1", b"user-codes/1", b"sealing/1")


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """32 bytes each: `pairwise` names members to partners, `codes` makes hold codes, `log` signs checkpoints, under
    `devices` the codes that points of sale show are kept, and `sealing` seals addresses and partners' codes."""

    pairwise: bytes
    codes: bytes
    log: bytes
    devices: bytes
    sealing: bytes


def derive_keys(secret: bytes) -> Keys:
    """HKDF-SHA-256 (RFC 5869) with a label per purpose; ValueError under 32 bytes."""
    if len(secret) < SECRET_BYTES_MIN:
        raise ValueError(f"the secret needs at least {SECRET_BYTES_MIN} bytes")
    return Keys(*(derive(secret, label) for label in LABELS))


def derive(secret: bytes, label: bytes) -> bytes:
    """One key of 32 bytes for one purpose."""
    return HKDF(SHA256(), 32, salt=None, info=b"perks-gateway/" + label).derive(secret)
