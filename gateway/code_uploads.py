"""Files of codes by HTTP: as long as a spreadsheet, read as they come, and put into a pool in one transaction."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import orjson
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from auth.admission import NONCE_STATE
from auth.caller import Caller, CallerKind
from auth.errors import InsufficientScope
from auth.tokens import TokenVerifier
from gateway.door import Door
from partners import pool_codes
from partners.code_lines import BYTES_MAX, CodeLines, TooLarge
from partners.errors import Overloaded, PerksError
from partners.pool_codes import Batch, Report, Stocked
from partners.references import PerkRef
from schema.context import Context
from schema.errors import Rejected, from_exception, http_status
from schema.http import rejection_body, rejection_headers, request_id_of
from schema.mutations import MAY_OFFER
from schema.negotiation import Disconnected, header
from schema.permissions import Permission

if TYPE_CHECKING:
    from gateway.app import Service

PATH = "/partners/perks/{partner}/{handle}/codes"
UPLOAD_SECONDS_MAX = 60
UPLOADS_MAX = 4
"""At once in one process; of them one of each partner's."""
TABLES = {b"text/plain": False, b"text/csv": True}
CHARSETS = (b"utf-8", b"utf8", b"utf-16")
STATUS = {"NOT_FOUND": 404}
HEADERS = [
    (b"content-type", b"application/json; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"vary", b"authorization"),
    (b"x-content-type-options", b"nosniff"),
]


class Forbidden(PerksError):
    """This kind of caller never may."""

    code = "FORBIDDEN"


def routes(service: "Service") -> list[Route]:
    """The one address."""
    return [Route(PATH, CodeUploads(service))]


class CodeUploads:
    """An ASGI application: `text/plain` (a code a line) or `text/csv`, answered by a report; errors as at /graphql."""

    def __init__(self, service: "Service") -> None:
        self._service = service
        self._verifier = TokenVerifier(service.ring, service.authority, service.denied, service.outside.issuers)
        self._under_way: set[object] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one upload; whatever happens, the answer is JSON."""
        request_id = request_id_of(scope)
        status, headers = 200, list(HEADERS)
        try:
            body = orjson.dumps(await self._answer(scope, receive))
        except Disconnected:
            return
        except Exception as error:
            rejected = error if isinstance(error, Rejected) else from_exception(error, request_id)
            status = STATUS.get(rejected.code) or http_status(rejected.code, lenient=False)
            headers += rejection_headers(rejected, error, bound=NONCE_STATE in scope["state"])
            body = rejection_body(rejected, request_id)
        if (nonce := scope["state"].get(NONCE_STATE)) is not None:
            headers.append((b"dpop-nonce", nonce))
        headers += [(b"content-length", str(len(body)).encode()), (b"x-request-id", request_id.encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> dict[str, Any]:
        if scope["method"] != "POST":
            raise Rejected.because("METHOD_NOT_ALLOWED", "Codes are sent by POST.", allow="POST")
        lines = CodeLines(table=is_table(scope))
        service = self._service
        door = Door(self._verifier, service.proofs, scope["path"], service.clock, service.resources)
        context = await door.admit(scope)
        require_right(context.caller, MAY_OFFER, "codes")
        reference = PerkRef(handle="{partner}/{handle}".format(**scope["path_params"]))
        with self._place_for(context):
            async with context.resources.connection() as connection:
                pool = await pool_codes.find_pool(connection, reference, context.actor)
            batch = Batch(pool, context.resources.keys.sealing)
            try:
                async with asyncio.timeout(UPLOAD_SECONDS_MAX):
                    async for chunk, last in chunks(scope, receive):
                        await batch.take(lines.feed(chunk, last=last))
            except TimeoutError:
                raise Rejected.because("TIMEOUT", f"A file is sent within {UPLOAD_SECONDS_MAX} s.") from None
            return await self._store(context, batch)

    async def _store(self, context: Context, batch: Batch) -> dict[str, Any]:
        async with context.resources.connection() as connection:
            async with connection.transaction():
                report = await pool_codes.add_codes(connection, batch, context.actor, context.now)
            stocked = await pool_codes.count_codes(connection, [batch.pool.perk_id], context.now)
        context.resources.freed.set()
        return told(batch.pool.handle, report, stocked[batch.pool.perk_id])

    @contextmanager
    def _place_for(self, context: Context) -> Iterator[None]:
        """Each upload may hold some tens of MB; Overloaded when there are too many."""
        whose = context.caller.partner_id or context.caller.id
        if whose in self._under_way or len(self._under_way) >= UPLOADS_MAX:
            raise Overloaded("another file of codes is on its way; send one after the other", retryAfter=5)
        self._under_way.add(whose)
        try:
            yield
        finally:
            self._under_way.discard(whose)


def is_table(scope: Scope) -> bool:
    """Whether the body is CSV; Rejected (UNSUPPORTED_MEDIA_TYPE) for what is neither that nor lines of text, too long
    by its own account, or encoded in a way that we would have to unpack."""
    name, *parameters = (piece.strip() for piece in (header(scope, b"content-type") or b"").lower().split(b";"))
    charsets = [one[8:].strip(b'"') for one in parameters if one.startswith(b"charset=")]
    packed = (header(scope, b"content-encoding") or b"identity").strip().lower() != b"identity"
    if name not in TABLES or packed or not all(charset in CHARSETS for charset in charsets):
        raise Rejected.because("UNSUPPORTED_MEDIA_TYPE", "Send text/plain or text/csv in UTF-8 or UTF-16, not packed.")
    length = header(scope, b"content-length")
    if length is not None and length.isdigit() and int(length) > BYTES_MAX:
        raise TooLarge(f"a file of codes may have {BYTES_MAX} bytes", allowed=BYTES_MAX)
    return TABLES[name]


def require_right(caller: Caller, permission: Permission, what: str) -> None:
    """The right to `what`, as for the fields that have it; Rejected or InsufficientScope without it."""
    if permission.admits(caller):
        return
    if caller.kind is CallerKind.ANONYMOUS:
        raise Rejected.because("UNAUTHENTICATED", f"An access token is needed for {what}.")
    needed = permission.scopes_for(caller.kind)
    if needed is None:
        raise Forbidden(f"{what} are for other callers: this kind of token never may")
    missing = sorted(needed - caller.scopes)
    raise InsufficientScope(f"the token lacks {', '.join(missing)}", missingScopes=missing)


async def chunks(scope: Scope, receive: Receive) -> AsyncIterator[tuple[bytes, bool]]:
    """The body as it comes, and whether that is the end of it."""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        more = message.get("more_body", False)
        yield message.get("body", b""), not more


def told(handle: str, report: Report, stocked: Stocked) -> dict[str, Any]:
    """A report as JSON (docs/codes.md)."""
    return {
        "perk": handle,
        "added": report.added,
        "duplicates": report.duplicates,
        "malformed": report.malformed,
        "faults": [{"line": line, "message": why} for line, why in report.faults],
        "codes": stocked.numbers(),
    }
