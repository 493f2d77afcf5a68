"""The strict reading of authorization requests, pushed or brought by a browser, and where they may be answered."""

import re
from collections.abc import Collection, Mapping

from authlib.oauth2.rfc6749 import (  # type: ignore[import-untyped]
    InvalidRequestError,
    InvalidScopeError,
    OAuth2Error,
)

from auth.caller import CallerKind
from auth.grants import granted_scopes
from auth.scopes import MEMBER_BOUND, split_scopes
from auth.tables import AuthorizationRequest, Client, ClientAuthentication

REQUEST_URI_PREFIX = "urn:ietf:params:oauth:request_uri:"
STATE_CHARACTERS_MAX = 512
_SHA256 = re.compile(r"[A-Za-z0-9_-]{43}")
_LOOPBACK = re.compile(r"(http://(?:127\.0\.0\.1|\[::1\]))(?::[0-9]{1,5})?((?:[/?].*)?)")


def redirect_uri_of(client: Client, parameters: Mapping[str, str]) -> str:
    """Where the answer goes: an address of the client's, to the letter (RFC 9700 section 2.1); InvalidRequestError.

    A public client on a person's own machine may choose the port of a loopback address (RFC 8252 section 7.3).
    """
    asked = parameters.get("redirect_uri")
    if asked is None:
        raise InvalidRequestError("redirect_uri is missing")
    if not leads_back(client, asked):
        raise InvalidRequestError("redirect_uri is not one of this client's")
    return asked


def leads_back(client: Client, uri: str) -> bool:
    """Whether the address is one of the client's at this moment."""
    portless = _without_port(uri) if client.authentication == ClientAuthentication.NONE else None
    return uri in client.redirect_uris or (
        portless is not None and portless in map(_without_port, client.redirect_uris)
    )


def _without_port(uri: str) -> str | None:
    found = _LOOPBACK.fullmatch(uri)
    return None if found is None else found[1] + found[2]


def read_request(client: Client, parameters: Mapping[str, str]) -> AuthorizationRequest:
    """The request as a row, without its times; an OAuth2Error says what is wrong with it, in the RFCs' codes."""
    redirect_uri = redirect_uri_of(client, parameters)
    for name in ("request", "request_uri", "registration"):
        if name in parameters:
            raise OAuth2Error(f"{name} is not supported", error=f"{name}_not_supported")
    if "response_type" not in parameters:
        raise InvalidRequestError("response_type is missing")
    if parameters["response_type"] != "code":
        raise OAuth2Error("response_type can only be code", error="unsupported_response_type")
    if parameters.get("response_mode", "query") != "query":
        raise InvalidRequestError("response_mode can only be query")
    if "none" in parameters.get("prompt", "").split():
        raise OAuth2Error("the person has to be asked", error="interaction_required")
    state = parameters.get("state")
    if not is_echoed(state):
        raise InvalidRequestError(f"state is longer than {STATE_CHARACTERS_MAX} characters")
    return AuthorizationRequest(
        client_id=client.id,
        redirect_uri=redirect_uri,
        scopes=sorted(_scopes(client, parameters.get("scope"))),
        client_state=state,
        code_challenge=_challenge(parameters),
        dpop_jkt=read_thumbprint(parameters),
    )


def is_echoed(state: str | None) -> bool:
    """Whether a client's `state` comes back to it."""
    return state is None or len(state) <= STATE_CHARACTERS_MAX


def _challenge(parameters: Mapping[str, str]) -> str:
    challenge = parameters.get("code_challenge")
    if challenge is None:
        raise InvalidRequestError("code_challenge is missing: every client uses PKCE")
    if parameters.get("code_challenge_method") != "S256":
        raise InvalidRequestError("code_challenge_method must be S256")
    if not _SHA256.fullmatch(challenge):
        raise InvalidRequestError("code_challenge is not SHA-256 in base64url, of 43 characters")
    return challenge


def read_thumbprint(parameters: Mapping[str, str]) -> str | None:
    """The key that everything is to be bound to (RFC 9449 section 10); InvalidRequestError."""
    thumbprint = parameters.get("dpop_jkt")
    if thumbprint is not None and not _SHA256.fullmatch(thumbprint):
        raise InvalidRequestError("dpop_jkt is not a SHA-256 thumbprint in base64url, of 43 characters")
    return thumbprint


def _scopes(client: Client, requested: str | None) -> frozenset[str]:
    """What is asked for must be the client's, and one person must be able to answer for all of it."""
    scopes = granted_scopes(client, requested)
    if client.kind == CallerKind.PARTNER and scopes & MEMBER_BOUND and scopes - MEMBER_BOUND:
        asked = "what is asked for" if split_scopes(requested or "") else "this client"
        raise InvalidScopeError(
            f"{asked} mixes scopes that a member and that a partner's own people approve: ask apart"
        )
    return scopes


def whom_to_ask(client: Client, scopes: Collection[str]) -> CallerKind:
    """Who has to be signed in: for member-bound scopes of a partner a member, else the kind that the client is for."""
    return CallerKind.MEMBER if MEMBER_BOUND.intersection(scopes) else CallerKind(client.kind)
