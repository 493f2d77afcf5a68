"""Serves HTTP with uvicorn: one process, or several that share a port."""

import os
import socket
from contextlib import closing

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.supervisors import Multiprocess

from auth.identity import read_identity
from gateway.app import Gateway
from gateway.logs import configure_logs
from gateway.running import announce
from gateway.settings import Settings, SettingsInvalid, read_settings
from partners.programme import read_programme
from schema.limits import Limits

BACKLOG = 2048
UNREAD_MS = 30_000


class Http(HttpToolsProtocol):
    """uvicorn's, except that a stopping server wakes whoever waits to hear from the client while it answers: an event
    stream, which would never end by itself (schema/event_streams.py)."""

    def shutdown(self) -> None:
        """Called once, when the server stops."""
        super().shutdown()
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.message_event.set()


class WebSockets(WebSocketsSansIOProtocol):
    """uvicorn's, except that who does not read what it is sent gets no pongs, which would fill the memory, and is not
    waited for at the end."""

    def handle_ping(self) -> None:
        """Answers what has come so far; a ping need not be answered once another follows (RFC 6455, 5.5.3)."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    async def run_asgi(self) -> None:
        """Called once for each connection."""
        await super().run_asgi()
        if not self.writable.is_set():
            self.transport.abort()


def create_app() -> Gateway:
    """The application of one worker process, from the environment that `serve` has completed."""
    settings = read_settings()
    configure_logs(settings.log_level, as_json=settings.log_json)
    return Gateway(settings)


def serve(settings: Settings) -> None:
    """Serves until SIGINT or SIGTERM; a port of 0 is one that is free."""
    # Read again by each process; a fault in them is told here, in one line and before anything starts.
    read_programme(settings.programme_file)
    if settings.identity is not None:
        read_identity(settings.identity, os.environ)
    with closing(listen(settings)) as listener:
        chosen = settings.model_copy(update={"port": listener.getsockname()[1]})
        announce(chosen)
        if settings.workers == 1:
            configure_logs(settings.log_level, as_json=settings.log_json)
            uvicorn.Server(config(Gateway(chosen), chosen)).run(sockets=[listener])
        else:
            os.environ.update(environment(chosen))
            Multiprocess(config("gateway.serving:create_app", chosen), sockets=[listener]).run()


def listen(settings: Settings) -> socket.socket:
    """A listening socket; SettingsInvalid when the port is taken, saying what to do."""
    listener = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # else who reads no answer keeps its connection for ever
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MS)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as fault:
        listener.close()
        raise SettingsInvalid(
            f"can't listen on {settings.host}:{settings.port}: {fault.strerror}; choose another with --port (0: any)"
        ) from None
    listener.listen(BACKLOG)
    listener.set_inheritable(True)
    return listener


def config(app: object, settings: Settings) -> uvicorn.Config:
    """uvicorn on uvloop and httptools, without the logs that we write ourselves, and without compression of what goes
    over WebSockets: messages are small, and a window for each would not be."""
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        factory=isinstance(app, str),
        loop="uvloop",
        http=Http,
        ws=WebSockets,
        ws_max_size=Limits().body,
        ws_ping_interval=20,
        ws_ping_timeout=20,
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies or None,
        date_header=True,
        workers=settings.workers,
        timeout_graceful_shutdown=10,
        backlog=BACKLOG,
    )


def environment(settings: Settings) -> dict[str, str]:
    """What a worker process has to be told that its parent chose."""
    assert settings.database_url is not None
    assert settings.redis_url is not None
    assert settings.secret is not None
    return {
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "PERKS_SECRET": settings.secret.get_secret_value(),
        "PERKS_BASE_URL": settings.address,
        "PERKS_DATA_FOLDER": str(settings.data_folder),
        "PERKS_TRUSTED_PROXIES": settings.trusted_proxies,
        "PERKS_PROGRAMME": str(settings.programme_file),
        "PERKS_GRAPHIQL": str(settings.graphiql).lower(),
        "PERKS_BUILT_IN_SIGN_IN": str(settings.built_in_sign_in).lower(),
        "PERKS_LOG_LEVEL": settings.log_level,
        "PERKS_LOG_JSON": str(settings.log_json).lower(),
    }
