"""What may be written down about a client: its rights, its ways to a token, and where its users may be sent back to."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from auth.assertions import check_public_keys
from auth.caller import CallerKind
from auth.scopes import require_scopes_of
from auth.tables import Client, ClientAuthentication, GrantType
from partners.consents import check_purpose
from partners.errors import BadInput

NAME_CHARACTERS_MAX = 200
REDIRECTS_MAX = 10
REDIRECT_CHARACTERS_MAX = 500
_URI = re.compile(r"[A-Za-z0-9\-._~:/?\[\]@!$&'()+,;=%]+")  # RFC 3986, without the fragment's # and without *
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")
_PARTNERS_ONLY = frozenset({GrantType.CLIENT_CREDENTIALS, GrantType.DEVICE_CODE, GrantType.TOKEN_EXCHANGE})
_PROVEN_ONLY = frozenset({GrantType.CLIENT_CREDENTIALS})


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """All that can be chosen about a client; `authentication` and `grant_types` for good, the rest may be changed.

    `public_keys` is a JWK Set (RFC 7517 section 5), `purpose` what members are told that it wants to know them for.
    """

    name: str
    scopes: frozenset[str]
    grant_types: Sequence[str] = (GrantType.CLIENT_CREDENTIALS,)
    authentication: str = ClientAuthentication.SECRET
    public_keys: Mapping[str, Any] | None = None
    redirect_uris: Sequence[str] = ()
    requires_pushed: bool = False
    requires_dpop: bool = False
    purpose: str = "perks"


def settings_of(client: Client) -> ClientSettings:
    """What is written down about a client."""
    return ClientSettings(
        name=client.name,
        scopes=frozenset(client.scopes),
        grant_types=client.grant_types,
        authentication=client.authentication,
        public_keys=client.public_keys,
        redirect_uris=client.redirect_uris,
        requires_pushed=client.requires_pushed,
        requires_dpop=client.requires_dpop,
        purpose=client.purpose,
    )


def checked(kind: CallerKind, settings: ClientSettings) -> ClientSettings:
    """The settings of a client of this kind as they are kept; BadInput names the first thing that can't be."""
    name, purpose = settings.name.strip(), settings.purpose.strip()
    if not name or len(name) > NAME_CHARACTERS_MAX or not name.isprintable():
        raise BadInput(f"name: 1 to {NAME_CHARACTERS_MAX} characters, all of them printable")
    check_purpose(purpose)
    if not purpose.isprintable():
        raise BadInput("purpose: printable characters only")
    if not require_scopes_of(kind, settings.scopes):
        raise BadInput("scopes: a client needs at least one scope")
    _check_grants(kind, settings)
    _check_redirects(settings)
    return replace(settings, name=name, purpose=purpose, public_keys=_checked_keys(settings))


def _check_grants(kind: CallerKind, settings: ClientSettings) -> None:
    """Which ways to a token go with whose client it is and how it proves that (RFC 6749 section 4.4: only who can keep
    a credential may use client_credentials)."""
    grants = frozenset(settings.grant_types)
    codes = {GrantType.AUTHORIZATION_CODE, GrantType.DEVICE_CODE}
    faults = [
        (not grants, "at least one"),
        (kind is not CallerKind.PARTNER and grants & _PARTNERS_ONLY, f"not for a client of a {kind}"),
        (settings.authentication == ClientAuthentication.NONE and grants & _PROVEN_ONLY, "not without authentication"),
        (GrantType.REFRESH_TOKEN in grants and not grants & codes, "refresh_token renews a code's or a device's token"),
    ]
    for wrong, message in faults:
        if wrong:
            named = f" ({', '.join(sorted(wrong))})" if isinstance(wrong, frozenset) else ""
            raise BadInput(f"grantTypes: {message}{named}")


def _checked_keys(settings: ClientSettings) -> Mapping[str, Any] | None:
    if settings.authentication == ClientAuthentication.KEY:
        return check_public_keys(settings.public_keys)
    if settings.public_keys is not None:
        raise BadInput("publicKeys: only for authentication KEY")
    return None


def _check_redirects(settings: ClientSettings) -> None:
    uris = settings.redirect_uris
    if bool(uris) != (GrantType.AUTHORIZATION_CODE in settings.grant_types):
        raise BadInput("redirectUris: at least one for authorization_code, and none without it")
    if len(uris) > REDIRECTS_MAX or len(set(uris)) < len(uris):
        raise BadInput(f"redirectUris: at most {REDIRECTS_MAX}, each once")
    for uri in uris:
        if reason := redirect_fault(uri, public=settings.authentication == ClientAuthentication.NONE):
            raise BadInput(f"redirectUris: {reason}")


def redirect_fault(uri: str, *, public: bool) -> str | None:
    """What is wrong with an address that users are sent back to, or None: https, http on this machine's loopback, or
    an app's own scheme for a `public` client (RFC 8252 section 7). It is compared as a whole, to the letter."""
    if not 1 <= len(uri) <= REDIRECT_CHARACTERS_MAX:
        return f"1 to {REDIRECT_CHARACTERS_MAX} characters"
    if not _URI.fullmatch(uri):
        return "a URI without blanks, fragment (#) and wildcard (*)"
    try:
        parts = urlsplit(uri)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "not a URI"
    if "@" in parts.netloc or (parts.netloc and not _is_host(host)):
        return "a plain host name, without user or password"
    check = _SCHEMES.get(parts.scheme)
    if check is not None:
        return check(host)
    own = "." in parts.scheme and not parts.netloc and parts.path.startswith("/")
    if not own:
        return "https://…, http://127.0.0.1… or an app's own scheme in reverse domain form, as com.example.app:/done"
    return None if public else "an app's own scheme is for clients without authentication"


def _is_host(host: str) -> bool:
    try:
        return ip_address(host).version in (4, 6)
    except ValueError:
        return bool(_HOST.fullmatch(host)) and ".." not in host


_SCHEMES: Mapping[str, Callable[[str], str | None]] = {
    "https": lambda host: None if host else "https needs a host",
    # Not localhost, which can be made to mean another machine (RFC 8252 section 8.3).
    "http": lambda host: None if host in ("127.0.0.1", "::1") else "http only on 127.0.0.1 or [::1], else https",
}
