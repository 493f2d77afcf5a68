"""A revocation reaches every process within a second, whatever happens to Valkey or to who announces it."""

import asyncio
import json
import signal
import time
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from redis import Redis
from sqlmodel import col

from auth import revocations
from auth.caller import Caller, CallerKind
from auth.revocations import LATE_AT_MOST, TOKENS_LIVE_AT_MOST, DenySet, deny
from auth.tables import Denied, Revocation
from auth.tokens import mint_access_token
from gateway.announcer import BATCH_MAX
from gateway.app import Service, open_service, working
from gateway.database import Database, open_database
from gateway.settings import Settings
from tests.commands import ended, start
from tests.valkey import Valkey, free_port

DESK = Caller(CallerKind.STAFF, "ada", frozenset({"audit:read"}), client_id="desk")
SOON = 1.0
"""What is promised, in seconds; a busy machine gets as much again."""


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    made = Valkey(free_port())
    made.start()
    yield made
    made.kill()


@pytest.fixture
async def plain(new_database: Callable[[], Awaitable[str]]) -> AsyncIterator[Database]:
    """A database reached behind the services' backs, as by a process that dies after its commit."""
    opened = open_database(await new_database(), connections=5)
    yield opened
    await opened.engine.dispose()


Open = Callable[[], Awaitable[Service]]


@pytest.fixture
async def process(plain: Database, valkey: Valkey, secret: bytes) -> AsyncIterator[Open]:
    """Opens one more service with its workers on the test's database and Valkey."""
    async with AsyncExitStack() as closing:

        async def open_one() -> Service:
            service = await closing.enter_async_context(open_service(settings_of(plain, valkey, secret)))
            await closing.enter_async_context(working(service))
            return service

        yield open_one


def settings_of(database: Database, valkey: Valkey, secret: bytes) -> Settings:
    return Settings(database_url=address_of(database), redis_url=valkey.url, secret=SecretStr(secret.decode()))


def address_of(database: Database) -> str:
    return database.engine.url.render_as_string(hide_password=False)


async def revoke(database: Database, kind: Denied = Denied.TOKEN, key: str | None = None, version: int = 1) -> Caller:
    """Commits a revocation and returns a caller whose token it kills."""
    key = key or str(uuid4())
    async with database.sessions.begin() as session:
        await deny(session, kind, key, datetime.now(UTC), version=version)
    return Caller(
        CallerKind.STAFF,
        "ada",
        client_id=key if kind is Denied.CLIENT else "desk",
        token_id=key if kind is Denied.TOKEN else None,
        approval_id=UUID(key) if kind is Denied.APPROVAL else None,
        client_version=version - 1,
    )


async def seconds_until(condition: Callable[[], object], at_most: float = 2 * SOON) -> float:
    """How long it takes; fails when it takes too long."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < at_most, "it took too long"
        await asyncio.sleep(0.005)
    return time.monotonic() - began


async def rows(database: Database, *conditions: sa.ColumnElement[bool]) -> list[Revocation]:
    async with database.sessions() as session:
        return list(await session.scalars(sa.select(Revocation).where(*conditions)))


async def wait_announced(database: Database, at_most: float = 2 * SOON) -> None:
    began = time.monotonic()
    while await rows(database, ~col(Revocation.announced)):
        assert time.monotonic() - began < at_most, "rows stay unannounced"
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("kind", Denied)
async def test_a_revocation_holds_here_at_once_and_elsewhere_within_a_second(process: Open, kind: Denied) -> None:
    here, elsewhere = await process(), await process()
    revoked = await revoke(here.database, kind, version=2)
    assert here.denied.denies(revoked)
    await seconds_until(lambda: elsewhere.denied.denies(revoked))
    await wait_announced(here.database)


async def test_a_token_that_another_process_has_remembered_is_refused_there_within_a_second(
    plain: Database, valkey: Valkey, process: Open, secret: bytes
) -> None:
    environment = {"DATABASE_URL": address_of(plain), "REDIS_URL": valkey.url, "PERKS_SECRET": secret.decode()}
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    other = start("serve", "--port", str(port), environment=environment)
    try:
        here = await process()
        authority = type(here.authority)(base, f"{base}/graphql", f"{base}/staff")
        token = mint_access_token(here.ring, authority, DESK, datetime.now(UTC))
        async with httpx.AsyncClient(base_url=base, headers={"authorization": f"Bearer {token}"}) as client:

            async def ask() -> int:
                with suppress(httpx.ConnectError):
                    return (await client.post("/graphql", json={"query": "{ __typename }"})).status_code
                return 0

            began = time.monotonic()
            while await ask() != 200:
                assert time.monotonic() - began < 30
                await asyncio.sleep(0.05)
            await revoke(here.database, key=jti_of(token))
            began = time.monotonic()
            while await ask() != 401:
                assert time.monotonic() - began < 2 * SOON
            assert await ask() == 401
    finally:
        other.terminate()
        assert ended(other).code == 0


def jti_of(token: str) -> str:
    return str(json.loads(urlsafe_b64decode(token.split(".")[1] + "=="))["jti"])


async def test_what_a_dead_process_committed_and_did_not_announce_is_announced_by_another(
    plain: Database, process: Open
) -> None:
    alive = [await process(), await process()]
    revoked = await revoke(plain)
    assert [row.announced for row in await rows(plain)] == [False]
    await seconds_until(lambda: all(one.denied.denies(revoked) for one in alive))
    await wait_announced(plain)


async def test_what_was_revoked_before_a_process_started_holds_there_from_the_start(
    plain: Database, process: Open
) -> None:
    revoked = await revoke(plain)
    assert (await process()).denied.denies(revoked)


async def test_while_valkey_is_away_revocations_arrive_within_a_second_and_are_announced_later(
    plain: Database, valkey: Valkey, process: Open
) -> None:
    here, elsewhere = await process(), await process()
    await seconds_until(lambda: subscribers(valkey) == 2)
    valkey.kill()
    for _ in range(3):
        revoked = await revoke(here.database)
        assert here.denied.denies(revoked)
        await seconds_until(partial(elsewhere.denied.denies, revoked))
    assert len(await rows(plain, ~col(Revocation.announced))) == 3
    valkey.start()
    await wait_announced(plain, 5)


async def test_a_valkey_that_hangs_delays_a_revocation_by_no_more_than_two_seconds(
    valkey: Valkey, process: Open
) -> None:
    here, elsewhere = await process(), await process()
    await asyncio.sleep(0.2)
    valkey.signal(signal.SIGSTOP)
    try:
        revoked = await revoke(here.database)
        assert here.denied.denies(revoked)
        await seconds_until(lambda: elsewhere.denied.denies(revoked), 2 + SOON)
        later = await revoke(here.database)
        await seconds_until(lambda: elsewhere.denied.denies(later))
    finally:
        valkey.signal(signal.SIGCONT)


async def test_a_new_subscription_reads_everything_that_it_may_have_missed(
    plain: Database, valkey: Valkey, process: Open
) -> None:
    service = await process()
    # The subscription stands in Valkey a moment before this process has heard so and read everything.
    await seconds_until(lambda: subscribers(valkey) == 1 and service.announcer._read_at is not None)
    missed, long_ago = str(uuid4()), datetime.now(UTC) - 10 * LATE_AT_MOST
    async with plain.sessions.begin() as session:
        row = Revocation(kind="token", key=missed, at=long_ago, expires_at=long_ago + TOKENS_LIVE_AT_MOST)
        row.announced = True
        session.add(row)
    await asyncio.sleep(SOON)
    assert missed not in service.denied._tokens
    with Redis.from_url(valkey.url) as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    await seconds_until(lambda: missed in service.denied._tokens)


def subscribers(valkey: Valkey) -> int:
    with Redis.from_url(valkey.url) as client:
        channels: Any = client.pubsub_channels("perks:revoked:*")
        return sum(count for _, count in client.pubsub_numsub(*channels))


async def test_copies_with_databases_of_their_own_do_not_hear_each_other_on_one_valkey(
    new_database: Callable[[], Awaitable[str]], valkey: Valkey, process: Open, secret: bytes
) -> None:
    here = await process()
    stranger = Settings(database_url=await new_database(), redis_url=valkey.url, secret=SecretStr(secret.decode()))
    async with open_service(stranger) as other, working(other):
        await seconds_until(lambda: subscribers(valkey) == 2)
        revoked = await revoke(here.database)
        await wait_announced(here.database)
        await asyncio.sleep(0.1)
        assert not other.denied.denies(revoked)


async def test_news_that_can_not_be_read_is_looked_up_in_sql(plain: Database, valkey: Valkey, process: Open) -> None:
    service = await process()
    await seconds_until(lambda: subscribers(valkey) == 1)
    unheard = str(uuid4())
    async with plain.sessions.begin() as session:
        await deny(session, Denied.TOKEN, unheard, datetime.now(UTC))
        await session.execute(sa.update(Revocation).values(announced=True))
    with Redis.from_url(valkey.url) as client:
        for news in (b"\xff", b"{}", b"[[1]]", b'[["approval", "no uuid", 1, "2030-01-01T00:00:00+00:00"]]'):
            client.publish(service.announcer._channel, news)
    await seconds_until(lambda: unheard in service.denied._tokens)
    heard = await revoke(service.database)
    assert service.denied.denies(heard)


async def test_while_sql_can_not_be_read_the_last_copy_holds_and_workers_go_on_afterwards(
    plain: Database, process: Open
) -> None:
    here, elsewhere = await process(), await process()
    revoked = await revoke(here.database)
    await seconds_until(lambda: elsewhere.denied.denies(revoked))
    async with plain.sessions.begin() as session:
        await session.execute(sa.text("ALTER TABLE revocation RENAME TO revocation_gone"))
    await asyncio.sleep(SOON)
    assert elsewhere.denied.denies(revoked)
    async with plain.sessions.begin() as session:
        await session.execute(sa.text("ALTER TABLE revocation_gone RENAME TO revocation"))
    later = await revoke(plain)
    await seconds_until(lambda: here.denied.denies(later) and elsewhere.denied.denies(later), 4)


async def test_a_backlog_larger_than_a_batch_is_announced_whole(plain: Database, process: Open) -> None:
    now = datetime.now(UTC)
    async with plain.sessions.begin() as session:
        session.add_all(
            Revocation(kind="token", key=str(number), at=now, expires_at=now + TOKENS_LIVE_AT_MOST)
            for number in range(2 * BATCH_MAX + 1)
        )
    service = await process()
    await wait_announced(plain)
    assert len(service.denied._tokens) == 2 * BATCH_MAX + 1


async def test_what_is_rolled_back_kills_nothing(process: Open) -> None:
    service = await process()
    now = datetime.now(UTC)
    with suppress(ZeroDivisionError):
        async with service.database.sessions.begin() as session:
            await deny(session, Denied.TOKEN, "all undone", now)
            raise ZeroDivisionError
    async with service.database.sessions.begin() as session:
        with suppress(ZeroDivisionError):
            async with session.begin_nested():
                await deny(session, Denied.TOKEN, "undone", now)
                raise ZeroDivisionError
        async with session.begin_nested():
            await deny(session, Denied.TOKEN, "done", now)
        assert "done" not in service.denied._tokens
    assert set(service.denied._tokens) == {"done"}
    await asyncio.sleep(SOON)
    assert set(service.denied._tokens) == {"done"}


async def test_what_has_expired_is_forgotten_and_not_read_again(plain: Database, now: datetime) -> None:
    denied = DenySet()
    approval = str(uuid4())
    async with plain.sessions.begin() as session:
        await deny(session, Denied.TOKEN, "old", now - TOKENS_LIVE_AT_MOST)
        await deny(session, Denied.TOKEN, "dying", now - TOKENS_LIVE_AT_MOST + timedelta(seconds=1))
        await deny(session, Denied.APPROVAL, approval, now)
    async with plain.sessions() as session:
        await denied.load(session, now)
    assert (set(denied._tokens), set(denied._approvals)) == ({"dying"}, {UUID(approval)})
    denied.forget(now + timedelta(seconds=1))
    assert (set(denied._tokens), set(denied._approvals)) == (set(), {UUID(approval)})
    denied.forget(now + TOKENS_LIVE_AT_MOST)
    assert denied._approvals == {}


@pytest.mark.parametrize("count", [0, 1, 3, 4])
async def test_the_table_is_read_page_by_page_to_its_end(
    plain: Database, now: datetime, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(revocations, "PAGE", 2)
    keys = {str(uuid4()) for _ in range(count)}
    async with plain.sessions.begin() as session:
        for key in keys:
            await deny(session, Denied.TOKEN, key, now)
            await deny(session, Denied.CLIENT, key, now, version=2)
    denied = DenySet()
    async with plain.sessions() as session:
        await denied.load(session, now)
    assert (set(denied._tokens), set(denied._clients)) == (keys, keys)


async def test_what_was_read_before_is_not_read_again(plain: Database, now: datetime) -> None:
    async with plain.sessions.begin() as session:
        await deny(session, Denied.TOKEN, "before", now - LATE_AT_MOST)
        await deny(session, Denied.TOKEN, "late", now - LATE_AT_MOST + timedelta(seconds=1))
        await deny(session, Denied.TOKEN, "new", now)
    denied = DenySet()
    async with plain.sessions() as session:
        await denied.load(session, now, since=now)
    assert set(denied._tokens) == {"late", "new"}


async def test_a_client_is_denied_below_the_highest_version_in_whatever_order_they_arrive(now: datetime) -> None:
    denied = DenySet()
    for version in (3, 2):
        denied.add(Denied.CLIENT, "desk", version, now)
    callers = [Caller(CallerKind.STAFF, "ada", client_id="desk", client_version=version) for version in (1, 2, 3)]
    assert [denied.denies(caller) for caller in callers] == [True, True, False]


async def test_after_chaos_every_process_denies_what_sql_says(plain: Database, valkey: Valkey, process: Open) -> None:
    services = [await process() for _ in range(3)]
    databases = [plain, *(service.database for service in services)]
    done = asyncio.Event()

    async def shake() -> None:
        while not done.is_set():
            await asyncio.to_thread(valkey.kill)
            await asyncio.sleep(0.3)
            await asyncio.to_thread(valkey.start)
            await asyncio.sleep(0.4)

    shaking = asyncio.create_task(shake())
    for number in range(150):
        await revoke(databases[number % 4], list(Denied)[number % 3])
        await asyncio.sleep(0.02)
    done.set()
    await shaking
    await wait_announced(plain, 5)
    found = await rows(plain)
    assert len(found) == 150
    for service in services:
        await seconds_until(partial(knows, service, found), 5)


def knows(service: Service, found: list[Revocation]) -> bool:
    return denied_of(service) == {(row.kind, row.key) for row in found}


def denied_of(service: Service) -> set[tuple[str, str]]:
    denied = service.denied
    held: dict[str, Collection[object]] = {
        "token": denied._tokens,
        "approval": denied._approvals,
        "client": denied._clients,
    }
    return {(kind, str(key)) for kind, keys in held.items() for key in keys}
