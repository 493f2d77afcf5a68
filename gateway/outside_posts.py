"""Posts to addresses that partners chose, bounded in time and size, whatever answers there."""

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from email.utils import parsedate_to_datetime

import certifi
import httpcore

from gateway.outside_sockets import CheckedBackend, Limits, OutsideFault, Resolve, Resolver
from partners.outside_addresses import FaultKind, PrivateTargets, UrlRefused, read_url
from partners.values import value

USER_AGENT = "perks-gateway-webhooks/1"
KEPT_CONNECTIONS_MAX = 32
KEPT_S = 4
"""Seconds that an idle connection is kept: less than servers do, so that a message seldom meets one that is closing."""
RETRY_AFTER_MAX_S = 86_400


@value
class Answer:
    """The head of an answer: its status, the seconds that it asks to wait (at most a day), and how long it took."""

    status: int
    retry_after: int | None
    duration_ms: int


class OutsidePosts:
    """One pool of connections; `await posts(url, body, headers)` is one exchange.

    HTTP/1.1 alone. No redirect is followed, nothing is taken from the environment (proxies, passwords), no cookie is
    kept and no answer is decompressed: httpcore does none of it.
    """

    def __init__(self, pool: httpcore.AsyncConnectionPool, private: PrivateTargets, limits: Limits) -> None:
        self._pool, self._private, self._limits = pool, private, limits

    async def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """The answer, whatever its status is. Raises OutsideFault where there is none.

        It counts from the moment its head is there: what its body holds, or does to keep us waiting, changes nothing.
        """
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._limits.total_s):
                response = await self._pool.handle_async_request(self._request(url, body, headers))
        except (TimeoutError, httpcore.TimeoutException):
            raise OutsideFault(FaultKind.TIMEOUT, f"no answer within {self._limits.total_s:g} seconds") from None
        except httpcore.NetworkError:
            raise OutsideFault(FaultKind.CONNECT, "the connection broke") from None
        except (httpcore.ProtocolError, httpcore.UnsupportedProtocol):
            raise OutsideFault(FaultKind.PROTOCOL, "what was answered is not HTTP/1.1") from None
        try:
            head = {name.lower(): text for name, text in response.headers}
            return Answer(response.status, seconds_to_wait(head), round(1000 * (time.monotonic() - began)))
        finally:
            await self._let_go(response)

    def _request(self, url: str, body: bytes, headers: Mapping[str, str]) -> httpcore.Request:
        try:
            target = read_url(url, self._private)
        except UrlRefused as refused:
            raise OutsideFault(FaultKind.REFUSED_ADDRESS, refused.message) from None
        sent: dict[bytes | str, bytes | str] = {
            "Host": target.authority,
            "User-Agent": USER_AGENT,
            "Accept-Encoding": "identity",
            "Content-Length": str(len(body)),
        }
        sent.update(headers.items())
        return httpcore.Request("POST", target.url, headers=sent, content=body)

    async def _let_go(self, response: httpcore.Response) -> None:
        """Keeps the connection if the rest of the answer is short and soon there; closes it otherwise."""
        try:
            with suppress(Exception):
                async with asyncio.timeout(self._limits.body_s):
                    response.extensions["network_stream"].left = self._limits.answer_bytes
                    async for _ in response.aiter_stream():
                        pass
        finally:
            await response.aclose()


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
    """Opens the pool; tests give a resolver, shorter limits, and whom to trust instead of the usual authorities."""
    pool = httpcore.AsyncConnectionPool(
        ssl_context=trusted or ssl.create_default_context(cafile=certifi.where()),
        max_connections=None,
        max_keepalive_connections=KEPT_CONNECTIONS_MAX,
        keepalive_expiry=KEPT_S,
        network_backend=CheckedBackend(private, resolve or Resolver(), limits),
    )
    async with pool:
        yield OutsidePosts(pool, private, limits)
