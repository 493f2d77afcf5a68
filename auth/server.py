"""The door that a client's request comes through: read strictly, counted, authenticated, and in its own transaction."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from authlib.oauth2.rfc6749 import (  # type: ignore[import-untyped]
    AuthorizationServer,
    InvalidClientError,
    InvalidGrantError,
    InvalidRequestError,
    OAuth2Error,
    OAuth2Request,
    UnauthorizedClientError,
)
from authlib.oauth2.rfc6749.grants import BaseGrant, TokenEndpointMixin  # type: ignore[import-untyped]
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload  # type: ignore[import-untyped]
from redis.asyncio import Redis
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.util import await_only
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from auth.attempts import Attempt, Attempts, address_of, throttled_response
from auth.authentication import Credentials, Method, authenticate, read_credentials
from auth.dpop import InvalidProof, Proofs
from auth.errors import Throttled
from auth.forms import printable, read_form
from auth.keys import KeyRing
from auth.tables import Client
from auth.tokens import Authority, TokenVerifier
from partners.errors import BadInput, Unavailable
from partners.keys import Keys

TOKEN_PATH = "/oauth/token"  # noqa: S105
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
CHALLENGE = 'Basic realm="perks-gateway", charset="UTF-8"'
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Foundation:
    """What all endpoints of the authorization server stand on; `clock` gives the time in UTC."""

    sessions: async_sessionmaker[AsyncSession]
    cache: Redis
    ring: KeyRing
    authority: Authority
    verifier: TokenVerifier
    keys: Keys
    proofs: Proofs
    attempts: Attempts
    clock: Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Posted:
    """One request of a client that proved who it is, and the key that it holds; all within one transaction, unless the
    answer commits a part of it early."""

    foundation: Foundation
    session: AsyncSession
    client: Client
    form: Mapping[str, str]
    key_thumbprint: str | None
    now: datetime


Answer = Callable[[Posted], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]


def door(foundation: Foundation, answer: Answer) -> Endpoint:
    """An endpoint for POST that clients authenticate at; `answer` may refuse with any OAuth2Error.

    A refusal commits too, with the writes that it follows from: a code that is used again ends its approval. Whatever
    else goes wrong rolls back.
    """

    async def endpoint(request: Request) -> Response:
        now = foundation.clock()
        response = await _served(foundation, answer, request, now)
        if "dpop" in request.headers:
            response.headers["DPoP-Nonce"] = foundation.proofs.nonce(now)
        return response

    return endpoint


async def _served(foundation: Foundation, answer: Answer, request: Request, now: datetime) -> Response:
    attempt: Attempt | None = None
    fault: Exception | None
    proven = False
    try:
        form = await read_form(request)
        offered = read_credentials(request, form)
        attempt = await foundation.attempts.client(offered.client_id, address_of(request.scope))
        # Before an assertion counts as used: who is asked for a nonce comes again with the same one.
        thumbprint = await foundation.proofs.check(request.scope, request.scope["path"], now)
        response, fault = await _in_transaction(foundation, answer, form, offered, thumbprint, now)
        proven = offered.method is not Method.NONE or request.scope["path"] == TOKEN_PATH
    except OAuth2Error as error:
        response, fault = error_response(error), error
    except BadInput as error:
        response, fault = error_response(InvalidRequestError(printable(error.message))), error
    except Throttled as error:
        response, fault = throttled_response(error), error
    except (Unavailable, SQLAlchemyError, OSError) as error:
        _log.error("%s can't be served: %s", request.url.path, type(error).__name__)
        response = JSONResponse({"error": "temporarily_unavailable"}, 503, headers=NO_STORE | {"Retry-After": "1"})
        fault = error
    if attempt is not None:
        await _settle(attempt, fault, proven)
    return response


async def _settle(attempt: Attempt, fault: Exception | None, proven: bool) -> None:
    """Wrong stays counted, and so does what a public client is given for its name alone (a device code, a place for a
    pushed request): whoever knows that name could have as many as it likes, and be trusted for them."""
    if fault is None and proven:
        await attempt.succeeded()
    elif fault is not None and not isinstance(fault, InvalidClientError | InvalidGrantError | InvalidProof):
        await attempt.give_back()


async def _in_transaction(
    foundation: Foundation,
    answer: Answer,
    form: Mapping[str, str],
    offered: Credentials,
    thumbprint: str | None,
    now: datetime,
) -> tuple[Response, OAuth2Error | None]:
    issuer = foundation.authority.issuer
    fault: OAuth2Error | None = None
    async with foundation.sessions() as session:
        try:
            client = await authenticate(session, foundation.cache, offered, issuer, now)
            response = await answer(Posted(foundation, session, client, form, thumbprint, now))
        except OAuth2Error as error:
            response, fault = error_response(error), error
        await session.commit()
    return response, fault


def error_response(error: OAuth2Error) -> Response:
    """The refusal as JSON (RFC 6749 section 5.2), with a challenge where the client did not prove who it is."""
    body = {"error": error.error, "error_description": printable(error.get_error_description())}
    challenge = {"WWW-Authenticate": CHALLENGE} if error.status_code == 401 else {}
    return JSONResponse(body, error.status_code, headers=NO_STORE | challenge)


class TokenServer(AuthorizationServer):  # type: ignore[misc]
    """Authlib's server for one request, because its callbacks are not told which request they serve.

    Call `create_token_response` inside `session.run_sync`: callbacks reach async code through `await_only`.
    """

    def __init__(self, posted: Posted, grants: Sequence[tuple[type[BaseGrant], Sequence[Any]]]) -> None:
        super().__init__()
        self.posted = posted
        for grant, extensions in grants:
            self.register_grant(grant, extensions)

    def create_oauth2_request(self, form: Mapping[str, str]) -> OAuth2Request:
        """The request as Authlib knows it, under the configured address and not the one that the client wrote."""
        request = TokenRequest("POST", self.posted.foundation.authority.issuer + TOKEN_PATH)
        request.payload = BasicOAuth2Payload(form)
        return request

    def authenticate_client(self, request: OAuth2Request, methods: Sequence[str], endpoint: str = "token") -> Client:
        """It was authenticated at the door."""
        return self.posted.client

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Authlib's hook for frameworks with signals; there are none here."""

    def handle_response(self, status: int, body: dict[str, Any], headers: Sequence[tuple[str, str]]) -> Response:
        """An answer that nothing on its way may keep."""
        return JSONResponse(body, status, headers={**dict(headers), **NO_STORE})

    def handle_error_response(self, request: OAuth2Request, error: OAuth2Error) -> Response:
        """Refusals are all answered at the door."""
        raise error


class TokenRequest(OAuth2Request):  # type: ignore[misc]
    """A request whose form was read before Authlib sees it."""

    @property
    def form(self) -> Mapping[str, str]:
        """The parameters, once each."""
        parameters: Mapping[str, str] = self.payload.data
        return parameters


class Answering(ABC):
    """A grant whose answer is async and ours. Authlib's `create_token_response` would log it, and use up nothing."""

    server: TokenServer

    @property
    def posted(self) -> Posted:
        """The request that this is about."""
        return self.server.posted

    @abstractmethod
    async def answer(self) -> dict[str, Any]:
        """The body of a successful answer (RFC 6749 section 5.1), or an OAuth2Error."""

    def create_token_response(self) -> tuple[int, dict[str, Any], Sequence[tuple[str, str]]]:
        """Called by Authlib once the message is valid."""
        return 200, await_only(self.answer()), []


class Grant(Answering, BaseGrant, TokenEndpointMixin):  # type: ignore[misc]
    """A way to a token that Authlib does not know: say the GRANT_TYPE and write `answer`."""

    def validate_token_request(self) -> None:
        """The client must be allowed this grant type."""
        self.request.client = self.authenticate_token_endpoint_client()
        if not self.client.check_grant_type(self.GRANT_TYPE):
            raise UnauthorizedClientError(f"the client may not use the grant type {self.GRANT_TYPE}")


async def answer_token(posted: Posted, grants: Sequence[tuple[type[BaseGrant], Sequence[Any]]]) -> Response:
    """The token endpoint: Authlib finds the grant and reads its message, inside the request's own transaction."""
    if "grant_type" not in posted.form:
        raise InvalidRequestError("grant_type is missing")
    if posted.client.requires_dpop and posted.key_thumbprint is None:
        raise InvalidProof("this client has to prove its key with DPoP")
    server = TokenServer(posted, grants)
    response: Response = await posted.session.run_sync(lambda _: server.create_token_response(posted.form))
    return response
