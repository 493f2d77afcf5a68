"""What issuers outside publish: fetched with limits, by one for all who wait, and kept for when the issuer is away."""

import asyncio
import logging
import re
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit, urlunsplit

import httpx
import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from joserfc import jws
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import Key, RSAKey, import_key

from auth.identity import ALGORITHMS, is_safe_address
from partners.errors import Unavailable

FETCH_SECONDS_MAX = 5.0
DOCUMENT_BYTES_MAX = 256 * 1024
KEYS_MAX = 50
KEY_ID_CHARACTERS_MAX = 255
RSA_BITS_MAX = 8192
FLOOR = timedelta(seconds=30)
FLOOR_AFTER_FAULT = timedelta(seconds=10)
FRESH_FOR = timedelta(minutes=10)
FRESH_FOR_MIN = timedelta(minutes=1)
FRESH_FOR_MAX = timedelta(hours=24)
METADATA_FRESH_FOR_MAX = timedelta(hours=1)
STALE_FOR = timedelta(hours=24)
_NEVER = datetime.min.replace(tzinfo=UTC)
_PUBLIC = ("kty", "crv", "x", "y", "n", "e")
_SECRET = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_log = logging.getLogger(__name__)

Document = dict[str, Any]
Kind = TypeVar("Kind")


class NotThere(Unavailable):
    """The issuer answers that it has no such document."""


@asynccontextmanager
async def open_web() -> AsyncIterator[httpx.AsyncClient]:
    """The one client for what issuers publish: it follows no redirect and waits at most `FETCH_SECONDS_MAX` a step.

    Proxies and private certificate authorities are those of the process's environment, as everywhere.
    """
    limits = httpx.Limits(max_connections=20, max_keepalive_connections=5)
    async with httpx.AsyncClient(timeout=FETCH_SECONDS_MAX, follow_redirects=False, limits=limits) as client:
        yield client


async def fetch_document(
    client: httpx.AsyncClient,
    address: str,
    *,
    form: Mapping[str, str] | None = None,
    basic: httpx.BasicAuth | None = None,
) -> tuple[Document, timedelta]:
    """The JSON object at an address, and for how long it is fresh (RFC 9111 section 5.2.2.1, within our bounds): what
    is there, or the answer to a `form`.

    Unavailable says what is wrong with the answer: in words for a log, not for a caller.
    """
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    body = bytearray()
    try:
        method = "GET" if form is None else "POST"
        asked = client.stream(method, address, headers=headers, data=form, auth=basic)
        async with asyncio.timeout(FETCH_SECONDS_MAX), asked as response:
            if response.status_code != 200:
                raise (NotThere if response.status_code == 404 else Unavailable)(f"status {response.status_code}")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise Unavailable("an encoding that was not asked for")
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > DOCUMENT_BYTES_MAX:
                    raise Unavailable(f"more than {DOCUMENT_BYTES_MAX} bytes")
        content = orjson.loads(bytes(body))
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as fault:
        raise Unavailable(f"no answer: {type(fault).__name__}") from None
    except ValueError:
        raise Unavailable("not JSON") from None
    if not isinstance(content, dict):
        raise Unavailable("not a JSON object")
    return content, fresh_for(response.headers.get("cache-control", ""))


def fresh_for(cache_control: str) -> timedelta:
    """How long an answer may be used without asking again: what its header says, from a minute to a day."""
    directives = cache_control.lower()
    if "no-store" in directives or "no-cache" in directives:
        return FRESH_FOR_MIN
    said = re.search(r"(?:^|[\s,])max-age=\"?([0-9]{1,9})", directives)
    return FRESH_FOR if said is None else min(max(timedelta(seconds=int(said[1])), FRESH_FOR_MIN), FRESH_FOR_MAX)


async def discover(client: httpx.AsyncClient, issuer: str) -> tuple[Document, timedelta]:
    """The issuer's own description (OpenID Connect Discovery section 4, or RFC 8414 section 3); else Unavailable.

    Addresses in it that are not safe are left out: of an issuer that is not on this machine, all but https.
    """
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    try:
        found, fresh = await fetch_document(client, f"{issuer.rstrip('/')}/.well-known/openid-configuration")
    except NotThere:
        inserted = f"/.well-known/oauth-authorization-server{path}"
        found, fresh = await fetch_document(client, urlunsplit(parts._replace(path=inserted)))
    if found.get("issuer") != issuer:
        raise Unavailable("the description of another issuer")
    safe = {
        name: value
        for name, value in found.items()
        if not name.endswith(("_endpoint", "jwks_uri")) or _is_safe_from(issuer, value)
    }
    return safe, min(fresh, METADATA_FRESH_FOR_MAX)


def _is_safe_from(issuer: str, address: Any) -> bool:
    return isinstance(address, str) and is_safe_address(address) and address.startswith(("https:", issuer[:5]))


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that verifies; `algorithm` when the set says that it is for this one only."""

    key: Key
    algorithm: str | None = None

    def verifies(self, algorithm: str, message: bytes, signature: bytes) -> bool:
        """Whether the signature is this key's, by an algorithm that fits it."""
        name = _modern(algorithm)
        if algorithm not in ALGORITHMS or self.algorithm not in (None, name):
            return False
        model = jws.JWSRegistry.algorithms[name]
        try:
            model.check_key(self.key)
            return model.verify(message, signature, self.key)
        except (JoseError, ValueError):
            return False


def _modern(algorithm: str) -> str:
    """RFC 9864 deprecates the name EdDSA, which leaves the curve open; here it always was Ed25519."""
    return "Ed25519" if algorithm == "EdDSA" else algorithm


def read_keys(document: Document) -> dict[str, PublicKey]:
    """The keys of a JWK Set (RFC 7517 section 5) by their ids; Unavailable when it is none or too large.

    What can't be used is passed over, as the RFC asks: other kinds and purposes, private keys, weak ones.
    """
    entries = document.get("keys")
    if not isinstance(entries, list):
        raise Unavailable("not a JWK Set")
    if len(entries) > KEYS_MAX:
        raise Unavailable(f"more than {KEYS_MAX} keys")
    keys: dict[str, PublicKey] = {}
    for entry in entries:
        if isinstance(entry, dict) and (key := read_key(entry)) is not None:
            keys.setdefault(entry["kid"], key)
    return keys


def read_key(entry: Document) -> PublicKey | None:
    """One key of a set, or None when it is not for verifying."""
    kid, algorithm, operations = entry.get("kid"), entry.get("alg"), entry.get("key_ops", ["verify"])
    if not isinstance(kid, str) or not 1 <= len(kid) <= KEY_ID_CHARACTERS_MAX or _SECRET & entry.keys():
        return None
    if entry.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return None
    if entry.get("kty") not in ("EC", "RSA", "OKP") or (algorithm is not None and algorithm not in ALGORITHMS):
        return None
    try:
        with warnings.catch_warnings(action="error", category=SecurityWarning):
            key = import_key({name: entry[name] for name in _PUBLIC if name in entry})
    except (JoseError, SecurityWarning, UnsupportedAlgorithm, ArithmeticError, LookupError, TypeError, ValueError):
        return None
    if isinstance(key, RSAKey) and key.raw_value.key_size > RSA_BITS_MAX:
        return None
    return PublicKey(key, algorithm and _modern(algorithm))


class Kept(Generic[Kind]):
    """Something that is fetched by one for all who wait, again when it is not fresh, and rarely when it fails.

    What was read verifies for `STALE_FOR` while its source is `away`. Between two fetches lies `FLOOR`, however much
    is asked for; `FLOOR_AFTER_FAULT` when the last one failed.
    """

    def __init__(self, name: str, fetch: Callable[[datetime], Awaitable[tuple[Kind, timedelta]]]) -> None:
        self.away = False
        self._name, self._fetch = name, fetch
        self._alone = asyncio.Lock()
        self._held: Kind | None = None
        self._read_at = self._fresh_until = self._tried_at = _NEVER

    async def get(self, now: datetime, suffices: Callable[[Kind], bool] = lambda _: True) -> Kind:
        """What is held, fetched again if it is not fresh or does not suffice; Unavailable when there is nothing."""
        if self._should_fetch(now, suffices) and not self._others_try(suffices):
            async with self._alone:
                if self._should_fetch(now, suffices):
                    await self._try(now)
        if self._held is None or now - self._read_at >= STALE_FOR:
            raise Unavailable(f"{self._name} can't be fetched; try again later")
        return self._held

    def _should_fetch(self, now: datetime, suffices: Callable[[Kind], bool]) -> bool:
        if self._held is not None and now < self._fresh_until and suffices(self._held):
            return False
        return now - self._tried_at >= (FLOOR_AFTER_FAULT if self.away else FLOOR)

    def _others_try(self, suffices: Callable[[Kind], bool]) -> bool:
        """Nobody waits for an issuer that was away just now, when what is held will do."""
        return self.away and self._alone.locked() and self._held is not None and suffices(self._held)

    async def _try(self, now: datetime) -> None:
        try:
            held, fresh = await self._fetch(now)
        except Unavailable as fault:
            self.away = True
            _log.warning("%s can't be fetched: %s", self._name, fault.message)
        else:
            self.away, self._held, self._read_at, self._fresh_until = False, held, now, now + fresh
        # A fetch that is cancelled does not count, so that nobody can keep others from trying.
        self._tried_at = now


class KeySet:
    """The keys of one issuer, from `jwks_uri` or from where its own description says."""

    def __init__(self, client: httpx.AsyncClient, issuer: str, jwks_uri: str | None = None) -> None:
        self._client, self._jwks_uri = client, jwks_uri
        self._metadata = Kept(f"the description of {issuer}", lambda _: discover(client, issuer))
        self._keys = Kept(f"the keys of {issuer}", self._fetch)

    async def metadata(self, now: datetime) -> Mapping[str, Any]:
        """The issuer's description of itself, with safe addresses only; Unavailable when it can't be fetched."""
        return await self._metadata.get(now)

    async def find(self, kid: str, now: datetime) -> PublicKey | None:
        """The key of that id, or None; Unavailable when the issuer would have to be asked and can't be."""
        keys = await self._keys.get(now, lambda held: kid in held)
        if kid not in keys and self._keys.away:
            raise Unavailable("the token's key is not known yet and its issuer can't be reached; try again later")
        return keys.get(kid)

    async def _fetch(self, now: datetime) -> tuple[dict[str, PublicKey], timedelta]:
        address = self._jwks_uri or (await self.metadata(now)).get("jwks_uri")
        if address is None:
            raise Unavailable("the description has no jwks_uri")
        document, fresh = await fetch_document(self._client, address)
        return read_keys(document), fresh
