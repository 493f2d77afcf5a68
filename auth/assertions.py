"""Clients that prove who they are by signing a JWT with a key of their own (private_key_jwt, RFC 7523)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from authlib.oauth2.rfc6749 import InvalidClientError, InvalidRequestError  # type: ignore[import-untyped]
from redis.asyncio import Redis

from auth.client_keys import (
    TEXT_CHARACTERS_MAX,
    ClientKey,
    KeyFault,
    Signed,
    import_public_key,
    read_signed,
)
from auth.replays import use_once
from auth.tables import Client, ClientAuthentication
from partners.errors import BadInput

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LIFETIME_MAX = timedelta(minutes=5)
CLOCK_SKEW_MAX = timedelta(seconds=30)
REMEMBERED_FOR = LIFETIME_MAX + 2 * CLOCK_SKEW_MAX
KEYS_MAX = 10
_MEMBERS = frozenset({"alg", "kid", "typ"})
_TYPES = frozenset({"jwt", "client-authentication+jwt"})
_KEPT = ("kty", "crv", "x", "y", "n", "e", "kid", "alg", "use")


@dataclass(frozen=True, slots=True)
class Assertion:
    """A client assertion as it was sent: whose it says it is, before any of it is proven."""

    client_id: str
    signed: Signed


def read_assertion(form: Mapping[str, str]) -> Assertion:
    """The client assertion of a request (RFC 7521 section 4.2); InvalidRequestError and InvalidClientError."""
    if form.get("client_assertion_type") != ASSERTION_TYPE or "client_assertion" not in form:
        raise InvalidRequestError(f"an assertion is sent as client_assertion with the type {ASSERTION_TYPE}")
    try:
        signed = read_signed(form["client_assertion"].encode(), _MEMBERS)
        typ = signed.header.get("typ", "JWT")
        if not isinstance(typ, str) or typ.lower().removeprefix("application/") not in _TYPES:
            raise KeyFault("typ must be JWT or client-authentication+jwt")
        client_id = signed.text("sub")
        if signed.claims.get("iss") != client_id or form.get("client_id", client_id) != client_id:
            raise KeyFault("iss, sub and client_id must be the same")
        if not (client_id.isascii() and client_id.isprintable()):
            raise KeyFault("sub is not the id of a client")
    except KeyFault as fault:
        raise _refusal(fault) from None
    return Assertion(client_id, signed)


async def check_assertion(
    cache: Redis, client: Client | None, assertion: Assertion, issuer: str, now: datetime
) -> None:
    """That the assertion is signed by a key of the client, for this issuer, in time and for the first time.

    InvalidClientError otherwise, the same for a client that does not exist, has no keys or has others. Unavailable
    while it can't be known to be the first use.
    """
    signed = assertion.signed
    try:
        keys = client.public_keys if client and client.authentication == ClientAuthentication.KEY else None
        _check_signature(signed, keys or {"keys": []})
        _check_claims(signed, issuer, now)
        jti = signed.text("jti")
    except KeyFault as fault:
        raise _refusal(fault) from None
    if not await use_once(cache, "assertion", f"{assertion.client_id} {jti}", REMEMBERED_FOR):
        raise _refusal("its jti was used before")


def check_public_keys(jwks: object) -> dict[str, Any]:
    """A client's JWK Set (RFC 7517 section 5) as it is kept: 1 to 10 public keys, with distinct `kid` where named.

    BadInput names the first key that can't be taken, and why.
    """
    keys = jwks.get("keys") if isinstance(jwks, Mapping) else None
    if not isinstance(keys, list) or not 1 <= len(keys) <= KEYS_MAX:
        raise BadInput(f"the public keys must be a JWK Set with 1 to {KEYS_MAX} keys")
    kept, named = [], set()
    for place, jwk in enumerate(keys, 1):
        try:
            kept.append(_checked(jwk))
        except KeyFault as fault:
            raise BadInput(f"key {place}: {fault}") from None
        kid = kept[-1].get("kid")
        if kid in named:
            raise BadInput(f"key {place}: another key has the same kid")
        named |= {kid} - {None}
    return {"keys": kept}


def _checked(jwk: Any) -> dict[str, str]:
    key = import_public_key(jwk)
    kid, alg = jwk.get("kid"), jwk.get("alg")
    if kid is not None and not (isinstance(kid, str) and 0 < len(kid) <= TEXT_CHARACTERS_MAX and kid.isprintable()):
        raise KeyFault(f"kid must be a text of 1 to {TEXT_CHARACTERS_MAX} printable characters")
    if alg is not None and alg not in sorted(key.algorithms):
        raise KeyFault(f"alg of this key must be one of {', '.join(sorted(key.algorithms))}")
    if jwk.get("use") not in (None, "sig"):
        raise KeyFault("use must be sig")
    return {name: jwk[name] for name in _KEPT if jwk.get(name) is not None}


def _check_signature(signed: Signed, jwks: Mapping[str, Any]) -> None:
    key = _key_for(signed.header, jwks["keys"])
    if key is None or not signed.is_signed_by(key):
        raise KeyFault("unknown client or wrong key (kid names one of several)")


def _key_for(header: Mapping[str, Any], jwks: list[dict[str, str]]) -> ClientKey | None:
    """The one key that the header means: the named one, or without a name the only one for the algorithm."""
    fitting = [
        key
        for jwk in jwks
        if header.get("kid") in (None, jwk.get("kid"))
        and _same(jwk.get("alg", header["alg"]), header["alg"])
        and header["alg"] in (key := import_public_key(jwk)).algorithms
    ]
    return fitting[0] if len(fitting) == 1 else None


def _same(named: str, used: str) -> bool:
    """Whether two names mean one algorithm: Ed25519 has two."""
    return named.replace("EdDSA", "Ed25519") == used.replace("EdDSA", "Ed25519")


def _check_claims(signed: Signed, issuer: str, now: datetime) -> None:
    audience = signed.claims.get("aud")
    accepted = (issuer, f"{issuer}/oauth/token")
    if audience not in accepted and audience not in [[one] for one in accepted]:
        raise KeyFault("aud must be the issuer of this server and nothing else")
    at, expires_at = now.timestamp(), signed.seconds("exp")
    if expires_at is None:
        raise KeyFault("exp is missing")
    if expires_at <= at:
        raise KeyFault("it has expired (see Date for the clock of this server)")
    if expires_at > at + (LIFETIME_MAX + CLOCK_SKEW_MAX).total_seconds():
        raise KeyFault(f"exp is more than {LIFETIME_MAX.seconds} s ahead")
    for claim in ("nbf", "iat"):
        if (since := signed.seconds(claim)) is not None and since > at + CLOCK_SKEW_MAX.total_seconds():
            raise KeyFault(f"{claim} is in the future (see Date for the clock of this server)")


def _refusal(reason: object) -> InvalidClientError:
    return InvalidClientError(f"the client assertion does not hold: {reason}", status_code=401)
