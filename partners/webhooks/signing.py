"""Signatures of Standard Webhooks 1.0, so that a receiver knows who sent a message, and that it is whole and recent."""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from partners.errors import BadInput
from partners.tables import SecretKind
from partners.values import value

SHARED, PUBLIC = "whsec_", "whpk_"
SHARED_BYTES_MIN, SHARED_BYTES, SHARED_BYTES_MAX = 24, 32, 64
SEED_BYTES = 32


@value
class Secret:
    """What signs: the shared secret itself, or the seed of an Ed25519 key (RFC 8032)."""

    kind: SecretKind
    hidden: bytes

    @property
    def shown(self) -> str:
        """What the receiver verifies with: `whsec_…`, to be kept secret, or `whpk_…`, the public half of a key."""
        if self.kind is SecretKind.HMAC:
            return SHARED + encoded(self.hidden)
        return PUBLIC + encoded(Ed25519PrivateKey.from_private_bytes(self.hidden).public_key().public_bytes_raw())

    def sign(self, signed: bytes) -> str:
        """`v1,` and HMAC-SHA-256, or `v1a,` and Ed25519, in base 64."""
        if self.kind is SecretKind.HMAC:
            return "v1," + encoded(hmac.digest(self.hidden, signed, hashlib.sha256))
        return "v1a," + encoded(Ed25519PrivateKey.from_private_bytes(self.hidden).sign(signed))


def encoded(octets: bytes) -> str:
    """Base 64 of RFC 4648 section 4, with its padding."""
    return base64.b64encode(octets).decode()


def new_secret(kind: SecretKind) -> Secret:
    """A random one of 32 bytes."""
    return Secret(kind, secrets.token_bytes(SHARED_BYTES if kind is SecretKind.HMAC else SEED_BYTES))


def read_secret(shown: str) -> Secret:
    """A shared secret that the receiver has already; BadInput unless it is `whsec_` and base 64 of 24 to 64 bytes."""
    try:
        hidden = base64.b64decode(shown.removeprefix(SHARED), validate=True)
    except (binascii.Error, ValueError):
        hidden = b""
    if not shown.startswith(SHARED) or not SHARED_BYTES_MIN <= len(hidden) <= SHARED_BYTES_MAX:
        raise BadInput(f"secret: {SHARED} and base 64 of {SHARED_BYTES_MIN} to {SHARED_BYTES_MAX} bytes")
    return Secret(SecretKind.HMAC, hidden)


def headers_of(signers: Sequence[Secret], name: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of one attempt: `timestamp` is its own, in seconds since 1970, and every secret signs."""
    signed = b".".join((name.encode(), str(timestamp).encode(), body))
    return {
        "content-type": "application/json",
        "webhook-id": name,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(one.sign(signed) for one in signers),
    }
