"""Is the process alive (/healthz), and can it serve (/readyz)?"""

import asyncio
from collections.abc import Awaitable

from redis.asyncio import Redis
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from gateway.database import Database
from gateway.high_water import HighWater
from gateway.migrations import require_migrated
from partners.errors import PerksError

SECONDS_MAX = 3


def routes(database: Database, cache: Redis, mark: HighWater) -> list[Route]:
    """Both, to anybody: they tell states, never addresses or versions.

    A log that nothing can be added to is told, and the process stays ready: what happens waits in the outbox.
    """

    async def healthz(_: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> JSONResponse:
        states = {"database": await state(require_migrated(database.engine)), "cache": await state(reach(cache))}
        ready = all(one == "ok" for one in states.values())
        told = {"status": "ready" if ready else "not ready"} | states | {"log": mark.state}
        return JSONResponse(told, 200 if ready else 503)

    return [Route("/healthz", healthz), Route("/readyz", readyz)]


async def reach(cache: Redis) -> None:
    """Raises unless the cache answers."""
    await cache.ping()


async def state(check: Awaitable[None]) -> str:
    """`ok`, or what is wrong, in a few words that are safe for anybody."""
    try:
        await asyncio.wait_for(check, SECONDS_MAX)
    except PerksError:
        return "not migrated"
    except Exception:
        return "unreachable"
    return "ok"
