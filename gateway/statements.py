"""Statements by HTTP, as pages to print and as CSV, for who has a token that may read them."""

import asyncio
from typing import TYPE_CHECKING

from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from auth.admission import NONCE_STATE
from auth.tokens import TokenVerifier
from gateway.code_uploads import HEADERS, STATUS, require_right
from gateway.door import Door
from gateway.export_downloads import answer, error_headers
from gateway.paper.statements import statement_page, statement_table
from partners.errors import NotFound
from partners.statements import make_statement
from schema.errors import Rejected, from_exception, http_status
from schema.http import rejection_body, rejection_headers, request_id_of
from schema.statements import MAY_SETTLE

if TYPE_CHECKING:
    from gateway.app import Service

PATH = "/statements/{partner}/{file}"
KINDS = {"html": (statement_page, b"text/html; charset=utf-8"), "csv": (statement_table, b"text/csv; charset=utf-8")}
POLICY = b"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def routes(service: "Service") -> list[Route]:
    """The one address."""
    return [Route(PATH, Statements(service))]


class Statements:
    """An ASGI application: GET and HEAD of `{month}.html` and `{month}.csv`; errors as at /graphql."""

    def __init__(self, service: "Service") -> None:
        self._service = service
        self._verifier = TokenVerifier(service.ring, service.authority, service.denied, service.outside.issuers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request; what is no statement is JSON."""
        request_id = request_id_of(scope)
        status, headers = 200, list(HEADERS)
        try:
            body, media, name = await self._make(scope)
            disposition = b'inline; filename="%s"' % name.encode()
            headers = [(b"content-type", media), (b"content-disposition", disposition), *HEADERS[1:]]
            headers.append((b"content-security-policy", POLICY))
        except Exception as error:
            rejected = error if isinstance(error, Rejected) else from_exception(error, request_id)
            status = STATUS.get(rejected.code) or http_status(rejected.code, lenient=False)
            headers += rejection_headers(rejected, error, bound=NONCE_STATE in scope["state"])
            headers += error_headers(rejected)
            body = rejection_body(rejected, request_id)
        await answer(scope, send, status, headers, body)

    async def _make(self, scope: Scope) -> tuple[bytes, bytes, str]:
        """The file, its media type and its name."""
        if scope["method"] not in ("GET", "HEAD"):
            raise Rejected.because("METHOD_NOT_ALLOWED", "Files are fetched by GET.", allow="GET, HEAD")
        service = self._service
        door = Door(self._verifier, service.proofs, scope["path"], service.clock, service.resources)
        context = await door.admit(scope)
        require_right(context.caller, MAY_SETTLE, "statements")
        partner, file = scope["path_params"]["partner"], scope["path_params"]["file"]
        month, _, kind = file.rpartition(".")
        if kind not in KINDS:
            raise NotFound("a statement is {month}.html or {month}.csv")
        async with context.resources.settling, context.resources.connection() as connection:
            found = await make_statement(connection, context.actor, month, context.now, handle=partner)
        written, media = KINDS[kind]
        page = await asyncio.to_thread(written, found)
        return page.encode(), media, f"statement-{found.partner}-{found.month.name}.{kind}"
