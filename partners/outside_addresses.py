"""Which addresses that a partner chose may be reached at all: names on the public Internet, and what is named here."""

import re
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

import idna

from partners.errors import BadInput
from partners.values import value

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

URL_LENGTH_MAX = 2048
HTTPS_PORT = 443
HOST_LENGTH_MAX = 253
"""Characters of a name in ASCII (RFC 1035 section 3.1)."""

NAME = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+(?:[a-z]{2,63}|xn--[a-z0-9-]{1,59})")
"""At least two labels, the last one no number: whatever a resolver could read as an IPv4 address ends in one."""

INNER_SUFFIXES = frozenset(
    {"alt", "arpa", "corp", "home", "internal", "intranet", "invalid", "lan"}
    | {"local", "localdomain", "localhost", "mail", "onion", "private", "test"}
)
"""Names that never lead out: RFC 6761, 6762, 7686, 8375, 9476, ICANN's `.internal`, and what networks use instead."""

INNER_NETWORKS: tuple[Network, ...] = (
    # IANA's registry of special IPv4 addresses (RFC 6890 and later), whatever the library's version knows of it.
    *map(IPv4Network, ("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12")),
    *map(IPv4Network, ("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15")),
    *map(IPv4Network, ("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3")),
    # It looks public, and is the inner door of a large cloud's hosts.
    IPv4Network("168.63.129.16/32"),
    # Teredo, benchmarking and the rest of 2001::/23; documentation; 6to4.
    *map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")),
)
GLOBAL_UNICAST = ip_network("2000::/3")
"""Outside of it no IPv6 address is public: mapped IPv4, both NAT64 prefixes, unique local, link-local, multicast."""


class FaultKind(StrEnum):
    """Why an address that a partner chose gave no answer; the last two are no fault of its own."""

    DNS = "DNS"
    REFUSED_ADDRESS = "REFUSED_ADDRESS"
    CONNECT = "CONNECT"
    TLS = "TLS"
    TIMEOUT = "TIMEOUT"
    TOO_LARGE = "TOO_LARGE"
    PROTOCOL = "PROTOCOL"
    NO_SECRET = "NO_SECRET"  # noqa: S105
    INTERNAL = "INTERNAL"


class UrlRefused(BadInput):
    """An address that can't be a webhook's, whatever its name resolves to; the message says why."""

    code = "URL_REFUSED"


@value
class PrivateTargets:
    """Hosts and networks, each with one port or any, that may be reached although they are not public."""

    hosts: frozenset[tuple[str, int | None]] = frozenset()
    networks: tuple[tuple[Network, int | None], ...] = ()

    def name(self, host: str, port: int) -> bool:
        """Whether that host is named, as it is written, or lies as an address in a network that is."""
        if not {(host, port), (host, None)}.isdisjoint(self.hosts):
            return True
        try:
            return self.hold(ip_address(host), port)
        except ValueError:
            return False

    def hold(self, address: Address, port: int) -> bool:
        """Whether the address lies in one of the networks."""
        return any(at in (None, port) and address in network for network, at in self.networks)


def read_private_targets(text: str) -> PrivateTargets:
    """`host`, `host:port`, `10.0.0.0/8`, `[fd00::/8]:8080`, with commas between. ValueError names what is none."""
    hosts, networks = set(), []
    for one in filter(None, (part.strip().lower() for part in text.split(","))):
        match = re.fullmatch(r"(?:\[([0-9a-f:./]+)\]|([a-z0-9./-]+))(?::([0-9]{1,5}))?", one)
        if match is None or int(match[3] or 1) not in range(1, 65536):
            raise ValueError(f"{one!r} is neither a host nor a network, with or without a port")
        name, port = match[1] or match[2], int(match[3]) if match[3] else None
        if match[1] or re.fullmatch(r"[0-9./]+", name):
            networks.append((ip_network(name), port))
        elif "/" in name:
            raise ValueError(f"{one!r} is no network")
        else:
            hosts.add((name, port))
    return PrivateTargets(frozenset(hosts), tuple(networks))


@value
class Target:
    """One address taken apart: everything in ASCII, the host in lower case (RFC 5891's A-labels)."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """Host and port, the port only where it is not the scheme's own."""
        usual = {"https": HTTPS_PORT, "http": 80}[self.scheme] == self.port
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if usual else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """What connections go to."""
        return f"{self.scheme}://{self.authority}"

    @property
    def url(self) -> str:
        """The same as text."""
        return f"{self.origin}{self.path}"


def read_url(url: str, private: PrivateTargets = PrivateTargets()) -> Target:  # noqa: B008 - it is frozen
    """What the address says, if it may be reached as far as its text tells; UrlRefused says why it may not.

    https, port 443 and a public name alone, without user, password or fragment; what `private` names may have another
    port, and http. What the name resolves to is checked at the socket.
    """
    if len(url) > URL_LENGTH_MAX:
        raise UrlRefused(f"the address has more than {URL_LENGTH_MAX:,} characters")
    if not url.isprintable() or any(character in ' "<>\\^`{|}#' for character in url):
        raise UrlRefused("the address has characters that an address can't have, or a fragment")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UrlRefused("the address can't be read") from None
    if parts.scheme not in ("https", "http"):
        raise UrlRefused("the address has to begin with https://")
    if "@" in parts.netloc:
        raise UrlRefused("the address has a user or a password in it")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not path.isascii():
        raise UrlRefused("path and query have to be percent-encoded")
    port = port if port is not None else {"https": HTTPS_PORT, "http": 80}[parts.scheme]
    host = ascii_host(parts.hostname or "")
    if not private.name(host, port):
        require_public(parts.scheme, host, port, parts.netloc)
    return Target(parts.scheme, host, port, path)


def require_public(scheme: str, host: str, port: int, netloc: str) -> None:
    """UrlRefused unless the parts are those of a public address."""
    if scheme != "https":
        raise UrlRefused("the address has to begin with https://")
    if port != HTTPS_PORT or netloc.endswith(":"):
        raise UrlRefused(f"the port has to be {HTTPS_PORT}")
    if len(host) > HOST_LENGTH_MAX or NAME.fullmatch(host) is None:
        raise UrlRefused("the host has to be a full name, as in hooks.brand.com; addresses in numbers are not taken")
    if host.rpartition(".")[2] in INNER_SUFFIXES:
        raise UrlRefused("the host's name is not one of the public Internet")


def ascii_host(host: str) -> str:
    """The host as resolvers and certificates know it; characters that only look alike stay different (RFC 5891)."""
    if host.isascii():
        return host.lower()
    try:
        return idna.encode(host, uts46=True, std3_rules=True).decode()
    except (idna.IDNAError, UnicodeError):
        raise UrlRefused("the host's name can't be one") from None


def is_public(address: Address) -> bool:
    """Whether an address is one of the public Internet, and does not lead to another that is not."""
    if isinstance(address, IPv6Address) and (address.scope_id is not None or address not in GLOBAL_UNICAST):
        return False
    inner = any(address.version == network.version and address in network for network in INNER_NETWORKS)
    return address.is_global and not address.is_multicast and not inner
