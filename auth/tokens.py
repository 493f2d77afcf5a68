"""Access tokens: RFC 9068 JWTs, minted for a caller and verified back into the same caller, in process."""

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

from joserfc import jws, jwt
from joserfc.errors import ClaimError, ExpiredTokenError, JoseError, MissingClaimError

from auth.caller import ANONYMOUS, Caller, CallerKind
from auth.errors import Unauthenticated
from auth.issuers import OutsideIssuers, issuer_of
from auth.keys import ALGORITHM, KeyRing
from auth.revocations import DenySet
from auth.scopes import SCOPES, join_scopes, require_scopes_of, split_scopes
from partners.tables.columns import new_id

LIFETIMES: Mapping[CallerKind, timedelta] = {
    CallerKind.PARTNER: timedelta(minutes=10),
    CallerKind.MEMBER: timedelta(minutes=5),
    CallerKind.STAFF: timedelta(minutes=5),
}
CACHED_FOR = timedelta(seconds=30)
CACHED_CALLERS_MAX = 10_000
CLOCK_SKEW_SECONDS_MAX = 30
TOKEN_BYTES_MAX = 4096
_REGISTRY = jws.JWSRegistry(algorithms=[ALGORITHM])
_REFUSALS = {
    "iss": "the access token is from another issuer",
    "aud": "the access token is for another audience",
    "nbf": "the access token is not valid yet",
    "iat": "the access token was issued in the future",
}


@dataclass(frozen=True, slots=True)
class Authority:
    """Whose tokens these are and for whom: the issuer's URL (RFC 8414 section 2), and two audiences, so that a token
    made for staff is never one made for partners or members, nor the reverse."""

    issuer: str
    audience: str
    staff_audience: str

    def __post_init__(self) -> None:
        if self.audience == self.staff_audience:
            raise ValueError("staff tokens need an audience of their own")

    def audience_of(self, kind: CallerKind) -> str:
        """The one audience that a token of this kind of caller is for."""
        return self.staff_audience if kind is CallerKind.STAFF else self.audience


def mint_access_token(
    ring: KeyRing,
    authority: Authority,
    caller: Caller,
    now: datetime,
    lifetime: timedelta | None = None,
    actor: str | None = None,
) -> str:
    """A signed access token (RFC 9068 section 2) for a partner's client, a member or staff.

    `sub` is the partner's alias of the member it speaks for, else `caller.id`: the client id, the person at a partner,
    the member's id or the staff subject. So nothing in a token that a partner sees names a member to another one
    (law 8). `actor` is who acts for that subject (RFC 8693 section 4.1). The lifetime is that of `LIFETIMES` unless
    given. BadInput when a scope is not one of the caller's kind.
    """
    if caller.client_id is None:
        raise ValueError("an access token names its client (RFC 9068 section 2.2)")
    issued_at = int(now.timestamp())
    claims: dict[str, Any] = {
        "iss": authority.issuer,
        "aud": authority.audience_of(caller.kind),
        "sub": caller.alias or caller.id,
        "client_id": caller.client_id,
        "iat": issued_at,
        "exp": issued_at + int((lifetime or LIFETIMES[caller.kind]).total_seconds()),
        "jti": str(new_id()),
        "scope": join_scopes(require_scopes_of(caller.kind, caller.scopes)),
        "kind": caller.kind,
    }
    if caller.partner_id is not None:
        claims["partner_id"] = str(caller.partner_id)
    if caller.alias is not None:
        claims["bound"] = True
    if actor is not None:
        claims["act"] = {"sub": actor}
    if caller.approval_id is not None:
        claims["approval"] = str(caller.approval_id)
    if caller.client_version != 1:
        claims["client_version"] = caller.client_version
    if caller.key_thumbprint is not None:
        claims["cnf"] = {"jkt": caller.key_thumbprint}
    key = ring.signing_key(now)
    return jwt.encode({"alg": ALGORITHM, "typ": "at+jwt", "kid": key.kid}, claims, key, registry=_REGISTRY)


class TokenVerifier:
    """Turns an Authorization header into the caller it speaks for (RFC 9068 section 4, RFC 6750 section 2.1).

    Callers are remembered under the SHA-256 of the whole header value, for at most `CACHED_FOR` and never past `exp`,
    the least recently used leaving first; refusals are not remembered. A token that says it is from another issuer
    than ourselves is left to `outside`.
    """

    def __init__(
        self,
        ring: KeyRing,
        authority: Authority,
        denied: DenySet | None = None,
        outside: OutsideIssuers | None = None,
    ) -> None:
        self._ring = ring
        self._authority = authority
        self._denied = denied or DenySet()
        self._outside = outside
        self._known: OrderedDict[bytes, tuple[datetime, Caller]] = OrderedDict()
        self._dropped = ring.dropped

    def cached(self, authorization: bytes | None, now: datetime) -> Caller | None:
        """The caller when it is known without any waiting, else None: then await `caller`."""
        if authorization is None:
            return ANONYMOUS
        if self._dropped != self._ring.dropped:
            self._dropped = self._ring.dropped
            self._known.clear()
        digest = sha256(authorization).digest()
        entry = self._known.get(digest)
        if entry is None:
            return None
        if now >= entry[0] or self._denied.denies(entry[1]):
            del self._known[digest]
            return None
        self._known.move_to_end(digest)
        return entry[1]

    async def caller(self, authorization: bytes | None, now: datetime) -> Caller:
        """The caller, anonymous without a header; Unauthenticated says why a token does not hold.

        One with a `key_thumbprint` is admitted only with a proof of that key, which is looked at elsewhere.
        """
        known = self.cached(authorization, now)
        if known is not None or authorization is None:
            return known or ANONYMOUS
        bound, token = _read_authorization(authorization)
        caller = await self.verify(token, now)
        if bound and caller.key_thumbprint is None:
            raise Unauthenticated("the access token is bound to no key: send it as Bearer")
        if not bound and caller.key_thumbprint is not None:
            raise Unauthenticated("the access token is bound to a key: send it as DPoP, with a proof")
        assert caller.expires_at is not None
        self._known[sha256(authorization).digest()] = (min(caller.expires_at, now + CACHED_FOR), caller)
        if len(self._known) > CACHED_CALLERS_MAX:
            self._known.popitem(last=False)
        return caller

    def require_alive(self, caller: Caller, generation: int, now: datetime) -> None:
        """For a caller who stays: Unauthenticated once its token has expired, was revoked, or may be signed with a key
        that was dropped since the `generation` in which it came."""
        if caller.expires_at is not None and now >= caller.expires_at:
            raise Unauthenticated("the access token has expired")
        if self._denied.denies(caller):
            raise Unauthenticated("the access token was revoked")
        if generation != self._ring.dropped:
            raise Unauthenticated("a signing key was dropped: send the access token again")

    @property
    def generation(self) -> int:
        """Rises when a signing key is dropped."""
        return self._ring.dropped

    async def verify(self, token: bytes, now: datetime) -> Caller:
        """The caller that a bare token speaks for, whether it is bound to a key or not; remembers nothing."""
        if self._outside is not None and issuer_of(token) not in (None, self._authority.issuer):
            caller = await self._outside.caller(token, now)
        else:
            caller = await self._verify_own(token, now)
        if self._denied.denies(caller):
            raise Unauthenticated("the access token was revoked")
        return caller

    async def _verify_own(self, token: bytes, now: datetime) -> Caller:
        signed = _parse(token)
        key = await self._ring.find(signed.protected["kid"], now)
        if key is None:
            raise Unauthenticated("the access token is signed with an unknown key")
        if not jws.validate_compact(signed, key, registry=_REGISTRY):
            raise Unauthenticated("the signature of the access token is wrong")
        try:
            return self._admit(json.loads(signed.payload), now)
        except (AttributeError, KeyError, OSError, OverflowError, TypeError, ValueError):
            raise Unauthenticated("the access token is not one of this service") from None

    def _admit(self, claims: dict[str, Any], now: datetime) -> Caller:
        kind = CallerKind(claims["kind"])
        self._check(claims, self._authority.audience_of(kind), now)
        subject, bound, version = claims["sub"], claims.get("bound", False), claims.get("client_version", 1)
        names = (subject, claims["client_id"], claims["jti"])
        if not all(isinstance(name, str) for name in names) or type(bound) is not bool or type(version) is not int:
            raise TypeError
        return Caller(
            kind=kind,
            id=claims["client_id"] if bound else subject,
            scopes=split_scopes(claims["scope"]).intersection(SCOPES[kind]),
            client_id=claims["client_id"],
            partner_id=UUID(claims["partner_id"]) if kind is CallerKind.PARTNER else None,
            member_id=UUID(subject) if kind is CallerKind.MEMBER else None,
            alias=subject if bound else None,
            token_id=claims["jti"],
            approval_id=UUID(claims["approval"]) if "approval" in claims else None,
            client_version=version,
            key_thumbprint=claims["cnf"]["jkt"] if "cnf" in claims else None,
            expires_at=datetime.fromtimestamp(claims["exp"], UTC),
        )

    def _check(self, claims: dict[str, Any], audience: str, now: datetime) -> None:
        """The standard claims; a clock that is a little off may be so for `iat` and `nbf`, never for `exp`."""
        registry = jwt.JWTClaimsRegistry(
            now=int(now.timestamp()),
            leeway=CLOCK_SKEW_SECONDS_MAX,
            iss={"essential": True, "value": self._authority.issuer},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
            client_id={"essential": True},
            jti={"essential": True},
            scope={"essential": True, "allow_blank": True},
        )
        try:
            registry.validate(claims)
            if now.timestamp() >= claims["exp"]:
                raise ExpiredTokenError("exp")
        except ExpiredTokenError:
            raise Unauthenticated("the access token has expired") from None
        except MissingClaimError as error:
            raise Unauthenticated(f"the access token lacks {error.claim.replace(',', ', ')}") from None
        except ClaimError as error:
            raise Unauthenticated(_REFUSALS.get(error.claim, f"the access token has a wrong {error.claim}")) from None


def _read_authorization(authorization: bytes) -> tuple[bool, bytes]:
    """Whether the token is sent as one that is bound to a key (RFC 9449 section 7.1), and the token."""
    scheme, _, token = authorization.partition(b" ")
    if scheme.lower() not in (b"bearer", b"dpop") or not token:
        raise Unauthenticated("the Authorization header must read: Bearer (or DPoP), a space, the access token")
    return scheme.lower() == b"dpop", token


def _parse(token: bytes) -> jws.CompactSignature:
    """The token in its parts, with a header of exactly the three members that `mint_access_token` writes: what else
    a header can carry (`jwk`, `jku`, `crit`, …) is only of use to an attacker."""
    if len(token) > TOKEN_BYTES_MAX:
        raise Unauthenticated(f"the access token is longer than {TOKEN_BYTES_MAX} bytes")
    try:
        signed = jws.extract_compact(token, registry=_REGISTRY)
    except (JoseError, AttributeError, TypeError, ValueError, RecursionError):
        raise Unauthenticated("the access token is not a JWT") from None
    header = signed.protected
    if not isinstance(header, dict) or not all(isinstance(value, str) for value in header.values()):
        raise Unauthenticated("the access token has a malformed header")
    if header.get("alg") != ALGORITHM:
        raise Unauthenticated(f"the access token is not signed with {ALGORITHM}")
    if header.get("typ", "").lower().removeprefix("application/") != "at+jwt":
        raise Unauthenticated("the token is not an access token: its typ is not at+jwt")
    if header.keys() != {"alg", "typ", "kid"}:
        raise Unauthenticated("the access token has other header members than alg, typ and kid")
    return signed
