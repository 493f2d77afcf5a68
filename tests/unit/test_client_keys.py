"""The public keys of a client, before they are written down, and the assertions that they do not sign."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from authlib.oauth2.rfc6749 import InvalidClientError, InvalidRequestError  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from auth.assertions import ASSERTION_TYPE, KEYS_MAX, check_assertion, check_public_keys, read_assertion
from auth.tables import Client, ClientAuthentication
from partners.errors import BadInput
from tests.holders import MISSING, Holder, encoded, holder

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HERE = "https://perks.example"
ME = "client_a"
ELLIPTIC, RSA, EDWARDS = holder("ES256"), holder("PS256"), holder("EdDSA")
OTHER = holder()


def jwk(of: Holder = ELLIPTIC, **given: Any) -> dict[str, Any]:
    return of.public_jwk | given


def client(*keys: dict[str, Any]) -> Client:
    return Client(id=ME, authentication=ClientAuthentication.KEY, public_keys=check_public_keys({"keys": list(keys)}))


def form(assertion: str, **given: str) -> dict[str, str]:
    return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion} | given


def assertion(by: Holder = ELLIPTIC, at: datetime = NOW, me: str = ME, audience: Any = HERE, **given: Any) -> str:
    return by.assertion(at, me, audience, **given)


async def check(sent: str, of: Client | None) -> None:
    """All that needs no memory: what would be asked of Valkey fails here."""
    await check_assertion(Redis(host="127.0.0.1", port=1), of, read_assertion(form(sent)), HERE, NOW)


BAD_KEYS: dict[str, tuple[Any, str]] = {
    "nothing": (None, "1 to 10 keys"),
    "a list": ([jwk()], "1 to 10 keys"),
    "no list": ({"keys": jwk()}, "1 to 10 keys"),
    "no key": ({"keys": []}, "1 to 10 keys"),
    "eleven keys": ({"keys": [jwk()] * (KEYS_MAX + 1)}, "1 to 10 keys"),
    "a text": ({"keys": ["key"]}, "key 1: a key must be a JWK"),
    "a private key": ({"keys": [jwk(), {**jwk(), "d": "AA"}]}, "key 2: the key is a private one"),
    "a secret": ({"keys": [{"kty": "oct", "k": "AAAA"}]}, "key 1: the key is a private one"),
    "one kid twice": ({"keys": [jwk(kid="a"), jwk(RSA, kid="a")]}, "key 2: another key has the same kid"),
    "a number as kid": ({"keys": [jwk(kid=7)]}, "key 1: kid must be a text"),
    "an empty kid": ({"keys": [jwk(kid="")]}, "key 1: kid must be a text"),
    "a long kid": ({"keys": [jwk(kid="k" * 257)]}, "key 1: kid must be a text"),
    "a NUL in kid": ({"keys": [jwk(kid="\0")]}, "key 1: kid must be a text"),
    "a key for encryption": ({"keys": [jwk(use="enc")]}, "key 1: use must be sig"),
    "another alg": ({"keys": [jwk(alg="RS256")]}, "key 1: alg of this key must be one of ES256"),
    "an alg of an odd type": ({"keys": [jwk(alg=["ES256"])]}, "key 1: alg of this key must be"),
    "RSA of 1024 bits": ({"keys": [{"kty": "RSA", "n": encoded(b"\xff" * 128), "e": "AQAB"}]}, "2048 to 4096 bits"),
    "P-521": ({"keys": [{"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}]}, "must be P-256"),
    "a key for key agreement": (
        {"keys": [{"kty": "OKP", "crv": "X25519", "x": encoded(b"x" * 32)}]},
        "must be Ed25519",
    ),
    "a key that is too short": ({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA"}]}, "not a public key"),
    "a key that is no Base64": ({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "ñ"}]}, "not a public key"),
}


@pytest.mark.parametrize("name", BAD_KEYS)
def test_keys_that_can_not_be_a_clients_are_refused_by_their_place(name: str) -> None:
    keys, reason = BAD_KEYS[name]
    with pytest.raises(BadInput, match=reason):
        check_public_keys(keys)


def test_what_is_kept_of_keys_is_what_is_needed() -> None:
    given = [
        jwk(kid="a", alg="ES256", use="sig", key_ops=["verify"], x5u="https://any.example"),
        jwk(RSA),
        jwk(EDWARDS),
    ]
    kept = check_public_keys({"keys": given, "more": 1})
    assert kept == {"keys": [jwk(kid="a", alg="ES256", use="sig"), jwk(RSA), jwk(EDWARDS)]}
    assert check_public_keys(kept) == kept


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["keys", "kty", "crv", "x", "kid", "alg"]) | st.text(max_size=3), inner)
        ),
        max_leaves=9,
    )
)
def test_no_value_makes_the_check_of_keys_stumble(value: Any) -> None:
    for keys in (value, {"keys": [value]}, {"keys": [jwk() | value]} if isinstance(value, dict) else None):
        with suppress(BadInput):
            assert check_public_keys(keys)["keys"]


BAD_ASSERTIONS: dict[str, tuple[Callable[[], str], str]] = {
    "words": (lambda: "an assertion", "not a JWT"),
    "not ASCII": (lambda: "ñ.ñ.ñ", "not a JWT"),
    "a proof": (lambda: assertion(header={"typ": "dpop+jwt"}), "typ must be JWT"),
    "an access token": (lambda: assertion(header={"typ": "at+jwt"}), "typ must be JWT"),
    "a type of an odd type": (lambda: assertion(header={"typ": 1}), "typ must be JWT"),
    "alg none": (lambda: assertion(header={"alg": "none"}), "alg must be one of"),
    "a shared secret": (lambda: assertion(header={"alg": "HS256"}), "alg must be one of"),
    "a key in the header": (lambda: assertion(OTHER, header={"jwk": OTHER.public_jwk}), "the header may hold"),
    "a key set by address": (lambda: assertion(header={"jku": "https://evil.example"}), "the header may hold"),
    "a certificate by address": (lambda: assertion(header={"x5u": "https://evil.example"}), "the header may hold"),
    "a header of 5 kB": (lambda: assertion(header={"kid": "k" * 5000}), "longer than one may be"),
    "no sub": (lambda: assertion(sub=MISSING), "sub must be a text"),
    "no iss": (lambda: assertion(iss=MISSING), "iss, sub and client_id must be the same"),
    "another iss": (lambda: assertion(iss="client_b"), "iss, sub and client_id must be the same"),
    "another's key": (lambda: assertion(OTHER), "unknown client or wrong key"),
    "an unknown kid": (lambda: assertion(header={"kid": "unknown"}), "unknown client or wrong key"),
    "the kid of another key": (lambda: assertion(header={"kid": "rsa"}), "unknown client or wrong key"),
    "an odd kid": (lambda: assertion(header={"kid": ["elliptic"]}), "unknown client or wrong key"),
    "another aud": (lambda: assertion(audience="https://other.example"), "aud must be the issuer"),
    "a longer aud": (lambda: assertion(audience=HERE + "/graphql"), "aud must be the issuer"),
    "two aud": (lambda: assertion(audience=[HERE, "https://other.example"]), "aud must be the issuer"),
    "no aud": (lambda: assertion(audience=MISSING), "aud must be the issuer"),
    "an odd aud": (lambda: assertion(audience={HERE: 1}), "aud must be the issuer"),
    "no exp": (lambda: assertion(exp=MISSING), "exp is missing"),
    "an exp of null": (lambda: assertion(exp=None), "exp is missing"),
    "a text as exp": (lambda: assertion(exp="soon"), "exp is not a number"),
    "a NaN as exp": (lambda: assertion(exp=float("nan")), "exp is not a number"),
    "an endless exp": (lambda: assertion(exp=10**400), "exp is not a number"),
    "expired": (lambda: assertion(at=NOW - timedelta(seconds=60)), "it has expired"),
    "too far ahead": (lambda: assertion(exp=NOW.timestamp() + 331), "exp is more than 300 s ahead"),
    "issued in the future": (lambda: assertion(iat=NOW.timestamp() + 31), "iat is in the future"),
    "not valid yet": (lambda: assertion(nbf=NOW.timestamp() + 31), "nbf is in the future"),
    "no jti": (lambda: assertion(jti=MISSING), "jti must be a text"),
    "an empty jti": (lambda: assertion(jti=""), "jti must be a text"),
    "a long jti": (lambda: assertion(jti="j" * 257), "jti must be a text"),
}


@pytest.mark.parametrize("name", BAD_ASSERTIONS)
async def test_an_assertion_that_does_not_hold_is_invalid_client_with_the_reason(name: str) -> None:
    make, reason = BAD_ASSERTIONS[name]
    with pytest.raises(InvalidClientError, match=reason) as refused:
        await check(make(), client(jwk(kid="elliptic"), jwk(RSA, kid="rsa")))
    assert (refused.value.error, refused.value.status_code) == ("invalid_client", 401)


@pytest.mark.parametrize(
    "of", [None, Client(id=ME, authentication=ClientAuthentication.SECRET, public_keys={"keys": [jwk()]})]
)
async def test_an_unknown_client_and_one_that_proves_itself_otherwise_answer_like_a_wrong_key(
    of: Client | None,
) -> None:
    with pytest.raises(InvalidClientError, match="unknown client or wrong key"):
        await check(assertion(), of)


async def test_without_a_kid_there_must_be_one_key_for_the_algorithm() -> None:
    with pytest.raises(InvalidClientError, match="kid names one of several"):
        await check(assertion(), client(jwk(), jwk(OTHER)))


@pytest.mark.parametrize("given", [{"client_assertion_type": "urn:x"}, {"client_assertion_type": ""}])
def test_an_assertion_is_sent_with_its_type(given: dict[str, str]) -> None:
    with pytest.raises(InvalidRequestError, match="sent as client_assertion with the type"):
        read_assertion(form(assertion(), **given))


def test_the_client_of_the_form_is_the_client_of_the_assertion() -> None:
    assert read_assertion(form(assertion(), client_id=ME)).client_id == ME
    with pytest.raises(InvalidClientError, match="must be the same"):
        read_assertion(form(assertion(), client_id="client_b"))
