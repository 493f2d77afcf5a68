"""The keys that clients hold: which kinds are taken, and how the JWTs that they sign are read."""

import json
import math
from base64 import urlsafe_b64decode
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

HEADER_BYTES_MAX = 4096  # a proof's header holds its key, and one of RSA 4096 is about 1,000 bytes
PAYLOAD_BYTES_MAX = 4096
RSA_BITS = range(2048, 4097)
RSA_EXPONENT = "AQAB"  # 65537; another one can make each verification as dear as a signature
MATERIAL_CHARACTERS_MAX = 700
TEXT_CHARACTERS_MAX = 256

# "EdDSA" is what FAPI 2.0 and older libraries call Ed25519 (RFC 9864).
ALGORITHMS = ("ES256", "PS256", "RS256", "Ed25519", "EdDSA")
_KINDS: Mapping[str, tuple[type[ECKey | OKPKey | RSAKey], str | None, tuple[str, ...], frozenset[str]]] = {
    "EC": (ECKey, "P-256", ("crv", "x", "y"), frozenset({"ES256"})),
    "OKP": (OKPKey, "Ed25519", ("crv", "x"), frozenset({"Ed25519", "EdDSA"})),
    "RSA": (RSAKey, None, ("n", "e"), frozenset({"PS256", "RS256"})),
}
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


class KeyFault(ValueError):
    """A key or what it signed can't be taken; the message is a fixed text, fit for an `error_description`."""


class _Registry(jws.JWSRegistry):
    """joserfc's own limit of 512 bytes would refuse proofs with an RSA key."""

    max_header_length = HEADER_BYTES_MAX
    max_payload_length = PAYLOAD_BYTES_MAX
    algorithms = {name: jws.JWSRegistry.algorithms[name.replace("EdDSA", "Ed25519")] for name in ALGORITHMS}  # noqa: RUF012


_REGISTRY = _Registry(algorithms=ALGORITHMS)


@dataclass(frozen=True, slots=True)
class ClientKey:
    """A public key, its thumbprint (RFC 7638), and the algorithms it may sign with."""

    key: Key
    thumbprint: str
    algorithms: frozenset[str]


@dataclass(frozen=True, slots=True)
class Signed:
    """A JWT whose signature has not been looked at yet."""

    header: dict[str, Any]
    claims: dict[str, Any]
    compact: jws.CompactSignature

    def is_signed_by(self, key: ClientKey) -> bool:
        """Whether that key made the signature, by an algorithm of its own."""
        if self.header["alg"] not in key.algorithms:
            return False
        try:
            return jws.validate_compact(self.compact, key.key, registry=_REGISTRY)
        except (JoseError, TypeError, ValueError):
            return False

    def seconds(self, claim: str) -> float | None:
        """A NumericDate, None when it is absent; KeyFault when it is not a finite number."""
        value = self.claims.get(claim)
        if value is None:
            return None
        with suppress(OverflowError):
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(float(value)):
                return float(value)
        raise KeyFault(f"{claim} is not a number of seconds")

    def text(self, claim: str) -> str:
        """A text of 1 to `TEXT_CHARACTERS_MAX` characters; KeyFault otherwise."""
        value = self.claims.get(claim)
        if not isinstance(value, str) or not 0 < len(value) <= TEXT_CHARACTERS_MAX:
            raise KeyFault(f"{claim} must be a text of 1 to {TEXT_CHARACTERS_MAX} characters")
        return value


def read_signed(token: bytes, members: Collection[str]) -> Signed:
    """The JWT in its parts; KeyFault when it is none, or when its header holds other than these members.

    What else a header can hold (`jku`, `x5u`, `crit`, …) is only of use to an attacker.
    """
    try:
        compact = jws.extract_compact(token, registry=_REGISTRY)
        claims = json.loads(compact.payload.decode())
    except (JoseError, AttributeError, TypeError, ValueError, RecursionError):
        raise KeyFault("it is not a JWT, or longer than one may be") from None
    header = compact.protected
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise KeyFault("its header and its payload must be JSON objects")
    if header.get("alg") not in ALGORITHMS:
        raise KeyFault(f"alg must be one of {', '.join(ALGORITHMS)}")
    if not header.keys() <= set(members):
        raise KeyFault(f"the header may hold {', '.join(sorted(members))} and nothing else")
    return Signed(header, claims, compact)


def import_public_key(jwk: object) -> ClientKey:
    """A public key from its JWK (RFC 7517): P-256, Ed25519 or RSA of 2048 to 4096 bits; KeyFault otherwise."""
    if not isinstance(jwk, Mapping):
        raise KeyFault("a key must be a JWK, which is a JSON object")
    if _PRIVATE & jwk.keys():
        raise KeyFault("the key is a private one; replace it, since it is no secret any more, and send its public part")
    kty = jwk.get("kty")
    if not isinstance(kty, str) or kty not in _KINDS:
        raise KeyFault(f"kty must be one of {', '.join(_KINDS)}")
    _, curve, members, _ = _KINDS[kty]
    if curve is not None and jwk.get("crv") != curve:
        raise KeyFault(f"crv of a key of type {kty} must be {curve}")
    material = tuple(jwk.get(member) for member in members)
    if not all(isinstance(part, str) and len(part) <= MATERIAL_CHARACTERS_MAX for part in material):
        raise KeyFault(f"a key of type {kty} needs {', '.join(members)} as texts, and not longer than they need be")
    return _import(kty, material)


@lru_cache(maxsize=1024)
def _import(kty: str, material: tuple[str, ...]) -> ClientKey:
    key_type, _, members, algorithms = _KINDS[kty]
    try:
        if kty == "RSA":
            _require_sound(*material)
        key = key_type.import_key({"kty": kty, **dict(zip(members, material, strict=True))})
        return ClientKey(key, key.thumbprint(), algorithms)
    except KeyFault:
        raise
    except (JoseError, TypeError, ValueError, OverflowError, UnsupportedAlgorithm):
        raise KeyFault(f"it is not a public key of type {kty}") from None


def _require_sound(modulus: str, exponent: str) -> None:
    bits = int.from_bytes(urlsafe_b64decode(modulus + "==")).bit_length()
    if bits not in RSA_BITS or exponent != RSA_EXPONENT:
        raise KeyFault(f"an RSA key must have {RSA_BITS.start} to {RSA_BITS.stop - 1} bits and the exponent 65537")
