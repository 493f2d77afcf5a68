"""Authlib's authorization server, fitted to one request: it runs inside that request's own transaction."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from authlib.oauth2.rfc6749 import (  # type: ignore[import-untyped]
    AuthorizationServer,
    InvalidScopeError,
    OAuth2Error,
    OAuth2Request,
)
from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant as _ClientCredentialsGrant  # type: ignore[import-untyped]
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload  # type: ignore[import-untyped]
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.util import await_only
from starlette.responses import JSONResponse, Response

from auth.caller import CallerKind
from auth.clients import authenticate_client, caller_of
from auth.forms import Credentials, printable
from auth.keys import KeyRing
from auth.scopes import join_scopes, scopes_of, split_scopes
from auth.tables import Client
from auth.tokens import LIFETIMES, Authority, mint_access_token

TOKEN_PATH = "/oauth/token"  # noqa: S105
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
CHALLENGE = 'Basic realm="perks-gateway", charset="UTF-8"'
AUTHENTICATION_METHODS = ("client_secret_basic", "client_secret_post")


class ClientCredentialsGrant(_ClientCredentialsGrant):  # type: ignore[misc]
    """A partner's server asks for a token of its own (RFC 6749 section 4.4)."""

    def validate_requested_scope(self) -> None:
        """Every scope asked for must be the client's: RFC 6749 section 3.3 would allow to grant fewer in silence."""
        self.scopes = _granted_scopes(self.client, self.request.payload.scope)

    def create_token_response(self) -> tuple[int, dict[str, Any], Sequence[tuple[str, str]]]:
        """Replaces Authlib's, which writes the token to the DEBUG log."""
        return 200, self.server.token_for(self.client, self.scopes), []


class TokenServer(AuthorizationServer):  # type: ignore[misc]
    """Made for each request, because Authlib's callbacks are not told which request they serve.

    Call `create_token_response` inside `session.run_sync`: callbacks reach async code through `await_only`.
    """

    def __init__(
        self, session: AsyncSession, ring: KeyRing, authority: Authority, credentials: Credentials, now: datetime
    ) -> None:
        super().__init__()
        self._session = session
        self._ring = ring
        self._authority = authority
        self._credentials = credentials
        self._now = now
        self.register_grant(ClientCredentialsGrant)

    def create_oauth2_request(self, form: Mapping[str, str]) -> OAuth2Request:
        """The request as Authlib knows it, under the configured address and not the one that the client wrote."""
        request = OAuth2Request("POST", self._authority.issuer + TOKEN_PATH)
        request.payload = BasicOAuth2Payload(form)
        return request

    def authenticate_client(self, request: OAuth2Request, methods: Sequence[str], endpoint: str = "token") -> Client:
        """By the credentials that were read strictly; Authlib's own reading fails on what is not UTF-8."""
        offered = self._credentials
        return await_only(authenticate_client(self._session, offered.client_id, offered.secret, self._now))

    def token_for(self, client: Client, scopes: frozenset[str]) -> dict[str, Any]:
        """The body of a successful answer (RFC 6749 section 5.1)."""
        token = mint_access_token(self._ring, self._authority, caller_of(client, scopes), self._now)
        seconds = int(LIFETIMES[CallerKind.PARTNER].total_seconds())
        return {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": seconds,
            "scope": join_scopes(scopes),
        }

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Authlib's hook for frameworks with signals; there are none here."""

    def handle_response(self, status: int, body: dict[str, Any], headers: Sequence[tuple[str, str]]) -> Response:
        """An answer that nothing on its way may keep."""
        return JSONResponse(body, status, headers={**dict(headers), **NO_STORE})

    def handle_error_response(self, request: OAuth2Request, error: OAuth2Error) -> Response:
        """Every refusal in one shape."""
        return error_response(error)


def error_response(error: OAuth2Error) -> Response:
    """The refusal as JSON (RFC 6749 section 5.2), with a challenge where the client did not prove who it is."""
    body = {"error": error.error, "error_description": printable(error.get_error_description())}
    challenge = {"WWW-Authenticate": CHALLENGE} if error.status_code == 401 else {}
    return JSONResponse(body, error.status_code, headers=NO_STORE | challenge)


def _granted_scopes(client: Client, requested: str | None) -> frozenset[str]:
    allowed = frozenset(client.scopes) & scopes_of(CallerKind.PARTNER)
    asked = split_scopes(requested or "") or allowed
    if refused := asked - allowed:
        raise InvalidScopeError(printable(f"not among the scopes of this client: {join_scopes(refused)}"))
    return asked
