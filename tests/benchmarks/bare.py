"""The yardstick: the least that Starlette can answer, under the same uvicorn settings as the gateway's."""

import sys
from contextlib import closing

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from gateway.serving import config, listen
from gateway.settings import Settings


async def show(_: Request) -> JSONResponse:
    """A constant."""
    return JSONResponse({"ok": True})


async def echo(request: Request) -> JSONResponse:
    """A body that was parsed, and what stands in it."""
    return JSONResponse({"ok": True, "query": (await request.json())["query"]})


if __name__ == "__main__":
    settings = Settings(port=int(sys.argv[1]))
    bare = Starlette(routes=[Route("/", show), Route("/", echo, methods=["POST"])])
    with closing(listen(settings)) as listener:
        uvicorn.Server(config(bare, settings)).run(sockets=[listener])
