"""Attempts to lose what somebody was promised: codes taken from under those who hold them, and turns overtaken."""

import asyncio
from dataclasses import replace
from uuid import uuid4

import pytest

from gateway.database import Database
from partners.actors import SYSTEM
from partners.pool_codes import Batch, add_codes, count_codes, find_pool, withdraw_codes
from partners.redemptions import confirm_hold
from partners.references import PerkRef
from partners.tables import PerkKind
from tests.factories import Club, partner_actor
from tests.waiting import Queue


@pytest.mark.parametrize("by_name", [False, True])
async def test_no_plan_of_the_database_withdraws_a_code_that_is_held(
    club: Club, empty_database: Database, by_name: bool
) -> None:
    """Where pools have one code each, the planner takes those of a perk for one row, however many there are."""
    own = replace(club, database=empty_database)
    perk = await own.perk(kind=PerkKind.CODE)
    await own.sql(
        "INSERT INTO perk_code (perk_id, hash, sealed, added_at)"
        " SELECT gen_random_uuid(), decode(md5(n::text), 'hex'), '', now() FROM generate_series(1, 20000) n"
    )
    await own.sql("ANALYZE perk_code")
    codes = [f"CODE-{number}" for number in range(5)]
    async with own.database.connection() as connection:
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        pool = await find_pool(connection, PerkRef(id=perk.id), SYSTEM)
        batch = Batch(pool, own.keys.sealing)
        await batch.take(list(enumerate(codes, 1)))
        async with connection.transaction():
            await add_codes(connection, batch, SYSTEM, own.now)
        for _ in range(3):
            await own.hold(await own.member(own.partners[perk.partner_id]), perk)
        wanted = codes if by_name else None
        gone = await withdraw_codes(connection, pool, wanted, own.keys.sealing, SYSTEM, own.now)
        stocked = await count_codes(connection, [perk.id], own.now)
    [left] = await own.sql("SELECT count(*) FROM perk_code WHERE perk_id = $1", perk.id)
    assert (gone.withdrawn, left["count"], stocked[perk.id].held) == (2, 3, 3)


async def test_who_rose_while_the_promoter_waited_for_the_perk_is_not_overtaken(club: Club) -> None:
    queue = await Queue.at(club)
    [hold] = await queue.fill()
    rising = await queue.member("silver")
    first, second = await queue.join(), await queue.join(rising)
    await queue.release(hold)
    await club.at_once(
        f"capacity WHERE perk_id = '{queue.perk.id}'", [queue.promote(), club.assign(rising, "black", now=queue.now)]
    )
    assert await queue.state(first, second) == ["WAITING", "OFFERED"]


async def test_a_confirmation_has_one_code_in_hand_however_long_it_takes(club: Club) -> None:
    """While it waits for its key a code that came first in the pool comes free: it must not take that one, too."""
    perk = await club.perk(kind=PerkKind.CODE)
    partner = club.partners[perk.partner_id]
    async with club.database.connection() as connection:
        pool = await find_pool(connection, PerkRef(id=perk.id), SYSTEM)
        batch = Batch(pool, club.keys.sealing)
        await batch.take([(1, "CODE-1"), (2, "CODE-2")])
        async with connection.transaction():
            await add_codes(connection, batch, SYSTEM, club.now)
    first, second = [await club.hold(await club.member(partner), perk) for _ in range(2)]
    actor, key = partner_actor(partner), uuid4().hex
    async with club.database.connection() as another, club.database.connection() as slow:
        other = another.transaction()
        await other.start()
        await another.execute("SELECT lock_code($1)", perk.id)
        binding = "INSERT INTO idempotency_key VALUES ($1, $2, '', $3, $4)"
        await another.execute(binding, actor.owner, key, perk.id, club.now)
        async with slow.transaction():
            confirming = asyncio.create_task(
                confirm_hold(slow, hold_id=first.id, code=None, actor=actor, key=key, fingerprint=b"", now=club.now)
            )
            await asyncio.sleep(0.2)
            assert not confirming.done()
            await other.rollback()
            assert (await confirming).code == "CONFIRMED"
            assert (await club.confirm(second)).code == "CONFIRMED"
