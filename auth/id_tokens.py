"""What the operator's identity provider says of a person: an id token, verified and turned into who that is here."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.util import urlsafe_b64decode
from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from auth.caller import CallerKind
from auth.errors import Unauthenticated
from auth.identity import SignIn, claim_at
from auth.issuers import Name, Seconds, names_in
from auth.key_sets import KeySet
from auth.scopes import scopes_of_people
from auth.sessions import SignedIn
from partners.tables import Member, MemberState, Partner, PartnerState

TOKEN_CHARACTERS_MAX = 16_384
NAME_CHARACTERS_MAX = 100
TEXT_CHARACTERS_MAX = 255


class Claims(BaseModel):
    """The claims that every id token has (OpenID Connect Core section 2); times in seconds since 1970."""

    model_config = ConfigDict(strict=True)

    iss: str
    sub: Name
    aud: str | list[str]
    exp: Seconds
    iat: Seconds
    nonce: str
    azp: str | None = None


async def verify_id_token(token: str, declared: SignIn, keys: KeySet, nonce: str, now: datetime) -> Mapping[str, Any]:
    """The claims of an id token of this sign-in (OpenID Connect Core section 3.1.3.7).

    Unauthenticated, in words for the person; Unavailable when the provider's keys can't be fetched.
    """
    if len(token) > TOKEN_CHARACTERS_MAX:
        raise Unauthenticated("the identity provider’s answer is too long")
    try:
        signed = jws.extract_compact(token.encode())
        everything, header = orjson.loads(signed.payload), signed.protected
        claims = Claims.model_validate(everything)
        message, _, last = token.encode().rpartition(b".")
        signature, kid, algorithm = urlsafe_b64decode(last), header["kid"], header["alg"]
    except (JoseError, AttributeError, KeyError, TypeError, ValueError, RecursionError, ValidationError):
        raise Unauthenticated("the identity provider’s answer is malformed") from None
    if algorithm not in declared.algorithms or "crit" in header or not isinstance(kid, str):
        raise Unauthenticated("the identity provider’s answer is not signed as was agreed")
    if fault := _fault(claims, declared, nonce, now.timestamp()):
        raise Unauthenticated(f"the identity provider’s answer {fault}")
    key = await keys.find(kid, now)
    if key is None or not key.verifies(algorithm, message, signature):
        raise Unauthenticated("the signature of the identity provider’s answer is wrong")
    found: Mapping[str, Any] = everything
    return found


def _fault(claims: Claims, declared: SignIn, nonce: str, at: float) -> str | None:
    audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
    us, leeway = declared.client_id, declared.leeway_s
    faults = {
        "is of another issuer": claims.iss != declared.issuer,
        "is for somebody else": us not in audiences,
        # Section 3.1.3.7: who shares an audience with others says for whom the token was made.
        "was made for another client": (claims.azp or (us if len(audiences) == 1 else None)) != us,
        "has expired": at >= claims.exp + leeway,
        "is of the future": claims.iat > at + leeway,
        "belongs to another sign-in": claims.nonce != nonce,
    }
    return next((fault for fault, holds in faults.items() if holds), None)


async def who_is(session: AsyncSession, claims: Mapping[str, Any], declared: SignIn) -> SignedIn | None:
    """Who signed in: staff, a partner's administrator or a member, the first that fits; None for nobody of ours.

    A suspended member or partner is nobody either.
    """
    subject = f"{declared.issuer}|{claims['sub']}"
    name = (_text(claim_at(claims, declared.name_claim)) or str(claims["sub"]))[:NAME_CHARACTERS_MAX]
    groups = _groups(claim_at(claims, declared.staff_claim)) if declared.staff_claim else frozenset()
    scopes = frozenset(scope for group in groups for scope in declared.staff_scopes.get(group, ()))
    if scopes:
        return SignedIn(CallerKind.STAFF, subject, name, scopes=scopes)
    handle = _text(claim_at(claims, declared.partner_claim)) if declared.partner_claim else None
    if handle is not None:
        active = (col(Partner.handle) == handle, col(Partner.state) == PartnerState.ACTIVE)
        partner = await session.scalar(sa.select(col(Partner.id)).where(*active))
        if partner is not None:
            own = scopes_of_people(CallerKind.PARTNER)
            return SignedIn(CallerKind.PARTNER, subject, name, partner_id=partner, scopes=own)
    external_id = _text(claim_at(claims, declared.member_claim))
    if external_id is None:
        return None
    enrolled = (col(Member.external_id) == external_id, col(Member.state) == MemberState.ACTIVE)
    member = await session.scalar(sa.select(col(Member.id)).where(*enrolled))
    if member is None:
        return None
    return SignedIn(CallerKind.MEMBER, str(member), name, member_id=member, scopes=scopes_of_people(CallerKind.MEMBER))


def _groups(claim: Any) -> frozenset[str]:
    """The groups in a claim. A text is the name of one, since people choose names such as `front desk`."""
    return names_in([claim] if isinstance(claim, str) else claim)


def _text(claim: Any) -> str | None:
    """A text that something can be called; PostgreSQL has no NUL in texts."""
    return claim if isinstance(claim, str) and claim.isprintable() and 1 <= len(claim) <= TEXT_CHARACTERS_MAX else None
