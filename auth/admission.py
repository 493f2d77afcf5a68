"""Who calls the API: whom the token speaks for, if the request also proves the key that the token is bound to."""

from datetime import datetime

from authlib.oauth2.rfc6749 import OAuth2Error  # type: ignore[import-untyped]
from starlette.types import Scope

from auth.caller import Caller
from auth.dpop import InvalidProof, Proofs
from auth.errors import Unauthenticated
from auth.tokens import TokenVerifier

NONCE_STATE = "dpop_nonce"
"""Where a request's `scope["state"]` holds the nonce that its answer carries as `DPoP-Nonce`."""


class Admission:
    """Of one resource, which stands at `path` below the issuer's address."""

    def __init__(self, verifier: TokenVerifier, proofs: Proofs, path: str) -> None:
        self._verifier = verifier
        self._proofs = proofs
        self._path = path

    async def caller(self, scope: Scope, authorization: bytes | None, now: datetime) -> Caller:
        """The caller; Unauthenticated when the token or the proof does not hold, Unavailable when none can know.

        A token is remembered, a proof never is: each request needs one of its own (RFC 9449 section 7).
        """
        scheme, _, token = (authorization or b"").partition(b" ")
        if scheme.lower() == b"dpop":
            scope["state"][NONCE_STATE] = self._proofs.nonce(now).encode()
        caller = await self._verifier.caller(authorization, now)
        if caller.key_thumbprint is not None:
            await self._require_proof(scope, caller.key_thumbprint, token, now)
        return caller

    async def _require_proof(self, scope: Scope, bound_to: str, token: bytes, now: datetime) -> None:
        try:
            thumbprint = await self._proofs.check(scope, self._path, now, token)
        except OAuth2Error as refusal:
            raise Unauthenticated(refusal.description, error=refusal.error) from None
        if thumbprint is None:
            raise Unauthenticated("a token that is bound to a key needs a DPoP header", error=InvalidProof.error)
        if thumbprint != bound_to:
            raise Unauthenticated("the DPoP proof is made with another key than the access token is bound to")
