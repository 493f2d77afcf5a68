"""What is left of a token (RFC 7662), and its end before its time (RFC 7009), for the clients whose tokens they are."""

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from authlib.oauth2.rfc6749 import InvalidRequestError, UnauthorizedClientError  # type: ignore[import-untyped]
from joserfc import jws
from sqlmodel import col
from starlette.responses import JSONResponse, Response

from auth.approvals import caller_of_approval, revoke_approval
from auth.caller import Caller
from auth.errors import Unauthenticated
from auth.issuing import hash_of
from auth.revocations import deny, is_denied
from auth.rights import RIGHTS, find_rights, rights_of
from auth.scopes import join_scopes
from auth.server import NO_STORE, Posted
from auth.tables import Approval, Client, ClientAuthentication, ClientState, Denied, RefreshToken

INTROSPECTION_PATH = "/oauth/introspect"
REVOCATION_PATH = "/oauth/revoke"
BY_CLIENT = "BY_CLIENT"


async def introspect(posted: Posted) -> Response:
    """POST /oauth/introspect: what a token of the client's own partner is good for, as SQL knows it at this moment.

    Of any other token, dead or alive, nobody learns more than that it is not active; the operator's own clients have
    no partner and see their own tokens alone. Members are named as in the token: to a partner by its alias.
    `token_type_hint` is not needed, since the two kinds of token look different.
    """
    if posted.client.authentication == ClientAuthentication.NONE:
        raise UnauthorizedClientError("a public client can't prove who it is, and so may not introspect")
    token = _token_of(posted.form)
    found = await _access_token(posted, token) or await _refresh_token(posted, token)
    return JSONResponse({"active": False} if found is None else {"active": True, **found}, headers=NO_STORE)


async def revoke(posted: Posted) -> Response:
    """POST /oauth/revoke: ends a token of this very client; a refresh token together with all of its approval.

    The member's consent stays. Whatever else is sent is answered alike, with 200 and nothing done.
    """
    token, client_id = _token_of(posted.form), posted.client.id
    approval_id = await posted.session.scalar(
        sa.select(col(RefreshToken.approval_id))
        .join(Approval, col(Approval.id) == col(RefreshToken.approval_id))
        .where(col(RefreshToken.hash) == hash_of(token), col(Approval.client_id) == client_id)
    )
    if approval_id is not None:
        await revoke_approval(posted.session, approval_id, BY_CLIENT, posted.now)
    elif (caller := await _verified(posted, token)) is not None and caller.client_id == client_id:
        assert caller.token_id is not None
        # No longer than the token would have lived: a client may make and revoke as many as it likes.
        await deny(posted.session, Denied.TOKEN, caller.token_id, posted.now, until=caller.expires_at)
    return Response(headers=NO_STORE)


def _token_of(form: Mapping[str, str]) -> str:
    if "token" not in form:
        raise InvalidRequestError("token is missing")
    return form["token"]


async def _verified(posted: Posted, token: str) -> Caller | None:
    """Whom an access token of ours speaks for, as far as it says itself and this process knows of revocations."""
    try:
        caller = await posted.foundation.verifier.verify(token.encode(), posted.now)
    except Unauthenticated:
        return None
    return caller if _claims_of(token)["iss"] == posted.foundation.authority.issuer else None


def _claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = json.loads(jws.extract_compact(token.encode()).payload)
    return claims


async def _access_token(posted: Posted, token: str) -> dict[str, Any] | None:
    """Who asks is active and so is its partner; the rest of what a token needs is looked up."""
    caller = await _verified(posted, token)
    if caller is None or caller.token_id is None or not _may_see(posted.client, caller.client_id, caller.partner_id):
        return None
    client = await posted.session.get(Client, caller.client_id)
    if client is None or client.state != ClientState.ACTIVE or client.version > caller.client_version:
        return None
    scopes = caller.scopes.intersection(client.scopes)
    if caller.approval_id is not None:
        rights = await find_rights(posted.session, caller.approval_id, posted.now)
        if rights is None:
            return None
        scopes &= rights.scopes
    if not scopes or await is_denied(posted.session, Denied.TOKEN, caller.token_id):
        return None
    claims = _claims_of(token)
    kept = {name: claims[name] for name in ("sub", "client_id", "exp", "iat", "iss", "aud", "cnf") if name in claims}
    return kept | {"scope": join_scopes(scopes), "token_type": "DPoP" if "cnf" in claims else "Bearer"}


async def _refresh_token(posted: Posted, token: str) -> dict[str, Any] | None:
    query = RIGHTS.add_columns(RefreshToken, Client)
    found = await posted.session.execute(
        query.join(RefreshToken, col(RefreshToken.approval_id) == col(Approval.id)).where(
            col(RefreshToken.hash) == hash_of(token),
            col(RefreshToken.used_at).is_(None),
            col(RefreshToken.expires_at) > posted.now,
        ),
        {"now": posted.now},
    )
    row = found.one_or_none()
    rights = None if row is None else rights_of(row)
    if row is None or rights is None or not _may_see(posted.client, row[5].id, row[5].partner_id):
        return None
    refresh, client = row[4], row[5]
    caller = caller_of_approval(rights.approval, client, rights.scopes, rights.alias, rights.approval.dpop_jkt)
    told: dict[str, Any] = {
        "sub": caller.alias or caller.id,
        "client_id": client.id,
        "scope": join_scopes(caller.scopes),
        "iat": int(refresh.created_at.timestamp()),
        "iss": posted.foundation.authority.issuer,
    }
    # The end of a member's consent is an instant that other partners may know too (law 8).
    if caller.alias is None or refresh.expires_at < rights.approval.expires_at:
        told["exp"] = int(refresh.expires_at.timestamp())
    return told if caller.key_thumbprint is None else told | {"cnf": {"jkt": caller.key_thumbprint}}


def _may_see(asking: Client, client_id: str | None, partner_id: object) -> bool:
    return client_id == asking.id if asking.partner_id is None else partner_id == asking.partner_id
