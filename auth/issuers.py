"""Tokens of issuers outside: admitted as what the identity file says that each issuer's word is worth."""

from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Annotated, Any
from uuid import UUID

import httpx
import orjson
import sqlalchemy as sa
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.util import urlsafe_b64decode as strict_b64decode
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from auth.caller import Caller, CallerKind
from auth.errors import Unauthenticated
from auth.identity import IdentityInvalid, Issuer, claim_at
from auth.key_sets import KeySet
from auth.scopes import scopes_of, split_scopes
from partners.errors import Unavailable
from partners.tables import Member, Partner, PartnerState

TOKEN_BYTES_MAX = 8192
NAME_CHARACTERS_MAX = 255
_END_OF_TIME = datetime.max.replace(tzinfo=UTC).timestamp()
_IDENTITY_ONLY = ("at_hash", "c_hash", "events")  # id tokens and logout tokens have them, access tokens never

Reading = Callable[[], AbstractAsyncContextManager[AsyncSession]]


def printable(name: str) -> str:
    """The same; ValueError unless every character of it can be shown in a log."""
    if not name.isprintable():
        raise ValueError("printable characters only")
    return name


Name = Annotated[str, StringConstraints(min_length=1, max_length=NAME_CHARACTERS_MAX), AfterValidator(printable)]
Seconds = Annotated[float, Field(ge=0, le=_END_OF_TIME, allow_inf_nan=False)]


class Header(BaseModel):
    """The header members that such a token may have: what else there is (`jwk`, `jku`, `crit`, …) helps attackers."""

    model_config = ConfigDict(strict=True, extra="forbid")

    alg: str
    kid: Name
    typ: str = ""
    x5t: str = ""
    x5t_s256: str = Field("", alias="x5t#S256")

    @property
    def media_type(self) -> str:
        """The type that it says it is, as `at+jwt` (RFC 9068 section 2.1)."""
        return self.typ.lower().removeprefix("application/")


class Confirmation(BaseModel):
    """The key that a token is bound to (RFC 9449 section 6.1); no other binding is known here."""

    model_config = ConfigDict(strict=True, extra="forbid")

    jkt: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{43}\z")]


class Claims(BaseModel):
    """The claims that mean the same in everybody's tokens (RFC 9068 section 2.2); times in seconds since 1970."""

    model_config = ConfigDict(strict=True)

    iss: str
    sub: Name
    aud: str | list[str]
    exp: Seconds
    iat: Seconds
    nbf: Seconds = 0
    jti: Name | None = None
    cnf: Confirmation | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """A token in its parts, of which nothing is proven yet."""

    header: Header
    claims: Claims
    everything: Mapping[str, Any]
    message: bytes
    signature: bytes


def issuer_of(token: bytes) -> str | None:
    """Who issued a token by its own word: good for choosing who checks it, and for nothing else."""
    try:
        claims = orjson.loads(urlsafe_b64decode(token.split(b".", 2)[1] + b"=="))
    except (IndexError, ValueError):
        return None
    issuer = claims.get("iss") if isinstance(claims, dict) else None
    return issuer if isinstance(issuer, str) else None


class OutsideIssuers:
    """Verifies the tokens of the configured issuers; `own_issuer` can't be one of them (IdentityInvalid).

    An issuer is asked for its keys only after a token fitted one of its entries in everything but the signature.
    """

    def __init__(self, entries: Iterable[Issuer], own_issuer: str, client: httpx.AsyncClient, reading: Reading) -> None:
        self._entries: dict[str, list[Issuer]] = {}
        for entry in entries:
            self._entries.setdefault(entry.issuer, []).append(entry)
        if own_issuer in self._entries:
            raise IdentityInvalid(f"{own_issuer} is this service itself and no issuer outside")
        places = {(entry.issuer, entry.jwks_uri) for entry in entries}
        self._key_sets = {place: KeySet(client, *place) for place in places}
        self._reading = reading

    async def caller(self, token: bytes, now: datetime) -> Caller:
        """Whom the token speaks for. Unauthenticated says why it does not hold; Unavailable when that can't be told.

        `client_id`, `token_id` and the id of partners and staff begin with the issuer, so that they never meet ours; a
        member's id is our own of that member, so that it is the same person whoever vouches.
        """
        parsed = parse(token)
        entry = self._entry_of(parsed.claims)
        check_header(entry, parsed)
        check_times(entry, parsed.claims, now)
        key = await self._key_sets[entry.issuer, entry.jwks_uri].find(parsed.header.kid, now)
        if key is None:
            raise Unauthenticated("the access token is signed with an unknown key")
        if not key.verifies(parsed.header.alg, parsed.message, parsed.signature):
            raise Unauthenticated("the signature of the access token is wrong")
        return await self._admit(entry, parsed)

    def _entry_of(self, claims: Claims) -> Issuer:
        entries = self._entries.get(claims.iss)
        if entries is None:
            raise Unauthenticated("the access token is from another issuer")
        audiences = {claims.aud} if isinstance(claims.aud, str) else set(claims.aud)
        meant = [entry for entry in entries if entry.audience in audiences]
        if len(meant) != 1:
            raise Unauthenticated("the access token is for another audience")
        return meant[0]

    async def _admit(self, entry: Issuer, token: Token) -> Caller:
        claims, issuer = token.claims, entry.issuer
        client_id = client_of(entry, token.everything)
        partner_id = await self._partner_id(entry, token) if entry.kind is CallerKind.PARTNER else None
        member_id = await self._member_id(entry, token) if entry.kind is CallerKind.MEMBER else None
        # Of the token without its signature: some signatures can be changed and still hold.
        token_id = claims.jti or f"#{sha256(token.message).hexdigest()}"
        return Caller(
            kind=entry.kind,
            id=f"{issuer}|{claims.sub}" if member_id is None else str(member_id),
            scopes=entry.scopes_for(names_in(claim_at(token.everything, entry.scope_claim))) & scopes_of(entry.kind),
            client_id=f"{issuer}|{client_id}",
            partner_id=partner_id,
            member_id=member_id,
            token_id=f"{issuer}|{token_id}",
            key_thumbprint=None if claims.cnf is None else claims.cnf.jkt,
            expires_at=ends_at(entry, claims),
        )

    async def _partner_id(self, entry: Issuer, token: Token) -> UUID:
        handles = {entry.partner}
        if entry.partner_claim is not None:
            named = claim_at(token.everything, entry.partner_claim)
            names = [named] if isinstance(named, str) else named if isinstance(named, list) else []
            handles = {entry.partners[name] for name in names if isinstance(name, str) and name in entry.partners}
        if len(handles) != 1:
            raise Unauthenticated("the access token does not name one partner of this programme")
        active = col(Partner.state) == PartnerState.ACTIVE
        found = await self._look_up(sa.select(col(Partner.id)).where(col(Partner.handle) == handles.pop(), active))
        if found is None:
            raise Unauthenticated("the partner of the access token is suspended or not there")
        return found

    async def _member_id(self, entry: Issuer, token: Token) -> UUID:
        named = claim_at(token.everything, entry.member_claim or "sub")
        # A member is only found by what a member can be called: PostgreSQL has no NUL in texts.
        if isinstance(named, str) and named.isprintable():
            found = await self._look_up(sa.select(col(Member.id)).where(col(Member.external_id) == named))
            if found is not None:
                return found
        raise Unauthenticated("the access token names no member of this programme")

    async def _look_up(self, statement: sa.Select[UUID]) -> UUID | None:
        try:
            async with self._reading() as session:
                found: UUID | None = await session.scalar(statement)
                return found
        except (SQLAlchemyError, OSError) as error:
            raise Unavailable("the caller can't be looked up; try again later") from error


def parse(token: bytes) -> Token:
    """A token in its parts; Unauthenticated unless it is a JWT with the header and claims of an access token."""
    if len(token) > TOKEN_BYTES_MAX:
        raise Unauthenticated(f"the access token is longer than {TOKEN_BYTES_MAX} bytes")
    try:
        signed = jws.extract_compact(token)
        header, claims = signed.protected, orjson.loads(signed.payload)
        message, _, last = token.rpartition(b".")
        signature = strict_b64decode(last)
    except (JoseError, AttributeError, TypeError, ValueError, RecursionError):
        raise Unauthenticated("the access token is not a JWT") from None
    try:
        return Token(Header.model_validate(header), Claims.model_validate(claims), claims, message, signature)
    except ValidationError as error:
        raise Unauthenticated(f"the access token {described(error)}") from None


def described(error: ValidationError) -> str:
    """What is wrong with a token, by the names of its members alone."""
    faults = error.errors()
    if error.title == Header.__name__ and any(fault["type"] == "extra_forbidden" for fault in faults):
        return "has other header members than alg, typ, kid and x5t"
    if lacking := sorted(
        str(fault["loc"][0]) for fault in faults if fault["type"] == "missing" and not fault["loc"][1:]
    ):
        return f"lacks {', '.join(lacking)}"
    wrong = sorted({str(fault["loc"][0]) for fault in faults if fault["loc"]})
    return f"has a wrong {', '.join(wrong)}" if wrong else "has malformed claims"


def check_header(entry: Issuer, token: Token) -> None:
    """Unauthenticated unless the algorithm is one of the issuer's and it says that it is an access token."""
    header = token.header
    if header.alg not in entry.algorithms:
        raise Unauthenticated(f"the access token is not signed with {' or '.join(entry.algorithms)}")
    if header.media_type == "at+jwt":
        return
    if not entry.accepts_plain_jwt or header.media_type not in ("jwt", ""):
        raise Unauthenticated("the token is not an access token: its typ is not at+jwt")
    of_another_kind = token.everything.get("typ", "Bearer") != "Bearer"  # Keycloak's own word
    if of_another_kind or any(name in token.everything for name in _IDENTITY_ONLY):
        raise Unauthenticated("the token is not an access token")


def check_times(entry: Issuer, claims: Claims, now: datetime) -> None:
    """Unauthenticated outside the token's time, give or take the leeway, or when it is older than is accepted."""
    at, leeway = now.timestamp(), entry.leeway_s
    if at >= claims.exp + leeway:
        raise Unauthenticated("the access token has expired")
    if at >= claims.iat + entry.age_max_s:
        raise Unauthenticated(f"the access token was issued more than {entry.age_max_s} s ago")
    if claims.nbf > at + leeway:
        raise Unauthenticated("the access token is not valid yet")
    if claims.iat > at + leeway:
        raise Unauthenticated("the access token was issued in the future")


def ends_at(entry: Issuer, claims: Claims) -> datetime:
    """When the token ceases to be admitted."""
    issued_at = datetime.fromtimestamp(claims.iat, UTC)
    return min(
        issued_at + timedelta(seconds=entry.age_max_s),
        datetime.fromtimestamp(min(claims.exp + entry.leeway_s, _END_OF_TIME), UTC),
    )


def client_of(entry: Issuer, claims: Mapping[str, Any]) -> str:
    """The client that the token was issued to (RFC 9068 section 2.2; `azp` where an issuer has that instead)."""
    if entry.client_claim is not None:
        client = claim_at(claims, entry.client_claim)
    else:
        client = claims.get("client_id", claims.get("azp"))
    if not isinstance(client, str) or not 1 <= len(client) <= NAME_CHARACTERS_MAX or not client.isprintable():
        raise Unauthenticated("the access token does not say which client it was issued to")
    return client


def names_in(claim: Any) -> frozenset[str]:
    """The names in a claim: a text with spaces between them (RFC 6749 section 3.3), or a list of texts."""
    if isinstance(claim, str):
        return split_scopes(claim)
    return frozenset(name for name in claim if isinstance(name, str)) if isinstance(claim, list) else frozenset()
