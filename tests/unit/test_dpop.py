"""Proofs of possession: each way in which one does not hold has its own words, and no bytes make the reader stumble."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from authlib.oauth2.rfc6749 import OAuth2Error  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey, OctKey
from redis.asyncio import Redis
from starlette.types import Scope

from auth.dpop import InvalidProof, NonceNeeded, Proofs
from tests.holders import MISSING, Holder, encoded, holder

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECRET = b"the operator's secret, 32 bytes or more"
HERE = "https://perks.example"
TOKEN = "a.b.c"
PATH = "/graphql"
PROOFS = Proofs(Redis(), SECRET, HERE)  # nothing here comes so far that it would connect
HOLDER = holder()
NONCE = PROOFS.nonce(NOW)


def scope_of(*proofs: str | bytes, method: str = "POST") -> Scope:
    sent = [proof if isinstance(proof, bytes) else proof.encode("latin-1") for proof in proofs]
    return {
        "type": "http",
        "method": method,
        "headers": [(b"host", b"elsewhere.example"), *((b"dpop", p) for p in sent)],
    }


async def check(*proofs: str | bytes, method: str = "POST") -> str | None:
    return await PROOFS.check(scope_of(*proofs, method=method), PATH, NOW, TOKEN.encode())


def read(proof: str, now: datetime = NOW, path: str = PATH) -> str:
    """Everything but whether it was used before, which only Valkey knows."""
    return PROOFS._read(proof.encode(), "POST", path, now, TOKEN.encode())[0]


def proof(by: Holder = HOLDER, at: datetime = NOW, htu: str = HERE + PATH, nonce: Any = NONCE, **given: Any) -> str:
    return by.proof(at, htu, nonce, token=TOKEN, **given)


def private_jwk() -> dict[str, Any]:
    return dict(HOLDER.key.as_dict(private=True))


def tampered(place: int, text: str) -> str:
    parts = text.split(".")
    parts[place] = proof(at=NOW - timedelta(seconds=1)).split(".")[place]
    return ".".join(parts)


def rsa(bits: int, exponent: str = "AQAB") -> dict[str, Any]:
    return {"alg": "RS256", "jwk": {"kty": "RSA", "n": encoded(b"\xff" * (bits // 8)), "e": exponent}}


OTHER = holder()
BAD_PROOFS: dict[str, tuple[Callable[[], str], str]] = {
    "nothing": (lambda: "", "not a JWT"),
    "words": (lambda: "a proof", "not a JWT"),
    "two in one header": (lambda: f"{proof()}, {proof()}", "not a JWT"),
    "a list of claims": (lambda: HOLDER.signed({"alg": "ES256"}, ["jti"]), "must be JSON objects"),
    "an access token": (lambda: proof(header={"typ": "at+jwt"}), "typ must be dpop.jwt"),
    "no type": (lambda: proof(header={"typ": MISSING}), "typ must be dpop.jwt"),
    "no algorithm": (lambda: proof(header={"alg": MISSING}), "not a JWT"),
    "alg none": (lambda: proof(header={"alg": "none"}), "alg must be one of"),
    "a shared secret": (lambda: proof(header={"alg": "HS256"}), "alg must be one of"),
    "an algorithm of an odd type": (lambda: proof(header={"alg": ["ES256"]}), "alg must be one of"),
    "a crit": (lambda: proof(header={"crit": ["exp"]}), "the header may hold"),
    "a key by address": (lambda: proof(header={"jku": "https://evil.example"}), "the header may hold"),
    "an unencoded payload": (lambda: proof(header={"b64": False, "crit": ["b64"]}), "the header may hold|not a JWT"),
    "no key": (lambda: proof(header={"jwk": MISSING}), "must be a JWK"),
    "a key that is a text": (lambda: proof(header={"jwk": "key"}), "must be a JWK"),
    "a private key": (lambda: proof(header={"jwk": private_jwk()}), "is a private one"),
    "a symmetric key": (lambda: proof(header={"jwk": OctKey.generate_key(256).as_dict()}), "is a private one"),
    "an unknown kind of key": (lambda: proof(header={"jwk": {"kty": "XYZ"}}), "kty must be one of EC, OKP, RSA"),
    "P-384": (lambda: proof(header={"jwk": ECKey.generate_key("P-384").as_dict(private=False)}), "must be P-256"),
    "half a key": (lambda: proof(header={"jwk": {**HOLDER.public_jwk, "y": None}}), "needs crv, x, y as texts"),
    "a point off the curve": (lambda: proof(header={"jwk": {**HOLDER.public_jwk, "y": "AAAA"}}), "not a public key"),
    "RSA of 1024 bits": (lambda: proof(header=rsa(1024)), "2048 to 4096 bits"),
    "RSA of 4104 bits": (lambda: proof(header=rsa(4104)), "2048 to 4096 bits"),
    "an odd exponent": (lambda: proof(header=rsa(2048, "Aw")), "the exponent 65537"),
    "a key of another kind than alg": (lambda: proof(header={"alg": "RS256"}), "its key did not sign it"),
    "another's key": (lambda: proof(header={"jwk": OTHER.public_jwk}), "its key did not sign it"),
    "another payload": (lambda: tampered(1, proof()), "its key did not sign it"),
    "another signature": (lambda: tampered(2, proof()), "its key did not sign it"),
    "no signature": (lambda: proof().rpartition(".")[0] + ".", "its key did not sign it"),
    "no jti": (lambda: proof(jti=MISSING), "jti must be a text"),
    "an empty jti": (lambda: proof(jti=""), "jti must be a text"),
    "a long jti": (lambda: proof(jti="j" * 257), "of 1 to 256 characters"),
    "a number as jti": (lambda: proof(jti=7), "jti must be a text"),
    "no htm": (lambda: proof(htm=MISSING), "htm is not the method"),
    "another method": (lambda: proof(htm="GET"), "htm is not the method"),
    "the method in small letters": (lambda: proof(htm="post"), "htm is not the method"),
    "no htu": (lambda: proof(htu=MISSING), "htu is not the address"),
    "the address that the request called us": (lambda: proof(htu="https://elsewhere.example/graphql"), "htu is not"),
    "another endpoint": (lambda: proof(htu=HERE + "/oauth/token"), "htu is not the address"),
    "another scheme": (lambda: proof(htu="http://perks.example/graphql"), "htu is not the address"),
    "another port": (lambda: proof(htu="https://perks.example:8443/graphql"), "htu is not the address"),
    "an impossible port": (lambda: proof(htu="https://perks.example:x/graphql"), "htu is not the address"),
    "a user in the address": (lambda: proof(htu="https://me@perks.example/graphql"), "htu is not the address"),
    "a path of another case": (lambda: proof(htu=HERE + "/GraphQL"), "htu is not the address"),
    "no iat": (lambda: proof(iat=MISSING), "iat is not within 60 s"),
    "a text as iat": (lambda: proof(iat="now"), "iat is not a number"),
    "a truth as iat": (lambda: proof(iat=True), "iat is not a number"),
    "a NaN as iat": (lambda: proof(iat=float("nan")), "iat is not a number"),
    "an endless iat": (lambda: proof(iat=10**400), "iat is not a number"),
    "61 s old": (lambda: proof(at=NOW - timedelta(seconds=61)), "iat is not within 60 s"),
    "61 s ahead": (lambda: proof(at=NOW + timedelta(seconds=61)), "iat is not within 60 s"),
    "no ath": (lambda: proof(ath=MISSING), "ath is not the hash"),
    "the hash of another token": (lambda: proof(ath=encoded(b"x" * 32)), "ath is not the hash"),
    "a header of 5 kB": (lambda: proof(header={"kid": "k" * 5000}), "longer than one may be"),
    "a payload of 5 kB": (lambda: proof(filling="f" * 5000), "longer than one may be"),
}


@pytest.mark.parametrize("name", BAD_PROOFS)
async def test_a_proof_that_does_not_hold_is_refused_with_the_reason(name: str) -> None:
    make, reason = BAD_PROOFS[name]
    with pytest.raises(InvalidProof, match=reason) as refused:
        await check(make())
    assert (refused.value.error, refused.value.status_code) == ("invalid_dpop_proof", 400)


async def test_two_proofs_are_one_too_many() -> None:
    with pytest.raises(InvalidProof, match="more than one DPoP header"):
        await check(proof(), proof())


async def test_a_request_without_a_proof_proves_nothing() -> None:
    assert await check() is None


@pytest.mark.parametrize("algorithm", ["ES256", "PS256", "RS256", "Ed25519", "EdDSA"])
def test_a_good_proof_gives_the_thumbprint_of_its_key(algorithm: str) -> None:
    by = holder(algorithm)
    assert read(proof(by)) == by.thumbprint


@pytest.mark.parametrize("algorithm", ["PS256", "RS256"])
def test_rsa_of_4096_bits_fits(algorithm: str) -> None:
    by = holder(algorithm, bits=4096)
    assert read(proof(by)) == by.thumbprint


@pytest.mark.parametrize("seconds", [-60, 60])
def test_clocks_may_be_a_minute_apart(seconds: int) -> None:
    assert read(proof(at=NOW + timedelta(seconds=seconds))) == HOLDER.thumbprint


@pytest.mark.parametrize(
    "htu",
    [
        "HTTPS://Perks.Example/graphql",
        "https://perks.example:443/graphql",
        "https://perks.example/graphql?query=x",
        "https://perks.example/graphql#part",
    ],
)
def test_addresses_are_compared_without_what_does_not_matter(htu: str) -> None:
    assert read(proof(htu=htu)) == HOLDER.thumbprint


@pytest.mark.parametrize("nonce", [MISSING, None, "", "guess", 7, "\ud800", PROOFS.nonce(NOW - timedelta(minutes=10))])
async def test_without_a_live_nonce_the_proof_is_asked_for_again(nonce: Any) -> None:
    with pytest.raises(NonceNeeded) as refused:
        await check(proof(nonce=nonce))
    assert (refused.value.error, refused.value.status_code) == ("use_dpop_nonce", 400)


def test_a_nonce_lives_for_five_minutes_and_the_five_after() -> None:
    for minutes in (0, 4, 5, 9):
        later = NOW + timedelta(minutes=minutes)
        assert read(proof(at=later), later) == HOLDER.thumbprint
    assert PROOFS.nonce(NOW) == PROOFS.nonce(NOW + timedelta(seconds=299)) != PROOFS.nonce(NOW + timedelta(seconds=300))
    with pytest.raises(NonceNeeded):
        read(proof(at=NOW + timedelta(minutes=10)), NOW + timedelta(minutes=10))


def test_processes_with_one_secret_know_each_others_nonces_and_no_one_elses() -> None:
    assert Proofs(Redis(), SECRET, "https://another.example").nonce(NOW) == NONCE
    assert Proofs(Redis(), SECRET[::-1], HERE).nonce(NOW) != NONCE


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
HEADERS = st.dictionaries(st.sampled_from(["typ", "alg", "jwk", "kid", "crit", "b64", "x5c"]), ANYTHING, max_size=3)
KEYS = st.dictionaries(st.sampled_from(["kty", "crv", "x", "y", "n", "e", "use", "alg"]), ANYTHING, max_size=4)
CLAIMS = st.dictionaries(st.sampled_from(["jti", "htm", "htu", "iat", "nonce", "ath"]), ANYTHING, min_size=1)


async def refused(*proofs: bytes) -> None:
    """Only the two OAuth errors, whose description RFC 6749 section 5.2 allows."""
    with pytest.raises(OAuth2Error) as refusal:
        await check(*proofs)
    assert refusal.value.error in ("invalid_dpop_proof", "use_dpop_nonce")
    assert refusal.value.description.isascii()


@given(st.binary(max_size=200), st.sampled_from(["", "e30.", "eyJhbGciOiJFUzI1NiJ9.e30.", "eyJhbGciOiJFUzI1NiJ9."]))
def test_no_bytes_make_the_reader_stumble(noise: bytes, start: str) -> None:
    asyncio.run(refused(start.encode() + noise))


@given(HEADERS, KEYS, CLAIMS)
def test_no_header_and_no_claims_make_the_reader_stumble(
    header: dict[str, Any], key: dict[str, Any], claims: dict[str, Any]
) -> None:
    jwk = HOLDER.public_jwk | key
    said = {"nonce": "guess"} | claims
    asyncio.run(refused(proof(header={"jwk": jwk} | header, **said).encode()))


@pytest.mark.parametrize("depth", [200, 1400])
async def test_a_deep_payload_is_no_proof(depth: int) -> None:
    deep = encoded(b'{"jti":' + b"[" * depth + b"]" * depth + b"}")
    header = proof().partition(".")[0]
    await refused(f"{header}.{deep}.AAAA".encode())
