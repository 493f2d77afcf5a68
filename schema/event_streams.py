"""Subscriptions as an HTTP response that goes on: server-sent events, or parts of a multipart response."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson
from starlette.types import Receive, Send

from schema.errors import FormattedError, Rejected, from_exception, with_request_id
from schema.execution import RequestContext
from schema.staying import Again, being_read

EVENT_STREAM = b"text/event-stream"
MULTIPART = b"multipart/mixed"
SPECIFIED = (b"subscriptionspec=1.0", b'subscriptionspec="1.0"')


@dataclass(frozen=True, slots=True)
class Format:
    """How a stream is written. `fault` is for what ends it from outside of GraphQL."""

    media: bytes
    opening: bytes
    beat: bytes
    result: Callable[[bytes], bytes]
    fault: Callable[[bytes], bytes]
    end: bytes


def _part(body: bytes) -> bytes:
    return b"\r\nContent-Type: application/json\r\n\r\n" + body + b"\r\n--graphql"


def _event(body: bytes) -> bytes:
    return b"event: next\ndata: " + body + b"\n\n"


EVENTS = Format(
    # GraphQL over Server-Sent Events, "distinct connections mode": a comment keeps the connection open.
    EVENT_STREAM + b"; charset=utf-8",
    opening=b":\n\n",
    beat=b":\n\n",
    result=_event,
    fault=_event,
    end=b"event: complete\ndata: \n\n",
)
PARTS = Format(
    # Apollo's multipart protocol for subscriptions: an empty object keeps the connection open.
    MULTIPART + b';boundary="graphql";subscriptionSpec="1.0"',
    opening=b"--graphql",
    beat=_part(b"{}"),
    result=lambda body: _part(b'{"payload":' + body + b"}"),
    fault=lambda body: _part(b'{"payload":null,' + body.removeprefix(b"{")),
    end=b"--\r\n",
)


@lru_cache(maxsize=256)
def streaming(accept: bytes | None) -> Format | None:
    """The format of a stream that an Accept header names; wildcards name none, and browsers send them."""
    for part in (accept or b"").lower().split(b","):
        name, *parameters = (piece.strip() for piece in part.split(b";"))
        if name == EVENT_STREAM:
            return EVENTS
        if name == MULTIPART and any(one in SPECIFIED for one in parameters):
            return PARTS
    return None


async def stream(
    format: Format,
    headers: list[tuple[bytes, bytes]],
    results: AsyncGenerator[bytes, None],
    context: RequestContext,
    again: Again,
    *,
    beat_s: float,
    receive: Receive,
    send: Send,
) -> None:
    """Sends results until there are no more, the token ends, the client leaves or the server stops. A slow client
    misses what was overtaken, since the next result is asked for when the last one was sent."""

    async def write(body: bytes, *, more: bool = True) -> None:
        async with being_read():
            await send({"type": "http.response.body", "body": body, "more_body": more})

    await send({"type": "http.response.start", "status": 200, "headers": headers})
    gone = asyncio.ensure_future(receive())
    try:
        await write(format.opening)
        beats = beating(results, gone, lambda: again(context, context.request_id).seconds_left, beat_s)
        async with aclosing(results), aclosing(beats):
            async for body in beats:
                await write(format.beat if body is None else format.result(body))
        # To a client that hears no end, the connection was lost: it comes back.
        await write(b"" if gone.done() else format.end, more=False)
    except OSError:
        pass  # it left while it was written to
    except Rejected as rejected:
        await write(format.result(faults(rejected, context)) + format.end, more=False)
    except Exception as error:
        await write(format.fault(faults(error, context)) + format.end, more=False)
    finally:
        gone.cancel()


async def beating(
    results: AsyncGenerator[bytes, None], gone: "asyncio.Future[Any]", left_s: Callable[[], float], beat_s: float
) -> AsyncGenerator[bytes | None, None]:
    """Results as they come, and None where there was none for `beat_s` seconds, until the client is gone; `left_s`
    is how long the token is good for, and raises when it is not."""
    coming = asyncio.ensure_future(anext(results))
    try:
        while True:
            patience = max(0.0, min(beat_s, left_s()))
            await asyncio.wait((coming, gone), timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            left_s()
            if gone.done():
                return
            if not coming.done():
                yield None
                continue
            try:
                body = coming.result()
            except StopAsyncIteration:
                return
            yield body
            coming = asyncio.ensure_future(anext(results))
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


def faults(error: Exception, context: RequestContext) -> bytes:
    """Why there are no more results, as a result that is nothing but errors."""
    rejected = error if isinstance(error, Rejected) else from_exception(error, context.request_id)
    errors: list[FormattedError] = with_request_id(rejected.errors, context.request_id)
    return orjson.dumps({"errors": errors})
