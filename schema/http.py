"""GraphQL over HTTP as a bare ASGI endpoint, because view layers cost more than a small query does.

Profile `compat` of the GraphQL-over-HTTP draft: `application/graphql-response+json` with proper status codes,
and `application/json` with 200 for every well-formed request.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import strawberry
from starlette.types import Receive, Scope, Send
from strawberry.http.ides import get_graphql_ide_html
from uuid_utils.compat import uuid7

from auth.admission import NONCE_STATE
from auth.client_keys import ALGORITHMS
from auth.errors import Unauthenticated
from schema.answering import Answering
from schema.documents import Documents, Operation
from schema.errors import GRAPHQL_CODES, Rejected, from_exception, http_status, with_request_id
from schema.event_streams import Format, stream, streaming
from schema.execution import RequestContext
from schema.limits import Limits
from schema.negotiation import (
    GRAPHQL_RESPONSE,
    HTML,
    JSON,
    Disconnected,
    Parameters,
    from_body,
    from_query_string,
    header,
    is_json,
    preferred,
    read_body,
)
from schema.permissions import undeclared
from schema.staying import Again, Bounds, Places
from schema.websockets import Socket

Headers = list[tuple[bytes, bytes]]

_COMMON: Headers = [
    (b"cache-control", b"no-store"),
    (b"vary", b"accept, authorization"),
    (b"x-content-type-options", b"nosniff"),
]
_HEADERS: dict[bytes, Headers] = {
    media: [(b"content-type", media + b"; charset=utf-8"), *_COMMON] for media in (JSON, GRAPHQL_RESPONSE)
}
# The page loads GraphiQL from a CDN, by hash, and starts it with a script of its own.
_PAGE: Headers = [
    (b"content-type", b"text/html; charset=utf-8"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'unsafe-inline' https://unpkg.com; "
        b"style-src 'unsafe-inline' https://unpkg.com; font-src https://unpkg.com data:; img-src data:; "
        b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    *_COMMON,
]


class GraphQLEndpoint:
    """An ASGI application for `Route("/graphql", endpoint)`; one request is one operation, without batches.

    `admit` turns a request into its context: it verifies the token and may raise a `PerksError`
    (UNAUTHENTICATED answers 401, UNAVAILABLE 503). It finds the request's id in `scope["state"]["request_id"]`,
    where a middleware may have put it. `again` gives the context of a caller who stays, for as long as its token lives;
    `bounds` are for those. `folder` holds the trusted documents; `graphiql` shows the page to browsers;
    `compiled` is the switch of compiled completion.
    """

    def __init__(
        self,
        schema: strawberry.Schema,
        *,
        admit: Callable[[Scope], Awaitable[RequestContext]],
        again: Again = lambda context, _: context,
        bounds: Bounds | None = None,
        limits: Limits | None = None,
        graphiql: bool = False,
        folder: Path | None = None,
        timeout_s: float = 5.0,
        compiled: bool = True,
    ) -> None:
        if open_fields := list(undeclared(schema._schema)):
            raise ValueError(f"no permission is stated for {', '.join(open_fields)}")
        if schema.directives or schema.extensions:
            raise ValueError("operation directives and schema extensions of Strawberry would not run here")
        self._admit, self._again = admit, again
        self._limits = limits or Limits()
        self.places = Places(bounds or Bounds())
        self._page = get_graphql_ide_html("graphiql").encode() if graphiql else None
        self.documents = Documents(schema, self._limits, folder)
        self._answering = Answering(schema, self.documents, timeout_s=timeout_s, compiled=compiled)

    async def websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one WebSocket until either side closes it."""
        channel = (scope, receive, send)
        await Socket(self._answering, self._admit, self._again, self.places, self._limits.body, channel).serve()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; whatever happens, the answer is JSON with a code and the request's id."""
        request_id = request_id_of(scope)
        accept = header(scope, b"accept")
        if self._page is not None and _wants_page(scope, accept):
            return await _send(send, 200, _PAGE, request_id, self._page)
        media, form = preferred(accept), streaming(accept)
        status, headers = 200, _HEADERS[media or JSON]
        try:
            if media is None and form is None:
                message = f"The answer is {GRAPHQL_RESPONSE.decode()} or {JSON.decode()}."
                raise Rejected.because("NOT_ACCEPTABLE", message)
            parameters = await self._parameters(scope, receive)
            context = await self._admit(scope)
            request_id = context.request_id
            operation = self._answering.operation(parameters)
            if operation.kind == "subscription":
                return await self._follow(form, operation, parameters, context, (scope, receive, send))
            body = await self._answer(scope["method"], media, operation, parameters, context)
        except Disconnected:
            return None
        except Exception as error:
            rejected = error if isinstance(error, Rejected) else from_exception(error, request_id)
            if media is None and form is not None and rejected.code in GRAPHQL_CODES:
                # A client that takes nothing but a stream reads no other status (GraphQL over Server-Sent Events).
                headers, body = _stream_headers(form), form.opening + form.result(rejection_body(rejected, request_id))
                return await _send(send, 200, headers, request_id, body + form.end)
            status = http_status(rejected.code, lenient=media != GRAPHQL_RESPONSE)
            headers = headers + rejection_headers(rejected, error, bound=NONCE_STATE in scope["state"])
            body = rejection_body(rejected, request_id)
        if (nonce := scope["state"].get(NONCE_STATE)) is not None:
            headers = [*headers, (b"dpop-nonce", nonce)]
        return await _send(send, status, headers, request_id, body)

    async def _parameters(self, scope: Scope, receive: Receive) -> Parameters:
        if scope["method"] == "GET":
            return from_query_string(scope["query_string"])
        if scope["method"] != "POST":
            message = "GraphQL is asked by GET (queries only) or POST."
            raise Rejected.because("METHOD_NOT_ALLOWED", message, allow="GET, POST")
        if not is_json(header(scope, b"content-type")):
            # It also keeps out what a foreign page may send with a person's cookies (simple CORS requests).
            raise Rejected.because("UNSUPPORTED_MEDIA_TYPE", "The body must be application/json in UTF-8.")
        return from_body(await read_body(scope, receive, self._limits.body))

    async def _answer(
        self, method: str, media: bytes | None, operation: Operation, parameters: Parameters, context: RequestContext
    ) -> bytes:
        if media is None:
            raise Rejected.because("NOT_ACCEPTABLE", "Only a subscription is answered by a stream.")
        if operation.kind == "mutation" and method == "GET":
            raise Rejected.because("METHOD_NOT_ALLOWED", "Mutations are sent by POST.", allow="POST")
        return await self._answering.answer(operation, parameters.variables, context)

    async def _follow(
        self,
        form: Format | None,
        operation: Operation,
        parameters: Parameters,
        context: RequestContext,
        channel: tuple[Scope, Receive, Send],
    ) -> None:
        scope, receive, send = channel
        if form is None:
            message = "Follow a subscription by Accept: text/event-stream, or over a WebSocket."
            raise Rejected.because("BAD_REQUEST", message)
        if scope["method"] == "GET":
            raise Rejected.because("METHOD_NOT_ALLOWED", "Subscriptions are sent by POST.", allow="POST")
        headers = [*_stream_headers(form), (b"x-request-id", context.request_id.encode())]
        if (nonce := scope["state"].get(NONCE_STATE)) is not None:
            headers.append((b"dpop-nonce", nonce))
        results = self._answering.results(operation, parameters.variables, context)
        with self.places.take(), self.places.take_for(context):
            await stream(
                form,
                headers,
                results,
                context,
                self._again,
                beat_s=self.places.bounds.beat_s,
                receive=receive,
                send=send,
            )


def request_id_of(scope: Scope) -> str:
    """The id a middleware gave the request, or a new one, left where `admit` finds it."""
    state: dict[str, Any] = scope.setdefault("state", {})
    request_id: str = state.setdefault("request_id", "") or str(uuid7())
    state["request_id"] = request_id
    return request_id


def _stream_headers(form: Format) -> Headers:
    """Proxies that hold answers back to fill a buffer are asked not to."""
    return [(b"content-type", form.media), *_COMMON, (b"x-accel-buffering", b"no")]


def _wants_page(scope: Scope, accept: bytes | None) -> bool:
    return (
        scope["method"] == "GET"
        and accept is not None
        and not scope["query_string"]
        and preferred(accept, (JSON, GRAPHQL_RESPONSE, HTML)) == HTML
    )


def rejection_body(rejected: Rejected, request_id: str) -> bytes:
    """Errors alone, as JSON."""
    body: dict[str, Any] = {"errors": with_request_id(rejected.errors, request_id)}
    if rejected.data_is_null:
        body["data"] = None
    return orjson.dumps(body)


def rejection_headers(rejected: Rejected, error: Exception, *, bound: bool) -> Headers:
    """`Allow` for a wrong method, and the challenge for a missing or weak token (RFC 6750, section 3; RFC 9449,
    section 7.1): under the scheme of the request, which is DPoP for a token that is `bound` to a key."""
    details = {name: value for error in rejected.errors for name, value in error["extensions"].items()}
    if rejected.code == "METHOD_NOT_ALLOWED":
        return [(b"allow", details["allow"].encode())]
    if rejected.code == "UNAUTHENTICATED":
        # Denied for want of a token, or (before any field was looked at) for one that does not hold.
        reason = f'error="{error.error}"' if isinstance(error, Unauthenticated) else ""
        algorithms = f'algs="{" ".join(ALGORITHMS)}"'
        challenges = [f"DPoP {reason}, {algorithms}"] if bound else [f"Bearer {reason}".strip(), f"DPoP {algorithms}"]
        return [(b"www-authenticate", challenge.encode()) for challenge in challenges]
    if "missingScopes" in details:
        scheme, scopes = "DPoP" if bound else "Bearer", " ".join(details["missingScopes"])
        return [(b"www-authenticate", f'{scheme} error="insufficient_scope", scope="{scopes}"'.encode())]
    return []


async def _send(send: Send, status: int, headers: Headers, request_id: str, body: bytes) -> None:
    length = str(len(body)).encode()
    request_headers = [(b"content-length", length), (b"x-request-id", request_id.encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers + request_headers})
    await send({"type": "http.response.body", "body": body})
