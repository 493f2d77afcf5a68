"""The ways to a token that Authlib knows, each with our own single use: a client's own, and a person's code."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from authlib.oauth2.rfc6749 import InvalidGrantError, InvalidScopeError, UnauthorizedClientError  # type: ignore[import-untyped]
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant as _AuthorizationCodeGrant  # type: ignore[import-untyped]
from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant as _ClientCredentialsGrant
from authlib.oauth2.rfc7636 import CodeChallenge  # type: ignore[import-untyped]
from sqlalchemy.util import await_only
from sqlmodel import col

from auth.approvals import revoke_approval
from auth.caller import CallerKind
from auth.forms import printable
from auth.issuing import bind_key, hash_of, issue, own_answer, require_key
from auth.rights import find_rights
from auth.scopes import join_scopes, scopes_of, split_scopes
from auth.server import Answering
from auth.tables import AuthorizationRequest, Client, ClientAuthentication

INVALID_CODE = "the code is not valid"
APPROVAL_ENDED = "what was approved holds no more"


class ClientCredentialsGrant(Answering, _ClientCredentialsGrant):  # type: ignore[misc]
    """A partner's server asks for a token of its own (RFC 6749 section 4.4)."""

    def validate_requested_scope(self) -> None:
        """Every scope asked for must be the client's: RFC 6749 section 3.3 would allow to grant fewer in silence."""
        if self.client.kind != CallerKind.PARTNER or self.client.authentication == ClientAuthentication.NONE:
            raise UnauthorizedClientError("only a partner's client that authenticates may speak for itself")
        self.scopes = granted_scopes(self.client, self.request.payload.scope)

    async def answer(self) -> dict[str, Any]:
        """A token of the client itself, and nothing to refresh it with (section 4.4.3)."""
        return own_answer(self.posted, self.scopes)


class S256(CodeChallenge):  # type: ignore[misc]
    """PKCE (RFC 7636) in the one way that we accept; every code has a challenge."""

    def get_authorization_code_challenge_method(self, authorization_code: AuthorizationRequest) -> str:
        """`plain` is refused where requests are read."""
        return "S256"


class AuthorizationCodeGrant(Answering, _AuthorizationCodeGrant):  # type: ignore[misc]
    """A code becomes tokens, once (RFC 6749 section 4.1.3).

    Who holds the code alone, without the client's credentials, the PKCE verifier and the key, can neither use it up
    nor end what hangs from it.
    """

    def query_authorization_code(self, code: str, client: Client) -> AuthorizationRequest:
        """The request that became this client's code, used or not; unknown, expired and foreign are told alike."""
        request = await_only(self._find(hash_of(code), client, self.posted.now))
        if request is None:
            raise InvalidGrantError(INVALID_CODE)
        return request

    async def _find(self, hash: bytes, client: Client, now: datetime) -> AuthorizationRequest | None:
        request = AuthorizationRequest
        found: AuthorizationRequest | None = await self.posted.session.scalar(
            sa.select(request).where(
                col(request.code_hash) == hash,
                col(request.client_id) == client.id,
                col(request.code_used_at).is_not(None) | (col(request.expires_at) > now),
            )
        )
        return found

    async def answer(self) -> dict[str, Any]:
        """Uses the code up; who comes second ends the approval with all that hangs from it (section 4.1.2)."""
        request: AuthorizationRequest = self.request.authorization_code
        posted, session, now = self.posted, self.posted.session, self.posted.now
        assert request.approval_id is not None
        require_key(request.dpop_jkt, posted)
        used = await session.scalar(
            sa.update(AuthorizationRequest)
            .where(col(AuthorizationRequest.id) == request.id, col(AuthorizationRequest.code_used_at).is_(None))
            .values(code_used_at=now)
            .returning(col(AuthorizationRequest.id))
            .execution_options(synchronize_session=False)
        )
        if used is None:
            await revoke_approval(session, request.approval_id, "CODE_REUSED", now)
            raise InvalidGrantError(INVALID_CODE)
        rights = await find_rights(session, request.approval_id, now)
        if rights is None:
            raise InvalidGrantError(APPROVAL_ENDED)
        bind_key(rights.approval, posted)
        return await issue(posted, rights.approval, rights.scopes, rights.alias, with_refresh=True)


def granted_scopes(client: Client, requested: str | None) -> frozenset[str]:
    """The scopes asked for, or all of the client's; InvalidScopeError names every one that is not the client's."""
    allowed = frozenset(client.scopes) & scopes_of(CallerKind(client.kind))
    asked = split_scopes(requested or "") or allowed
    if refused := asked - allowed:
        raise InvalidScopeError(printable(f"not among the scopes of this client: {join_scopes(refused)}"))
    return asked
