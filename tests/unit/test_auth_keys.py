"""Signing keys at rest and in the ring, without a database."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from joserfc.jwk import ECKey
from sqlalchemy.ext.asyncio import async_sessionmaker

from auth.keys import KeyRing, Seal, new_signing_key
from partners.errors import Unavailable

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECRET = b"the operator's secret, 32 bytes or more"


def test_a_sealed_key_opens_to_itself() -> None:
    key = ECKey.generate_key("P-256")
    opened = Seal(SECRET).open("a", Seal(SECRET).close("a", key))
    assert opened.as_der(private=True) == key.as_der(private=True)
    assert opened.kid == "a"


def test_a_sealed_key_shows_nothing_of_itself() -> None:
    key = ECKey.generate_key("P-256")
    sealed = Seal(SECRET).close("a", key)
    private = key.as_dict(private=True)["d"]
    assert isinstance(private, str)
    assert private.encode() not in sealed
    assert Seal(SECRET).close("a", key) != sealed


@pytest.mark.parametrize(("secret", "kid"), [(b"another operator's secret, 32 bytes", "a"), (SECRET, "b")])
def test_a_sealed_key_opens_only_with_its_secret_and_for_its_id(secret: bytes, kid: str) -> None:
    sealed = Seal(SECRET).close("a", ECKey.generate_key("P-256"))
    with pytest.raises(Unavailable, match="sealed with another secret"):
        Seal(secret).open(kid, sealed)


def test_a_short_secret_seals_nothing() -> None:
    with pytest.raises(ValueError, match="at least 32 bytes"):
        Seal(b"31 bytes are not enough for it.")


def test_a_ring_signs_with_the_current_key_and_publishes_the_retired_one_too() -> None:
    ring = KeyRing(async_sessionmaker(), SECRET)
    old, current = (new_signing_key(Seal(SECRET), NOW) for _ in range(2))
    old.retired_at = NOW + timedelta(days=90)
    ring.hold([old, current], NOW)
    assert ring.signing_key(NOW).kid == current.kid
    assert [key["kid"] for key in ring.jwks["keys"]] == [old.kid, current.kid]


def test_the_published_keys_are_public_es256_keys_for_signatures() -> None:
    ring = KeyRing(async_sessionmaker(), SECRET)
    ring.hold([new_signing_key(Seal(SECRET), NOW)], NOW)
    (key,) = json.loads(json.dumps(ring.jwks))["keys"]
    assert key.keys() == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    assert (key["kty"], key["crv"], key["use"], key["alg"]) == ("EC", "P-256", "sig", "ES256")
    assert key["kid"] == ECKey.import_key(key).thumbprint()


def test_a_ring_without_a_key_signs_nothing() -> None:
    with pytest.raises(Unavailable, match="no signing key"):
        assert KeyRing(async_sessionmaker(), SECRET).signing_key(NOW)
