"""Signing keys on the real database: one for all processes, read again when needed, and retired."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from auth.caller import Caller, CallerKind
from auth.errors import Unauthenticated
from auth.keys import RETIRED_KEYS_VERIFY_FOR, KeyRing, Seal, ensure_signing_key, new_signing_key
from auth.tables import SigningKey
from auth.tokens import Authority, TokenVerifier, mint_access_token
from gateway.database import Database
from partners.errors import Unavailable

HERE = Authority("https://perks.example", "https://perks.example/graphql", "https://perks.example/staff")
STAFF = Caller(CallerKind.STAFF, "ada", frozenset({"audit:read"}), client_id="console")
PROCESS = """
import asyncio, sys
from datetime import UTC, datetime
from auth.keys import KeyRing, ensure_signing_key
from gateway.database import open_database

async def main() -> None:
    database = open_database(sys.argv[1], connections=1)
    now, secret = datetime.now(UTC), sys.argv[2].encode()
    async with database.sessions.begin() as session:
        await session.connection()
        print("ready", flush=True)
        sys.stdin.readline()
        await ensure_signing_key(session, secret, now)
    ring = KeyRing(database.sessions, secret)
    await ring.load(now)
    print(ring.signing_key(now).kid, flush=True)
    await database.engine.dispose()

asyncio.run(main())
"""


@pytest.fixture
async def ring(empty_database: Database, secret: bytes, now: datetime) -> KeyRing:
    async with empty_database.sessions.begin() as session:
        await ensure_signing_key(session, secret, now)
    ring = KeyRing(empty_database.sessions, secret)
    await ring.load(now)
    return ring


async def rotate(database: Database, secret: bytes, now: datetime) -> None:
    async with database.sessions.begin() as session:
        await session.execute(sa.update(SigningKey).values(retired_at=now))
        session.add(new_signing_key(Seal(secret), now))


@contextmanager
def counted_statements(engine: AsyncEngine) -> Iterator[list[str]]:
    statements: list[str] = []

    def count(connection: object, cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(engine.sync_engine, "before_cursor_execute", count)
    try:
        yield statements
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", count)


async def test_two_processes_that_start_together_end_with_one_key(empty_database: Database, secret: bytes) -> None:
    url = empty_database.engine.url.render_as_string(hide_password=False)
    pipe = asyncio.subprocess.PIPE
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROCESS, url, secret.decode(), stdin=pipe, stdout=pipe
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    answers = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    async with empty_database.sessions() as session:
        kept = (await session.scalars(sa.select(SigningKey))).all()
    assert [process.returncode for process in processes] == [0, 0]
    assert [out.decode().strip() for out, _ in answers] == [kept[0].kid] * 2
    assert len(kept) == 1


async def test_twenty_callers_at_once_end_with_one_key(empty_database: Database, secret: bytes, now: datetime) -> None:
    async def ensure() -> None:
        async with empty_database.sessions.begin() as session:
            await ensure_signing_key(session, secret, now)

    await asyncio.gather(*(ensure() for _ in range(20)))
    async with empty_database.sessions() as session:
        assert await session.scalar(sa.select(sa.func.count()).select_from(SigningKey)) == 1


async def test_a_process_with_another_secret_does_not_start(
    ring: KeyRing, empty_database: Database, now: datetime
) -> None:
    with pytest.raises(Unavailable, match="sealed with another secret"):
        await KeyRing(empty_database.sessions, b"another secret of at least 32 bytes").load(now)


async def test_a_key_made_by_another_process_is_accepted_at_once(
    ring: KeyRing, empty_database: Database, secret: bytes, now: datetime
) -> None:
    later = now + timedelta(seconds=10)
    await rotate(empty_database, secret, later)
    other = KeyRing(empty_database.sessions, secret)
    await other.load(later)
    tokens = [b"Bearer " + mint_access_token(other, HERE, STAFF, later).encode() for _ in range(20)]
    verifier = TokenVerifier(ring, HERE)
    with counted_statements(empty_database.engine) as statements:
        callers = await asyncio.gather(*(verifier.caller(token, later) for token in tokens))
    assert {caller.id for caller in callers} == {"ada"}
    assert len(statements) == 1


async def test_a_retired_key_verifies_for_a_day_and_signs_nothing(
    ring: KeyRing, empty_database: Database, secret: bytes, now: datetime
) -> None:
    old = ring.signing_key(now).kid
    await rotate(empty_database, secret, now)
    await ring.load(now + RETIRED_KEYS_VERIFY_FOR - timedelta(seconds=1))
    current = ring.signing_key(now).kid
    assert current != old
    assert {key["kid"] for key in ring.jwks["keys"]} == {old, current}
    await ring.load(now + RETIRED_KEYS_VERIFY_FOR)
    assert [key["kid"] for key in ring.jwks["keys"]] == [current]


async def test_a_flood_of_invented_key_ids_reads_the_table_once_in_five_seconds(
    ring: KeyRing, empty_database: Database, now: datetime
) -> None:
    with counted_statements(empty_database.engine) as statements:
        for second in range(10, 30):
            assert (
                await asyncio.gather(*(ring.find(f"{n}", now + timedelta(seconds=second)) for n in range(50)))
                == [None] * 50
            )
    assert len(statements) == 4


async def test_keys_that_can_not_be_read_are_no_verdict_on_a_token(
    ring: KeyRing, empty_database: Database, secret: bytes, now: datetime
) -> None:
    other = KeyRing(empty_database.sessions, secret)
    other.hold([new_signing_key(Seal(secret), now)], now)
    token = b"Bearer " + mint_access_token(other, HERE, STAFF, now).encode()
    async with empty_database.sessions.begin() as session:
        await session.execute(sa.text("ALTER TABLE signing_key RENAME TO signing_key_gone"))
    with pytest.raises(Unavailable, match="can't be read"):
        await TokenVerifier(ring, HERE).caller(token, now + timedelta(seconds=10))
    with pytest.raises(Unauthenticated, match="unknown key"):
        await TokenVerifier(ring, HERE).caller(token, now + timedelta(seconds=11))
