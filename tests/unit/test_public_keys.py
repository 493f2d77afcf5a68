"""What of a published key set is used for verifying: only public keys that are meant for it and strong enough."""

import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey

from auth.key_sets import fresh_for, read_key, read_keys
from partners.errors import Unavailable

CURVE, OTHER_CURVE = ECKey.generate_key("P-256"), ECKey.generate_key("P-384")
RSA, EDWARDS, SECRET = RSAKey.generate_key(2048), OKPKey.generate_key("Ed25519"), OctKey.generate_key(256)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    WEAK = RSAKey.generate_key(1024)
KEYS: dict[str, Key] = {
    "ES256": CURVE,
    "ES384": OTHER_CURVE,
    "RS256": RSA,
    "PS256": RSA,
    "Ed25519": EDWARDS,
    "EdDSA": EDWARDS,
}


def published(key: Key, **members: Any) -> dict[str, Any]:
    return {**key.as_dict(private=False), "kid": "k", **members}


def signature(algorithm: str, key: Key) -> bytes:
    return jws.JWSRegistry.algorithms[algorithm].sign(b"said", key)


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_key_verifies_by_the_algorithms_that_fit_it_and_no_other(algorithm: str) -> None:
    key, made = read_key(published(KEYS[algorithm])), signature(algorithm, KEYS[algorithm])
    assert key is not None
    assert key.verifies(algorithm, b"said", made)
    assert not key.verifies(algorithm, b"unsaid", made)
    same = {"Ed25519", "EdDSA"} if algorithm in ("Ed25519", "EdDSA") else {algorithm}
    assert {name for name in KEYS if key.verifies(name, b"said", made)} == same


def test_the_old_name_of_an_algorithm_means_the_one_curve() -> None:
    other = OKPKey.generate_key("Ed448")
    key = read_key(published(other, alg="EdDSA"))
    assert key is not None
    assert not key.verifies("EdDSA", b"said", jws.JWSRegistry.algorithms["Ed448"].sign(b"said", other))


def test_a_key_that_is_published_for_one_algorithm_verifies_no_other() -> None:
    key = read_key(published(RSA, alg="PS256"))
    assert key is not None
    assert key.verifies("PS256", b"said", signature("PS256", RSA))
    assert not key.verifies("RS256", b"said", signature("RS256", RSA))


@pytest.mark.parametrize("algorithm", ["HS256", "none", "RS512", "ES256K", ""])
def test_no_key_verifies_by_an_algorithm_that_is_not_on_the_list(algorithm: str) -> None:
    key = read_key(published(RSA))
    assert key is not None
    assert not key.verifies(algorithm, b"said", b"")


UNUSABLE = {
    "symmetric": {**SECRET.as_dict(), "kid": "k"},
    "private": {**CURVE.as_dict(private=True), "kid": "k"},
    "private RSA": {**RSA.as_dict(private=True), "kid": "k"},
    "for encryption": published(RSA, use="enc"),
    "for signing only": published(RSA, key_ops=["sign"]),
    "of malformed purposes": published(RSA, key_ops="verify"),
    "of another algorithm": published(RSA, alg="RSA-OAEP"),
    "of an algorithm by list": published(RSA, alg=["RS256"]),
    "weak": published(WEAK),
    "huge": {"kty": "RSA", "kid": "k", "e": "AQAB", "n": "_" + "A" * 3000 + "8"},
    "nameless": {name: value for name, value in published(CURVE).items() if name != "kid"},
    "named by a number": published(CURVE, kid=3),
    "named by a book": published(CURVE, kid="k" * 256),
    "on an unknown curve": published(CURVE, crv="P-1"),
    "not on its curve": published(CURVE, x="AA"),
    "of an unknown kind": published(CURVE, kty="AKP"),
    "without its point": {"kty": "EC", "crv": "P-256", "kid": "k"},
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_key_that_is_not_for_verifying_is_passed_over(name: str) -> None:
    assert read_key(UNUSABLE[name]) is None
    assert list(read_keys({"keys": [UNUSABLE[name], published(RSA, kid="good"), 3, None]})) == ["good"]


def test_of_two_keys_with_one_id_the_first_stands() -> None:
    held = read_keys({"keys": [published(CURVE), published(ECKey.generate_key("P-256"))]})["k"]
    assert held.verifies("ES256", b"said", signature("ES256", CURVE))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = st.sampled_from(["kty", "crv", "x", "y", "n", "e", "kid", "alg", "use", "key_ops", "x5c"])
WORDS = st.sampled_from(["EC", "RSA", "OKP", "P-256", "Ed25519", "X25519", "Ed448", "AQAB", "AA", "sig", "ES256", "k"])


@given(st.dictionaries(st.just("keys") | st.text(max_size=4), JSON, max_size=2))
def test_no_document_makes_the_reader_stumble(document: dict[str, Any]) -> None:
    if isinstance(document.get("keys"), list):
        assert read_keys(document) == {}
    else:
        with pytest.raises(Unavailable, match="not a JWK Set"):
            read_keys(document)


@given(st.sampled_from([CURVE, RSA, EDWARDS]), st.dictionaries(MEMBERS, WORDS | JSON, max_size=4))
def test_no_key_makes_the_reader_stumble(key: Key, changed: dict[str, Any]) -> None:
    found = read_key(published(key) | changed)
    assert found is None or not found.verifies("ES256", b"said", b"nonsense")


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("", 600),
        ("public", 600),
        ("public, max-age=900, must-revalidate", 900),
        ("Max-Age=900", 900),
        ('max-age="900"', 900),
        ("s-maxage=900", 600),
        ("max-age=-1", 600),
        ("max-age=1", 60),
        ("max-age=999999999", 86400),
        ("max-age=99999999999999999999", 86400),
        ("max-age=900, no-store", 60),
        ("no-cache", 60),
    ],
)
def test_an_answer_is_fresh_for_as_long_as_it_says_within_bounds(said: str, seconds: int) -> None:
    assert fresh_for(said).total_seconds() == seconds
