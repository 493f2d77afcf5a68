"""Signing keys are replaced without a pause: what the old key signed holds, and no process or cache is left behind."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from joserfc import jws, jwt
from joserfc.jwk import KeySet
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.exceptions import RedisError

from auth.caller import Caller, CallerKind
from auth.errors import Unauthenticated
from auth.keys import (
    JWKS_MAX_AGE_SECONDS,
    PUBLISHED_BEFORE_SIGNING,
    RELOAD_SECONDS,
    RETIRED_KEYS_VERIFY_FOR,
    KeyRing,
    ensure_signing_key,
    rotate_signing_key,
)
from auth.revocations import TOKENS_LIVE_AT_MOST
from auth.tables import SigningKey
from auth.tokens import Authority, TokenVerifier, mint_access_token
from gateway.app import open_service, working
from gateway.commands.tokens import LIFETIME_MAX
from gateway.database import Database
from gateway.embedded import Servers
from gateway.settings import Settings
from partners.actors import SYSTEM
from partners.errors import Conflict
from partners.tables import AuditEntry
from tests.commands import Perks

HERE = Authority("https://perks.example", "https://perks.example/graphql", "https://perks.example/staff")
STAFF = Caller(CallerKind.STAFF, "ada", frozenset({"audit:read"}), client_id="console")
A_SECOND = timedelta(seconds=1)


@pytest.fixture
async def keyed(empty_database: Database, secret: bytes, now: datetime) -> Database:
    """A database with its first key."""
    async with empty_database.sessions.begin() as session:
        await ensure_signing_key(session, secret, now)
    return empty_database


async def loaded(database: Database, secret: bytes, now: datetime) -> KeyRing:
    """The keys as another process has read them at this time."""
    ring = KeyRing(database.sessions, secret)
    await ring.load(now)
    return ring


async def rotate(database: Database, secret: bytes, now: datetime, **how: bool) -> SigningKey:
    async with database.sessions.begin() as session:
        return await rotate_signing_key(session, secret, SYSTEM, now, **how)


def kid_of(token: str) -> str:
    return str(jws.extract_compact(token.encode()).protected["kid"])


def mint(ring: KeyRing, now: datetime) -> str:
    return mint_access_token(ring, HERE, STAFF, now)


async def accepted(ring: KeyRing, token: str, now: datetime) -> bool:
    try:
        await TokenVerifier(ring, HERE).caller(b"Bearer " + token.encode(), now)
    except Unauthenticated:
        return False
    return True


def test_a_retired_key_verifies_for_as_long_as_any_token_lives() -> None:
    assert RETIRED_KEYS_VERIFY_FOR >= TOKENS_LIVE_AT_MOST >= LIFETIME_MAX
    assert timedelta(seconds=JWKS_MAX_AGE_SECONDS + RELOAD_SECONDS) <= PUBLISHED_BEFORE_SIGNING


async def test_a_new_key_is_published_at_once_and_signs_when_every_cache_knows_it(
    keyed: Database, secret: bytes, now: datetime
) -> None:
    old = (await loaded(keyed, secret, now)).signing_key(now).kid
    new = (await rotate(keyed, secret, now)).kid
    ring, takes_over = await loaded(keyed, secret, now), now + PUBLISHED_BEFORE_SIGNING
    assert {key["kid"] for key in ring.jwks["keys"]} == {old, new}
    assert kid_of(mint(ring, takes_over - A_SECOND)) == old
    assert kid_of(mint(ring, takes_over)) == new


async def test_a_token_of_the_old_key_holds_over_the_rotation_in_every_process(
    keyed: Database, secret: bytes, now: datetime
) -> None:
    here, elsewhere = await loaded(keyed, secret, now), await loaded(keyed, secret, now)
    await rotate(keyed, secret, now)
    takes_over = now + PUBLISHED_BEFORE_SIGNING
    for process in (here, elsewhere):
        await process.load(now + timedelta(seconds=RELOAD_SECONDS))
    before, after = mint(here, takes_over - A_SECOND), mint(here, takes_over + A_SECOND)
    assert kid_of(before) != kid_of(after)
    for process in (here, elsewhere, await loaded(keyed, secret, takes_over)):
        assert [await accepted(process, token, takes_over + A_SECOND) for token in (before, after)] == [True, True]
        for token in (before, after):
            keys = KeySet.import_key_set(dict(process.jwks))  # type: ignore[arg-type]
            assert jwt.decode(token, keys, algorithms=["ES256"]).claims["sub"] == "ada"


async def test_after_a_day_the_old_key_is_no_longer_published(keyed: Database, secret: bytes, now: datetime) -> None:
    new = await rotate(keyed, secret, now)
    ends = now + PUBLISHED_BEFORE_SIGNING + RETIRED_KEYS_VERIFY_FOR
    assert len((await loaded(keyed, secret, ends - A_SECOND)).jwks["keys"]) == 2
    assert [key["kid"] for key in (await loaded(keyed, secret, ends)).jwks["keys"]] == [new.kid]


async def test_ten_rotations_at_once_end_with_one_next_key(keyed: Database, secret: bytes, now: datetime) -> None:
    done = await asyncio.gather(*(rotate(keyed, secret, now) for _ in range(10)), return_exceptions=True)
    assert sorted(type(one).__name__ for one in done) == ["Conflict"] * 9 + ["SigningKey"]
    async with keyed.sessions() as session:
        rows = (await session.scalars(sa.select(SigningKey))).all()
        entries = (await session.scalars(sa.select(AuditEntry.action))).all()  # type: ignore[call-overload]
    assert len(rows) == 2
    assert [row.active_at for row in rows if row.retired_at is None] == [now + PUBLISHED_BEFORE_SIGNING]
    assert entries == ["signing_key.rotated"]


async def test_rotations_at_once_of_a_key_that_is_known_end_with_one_that_signs(
    keyed: Database, secret: bytes, now: datetime
) -> None:
    made = await asyncio.gather(*(rotate(keyed, secret, now, at_once=True) for _ in range(5)))
    ring = await loaded(keyed, secret, now)
    async with keyed.sessions() as session:
        current = (await session.scalars(sa.select(SigningKey).where(SigningKey.retired_at.is_(None)))).all()  # type: ignore[union-attr]
    assert [row.kid for row in current] == [ring.signing_key(now).kid]
    assert ring.signing_key(now).kid in {key.kid for key in made}


async def test_a_second_rotation_waits_until_the_first_has_taken_effect(
    keyed: Database, secret: bytes, now: datetime
) -> None:
    first = await rotate(keyed, secret, now)
    with pytest.raises(Conflict, match=f"{first.kid} was made already"):
        await rotate(keyed, secret, now + PUBLISHED_BEFORE_SIGNING - A_SECOND)
    second = await rotate(keyed, secret, now + PUBLISHED_BEFORE_SIGNING)
    later = now + 2 * PUBLISHED_BEFORE_SIGNING
    ring = await loaded(keyed, secret, later)
    assert ring.signing_key(later).kid == second.kid
    assert len(ring.jwks["keys"]) == 3


async def test_a_known_key_is_replaced_at_once_even_while_a_rotation_is_under_way(
    keyed: Database, secret: bytes, now: datetime
) -> None:
    old = mint(await loaded(keyed, secret, now), now)
    pending = await rotate(keyed, secret, now)
    new = await rotate(keyed, secret, now + A_SECOND, at_once=True)
    ring = await loaded(keyed, secret, now + A_SECOND)
    for later in (A_SECOND, 2 * PUBLISHED_BEFORE_SIGNING):
        assert ring.signing_key(now + later).kid == new.kid
    assert pending.kid in {key["kid"] for key in ring.jwks["keys"]}
    assert await accepted(ring, old, now + A_SECOND)


async def test_tokens_of_a_key_that_is_distrusted_are_refused_also_where_they_were_remembered(
    keyed: Database, secret: bytes, now: datetime
) -> None:
    ring = await loaded(keyed, secret, now)
    verifier, old = TokenVerifier(ring, HERE), b"Bearer " + mint(ring, now).encode()
    await verifier.caller(old, now)
    new = await rotate(keyed, secret, now, distrust=True)
    assert verifier.cached(old, now) is not None
    await ring.load(now)
    assert verifier.cached(old, now) is None
    with pytest.raises(Unauthenticated, match="unknown key"):
        await verifier.caller(old, now)
    assert kid_of(mint(ring, now)) == new.kid
    assert [key["kid"] for key in ring.jwks["keys"]] == [new.kid]


async def test_a_process_whose_clock_is_behind_signs_with_the_only_key_there_is(
    keyed: Database, secret: bytes, now: datetime
) -> None:
    new = await rotate(keyed, secret, now, distrust=True)
    behind = now - timedelta(seconds=20)
    assert (await loaded(keyed, secret, behind)).signing_key(behind).kid == new.kid


async def test_a_running_process_follows_a_rotation_by_command_at_once(
    perks: Perks, servers: Servers, secret: bytes
) -> None:
    settings = Settings(database_url=perks.database_url, redis_url=servers.redis_url, secret=SecretStr(secret.decode()))
    async with open_service(settings) as service, working(service):
        old = service.ring.signing_key(datetime.now(UTC)).kid
        await asyncio.sleep(0.2)
        ended = await asyncio.to_thread(perks, "keys", "rotate", "--now", "--distrust-old", "--json")
        assert (ended.code, ended.err) == (0, "")
        began = asyncio.get_running_loop().time()
        while service.ring.signing_key(datetime.now(UTC)).kid == old:
            assert asyncio.get_running_loop().time() - began < 2
            await asyncio.sleep(0.01)
        assert service.ring.signing_key(datetime.now(UTC)).kid == ended.json["kid"]
        assert len(service.ring.jwks["keys"]) == 1


def test_the_command_lists_what_signs_what_is_next_and_what_only_verifies(perks: Perks) -> None:
    [first] = perks("keys", "list", "--json").json
    assert (first["state"], first["algorithm"], first["signs_until"]) == ("signs", "ES256", "-")
    second = perks("keys", "rotate", "--json").json
    assert second["state"] == "next"
    listed = perks("keys", "list", "--json").json
    assert [(key["kid"], key["state"]) for key in listed] == [(first["kid"], "signs"), (second["kid"], "next")]
    assert listed[0]["signs_until"] == second["signs_from"]
    refused = perks("keys", "rotate")
    assert (refused.code, refused.out) == (1, "")
    assert f"{second['kid']} was made already" in refused.err
    third = perks("keys", "rotate", "--now").out.split()[0]
    states = {key["kid"]: key["state"] for key in perks("keys", "list", "--json").json}
    assert states == {first["kid"]: "verifies", second["kid"]: "verifies", third: "signs"}
    assert perks.entries() == [("signing_key.rotated", 2)]
    assert "private" not in perks("keys", "list").out


def test_distrust_without_now_is_wrong_use(perks: Perks) -> None:
    ended = perks("keys", "rotate", "--distrust-old")
    assert (ended.code, ended.out) == (2, "")
    assert "--now" in ended.err


def test_a_rotation_while_valkey_is_away_is_done_and_says_when_it_will_be_known(
    perks: Perks, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any, **__: Any) -> None:
        raise RedisError

    monkeypatch.setattr(Redis, "publish", away)
    ended = perks("keys", "rotate")
    assert ended.code == 0
    assert "within a minute" in ended.err
    assert len(perks("keys", "list", "--json").json) == 2


def test_staff_revoke_a_token_or_its_id(perks: Perks) -> None:
    tokens = [perks("tokens", "mint", "--staff", "ada").out.strip() for _ in range(2)]
    ids = [str(jwt_claims(token)["jti"]) for token in tokens]
    assert perks("tokens", "revoke", tokens[0]).out == f"the token {ids[0]} is revoked\n"
    assert perks("tokens", "revoke", ids[1]).code == 0
    assert perks.query("SELECT kind, key, announced FROM revocation ORDER BY at") == [
        ("token", ids[0], False),
        ("token", ids[1], False),
    ]
    assert perks.entries() == [("token.revoked", 2)]
    again = perks("tokens", "revoke", tokens[0])
    assert (again.code, again.out) == (2, "")
    assert "was revoked" in again.err
    assert tokens[0] not in again.err


def jwt_claims(token: str) -> dict[str, Any]:
    import json

    claims: dict[str, Any] = json.loads(jws.extract_compact(token.encode()).payload)
    return claims
