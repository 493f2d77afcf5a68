"""The service behind a real HTTP server on a real port, for what only happens there: many connections at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import httpx
import uvicorn

from gateway.app import Gateway
from gateway.serving import Http, WebSockets, listen
from gateway.settings import Settings
from tests.api import Api


@asynccontextmanager
async def serving(settings: Settings, connections: int = 50, work: bool = False) -> AsyncIterator[Api]:
    """The service on a free port, with its workers if wanted, and a client with as many connections."""
    with closing(listen(settings.model_copy(update={"port": 0}))) as listener:
        chosen = settings.model_copy(update={"port": listener.getsockname()[1]})
        gateway = Gateway(chosen, work=work)
        config = uvicorn.Config(gateway, http=Http, ws=WebSockets, lifespan="off", log_config=None, access_log=False)
        server = uvicorn.Server(config)
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        async with (
            gateway.living() as service,
            httpx.AsyncClient(base_url=chosen.address, limits=limits, timeout=30) as client,
        ):
            task = asyncio.create_task(server.serve(sockets=[listener]))
            try:
                # Whoever connects before the server is up waits in the listener's queue.
                yield Api(service, client)
            finally:
                server.should_exit = True
                await task
