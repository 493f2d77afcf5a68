"""News of the log reach who follows in every process, whatever happens to Valkey or to who tells of it."""

import asyncio
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, suppress
from datetime import UTC, datetime
from time import monotonic
from typing import Any
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr

from auth.caller import Caller, CallerKind
from auth.scopes import scopes_of
from auth.tokens import mint_access_token
from gateway import live as news
from gateway.app import Service, open_service, working
from gateway.database import Database, open_database
from gateway.settings import Settings
from partners import live
from partners.feeds import Seen
from partners.keys import Keys
from partners.live import Availability
from partners.notes import origin_of
from partners.programme import Programme
from partners.sequencing import sequence
from tests.commands import ended, start
from tests.factories import Club
from tests.valkey import Valkey, free_port

CLAIM = "mutation($input: ClaimPerkInput!) { claimPerk(input: $input) { userErrors { code } } }"
Open = Callable[[], Awaitable[Service]]


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    made = Valkey(free_port())
    made.start()
    yield made
    made.kill()


@pytest.fixture
async def plain(new_database: Callable[[], Awaitable[str]]) -> AsyncIterator[Database]:
    opened = open_database(await new_database(), connections=10)
    yield opened
    await opened.engine.dispose()


@pytest.fixture
def members(plain: Database, programme: Programme, keys: Keys) -> Club:
    return Club(plain, programme, keys, datetime.now(UTC))


@pytest.fixture
async def process(plain: Database, valkey: Valkey, secret: bytes) -> AsyncIterator[Open]:
    """Opens one more service with its workers on the test's database and Valkey."""
    settings = Settings(
        database_url=plain.engine.url.render_as_string(hide_password=False),
        redis_url=valkey.url,
        secret=SecretStr(secret.decode()),
    )
    async with AsyncExitStack() as closing:

        async def open_one() -> Service:
            service = await closing.enter_async_context(open_service(settings))
            await closing.enter_async_context(working(service))
            return service

        yield open_one


def follow(service: Service, perk_id: UUID) -> AsyncGenerator[Seen[Availability], None]:
    async def read(_: datetime) -> Seen[Availability]:
        seen = await service.resources.availability.submit(None, perk_id)
        assert seen is not None
        return seen

    return service.resources.feeds.follow(perk_id, {perk_id}, read)


async def left(states: AsyncGenerator[Seen[Availability], None], patience_s: float = 10) -> int | None:
    async with asyncio.timeout(patience_s):
        return (await anext(states)).state.left


async def listening(*services: Service) -> None:
    for _ in range(200):
        if all(service.news._listening for service in services):
            return
        await asyncio.sleep(0.05)
    raise AssertionError("they never listened")


async def claim(club: Club, perk: Any) -> None:
    await club.hold(await club.member(club.partners[perk.partner_id]), perk)


async def test_a_change_reaches_every_process_within_a_second(process: Open, members: Club) -> None:
    services = [await process(), await process(), await process()]
    perk = await members.perk(units=9)
    await listening(*services)
    async with AsyncExitStack() as opened:
        states = [await opened.enter_async_context(aclosing(follow(one, perk.id))) for one in services]
        assert [await left(one) for one in states] == [9] * 3
        for taken in range(1, 4):
            await claim(members, perk)
            began = monotonic()
            assert [await left(one) for one in states] == [9 - taken] * 3
            assert monotonic() - began < 2


async def test_while_valkey_is_away_changes_are_found_in_sql_and_told_again_when_it_is_back(
    process: Open, members: Club, valkey: Valkey
) -> None:
    services = [await process(), await process()]
    perk = await members.perk(units=9)
    await listening(*services)
    async with aclosing(follow(services[0], perk.id)) as one, aclosing(follow(services[1], perk.id)) as two:
        assert [await left(one), await left(two)] == [9, 9]
        valkey.kill()
        await claim(members, perk)
        assert [await left(one, 5), await left(two, 5)] == [8, 8]
        valkey.start()
        await listening(*services)
        await claim(members, perk)
        assert [await left(one, 5), await left(two, 5)] == [7, 7]


async def test_a_valkey_that_hangs_holds_nothing_up_for_long(process: Open, members: Club, valkey: Valkey) -> None:
    services = [await process(), await process()]
    perk = await members.perk(units=9)
    await listening(*services)
    async with aclosing(follow(services[0], perk.id)) as one, aclosing(follow(services[1], perk.id)) as two:
        assert [await left(one), await left(two)] == [9, 9]
        valkey.signal(signal.SIGSTOP)
        try:
            await claim(members, perk)
            assert [await left(one, 6), await left(two, 6)] == [8, 8]
        finally:
            valkey.signal(signal.SIGCONT)


async def test_news_that_nobody_told_are_found_by_doubt(
    process: Open, members: Club, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news, "DOUBT_SECONDS", 0.5)
    service = await process()
    perk = await members.perk(units=9)
    await listening(service)
    monkeypatch.setattr(news.News, "announce", lambda _: None)
    service.news._grown.clear()
    async with aclosing(follow(service, perk.id)) as states:
        assert await left(states) == 9
        await claim(members, perk)
        assert await left(states, 5) == 8


async def test_who_falls_behind_looks_at_everything(
    process: Open, members: Club, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "NEWS", live.NEWS.replace(f"<= {live.NEWS_MAX}", "<= 0"))
    service = await process()
    perk = await members.perk(units=9)
    async with aclosing(follow(service, perk.id)) as states:
        assert await left(states) == 9
        await claim(members, perk)
        assert await left(states, 5) == 8


async def test_a_process_that_follows_nothing_reads_no_news(
    process: Open, members: Club, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings, read = 0, live.read_news

    async def counted(*given: Any) -> Any:
        nonlocal readings
        readings += 1
        return await read(*given)

    monkeypatch.setattr(news, "read_news", counted)
    service = await process()
    await listening(service)
    perk = await members.perk(units=9)
    await claim(members, perk)
    await asyncio.sleep(0.5)
    assert readings == 0
    async with aclosing(follow(service, perk.id)) as states:
        await left(states)
        await claim(members, perk)
        await left(states)
    assert readings > 0


async def test_the_news_are_what_was_done_each_name_once(plain: Database, members: Club, keys: Keys) -> None:
    perk = await members.perk(units=1)
    winner = await members.member(members.partners[perk.partner_id])
    loser = await members.member(members.partners[perk.partner_id])
    async with plain.connection() as connection:

        async def integrate() -> int:
            while await sequence(connection, keys, origin_of("https://perks.example"), members.now):
                pass
            return (await live.read_news(connection, None))[0]

        assert await live.read_news(connection, None) == (0, None)
        size = await integrate()
        assert await live.read_news(connection, size) == (size, [])
        hold = await members.hold(winner, perk)
        assert (await members.claim(loser, perk)).hold is None
        assert await live.read_news(connection, size) == (size, [])
        grown = await integrate()
        assert grown == size + 2
        found = await live.read_news(connection, size)
        assert found[0] == grown
        assert sorted(found[1] or ()) == sorted({live.THE_LOG, perk.id, winner.id, hold.id})
        assert await live.read_news(connection, grown) == (grown, [])


async def test_after_chaos_everybody_who_follows_knows_the_truth(process: Open, members: Club, valkey: Valkey) -> None:
    services = [await process(), await process()]
    perks = [await members.perk(units=40, units_max=2) for _ in range(2)]
    people = [await members.member(*(members.partners[perk.partner_id] for perk in perks)) for _ in range(24)]
    seen: dict[tuple[int, UUID], list[int | None]] = {}

    async def watch(place: int, perk_id: UUID) -> None:
        async with aclosing(follow(services[place], perk_id)) as states:
            async for state in states:
                seen.setdefault((place, perk_id), []).append(state.state.left)

    async def live_a_little(number: int) -> None:
        for turn in range(4):
            hold = await members.hold(people[number], perks[(number + turn) % 2])
            await asyncio.sleep(0.01 * (number % 5))
            if turn < 3:
                await members.release(hold)

    async def shake() -> None:
        for _ in range(2):
            await asyncio.sleep(0.2)
            await asyncio.to_thread(valkey.kill)
            await asyncio.sleep(0.2)
            await asyncio.to_thread(valkey.start)

    watching = [asyncio.create_task(watch(place, perk.id)) for place in range(2) for perk in perks for _ in range(3)]
    await asyncio.gather(shake(), *(live_a_little(number) for number in range(24)))
    truth = {perk.id: 40 - await members.taken(perk) for perk in perks}

    def known() -> bool:
        return len(seen) == 4 and all(told[-1] == truth[perk_id] for (_, perk_id), told in seen.items())

    for _ in range(100):
        if known():
            break
        await asyncio.sleep(0.05)
    assert known(), (seen, truth)
    assert all(left is not None and 0 <= left <= 40 for told in seen.values() for left in told)
    for task in watching:
        task.cancel()
    await asyncio.gather(*watching, return_exceptions=True)
    for service in services:
        assert len(service.resources.feeds) == 0


async def test_what_a_process_did_before_it_was_killed_is_told_by_another(
    process: Open, members: Club, plain: Database, valkey: Valkey, secret: bytes
) -> None:
    here, port = await process(), free_port()
    address = plain.engine.url.render_as_string(hide_password=False)
    environment = {"DATABASE_URL": address, "REDIS_URL": valkey.url, "PERKS_SECRET": secret.decode()}
    other = start("serve", "--port", str(port), environment=environment)
    base = f"http://127.0.0.1:{port}"
    perk = await members.perk(units=9)
    member = await members.member(members.partners[perk.partner_id])
    caller = Caller(
        CallerKind.MEMBER, str(member.id), scopes_of(CallerKind.MEMBER), client_id="app", member_id=member.id
    )
    authority = type(here.authority)(base, f"{base}/graphql", f"{base}/staff")
    token = mint_access_token(here.ring, authority, caller, datetime.now(UTC))
    body = {"query": CLAIM, "variables": {"input": {"perk": {"id": f"perk_{perk.id.hex}"}, "idempotencyKey": "k"}}}
    try:
        async with httpx.AsyncClient(base_url=base, headers={"authorization": f"Bearer {token}"}) as client:
            for _ in range(400):
                with suppress(httpx.ConnectError):
                    if (await client.get("/readyz")).status_code == 200:
                        break
                await asyncio.sleep(0.05)
            async with aclosing(follow(here, perk.id)) as states:
                assert await left(states) == 9
                answer = await client.post("/graphql", json=body)
                other.kill()
                assert answer.json()["data"]["claimPerk"]["userErrors"] == []
                assert await left(states, 3) == 8
    finally:
        other.kill()
        ended(other)
