"""The log by HTTP, for anybody who wants to hold us to it: checkpoint, tiles of hashes, keys; its entries for staff."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from asyncpg import Connection
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from auth.admission import NONCE_STATE
from auth.tokens import TokenVerifier
from gateway.code_uploads import require_right
from gateway.door import Door
from gateway.high_water import vouch
from partners.errors import NotFound, Overloaded
from partners.log_keys import read_verifiers
from partners.notes import SIZE_MAX
from partners.tiles import TILE_WIDTH, Tile, bundle
from schema.errors import Rejected, from_exception, http_status
from schema.http import rejection_body, rejection_headers, request_id_of
from schema.negotiation import header
from schema.permissions import Staff

if TYPE_CHECKING:
    from gateway.app import Service

MAY_READ_ENTRIES = Staff("audit:read")
METHODS = ("GET", "HEAD")
READERS_MAX = 2
WAITING_MAX = 64
TILES_KEPT = 512
"""Full tiles of hashes in memory, 8 KB each."""
STATUS = {"NOT_FOUND": 404, "LOG_FORKED": 503}
TEXT, BYTES, JSON = b"text/plain; charset=utf-8", b"application/octet-stream", b"application/json; charset=utf-8"
FOR_EVER = b"public, max-age=31536000, immutable"
SHORTLY = b"public, max-age=1"
FOR_STAFF = b"private, max-age=31536000, immutable"
NUMBERED = "SELECT coalesce((SELECT number FROM log_head), 1), {}"  # the log of today's, and what is wanted of it
CHECKPOINT = "(SELECT checkpoint FROM log_head WHERE size > 0)"
WITNESSED = """(
  SELECT note FROM witnessed_checkpoint WHERE origin = (SELECT origin FROM log_head) ORDER BY size DESC LIMIT 1)"""
ORIGIN = "(SELECT origin FROM log_head WHERE size > 0)"
LEAVES = "ARRAY(SELECT leaf_hash FROM log_leaf WHERE index >= $1 AND index < $1 + $2 ORDER BY index)"
NODES = "ARRAY(SELECT hash FROM log_node WHERE level = $3 AND index >= $1 AND index < $1 + $2 ORDER BY index)"
ENTRIES = """ARRAY(
  SELECT convert_to(e.leaf, 'UTF8') FROM log_leaf l JOIN audit_entry e ON e.id = l.entry_id
  WHERE l.index >= $1 AND l.index < $1 + $2 ORDER BY l.index)"""


@dataclass(frozen=True, slots=True)
class Found:
    """What is answered, and for how long it may be kept."""

    body: bytes
    media: bytes
    kept: bytes


def routes(service: "Service") -> list[Route]:
    """Everything below /log/."""
    log = Log(service)
    answers = {"checkpoint": log.checkpoint, "witnessed": log.witnessed, "keys": log.keys, "tile/{tile:path}": log.tile}
    return [
        Route(f"/log/{number}{path}", LogRoute(answer))
        for number in ("", "{number:int}/")
        for path, answer in answers.items()
    ]


class LogRoute:
    """An ASGI application for GET and HEAD; whatever goes wrong is JSON, as at /graphql."""

    def __init__(self, find: Callable[[Scope], Awaitable[Found]]) -> None:
        self._find = find

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        request_id = request_id_of(scope)
        try:
            if scope["method"] not in METHODS:
                raise Rejected.because("METHOD_NOT_ALLOWED", "The log is read by GET.", allow=", ".join(METHODS))
            found = await self._find(scope)
            tag = f'"{sha256(found.body).hexdigest()[:32]}"'.encode()
            status, body = (304, b"") if is_known(scope, tag) else (200, found.body)
            headers = [(b"content-type", found.media), (b"cache-control", found.kept), (b"etag", tag)]
        except Exception as error:
            rejected = error if isinstance(error, Rejected) else from_exception(error, request_id)
            status = STATUS.get(rejected.code) or http_status(rejected.code, lenient=False)
            body = rejection_body(rejected, request_id)
            headers = [(b"content-type", JSON), (b"cache-control", b"no-store")]
            headers += rejection_headers(rejected, error, bound=NONCE_STATE in scope["state"])
        if (nonce := scope["state"].get(NONCE_STATE)) is not None:
            headers.append((b"dpop-nonce", nonce))
        headers += [(b"vary", b"authorization"), (b"x-content-type-options", b"nosniff")]
        headers += [(b"x-request-id", request_id.encode()), (b"access-control-allow-origin", b"*")]
        if status != 304:
            headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def is_known(scope: Scope, tag: bytes) -> bool:
    """Whether the caller has it already (RFC 9110, section 13.1.2)."""
    known = header(scope, b"if-none-match")
    return known is not None and (
        known == b"*" or tag in (one.strip().removeprefix(b"W/") for one in known.split(b","))
    )


class Log:
    """What is served, by one statement each, in a few of the process's connections so that claims find theirs."""

    def __init__(self, service: "Service") -> None:
        self._service = service
        self._verifier = TokenVerifier(service.ring, service.authority, service.denied, service.outside.issuers)
        self._turns, self._waiting = asyncio.Semaphore(READERS_MAX), 0
        self._tiles: dict[tuple[int, Tile], bytes] = {}

    async def checkpoint(self, scope: Scope) -> Found:
        """The last signed checkpoint. This host's mark is raised first: nobody is told what could be forgotten.

        LogForked when the database has lost entries that this host knows of.
        """
        note = await self._read(scope, CHECKPOINT)
        if note is None:
            raise NotFound("the log is empty")
        await vouch(self._reading, self._service.high_water, note)
        return Found(note.encode(), TEXT, SHORTLY)

    async def witnessed(self, scope: Scope) -> Found:
        """The largest checkpoint that witnesses have cosigned."""
        note = await self._read(scope, WITNESSED)
        if note is None:
            raise NotFound("no witness has seen the log yet")
        return Found(note.encode(), TEXT, SHORTLY)

    async def keys(self, scope: Scope) -> Found:
        """The verifier keys, a line each: those that sign, then the retired ones. Trust them when you have them from
        elsewhere, too."""
        origin = await self._read(scope, ORIGIN)
        if origin is None:
            raise NotFound("the log is empty")
        async with self._reading() as connection:
            verifiers = await read_verifiers(connection, origin)
        return Found("".join(f"{verifier}\n" for verifier in verifiers).encode(), TEXT, SHORTLY)

    async def tile(self, scope: Scope) -> Found:
        """A tile of hashes, or of entries for staff; NotFound beyond the log's size."""
        tile = Tile.parse(scope["path_params"]["tile"])
        if tile is None or tile.index * TILE_WIDTH > SIZE_MAX - TILE_WIDTH:
            raise NotFound("no such tile: tile/LEVEL/INDEX, tile/entries/INDEX, with .p/WIDTH where it is not full")
        first = tile.index * TILE_WIDTH
        if tile.level is None:
            await self._require_right(scope)
            return Found(bundle(whole(tile, await self._read(scope, ENTRIES, first, tile.width))), BYTES, FOR_STAFF)
        kept = (number_in(scope), tile)
        if (body := self._tiles.get(kept)) is None:
            body = b"".join(whole(tile, await self._hashes(scope, tile, first)))
            if tile.width == TILE_WIDTH:
                if len(self._tiles) >= TILES_KEPT:
                    del self._tiles[next(iter(self._tiles))]
                self._tiles[kept] = body
        return Found(body, BYTES, FOR_EVER)

    async def _hashes(self, scope: Scope, tile: Tile, first: int) -> list[bytes]:
        if not tile.level:
            return list(await self._read(scope, LEAVES, first, tile.width))
        return list(await self._read(scope, NODES, first, tile.width, tile.level))

    async def _read(self, scope: Scope, what: str, *arguments: int) -> Any:
        """What is selected of the log of the address; NotFound for one that is over, or not yet.

        The number is read by the same statement: what is kept for ever must not be of the log that came next.
        """
        async with self._reading() as connection:
            row = await connection.fetchrow(NUMBERED.format(what), *arguments)
        assert row is not None
        number, found = row
        if number != number_in(scope):
            raise NotFound(f"not the log of today, which is at /log/{'' if number == 1 else f'{number}/'}")
        return found

    async def _require_right(self, scope: Scope) -> None:
        """Entries tell partners of each other: they are for staff with `audit:read`."""
        service = self._service
        door = Door(self._verifier, service.proofs, scope["path"], service.clock, service.resources)
        require_right((await door.admit(scope)).caller, MAY_READ_ENTRIES, "entries of the log")

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator["Connection[Any]"]:
        """A connection in its turn; Overloaded when too many wait already."""
        if self._waiting >= WAITING_MAX:
            raise Overloaded("too many read the log at once", retryAfter=1)
        self._waiting += 1
        try:
            async with self._turns, self._service.database.connection() as connection:
                yield connection
        finally:
            self._waiting -= 1


def number_in(scope: Scope) -> int:
    """Which of the database's logs an address names: `/log/…` the first, `/log/2/…` the second; 0 for no such one."""
    number: int = scope["path_params"].get("number", 1)
    return number if number == 1 or scope["path"].startswith(f"/log/{number}/") else 0


def whole(tile: Tile, parts: list[bytes]) -> list[bytes]:
    """All that the tile should have; NotFound while the log has not got so far."""
    if len(parts) != tile.width:
        raise NotFound("the log has not got so far")
    return parts
