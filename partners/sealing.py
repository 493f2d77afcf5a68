"""What is kept to be shown later (addresses, codes) is sealed in the database, so that a leaked dump tells nothing."""

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VERSION = b"\x01"
NONCE_BYTES = 12
TAG_BYTES = 16


class Unsealable(ValueError):
    """What can't be opened: changed, cut short, sealed under another key or moved from another row."""


def seal(key: bytes, plain: bytes, context: bytes) -> bytes:
    """AES-256-GCM (NIST SP 800-38D) as version, 96-bit random nonce, text and 128-bit tag.

    `context` says where it belongs (the row's table and id), and nothing opens it anywhere else. One key of 32 bytes
    seals up to 2^32 texts before a nonce may repeat with a chance of 2^-32.
    """
    nonce = secrets.token_bytes(NONCE_BYTES)
    return VERSION + nonce + AESGCM(key).encrypt(nonce, plain, VERSION + context)


def open_sealed(key: bytes, sealed: bytes, context: bytes) -> bytes:
    """What was sealed for this context; Unsealable for anything else."""
    version, nonce, rest = sealed[:1], sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
    if version != VERSION or len(rest) < TAG_BYTES:
        raise Unsealable("not sealed by this version")
    try:
        return AESGCM(key).decrypt(nonce, rest, version + context)
    except InvalidTag:
        raise Unsealable("not sealed under this key for this place") from None
