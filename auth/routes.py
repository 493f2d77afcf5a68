"""The HTTP face of the authorization server: its endpoints for clients, its metadata and its public keys."""

from collections.abc import Mapping, Sequence
from typing import Any

from authlib.oauth2.rfc6749.grants import BaseGrant  # type: ignore[import-untyped]
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata  # type: ignore[import-untyped]
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from auth import authorization
from auth.authentication import Method
from auth.client_keys import ALGORITHMS
from auth.device_codes import DeviceCodeGrant, authorize_device
from auth.exchange import TokenExchangeGrant
from auth.grants import S256, AuthorizationCodeGrant, ClientCredentialsGrant
from auth.introspection import INTROSPECTION_PATH, REVOCATION_PATH, introspect, revoke
from auth.keys import JWKS_MAX_AGE_SECONDS
from auth.refreshing import RefreshTokenGrant
from auth.scopes import SCOPES
from auth.server import TOKEN_PATH, Answer, Foundation, Posted, answer_token, door
from auth.tokens import Authority
from partners.errors import BadInput

METADATA_PATH = "/.well-known/oauth-authorization-server"
JWKS_PATH = "/.well-known/jwks.json"
AUTHORIZE_PATH = "/oauth/authorize"
PUSH_PATH = "/oauth/par"
DEVICE_PATH = "/oauth/device_authorization"
GRANTS: Sequence[tuple[type[BaseGrant], Sequence[Any]]] = (
    (ClientCredentialsGrant, ()),
    (AuthorizationCodeGrant, (S256(),)),
    (RefreshTokenGrant, ()),
    (DeviceCodeGrant, ()),
    (TokenExchangeGrant, ()),
)
_CACHED = {"Cache-Control": f"public, max-age={JWKS_MAX_AGE_SECONDS}"}


async def token(posted: Posted) -> Response:
    """POST /oauth/token."""
    return await answer_token(posted, GRANTS)


POSTS: Mapping[str, Answer] = {
    TOKEN_PATH: token,
    PUSH_PATH: authorization.push,
    DEVICE_PATH: authorize_device,
    INTROSPECTION_PATH: introspect,
    REVOCATION_PATH: revoke,
}
"""What clients post to, each behind the same door."""


def routes(foundation: Foundation) -> list[Route]:
    """The routes of the authorization server, without the pages that persons see.

    BadInput when the issuer is neither an https URL nor http on this machine, or has a query or a fragment.
    """
    described = metadata(foundation.authority)

    async def describe(request: Request) -> Response:
        return JSONResponse(described, headers=_CACHED)

    async def keys(request: Request) -> Response:
        return JSONResponse(foundation.ring.jwks, headers=_CACHED, media_type="application/jwk-set+json")

    return [
        *(Route(path, door(foundation, answer), methods=["POST"]) for path, answer in POSTS.items()),
        Route(METADATA_PATH, describe, methods=["GET"]),
        Route(JWKS_PATH, keys, methods=["GET"]),
    ]


def metadata(authority: Authority) -> Mapping[str, Any]:
    """What this server supports, and nothing that it does not (RFC 8414 section 2, RFC 9126, 9207 and 9449)."""
    issuer = authority.issuer
    described = AuthorizationServerMetadata(
        issuer=issuer,
        authorization_endpoint=issuer + AUTHORIZE_PATH,
        token_endpoint=issuer + TOKEN_PATH,
        device_authorization_endpoint=issuer + DEVICE_PATH,
        jwks_uri=issuer + JWKS_PATH,
        scopes_supported=sorted(scope for scopes in SCOPES.values() for scope in scopes),
        response_types_supported=["code"],
        response_modes_supported=["query"],
        grant_types_supported=[grant.GRANT_TYPE for grant, _ in GRANTS],
        code_challenge_methods_supported=["S256"],
        token_endpoint_auth_methods_supported=list(Method),
        token_endpoint_auth_signing_alg_values_supported=list(ALGORITHMS),
        introspection_endpoint=issuer + INTROSPECTION_PATH,
        introspection_endpoint_auth_methods_supported=[method for method in Method if method is not Method.NONE],
        introspection_endpoint_auth_signing_alg_values_supported=list(ALGORITHMS),
        revocation_endpoint=issuer + REVOCATION_PATH,
        revocation_endpoint_auth_methods_supported=list(Method),
        revocation_endpoint_auth_signing_alg_values_supported=list(ALGORITHMS),
        dpop_signing_alg_values_supported=list(ALGORITHMS),
        pushed_authorization_request_endpoint=issuer + PUSH_PATH,
        require_pushed_authorization_requests=False,
        authorization_response_iss_parameter_supported=True,
    )
    try:
        described.validate_issuer()
    except ValueError as error:
        raise BadInput(f"{issuer} can't be the issuer of tokens: {error}") from None
    return dict(described)
