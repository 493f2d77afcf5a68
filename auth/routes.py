"""The HTTP face of the authorization server: the token endpoint, its metadata and its public keys."""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from authlib.oauth2.rfc6749 import InvalidRequestError, OAuth2Error  # type: ignore[import-untyped]
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata  # type: ignore[import-untyped]
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from auth.caller import CallerKind
from auth.forms import read_credentials, read_form
from auth.keys import JWKS_MAX_AGE_SECONDS, KeyRing
from auth.scopes import scopes_of
from auth.server import AUTHENTICATION_METHODS, NO_STORE, TOKEN_PATH, TokenServer, error_response
from auth.tokens import Authority
from partners.errors import BadInput, Unavailable

METADATA_PATH = "/.well-known/oauth-authorization-server"
JWKS_PATH = "/.well-known/jwks.json"
_CACHED = {"Cache-Control": f"public, max-age={JWKS_MAX_AGE_SECONDS}"}
_log = logging.getLogger(__name__)


def routes(
    sessions: async_sessionmaker[AsyncSession], ring: KeyRing, authority: Authority, clock: Callable[[], datetime]
) -> list[Route]:
    """The routes of the authorization server; `clock` gives the time in UTC.

    BadInput when the issuer is neither an https URL nor http on this machine, or has a query or a fragment.
    """
    described = metadata(authority)

    async def token(request: Request) -> Response:
        try:
            form = await read_form(request)
            if "grant_type" not in form:
                raise InvalidRequestError("grant_type is missing")
            credentials = read_credentials(request, form)
            async with sessions.begin() as session:
                server = TokenServer(session, ring, authority, credentials, clock())
                response: Response = await session.run_sync(lambda _: server.create_token_response(form))
                return response
        except OAuth2Error as error:
            return error_response(error)
        except (Unavailable, SQLAlchemyError, OSError) as error:
            _log.error("the token endpoint can't be served: %s", type(error).__name__)
            return JSONResponse({"error": "temporarily_unavailable"}, 503, headers=NO_STORE | {"Retry-After": "1"})

    async def describe(request: Request) -> Response:
        return JSONResponse(described, headers=_CACHED)

    async def keys(request: Request) -> Response:
        return JSONResponse(ring.jwks, headers=_CACHED, media_type="application/jwk-set+json")

    return [
        Route(TOKEN_PATH, token, methods=["POST"]),
        Route(METADATA_PATH, describe, methods=["GET"]),
        Route(JWKS_PATH, keys, methods=["GET"]),
    ]


def metadata(authority: Authority) -> Mapping[str, Any]:
    """What this server supports, and nothing that it does not (RFC 8414 section 2).

    `response_types_supported` is empty because there is no authorization endpoint and the RFC requires the member.
    """
    described = AuthorizationServerMetadata(
        issuer=authority.issuer,
        token_endpoint=authority.issuer + TOKEN_PATH,
        jwks_uri=authority.issuer + JWKS_PATH,
        scopes_supported=sorted(scopes_of(CallerKind.PARTNER)),
        response_types_supported=[],
        grant_types_supported=["client_credentials"],
        token_endpoint_auth_methods_supported=list(AUTHENTICATION_METHODS),
    )
    try:
        described.validate_issuer()
    except ValueError as error:
        raise BadInput(f"{authority.issuer} can't be the issuer of tokens: {error}") from None
    return dict(described)
