"""The sockets to addresses that partners chose: what a name resolves to is checked, and just that is reached."""

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from socket import SOCK_STREAM, getaddrinfo

import httpcore

from partners.outside_addresses import Address, FaultKind, PrivateTargets, is_public

Resolve = Callable[[str], Awaitable[list[str]]]
"""A name's addresses as text; OSError where it has none."""

ADDRESSES_TRIED_MAX, ADDRESSES_MAX = 4, 64
"""Looking at the thousands that an answer of the DNS can hold would take a tenth of a second of everybody's."""
RESOLUTIONS_MAX = 64


class OutsideFault(Exception):
    """No answer: `kind` says why, the message says more, of nothing that the address's owner does not know."""

    def __init__(self, kind: FaultKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Limits:
    """What one exchange may cost: seconds for the name, for each of its addresses, for all until the answer's head,
    and for its body; bytes of the head and of the answer as a whole."""

    resolve_s: float = 3
    connect_s: float = 4
    total_s: float = 10
    body_s: float = 1
    head_bytes: int = 32_768
    answer_bytes: int = 65_536


class Resolver:
    """The system's resolver, in threads of its own that nobody waits for at the end: one that hangs for half a minute
    holds up neither the process nor the names of others. Who asks for a name that is being looked up joins in."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Future[list[str] | OSError]] = {}

    async def __call__(self, host: str) -> list[str]:
        """All addresses of a name in the system's order. OSError where it has none, or too many are looked up."""
        if host not in self._running:
            if len(self._running) >= RESOLUTIONS_MAX:
                raise OSError("too many names are being looked up")
            loop = asyncio.get_running_loop()
            try:
                threading.Thread(target=self._look_up, args=(loop, host), name=f"resolve {host}", daemon=True).start()
            except RuntimeError as fault:
                raise OSError(str(fault)) from None
            # What the thread has to say waits for its turn in this loop.
            self._running[host] = loop.create_future()
        found = await asyncio.shield(self._running[host])
        if isinstance(found, OSError):
            raise found
        return found

    def _look_up(self, loop: asyncio.AbstractEventLoop, host: str) -> None:
        found: list[str] | OSError
        try:
            found = [str(one[4][0]) for one in getaddrinfo(host, None, type=SOCK_STREAM)]
        except (OSError, UnicodeError) as fault:
            found = OSError(str(fault))
        # The loop may be gone by now.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._settle, host, found)

    def _settle(self, host: str, found: list[str] | OSError) -> None:
        self._running.pop(host).set_result(found)


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """Opens connections to what a name resolved to, if every one of its addresses may be reached."""

    def __init__(self, private: PrivateTargets, resolve: Resolve, limits: Limits) -> None:
        self._private, self._resolve, self._limits = private, resolve, limits
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface of httpcore
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to the first of the addresses that takes one."""
        for address in (await self.addresses(host, port))[:ADDRESSES_TRIED_MAX]:
            try:
                stream = await self._network.connect_tcp(str(address), port, self._limits.connect_s)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
            bounded = BoundedStream(stream, self._limits)
            peer = stream.get_extra_info("server_addr")
            if peer is None or ip_address(peer[0]) != address:
                await bounded.aclose()
                raise OutsideFault(FaultKind.REFUSED_ADDRESS, "the connection leads elsewhere")
            return bounded
        raise OutsideFault(FaultKind.CONNECT, f"{host} does not take connections")

    async def addresses(self, host: str, port: int) -> list[Address]:
        """What the name resolves to, each once. Raises OutsideFault if one of them may not be reached, or none is."""
        # With a dot at its end a name is looked up as it is, and not below the domains of this machine's network.
        name = host if self._private.name(host, port) else f"{host}."
        try:
            async with asyncio.timeout(self._limits.resolve_s):
                found = await self._resolve(name)
        except TimeoutError:
            raise OutsideFault(FaultKind.DNS, f"the name {host} was not resolved in time") from None
        except OSError:
            raise OutsideFault(FaultKind.DNS, f"the name {host} has no address") from None
        names = dict.fromkeys(found)
        if len(names) > ADDRESSES_MAX:
            raise OutsideFault(FaultKind.DNS, f"the name {host} has too many addresses")
        addresses = [ip_address(one) for one in names]
        if not addresses:
            raise OutsideFault(FaultKind.DNS, f"the name {host} has no address")
        if not all(self._may_reach(host, address, port) for address in addresses):
            raise OutsideFault(FaultKind.REFUSED_ADDRESS, f"{host} is not an address of the public Internet")
        return addresses

    def _may_reach(self, host: str, address: Address, port: int) -> bool:
        return is_public(address) or self._private.name(host, port) or self._private.hold(address, port)


class BoundedStream(httpcore.AsyncNetworkStream):
    """A connection on which one answer has so many bytes and no more: whatever it is made of, from interim answers
    without end to a trailer that never stops. Each request that is written starts the count again."""

    def __init__(self, stream: httpcore.AsyncNetworkStream, limits: Limits) -> None:
        self._stream, self._limits = stream, limits
        self.left = limits.head_bytes

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        if self.left <= 0:
            raise OutsideFault(FaultKind.TOO_LARGE, "the answer is too large")
        received = await self._stream.read(min(max_bytes, self.left), timeout)
        self.left -= len(received)
        return received

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        self.left = self._limits.head_bytes
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        """TLS on it; whoever is not what the name says is a fault of kind TLS."""
        try:
            stream = await self._stream.start_tls(ssl_context, server_hostname, timeout)
        except httpcore.ConnectError as fault:
            raise OutsideFault(FaultKind.TLS, tls_fault(fault)) from None
        except BaseException:
            await self.aclose()
            raise
        return BoundedStream(stream, self._limits)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


def tls_fault(fault: BaseException) -> str:
    """What is wrong with a certificate, in the words of OpenSSL; nothing that the other side wrote."""
    cause: BaseException | None = fault
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the certificate is not good: {cause.verify_message}"
    return "no TLS could be agreed on"
