"""The answers that carry tokens: what is signed for whom, how long it lives, and the key that it is bound to."""

import secrets
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from authlib.oauth2.rfc6749 import InvalidGrantError  # type: ignore[import-untyped]

from auth.approvals import caller_of_approval
from auth.caller import Caller
from auth.clients import caller_of
from auth.scopes import join_scopes
from auth.server import Posted
from auth.tables import Approval, GrantType, RefreshToken
from auth.tokens import LIFETIMES, mint_access_token
from partners.tables.columns import new_id

REFRESH_TOKEN_BYTES = 32
IDLE_LIFE = timedelta(days=30)
POINT_OF_SALE_LIFETIME = timedelta(minutes=5)


async def issue(
    posted: Posted,
    approval: Approval,
    scopes: frozenset[str],
    alias: str | None = None,
    *,
    with_refresh: bool = False,
    lifetime: timedelta | None = None,
) -> dict[str, Any]:
    """The body of a successful answer (RFC 6749 section 5.1) under an approval, with what `find_rights` left of it.

    The refresh token comes with it where the client may use one. The lifetime is that of the kind of caller unless
    given, and shorter for a point of sale.
    """
    answer = approved_answer(posted, approval, scopes, alias, lifetime)
    if with_refresh and posted.client.check_grant_type(GrantType.REFRESH_TOKEN):
        row, answer["refresh_token"] = new_refresh_token(approval, posted.now)
        posted.session.add(row)
        await posted.session.flush()
    return answer


def approved_answer(
    posted: Posted,
    approval: Approval,
    scopes: frozenset[str],
    alias: str | None,
    lifetime: timedelta | None = None,
) -> dict[str, Any]:
    """The same without a refresh token. No token outlives its approval, except one that is bound to a member: there the
    consent is asked each time, whose instant other partners may know too and which this one is not told (law 8)."""
    caller = caller_of_approval(approval, posted.client, scopes, alias, posted.key_thumbprint)
    lives = lifetime or (POINT_OF_SALE_LIFETIME if approval.place is not None else LIFETIMES[caller.kind])
    return token_answer(posted, caller, lives if alias else min(lives, approval.expires_at - posted.now))


def own_answer(posted: Posted, scopes: frozenset[str]) -> dict[str, Any]:
    """The same for a partner's client that speaks for itself."""
    own = caller_of(posted.client, scopes)
    return token_answer(
        posted, replace(own, client_version=posted.client.version, key_thumbprint=posted.key_thumbprint)
    )


def token_answer(
    posted: Posted, caller: Caller, lifetime: timedelta | None = None, actor: str | None = None
) -> dict[str, Any]:
    """The same for any caller; see `mint_access_token`."""
    lives, grounds = lifetime or LIFETIMES[caller.kind], posted.foundation
    return {
        "access_token": mint_access_token(grounds.ring, grounds.authority, caller, posted.now, lives, actor),
        "token_type": "Bearer" if caller.key_thumbprint is None else "DPoP",
        "expires_in": int(lives.total_seconds()),
        "scope": join_scopes(caller.scopes),
    }


def new_refresh_token(approval: Approval, now: datetime) -> tuple[RefreshToken, str]:
    """A refresh token as a row, and what its holder presents: 256 random bits, of which only SHA-256 is kept."""
    token = secrets.token_urlsafe(REFRESH_TOKEN_BYTES)
    row = RefreshToken(
        id=new_id(),
        approval_id=approval.id,
        hash=hash_of(token),
        created_at=now,
        expires_at=idle_end(approval, now),
    )
    return row, token


def idle_end(approval: Approval, now: datetime) -> datetime:
    """When a refresh token that is not used any more dies: never after its approval."""
    return min(now + IDLE_LIFE, approval.expires_at)


def hash_of(credential: str) -> bytes:
    """What is kept of a code, refresh token or request_uri: a plain hash, since each holds 256 random bits."""
    return sha256(credential.encode()).digest()


def bind_key(approval: Approval, posted: Posted) -> None:
    """From the first proof on, everything of an approval is bound to that key (RFC 9449 section 5)."""
    if approval.dpop_jkt is None:
        approval.dpop_jkt = posted.key_thumbprint


def require_key(bound: str | None, posted: Posted) -> None:
    """InvalidGrantError when the grant is bound to a key and the request does not prove to hold that one."""
    if bound is not None and bound != posted.key_thumbprint:
        raise InvalidGrantError("the grant is bound to another key")
