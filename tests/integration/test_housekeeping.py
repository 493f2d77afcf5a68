"""What is long over is deleted, a little at a time, and nothing else."""

import asyncio
from collections import Counter
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlmodel import SQLModel

from auth.tables import (
    Approval,
    AuthorizationRequest,
    BrowserSession,
    Client,
    DeviceAuthorization,
    RefreshToken,
    Revocation,
)
from gateway import housekeeping
from gateway.database import Database
from gateway.housekeeping import EXPIRED, FIRST_ID, KEPT_AFTER_EXPIRY, keep_pruning, prune_disclosures, prune_expired
from partners import tables
from partners.keys import Keys
from partners.programme import Programme
from partners.tables import Disclosure, DisclosureKind, Pass
from tests.factories import Club

DAY = timedelta(days=1)
A_SECOND = timedelta(seconds=1)
MODELS: dict[str, type[SQLModel]] = {
    str(model.__tablename__): model
    for model in (AuthorizationRequest, DeviceAuthorization, RefreshToken, Approval, BrowserSession, Pass, Revocation)
}


@pytest.fixture
def own(empty_database: Database, programme: Programme, keys: Keys, now: datetime) -> Club:
    """A club in a database of the test's own."""
    return Club(empty_database, programme, keys, now)


async def fill(club: Club, ends: datetime, count: int = 1) -> None:
    """So many rows of each table that expire then."""
    member = await club.member()
    async with club.database.sessions.begin() as session:
        client = Client(id=f"client_{uuid4().hex}", kind="staff", name="desk", created_at=ends)
        session.add(client)
        await session.flush()
        times: dict[str, Any] = {"created_at": ends - A_SECOND, "expires_at": ends}
        for _ in range(count):
            some = uuid4().bytes
            approval = Approval(client_id=client.id, kind="staff", subject="ada", created_at=ends, expires_at=ends)
            session.add(approval)
            await session.flush()
            request: dict[str, Any] = {"redirect_uri": "https://a.example", "code_challenge": "x", "code_hash": some}
            session.add_all(
                [
                    AuthorizationRequest(client_id=client.id, approval_id=approval.id, **request, **times),
                    DeviceAuthorization(
                        client_id=client.id, approval_id=approval.id, device_hash=some, user_code_hash=some, **times
                    ),
                    RefreshToken(approval_id=approval.id, hash=some, **times),
                    BrowserSession(hash=some, kind="staff", subject="ada", name="Ada", **times),
                    Pass(member_id=member.id, hash=some, **times),
                    Revocation(kind="token", key=some.hex(), at=ends, expires_at=ends),
                ]
            )


async def counts(database: Database) -> dict[str, int]:
    async with database.sessions() as session:
        return {
            name: await session.scalar(sa.select(sa.func.count()).select_from(model)) or 0
            for name, model in MODELS.items()
        }


async def test_each_kind_of_row_is_kept_for_its_time_and_no_longer(own: Club) -> None:
    assert MODELS.keys() == KEPT_AFTER_EXPIRY.keys()
    await fill(own, own.now)
    for moment in (own.now - A_SECOND, own.now, own.now + DAY - A_SECOND, own.now + DAY, own.now + 2 * DAY):
        async with own.database.connection() as connection:
            await prune_expired(connection, moment)
        assert await counts(own.database) == {
            table: int(moment < own.now + kept) for table, kept in KEPT_AFTER_EXPIRY.items()
        }


async def test_what_nobody_said_yes_to_goes_after_ten_minutes(own: Club) -> None:
    await fill(own, own.now)
    await own.sql("UPDATE authorization_request SET approval_id = NULL")
    await own.sql("UPDATE device_authorization SET approval_id = NULL")
    for later, left in ((timedelta(minutes=10) - A_SECOND, 1), (timedelta(minutes=10), 0)):
        async with own.database.connection() as connection:
            await prune_expired(connection, own.now + later)
        rows = await counts(own.database)
        assert (rows["authorization_request"], rows["device_authorization"], rows["approval"]) == (left, left, 1)


async def test_a_backlog_goes_batch_by_batch_and_what_is_not_over_stays(
    own: Club, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "BATCH_MAX", 2)
    small = {table: statement.replace("LIMIT 1000", "LIMIT 2") for table, statement in EXPIRED.items()}
    monkeypatch.setattr(housekeeping, "EXPIRED", small)
    await fill(own, own.now, count=5)
    await fill(own, own.now + 3 * DAY)
    async with own.database.connection() as connection:
        assert await prune_expired(connection, own.now + 2 * DAY) == 5 * len(MODELS)
    assert await counts(own.database) == dict.fromkeys(MODELS, 1)


async def test_two_that_prune_at_once_do_not_wait_for_each_other(own: Club) -> None:
    await fill(own, own.now, count=50)

    async def prune() -> int:
        async with own.database.connection() as connection:
            return await prune_expired(connection, own.now + 2 * DAY)

    assert sum(await asyncio.gather(*(prune() for _ in range(4)))) == 50 * len(MODELS)


@pytest.mark.parametrize("table", sorted(KEPT_AFTER_EXPIRY))
async def test_what_is_over_is_found_by_an_index(own: Club, table: str) -> None:
    async with own.database.connection() as connection, connection.transaction():
        # As on a table that is large and has few such rows.
        await connection.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
        plan = "\n".join(row[0] for row in await connection.fetch("EXPLAIN " + EXPIRED[table], own.now))
    assert f"ix_{table}_due" in plan
    assert "Sort" not in plan


def disclosed(member: tables.Member, at: datetime) -> Disclosure:
    id = UUID(int=(int(at.timestamp() * 1000) << 80) | (7 << 76) | (uuid4().int & ((1 << 62) - 1)) | (2 << 62))
    return Disclosure(
        member_id=member.id, id=id, at=at, partner_id=uuid4(), client_id="client", kind=DisclosureKind.MEMBERSHIP
    )


async def test_disclosures_are_kept_to_the_millisecond_and_older_ones_deleted(own: Club) -> None:
    members, before = [await own.member() for _ in range(3)], own.now - 400 * DAY
    moment = timedelta(milliseconds=1)
    async with own.database.sessions.begin() as session:
        for member in members:
            for at in (before - DAY, before - moment, before + moment, own.now):
                session.add(disclosed(member, at))
    async with own.database.connection() as connection:
        last, gone = await prune_disclosures(connection, FIRST_ID, before)
        assert (last, gone) == (max(member.id for member in members), 6)
        assert await prune_disclosures(connection, last, before) == (FIRST_ID, 0)
    async with own.database.sessions() as session:
        kept = (await session.scalars(sa.select(Disclosure))).all()
    assert Counter(row.member_id for row in kept) == {member.id: 2 for member in members}
    assert all(row.at >= before for row in kept)


async def test_a_member_with_many_disclosures_holds_no_statement_up(own: Club) -> None:
    member, before = await own.member(), own.now - 400 * DAY
    async with own.database.sessions.begin() as session:
        session.add_all(disclosed(member, before - number * A_SECOND) for number in range(1, 251))
    async with own.database.connection() as connection:
        assert [(await prune_disclosures(connection, FIRST_ID, before))[1] for _ in range(4)] == [100, 100, 50, 0]


async def test_disclosures_are_found_by_their_key(own: Club) -> None:
    async with own.database.connection() as connection, connection.transaction():
        await connection.execute("SET LOCAL enable_seqscan = off")
        plan = await connection.fetch("EXPLAIN " + housekeeping.DISCLOSURES_OF_SOME, FIRST_ID, FIRST_ID)
    assert any("pk_disclosure" in row[0] for row in plan)


async def test_the_worker_prunes_and_ends_when_told(own: Club) -> None:
    await fill(own, own.now - 2 * DAY)
    member = await own.member()
    async with own.database.sessions.begin() as session:
        session.add_all([disclosed(member, own.now - 8 * DAY), disclosed(member, own.now - 6 * DAY)])
    stop = asyncio.Event()
    working = asyncio.create_task(keep_pruning(own.database, 7 * DAY, lambda: own.now, stop))
    async with asyncio.timeout(10):
        while sum((await counts(own.database)).values()) or await disclosures(own.database) != 1:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        stop.set()
        await working
    assert await disclosures(own.database) == 1


async def disclosures(database: Database) -> int:
    async with database.sessions() as session:
        return await session.scalar(sa.select(sa.func.count()).select_from(Disclosure)) or 0
