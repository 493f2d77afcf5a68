"""Files of exports by HTTP: part by part as they are read, from any byte on, and without a connection in between."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING
from uuid import UUID

import structlog
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from auth.admission import NONCE_STATE
from auth.caller import CallerKind
from auth.errors import InsufficientScope
from auth.tokens import TokenVerifier
from gateway.code_uploads import HEADERS, STATUS, require_right
from gateway.door import Door
from partners import exports, tables
from partners.errors import NotFound, PerksError
from partners.export_files import file_name, find_file, find_part, needs_tiers, read_part
from partners.export_formats import MEDIA
from partners.tables import ExportFormat
from schema.context import Context
from schema.errors import Rejected, from_exception, http_status
from schema.exports import MAY_EXPORT, READ_TIERS
from schema.http import rejection_body, rejection_headers, request_id_of
from schema.ids import EXPORT, split_id
from schema.negotiation import Disconnected, header
from schema.staying import Bounds, Places, being_read

if TYPE_CHECKING:
    from gateway.app import Service

PATH = "/exports/{id}"
PIECE_BYTES = 65_536
BOUNDS = Bounds(connections=64, connections_each=10)
"""Downloads at once of one process, and of one caller: each has one part in memory, of half a megabyte at most."""
STATUSES = STATUS | {"EXPORT_NOT_READY": 409, "EXPORT_GONE": 410, "RANGE_NOT_SATISFIABLE": 416}
RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")
Headers = list[tuple[bytes, bytes]]
log = structlog.get_logger()


class RangeNotSatisfiable(PerksError):
    """The range begins after the end of the file, whose `size` is in bytes."""

    code = "RANGE_NOT_SATISFIABLE"


def routes(service: "Service") -> list[Route]:
    """The one address."""
    return [Route(PATH, ExportDownloads(service))]


class ExportDownloads:
    """An ASGI application: GET and HEAD, whole or one range (RFC 9110 section 14); errors as at /graphql.

    A reader that takes less than a piece of 64 kB in 20 s is given up, and can come back for the rest.
    """

    def __init__(self, service: "Service") -> None:
        self._service, self._places = service, Places(BOUNDS)
        self._verifier = TokenVerifier(service.ring, service.authority, service.denied, service.outside.issuers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request; what is no file is JSON."""
        request_id = request_id_of(scope)
        try:
            context, export = await self._admit(scope)
            with self._places.take(), self._places.take_for(context):
                first, end = read_range(scope, export)
                if scope["method"] == "GET":
                    await self._record(context, export, resumed=first > 0)
                return await self._answer(scope, receive, send, export, first, end)
        except Disconnected:
            return None
        except Exception as error:
            rejected = error if isinstance(error, Rejected) else from_exception(error, request_id)
            headers = HEADERS + rejection_headers(rejected, error, bound=NONCE_STATE in scope["state"])
            headers += error_headers(rejected)
            status = STATUSES.get(rejected.code) or http_status(rejected.code, lenient=False)
            return await answer(scope, send, status, headers, rejection_body(rejected, request_id))

    async def _admit(self, scope: Scope) -> tuple[Context, tables.Export]:
        if scope["method"] not in ("GET", "HEAD"):
            raise Rejected.because("METHOD_NOT_ALLOWED", "Files are fetched by GET.", allow="GET, HEAD")
        service = self._service
        door = Door(self._verifier, service.proofs, scope["path"], service.clock, service.resources)
        context = await door.admit(scope)
        require_right(context.caller, MAY_EXPORT, "exports")
        named = split_id(scope["path_params"]["id"])
        if named is None or named[0] != EXPORT:
            raise NotFound("no such export")
        async with context.reading() as session:
            export = await find_file(session, named[1], context.actor, context.now)
        caller = context.caller
        if caller.kind is CallerKind.PARTNER and needs_tiers(export) and READ_TIERS not in caller.scopes:
            raise InsufficientScope(f"members' tiers are in the file: {READ_TIERS}", missingScopes=[READ_TIERS])
        return context, export

    async def _record(self, context: Context, export: tables.Export, *, resumed: bool) -> None:
        async with context.sessions.begin() as session:
            await exports.record_download(session, export, resumed=resumed, actor=context.actor, now=context.now)

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, export: tables.Export, first: int, end: int
    ) -> None:
        whole = end - first == export.bytes
        headers = [
            (b"content-type", MEDIA[ExportFormat(export.format)].encode()),
            (b"content-disposition", f'attachment; filename="{file_name(export)}"'.encode()),
            (b"accept-ranges", b"bytes"),
            (b"etag", etag_of(export)),
            *HEADERS[1:],
        ]
        if not whole:
            headers.append((b"content-range", f"bytes {first}-{end - 1}/{export.bytes}".encode()))
        await begin(scope, send, 200 if whole else 206, headers, end - first)
        if scope["method"] == "HEAD":
            return await send({"type": "http.response.body", "body": b""})
        gone = asyncio.ensure_future(left(receive))
        try:
            async with aclosing(self._pieces(export.id, first, end)) as pieces:
                async for piece in pieces:
                    async with being_read():
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
                    if gone.done():
                        return None
            return await send({"type": "http.response.body", "body": b""})
        except OSError:  # it reads nothing, or has left while it was written to
            log.info("download_given_up", export=str(export.id))
            return None
        finally:
            gone.cancel()

    async def _pieces(self, export_id: UUID, position: int, end: int) -> AsyncGenerator[bytes, None]:
        """The bytes from `position` until before `end`, as long as the file is there."""
        async with self._service.database.connection() as connection:
            number = await find_part(connection, export_id, position)
        while number is not None and position < end:
            async with self._service.database.connection() as connection:
                part = await read_part(connection, export_id, number)
            if part is None:
                raise ConnectionAbortedError
            offset, body = part
            for start in range(position - offset, min(len(body), end - offset), PIECE_BYTES):
                yield body[start : min(start + PIECE_BYTES, end - offset)]
            position, number = offset + len(body), number + 1


async def left(receive: Receive) -> None:
    """Ends when the client is gone, or the server stops."""
    while (message := await receive())["type"] == "http.request" and (message.get("body") or message.get("more_body")):
        pass
    if message["type"] == "http.request":
        await receive()


def etag_of(export: tables.Export) -> bytes:
    """A strong one: what is done never changes."""
    return f'"{export.id.hex}-{export.bytes}"'.encode()


def read_range(scope: Scope, export: tables.Export) -> tuple[int, int]:
    """The bytes that are asked for, from the first until before the end: all of them unless there is one good range,
    and an If-Range that holds. RangeNotSatisfiable."""
    text, size = (header(scope, b"range") or b"").decode("latin-1").strip().replace(" ", ""), export.bytes
    condition = header(scope, b"if-range")
    found = RANGE.fullmatch(text)
    if scope["method"] != "GET" or found is None or (condition is not None and condition.strip() != etag_of(export)):
        return 0, size
    first, last = found.groups()
    if not first and not last:
        return 0, size
    if not first:
        begin, end = max(0, size - int(last)), size
    else:
        begin, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < begin:
            return 0, size
    if begin >= size:
        raise RangeNotSatisfiable(f"the file has {size} bytes", size=size)
    return begin, end


def error_headers(rejected: Rejected) -> Headers:
    """How long to wait, and how long the file is, where the answer is that."""
    details = rejected.errors[0]["extensions"]
    headers = [(b"retry-after", str(details["retryAfter"]).encode())] if "retryAfter" in details else []
    if rejected.code == "RANGE_NOT_SATISFIABLE":
        headers.append((b"content-range", f"bytes */{details['size']}".encode()))
    return headers


async def begin(scope: Scope, send: Send, status: int, headers: Headers, length: int) -> None:
    """The head of an answer."""
    headers = [*headers, (b"content-length", str(length).encode())]
    headers.append((b"x-request-id", scope["state"]["request_id"].encode()))
    if (nonce := scope["state"].get(NONCE_STATE)) is not None:
        headers.append((b"dpop-nonce", nonce))
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def answer(scope: Scope, send: Send, status: int, headers: Headers, body: bytes) -> None:
    """A whole answer; to HEAD without its body."""
    await begin(scope, send, status, headers, len(body))
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
