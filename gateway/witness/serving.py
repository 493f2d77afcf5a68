"""A witness by HTTP: bodies are small, slow ones are not waited for, and too many at once are turned away."""

import asyncio
import socket
from contextlib import suppress

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.witness.cosigning import Refused, Witness
from gateway.witness.records import RecordDamaged

log = structlog.get_logger()

BODY_BYTES_MAX = 128 * 1024  # 63 hashes, and a checkpoint with twenty signatures of 5 kB
HEAD_SECONDS_MAX = BODY_SECONDS_MAX = 10.0
CONNECTIONS_MAX = 200
SIZE_TYPE = "text/x.tlog.size"
HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


class Http(HttpToolsProtocol):
    """uvicorn's, except that who does not say what it wants is not waited for: else a few hundred connections that
    send nothing would keep every log out."""

    _impatience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called once for each connection."""
        super().connection_made(transport)
        self.wait()

    def on_message_begin(self) -> None:
        """Called when a request's first bytes have come."""
        super().on_message_begin()
        self.wait()

    def on_headers_complete(self) -> None:
        """Called when the head of a request is there."""
        self.calm()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called once, at the end."""
        self.calm()
        super().connection_lost(exc)

    def wait(self) -> None:
        """For the head of a request, and no longer than may be."""
        self.calm()
        self._impatience = self.loop.call_later(HEAD_SECONDS_MAX, self.transport.close)

    def calm(self) -> None:
        """Whoever was waited for is there, or gone."""
        if self._impatience is not None:
            self._impatience.cancel()


def application(witness: Witness) -> Starlette:
    """The ASGI application: POST /add-checkpoint, and for monitors GET / and GET /checkpoint/ORIGIN."""

    async def add(request: Request) -> Response:
        try:
            return text(await asyncio.to_thread(witness.sign, await body_of(request)))
        except Refused as refusal:
            if refusal.size is not None:
                return text(f"{refusal.size}\n", refusal.status, SIZE_TYPE)
            return text(f"{refusal}\n", refusal.status)
        except (RecordDamaged, OSError) as fault:
            log.error("witness.failed", detail=str(fault))
            return text("this witness can't read or write what it remembers\n", 500)

    async def newest(request: Request) -> Response:
        try:
            note = await asyncio.to_thread(witness.newest, request.path_params["origin"])
        except (RecordDamaged, OSError) as fault:
            log.error("witness.failed", detail=str(fault))
            return text("this witness can't read what it remembers\n", 500)
        return text("nothing of that log has been signed\n", 404) if note is None else text(note)

    async def key(_: Request) -> Response:
        return text(f"{witness.identity.verifier}\n")

    return Starlette(
        routes=[
            Route("/add-checkpoint", add, methods=["POST"]),
            Route("/checkpoint/{origin:path}", newest),
            Route("/", key),
        ]
    )


async def body_of(request: Request) -> bytes:
    """The whole body; Refused when it is too long or takes too long."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS_MAX):
            async for chunk in request.stream():
                body += chunk
                if len(body) > BODY_BYTES_MAX:
                    raise Refused(413, f"more than {BODY_BYTES_MAX} bytes")
    except TimeoutError:
        raise Refused(408, f"not sent within {BODY_SECONDS_MAX:g} s") from None
    except ClientDisconnect:
        raise Refused(400, "cut off") from None
    return bytes(body)


def text(content: str, status: int = 200, kind: str = "text/plain; charset=utf-8") -> Response:
    """An answer that nobody stores."""
    return Response(content.encode(), status, {**HEADERS, "content-type": kind})


def config(witness: Witness) -> uvicorn.Config:
    """uvicorn, without logs of each request."""
    return uvicorn.Config(
        application(witness),
        loop="uvloop",
        http=Http,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS_MAX,
        timeout_graceful_shutdown=10,
    )


def serve(witness: Witness, listener: socket.socket) -> None:
    """Serves until SIGINT or SIGTERM."""
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config(witness)).run(sockets=[listener])
