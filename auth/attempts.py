"""What may be guessed is counted: how the authorization server asks leave for an attempt and says how it ended."""

from ipaddress import IPv6Address, ip_address
from typing import Protocol

from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from auth.errors import Throttled

NETWORK_BITS = 64


class Attempt(Protocol):
    """One attempt that was counted as wrong in advance, so that many at once can't slip through: one that was is
    left as it is."""

    async def succeeded(self) -> None:
        """It was right: it does not count, and the same from there is let through for a day."""

    async def give_back(self) -> None:
        """It was neither right nor wrong (an outage, a device that still waits): it does not count."""


class Attempts(Protocol):
    """The budgets (gateway/rate_limits.py); each method raises Throttled when one is used up."""

    async def client(self, client_id: str, address: str) -> Attempt:
        """A client proves who it is, or presents a code or refresh token. Never refuses who was right here within a
        day, however many others were wrong."""

    async def user_code(self, person: str, address: str) -> Attempt:
        """A person who is signed in types a device's code. Unavailable while it can't be counted."""

    async def sign_in(self, address: str) -> Attempt:
        """Somebody starts to sign in."""

    async def hold_code(self, client_id: str) -> None:
        """A client presents a code that a member showed: of a hold, or a pass."""

    async def right_hold_code(self, client_id: str) -> None:
        """The code was right: the attempt does not count."""


def address_of(scope: Scope) -> str:
    """Where a connection comes from, as budgets tell sources apart: an IPv4 address, or the /64 network of an IPv6
    one, of which one machine has as many addresses as it likes. `local` for a connection without an address."""
    try:
        found = ip_address((scope.get("client") or ("",))[0].partition("%")[0])
    except ValueError:
        return "local"
    if isinstance(found, IPv6Address):
        mapped = found.ipv4_mapped
        return str(mapped) if mapped else f"{IPv6Address(int(found) >> NETWORK_BITS << NETWORK_BITS)}/{NETWORK_BITS}"
    return str(found)


def throttled_response(error: Throttled) -> Response:
    """429 for an OAuth endpoint. RFC 6749 has no code for it; this one says nothing about client or credential."""
    body = {"error": "temporarily_unavailable", "error_description": error.message}
    seconds = str(error.details["retryAfter"])
    return JSONResponse(body, 429, headers={"Retry-After": seconds, "Cache-Control": "no-store", "Pragma": "no-cache"})
