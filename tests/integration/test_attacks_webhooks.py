"""Attacks on the way from the log to partners: clashes of its workers, backlogs, and receivers that mean harm."""

import asyncio
import time
from pathlib import Path
from threading import Thread
from uuid import UUID, uuid4

import pytest

from gateway.database import Database
from gateway.new_log import begin_new_log
from gateway.outside_posts import open_outside_world
from gateway.outside_sockets import OutsideFault, Resolver
from partners.actors import SYSTEM
from partners.keys import Keys
from partners.outside_addresses import FaultKind, PrivateTargets, read_private_targets
from partners.programme import Programme
from partners.webhooks.endpoints import log_size
from partners.webhooks.events import names_of
from partners.webhooks.messages import MAKE, TAKE, lease_messages
from partners.webhooks.reach import lock_endpoint
from tests.factories import Club, partner_actor
from tests.receivers import receiving
from tests.sequencing import sequencer_on
from tests.telling import Telling


@pytest.fixture
def telling(empty_database: Database, programme: Programme, keys: Keys, now: object) -> Telling:
    return Telling(Club(empty_database, programme, keys, now), now)  # type: ignore[arg-type]


async def test_a_confirmation_names_its_hold_as_the_api_does_and_not_among_its_reasons(telling: Telling) -> None:
    club = telling.club
    perk = await club.perk()
    partner = club.partners[perk.partner_id]
    member = await club.member(partner)
    endpoint = await telling.endpoint(partner, "perk.claimed", "hold.confirmed")
    await club.redeemed(await club.hold(member, perk))
    await telling.tell()
    claimed, confirmed = (event["data"] for event in telling.told(endpoint.url))
    assert confirmed["hold"] == claimed["hold"]
    assert confirmed["reasons"] == []


async def test_a_new_log_begins_while_messages_are_made_and_endpoints_are_changed(
    telling: Telling, folder: Path
) -> None:
    """Whoever has the cursor or an endpoint goes on first: neither side is thrown out as a deadlock."""
    club = telling.club
    perk = await club.perk()
    partner = club.partners[perk.partner_id]
    endpoint = await telling.endpoint(partner)
    await club.hold(await club.member(partner), perk)
    await telling.sequence()
    database = club.database
    made, locked = asyncio.Event(), asyncio.Event()

    async def make() -> None:
        async with database.connection() as connection, connection.transaction():
            cursor = await connection.fetchrow(TAKE)
            assert cursor is not None
            locked.set()
            await made.wait()
            await connection.fetch(MAKE, cursor["index"], cursor["size"], club.now, names_of(club.keys).delays)
            await connection.execute("UPDATE webhook_cursor SET index = $1", cursor["size"])

    async def change() -> None:
        async with database.sessions.begin() as session:
            row = await lock_endpoint(session, endpoint.id, partner_actor(partner))
            locked.set()
            await made.wait()
            row.since = await log_size(session)

    for clash in (make, change):
        made.clear()
        locked.clear()
        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            tasks.create_task(clash())
            await locked.wait()
            beginning = tasks.create_task(
                begin_new_log(sequencer_on(database, club.keys, folder), f"perks.example/{clash.__name__}", SYSTEM)
            )
            await asyncio.sleep(0.2)
            made.set()
        assert beginning.result().origin == f"perks.example/{clash.__name__}"
    assert await telling.tell() > 0
    assert len(telling.told(endpoint.url)) == len({one.id for one in telling.received})


async def many_behind(telling: Telling, endpoint: UUID, lane: UUID, count: int) -> None:
    """Messages of one lane whose first waits for its next attempt: none can be sent before."""
    await telling.club.sql(
        "INSERT INTO webhook_message (endpoint_id, entry_id, index, action, lane, state, attempts, replays, told_at,"
        " pending_since, due_at) SELECT $1, gen_random_uuid(), n, 'perk.claimed', $2, 'PENDING', 0, 0, t.at, t.at, t.at"
        " + CASE WHEN n = 1 THEN interval '2 hours' ELSE interval '0' END FROM generate_series(1, $3::int) AS n,"
        " LATERAL (SELECT $4::timestamptz - (interval '1 hour') * (1 - n / $3::float) AS at) AS t",
        endpoint,
        lane,
        count,
        telling.now,
    )
    await telling.club.sql("ANALYZE webhook_message")


async def test_a_long_queue_behind_one_member_costs_little_and_holds_up_nobody_else(telling: Telling) -> None:
    club = telling.club
    perk = await club.perk()
    partner = club.partners[perk.partner_id]
    endpoint = await telling.endpoint(partner, "perk.claimed")
    await many_behind(telling, endpoint.id, uuid4(), 5_000)
    claims = [await club.hold(await club.member(partner), perk) for _ in range(3)]
    await telling.make()
    await many_behind(telling, endpoint.id, uuid4(), 5_000)
    read = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'webhook_message'"
    async with club.database.connection() as connection, connection.transaction():
        before = await connection.fetchval(read)
        found = await lease_messages(connection, {}, each=16, all=256, now=telling.now)
        after = await connection.fetchval(read)
        assert after - before < 2_000
    assert {one.told.subject_id for one in found} == {hold.id for hold in claims}


async def test_whoever_has_little_under_way_comes_before_whoever_has_much(telling: Telling) -> None:
    club = telling.club
    endpoints = []
    for _ in range(2):
        perk = await club.perk()
        partner = club.partners[perk.partner_id]
        endpoints.append(await telling.endpoint(partner, "perk.claimed"))
        for _ in range(4):
            await club.hold(await club.member(partner), perk)
    await telling.make()
    slow, quick = endpoints
    async with club.database.connection() as connection:
        found = await lease_messages(connection, {slow.id: 8}, each=16, all=4, now=telling.now)
    assert {one.endpoint_id for one in found} == {quick.id}


async def test_a_name_with_addresses_without_end_is_a_fault_and_none_of_them_is_looked_at() -> None:
    async def resolve(_: str) -> list[str]:
        return [f"93.184.{number // 256}.{number % 256}" for number in range(10_000)]

    async with open_outside_world(PrivateTargets(), resolve=resolve) as post:
        began = time.thread_time()
        with pytest.raises(OutsideFault, match="too many addresses") as fault:
            await post("https://hooks.brand.example/", b"{}", {})
    assert fault.value.kind is FaultKind.DNS
    assert time.thread_time() - began < 0.05


async def test_a_name_whose_thread_could_not_be_started_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Thread) -> None:
        raise RuntimeError("can't start new thread")

    resolve = Resolver()
    with monkeypatch.context() as patched:
        patched.setattr(Thread, "start", refuse)
        with pytest.raises(OSError, match="thread"):
            await resolve("localhost")
    async with asyncio.timeout(5):
        assert "127.0.0.1" in await resolve("localhost")


async def test_a_host_that_receives_for_many_partners_is_not_connected_to_for_each_message() -> None:
    here = read_private_targets("127.0.0.1")
    async with receiving() as receiver, open_outside_world(here) as post:
        for _ in range(3):
            await asyncio.gather(*(post(receiver.url, b"{}", {}) for _ in range(60)))
        assert (receiver.connections, len(receiver.requests)) == (60, 180)
