"""Posts to addresses that partners chose, bounded in time and size, whatever answers there."""

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from email.utils import parsedate_to_datetime

import certifi
import httpcore

from gateway.outside_sockets import CheckedBackend, Limits, OutsideFault, Resolve, Resolver
from partners.outside_addresses import FaultKind, PrivateTargets, Target, UrlRefused, read_url
from partners.values import value

USER_AGENT = "perks-gateway-webhooks/1"
KEPT_MAX = 256
"""In all, as many as there are posts at once (gateway/webhooks.py): one host may receive for many partners."""
KEPT_S = 4
"""Seconds that an idle connection is kept: less than servers do, so that a message seldom meets one that is closing."""
RETRY_AFTER_MAX_S = 86_400

Kept = tuple[httpcore.AsyncHTTPConnection, asyncio.TimerHandle]


@value
class Answer:
    """The head of an answer: its status, the seconds that it asks to wait (at most a day), and how long it took."""

    status: int
    retry_after: int | None
    duration_ms: int


class OutsidePosts:
    """`await posts(url, body, headers)` is one exchange, on a connection that was kept or on a new one.

    HTTP/1.1 alone. No redirect is followed, nothing is taken from the environment (proxies, passwords), no cookie is
    kept and no answer is decompressed: httpcore's connections do none of it. Its pool is not used: beyond some dozens
    of connections it keeps none.
    """

    def __init__(self, backend: CheckedBackend, trusted: ssl.SSLContext, private: PrivateTargets, limits: Limits):
        self._backend, self._trusted, self._private, self._limits = backend, trusted, private, limits
        self._kept: dict[str, list[Kept]] = {}
        self._kept_count = 0
        self._closing: set[asyncio.Task[None]] = set()

    async def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """The answer, whatever its status is. Raises OutsideFault where there is none.

        It counts from the moment its head is there: what its body holds, or does to keep us waiting, changes nothing.
        """
        began, target = time.monotonic(), self._target(url)
        request, connection = request_of(target, body, headers), self._take(target)
        try:
            async with asyncio.timeout(self._limits.total_s):
                response = await connection.handle_async_request(request)
            head = {name.lower(): text for name, text in response.headers}
            answer = Answer(response.status, seconds_to_wait(head), round(1000 * (time.monotonic() - began)))
            await self._drain(response)
        except (TimeoutError, httpcore.TimeoutException):
            raise OutsideFault(FaultKind.TIMEOUT, f"no answer within {self._limits.total_s:g} seconds") from None
        except httpcore.NetworkError:
            raise OutsideFault(FaultKind.CONNECT, "the connection broke") from None
        except httpcore.ProtocolError:
            raise OutsideFault(FaultKind.PROTOCOL, "what was answered is not HTTP/1.1") from None
        finally:
            await self._let_go(target, connection)
        return answer

    def _target(self, url: str) -> Target:
        try:
            return read_url(url, self._private)
        except UrlRefused as refused:
            raise OutsideFault(FaultKind.REFUSED_ADDRESS, refused.message) from None

    def _take(self, target: Target) -> httpcore.AsyncHTTPConnection:
        """The youngest connection that is kept for the target and still open, or a new one."""
        while kept := self._kept.get(target.origin):
            connection, forgetting = kept.pop()
            self._kept_count -= 1
            forgetting.cancel()
            if not kept:
                del self._kept[target.origin]
            if not connection.has_expired():
                return connection
            self._close(connection)
        origin = httpcore.Origin(target.scheme.encode(), target.host.encode(), target.port)
        return httpcore.AsyncHTTPConnection(origin, self._trusted, network_backend=self._backend)

    async def _drain(self, response: httpcore.Response) -> None:
        """Reads the rest of the answer if it is short and soon there, so that the connection can be used again."""
        try:
            with suppress(Exception):
                response.extensions["network_stream"].left = self._limits.answer_bytes
                async with asyncio.timeout(self._limits.body_s):
                    async for _ in response.aiter_stream():
                        pass
        finally:
            await response.aclose()

    async def _let_go(self, target: Target, connection: httpcore.AsyncHTTPConnection) -> None:
        """Keeps the connection for a few seconds if it is fit for another exchange, or closes it."""
        if connection.is_available() and self._kept_count < KEPT_MAX:
            self._kept_count += 1
            forgetting = asyncio.get_running_loop().call_later(KEPT_S, self._forget, target, connection)
            self._kept.setdefault(target.origin, []).append((connection, forgetting))
        else:
            await connection.aclose()

    def _forget(self, target: Target, connection: httpcore.AsyncHTTPConnection) -> None:
        self._kept_count -= 1
        left = [one for one in self._kept.pop(target.origin, []) if one[0] is not connection]
        if left:
            self._kept[target.origin] = left
        self._close(connection)

    def _close(self, connection: httpcore.AsyncHTTPConnection) -> None:
        task = asyncio.create_task(connection.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        """Closes what is kept."""
        for connection, forgetting in [one for kept in self._kept.values() for one in kept]:
            forgetting.cancel()
            self._close(connection)
        self._kept.clear()
        self._kept_count = 0
        await asyncio.gather(*self._closing)


def request_of(target: Target, body: bytes, headers: Mapping[str, str]) -> httpcore.Request:
    """A POST with the caller's headers and few of its own."""
    sent: dict[bytes | str, bytes | str] = {
        "Host": target.authority,
        "User-Agent": USER_AGENT,
        "Accept-Encoding": "identity",
        "Content-Length": str(len(body)),
    }
    sent.update(headers.items())
    return httpcore.Request("POST", target.url, headers=sent, content=body)


def seconds_to_wait(head: Mapping[bytes, bytes]) -> int | None:
    """What `Retry-After` asks for (RFC 9110 section 10.2.3), at most a day; a date is read against the answer's own."""
    asked = head.get(b"retry-after", b"").decode("latin-1").strip()
    if re.fullmatch("[0-9]{1,12}", asked):
        return min(int(asked), RETRY_AFTER_MAX_S)
    try:
        answered = parsedate_to_datetime(head.get(b"date", b"").decode("latin-1"))
        seconds = (parsedate_to_datetime(asked) - answered).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(round(seconds), 0), RETRY_AFTER_MAX_S)


@asynccontextmanager
async def open_outside_world(
    private: PrivateTargets,
    *,
    limits: Limits = Limits(),  # noqa: B008 - it is frozen
    resolve: Resolve | None = None,
    trusted: ssl.SSLContext | None = None,
) -> AsyncIterator[OutsidePosts]:
    """Opens a client; tests give a resolver, shorter limits, and whom to trust instead of the usual authorities."""
    authorities = trusted or ssl.create_default_context(cafile=certifi.where())
    backend = CheckedBackend(private, resolve or Resolver(), limits)
    async with aclosing(OutsidePosts(backend, authorities, private, limits)) as posts:
        yield posts
