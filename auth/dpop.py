"""Proofs that whoever presents a token holds the key it is bound to (DPoP, RFC 9449)."""

import hmac
from base64 import urlsafe_b64encode
from datetime import datetime, timedelta
from hashlib import sha256
from urllib.parse import urlsplit

from authlib.oauth2.rfc6749 import OAuth2Error  # type: ignore[import-untyped]
from redis.asyncio import Redis
from starlette.types import Scope

from auth.client_keys import KeyFault, Signed, import_public_key, read_signed
from auth.replays import use_once
from partners.keys import derive

PROOF_AGE_MAX = timedelta(seconds=60)
REMEMBERED_FOR = 2 * PROOF_AGE_MAX + timedelta(seconds=30)  # the earliest to the latest moment, and clocks that differ
NONCE_SECONDS = 300
_NONCE_BYTES = 16
_MEMBERS = frozenset({"typ", "alg", "jwk", "kid"})
_PORTS = {"https": 443, "http": 80}


class InvalidProof(OAuth2Error):  # type: ignore[misc]
    """The proof does not hold, or there is none where one is needed (RFC 9449 section 5)."""

    error = "invalid_dpop_proof"


class NonceNeeded(OAuth2Error):  # type: ignore[misc]
    """The proof lacks a nonce of ours, or has an old one: the answer carries a fresh one (RFC 9449 section 8)."""

    error = "use_dpop_nonce"


class Proofs:
    """Checks proofs against the address that we are configured to have, whatever a request calls us.

    Nonces are made from the time under a key of the operator's secret, so that every process knows them and none
    keeps any; a new one each `NONCE_SECONDS`, and the one before is still taken.
    """

    def __init__(self, cache: Redis, secret: bytes, issuer: str) -> None:
        self._cache = cache
        self._key = derive(secret, b"dpop-nonces/1")
        self._issuer = issuer

    def nonce(self, now: datetime) -> str:
        """The current nonce; every answer to a request with a proof carries it as `DPoP-Nonce`."""
        return self._nonce(int(now.timestamp()) // NONCE_SECONDS)

    async def check(self, scope: Scope, path: str, now: datetime, token: bytes | None = None) -> str | None:
        """The thumbprint (RFC 7638) of the key that this request proves, or None without a `DPoP` header.

        A proof is for the request's method, `path` below the issuer's address and, at a resource, the access `token`;
        it works once. InvalidProof and NonceNeeded otherwise, Unavailable while it can't be known to be the first use.
        """
        proofs = [value for name, value in scope["headers"] if name == b"dpop"]
        if not proofs:
            return None
        if len(proofs) > 1:
            raise InvalidProof("there is more than one DPoP header")
        try:
            thumbprint, jti = self._read(proofs[0], scope["method"], path, now, token)
        except KeyFault as fault:
            raise InvalidProof(f"the DPoP proof does not hold: {fault}") from None
        if not await use_once(self._cache, "dpop", f"{thumbprint} {jti}", REMEMBERED_FOR):
            raise InvalidProof("the DPoP proof was used before")
        return thumbprint

    def _read(self, proof: bytes, method: str, path: str, now: datetime, token: bytes | None) -> tuple[str, str]:
        """The signature is looked at last, since it is what costs; only then may a proof count as used."""
        signed = read_signed(proof, _MEMBERS)
        if signed.header.get("typ") != "dpop+jwt":
            raise KeyFault("typ must be dpop+jwt")
        key = import_public_key(signed.header.get("jwk"))
        jti = signed.text("jti")
        if signed.claims.get("htm") != method:
            raise KeyFault("htm is not the method of this request")
        if _normalised(signed.claims.get("htu")) != _normalised(self._issuer + path):
            raise KeyFault("htu is not the address of this endpoint")
        if token is not None and signed.claims.get("ath") != _digest(token):
            raise KeyFault("ath is not the hash of the access token")
        issued_at = signed.seconds("iat")
        if issued_at is None or abs(issued_at - now.timestamp()) > PROOF_AGE_MAX.total_seconds():
            raise KeyFault(f"iat is not within {PROOF_AGE_MAX.seconds} s of the clock of this server (see Date)")
        self._require_nonce(signed, now)
        if not signed.is_signed_by(key):
            raise KeyFault("its key did not sign it")
        return key.thumbprint, jti

    def _require_nonce(self, signed: Signed, now: datetime) -> None:
        window = int(now.timestamp()) // NONCE_SECONDS
        if signed.claims.get("nonce") not in (self._nonce(window), self._nonce(window - 1)):
            raise NonceNeeded("the DPoP proof needs the nonce of the header DPoP-Nonce")

    def _nonce(self, window: int) -> str:
        return _encoded(hmac.digest(self._key, window.to_bytes(8), "sha256")[:_NONCE_BYTES])


def _digest(token: bytes) -> str:
    return _encoded(sha256(token).digest())


def _encoded(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()


def _normalised(address: object) -> tuple[str, str | None, int | None, str] | None:
    """An address without query and fragment, as RFC 3986 section 6.2 compares it: case of scheme and host, the
    default port and an empty path; None for what is no http address or names a user."""
    try:
        parts = urlsplit(address) if isinstance(address, str) else None
        if parts is None or parts.scheme not in _PORTS or parts.username is not None:
            return None
        return parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme], parts.path or "/"
    except ValueError:
        return None
