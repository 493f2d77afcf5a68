"""The verifier's memory: short, bounded, and never of more than the whole token."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import async_sessionmaker

from auth import tokens
from auth.caller import Caller, CallerKind
from auth.errors import Unauthenticated
from auth.keys import KeyRing, Seal, new_signing_key
from auth.revocations import DenySet
from auth.tables import Denied
from auth.tokens import Authority, TokenVerifier, mint_access_token

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECRET = b"the operator's secret, 32 bytes or more"
HERE = Authority("https://perks.example", "https://perks.example/graphql", "https://perks.example/staff")
STAFF = Caller(CallerKind.STAFF, "ada", frozenset({"audit:read"}), client_id="console")


@pytest.fixture
def ring() -> KeyRing:
    ring = KeyRing(async_sessionmaker(), SECRET)
    ring.hold([new_signing_key(Seal(SECRET), NOW)], NOW)
    return ring


@pytest.fixture
def verifier(ring: KeyRing) -> TokenVerifier:
    return TokenVerifier(ring, HERE)


def mint(ring: KeyRing) -> bytes:
    return b"Bearer " + mint_access_token(ring, HERE, STAFF, NOW).encode()


async def test_a_caller_is_remembered_for_thirty_seconds_without_a_key(
    ring: KeyRing, verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = mint(ring)
    caller = await verifier.caller(token, NOW)

    async def find_nothing(kid: str, now: datetime) -> None:
        pass

    monkeypatch.setattr(ring, "find", find_nothing)
    assert verifier.cached(token, NOW + timedelta(seconds=29.9)) is caller
    assert await verifier.caller(token, NOW + timedelta(seconds=29.9)) is caller
    assert verifier.cached(token, NOW + timedelta(seconds=30)) is None
    with pytest.raises(Unauthenticated, match="unknown key"):
        await verifier.caller(token, NOW + timedelta(seconds=30))


async def test_a_caller_is_never_remembered_past_the_expiry_of_its_token(
    ring: KeyRing, verifier: TokenVerifier
) -> None:
    token = mint(ring)
    late = NOW + timedelta(minutes=5)
    caller = await verifier.caller(token, late - timedelta(seconds=1))
    assert verifier.cached(token, late - timedelta(microseconds=1)) is caller
    assert verifier.cached(token, late) is None
    with pytest.raises(Unauthenticated, match="has expired"):
        await verifier.caller(token, late)


async def test_a_key_that_stops_verifying_takes_all_remembered_callers_with_it(
    ring: KeyRing, verifier: TokenVerifier
) -> None:
    token, other = mint(ring), new_signing_key(Seal(SECRET), NOW)
    await verifier.caller(token, NOW)
    ring.hold([other], NOW)
    assert verifier.cached(token, NOW) is None
    with pytest.raises(Unauthenticated, match="unknown key"):
        await verifier.caller(token, NOW)


async def test_a_revocation_holds_for_a_remembered_caller_too(ring: KeyRing) -> None:
    denied = DenySet()
    verifier = TokenVerifier(ring, HERE, denied)
    token = mint(ring)
    caller = await verifier.caller(token, NOW)
    assert caller.token_id is not None
    denied.add(Denied.TOKEN, caller.token_id, 1, NOW + timedelta(days=1))
    assert verifier.cached(token, NOW) is None
    with pytest.raises(Unauthenticated, match="was revoked"):
        await verifier.caller(token, NOW)


async def test_only_the_whole_token_is_remembered(ring: KeyRing, verifier: TokenVerifier) -> None:
    token = mint(ring)
    await verifier.caller(token, NOW)
    assert verifier.cached(token[:-1], NOW) is None
    assert verifier.cached(token + b"A", NOW) is None


async def test_the_least_recently_used_caller_leaves_first(
    ring: KeyRing, verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "CACHED_CALLERS_MAX", 2)
    first, second, third = (mint(ring) for _ in range(3))
    await verifier.caller(first, NOW)
    await verifier.caller(second, NOW)
    assert verifier.cached(first, NOW) is not None
    await verifier.caller(third, NOW)
    assert [verifier.cached(token, NOW) is not None for token in (first, second, third)] == [True, False, True]
