"""The domain's keys, each derived from the operator's one secret for one purpose."""

from dataclasses import dataclass

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SECRET_BYTES_MIN = 32
LABELS = (b"pairwise/1", b"hold-codes/1", b"user-codes/1", b"sealing/1")


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """32 bytes each: `pairwise` names members to partners, `codes` makes hold codes, `log` is the seed of the log's
    first key, under `devices` the codes that points of sale show are kept, and `sealing` seals addresses and partners'
    codes. `log_sealing` opens the log's keys (partners/log_keys.py), and its first seals new ones."""

    pairwise: bytes
    codes: bytes
    log: bytes
    devices: bytes
    sealing: bytes
    log_sealing: tuple[bytes, ...]


def derive_keys(secret: bytes, log_secret: bytes | None = None) -> Keys:
    """HKDF-SHA-256 (RFC 5869) with a label per purpose; ValueError under 32 bytes.

    With a secret of the log's own, who has only the other can neither sign checkpoints nor open the keys that do.
    """
    of_log = (secret,) if log_secret is None else (log_secret, secret)
    if min(map(len, of_log)) < SECRET_BYTES_MIN:
        raise ValueError(f"the secret needs at least {SECRET_BYTES_MIN} bytes")
    pairwise, codes, devices, sealing = (derive(secret, label) for label in LABELS)
    log_sealing = tuple(derive(one, b"log-keys/1") for one in of_log)
    return Keys(pairwise, codes, derive(of_log[0], b"log/1"), devices, sealing, log_sealing)


def derive(secret: bytes, label: bytes) -> bytes:
    """One key of 32 bytes for one purpose."""
    return HKDF(SHA256(), 32, salt=None, info=b"perks-gateway/" + label).derive(secret)
