"""The log as staff follow it: every entry in its order, from any place on, whichever process wrote it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from auth.caller import Caller, CallerKind
from gateway import embedded
from gateway.database import Database
from gateway.settings import Settings
from partners import entries
from partners.notes import Verifier
from partners.tlog_proofs import parse
from schema import audit
from schema.context import Context
from tests.api import Api
from tests.factories import Club
from tests.followers import Line, following
from tests.matrix_samples import Rows
from tests.sequencing import sequencer_on, write, write_many
from tests.serving import serving

ENTRIES = """subscription($filter: AuditFilter, $fromIndex: Int) {
  auditEntry(filter: $filter, fromIndex: $fromIndex) { index action outcome leafHash } }"""
PROVEN = "subscription($fromIndex: Int) { auditEntry(fromIndex: $fromIndex) { leaf index proof { index proof } } }"
OPERATIONS = Path(__file__).parents[2] / "schema" / "operations"
CLAIM = "mutation($input: ClaimPerkInput!) { claimPerk(input: $input) { hold { leafHash } userErrors { code } } }"


@pytest.fixture(scope="module")
async def pair(servers: embedded.Servers, database: Database, secret: bytes) -> AsyncIterator[tuple[Api, Api]]:
    """Two gateways with their workers on one database and Valkey."""
    settings = Settings(
        database_url=database.engine.url.render_as_string(hide_password=False),
        redis_url=servers.redis_url,
        secret=SecretStr(secret.decode()),
    )
    async with AsyncExitStack() as opened:
        one = await opened.enter_async_context(serving(settings, work=True))
        yield one, await opened.enter_async_context(serving(settings, work=True))


async def size_of(database: Database) -> int:
    """How long the log is once nothing waits for its place."""
    async with asyncio.timeout(10), database.connection() as connection:
        while await connection.fetchval("SELECT EXISTS (SELECT FROM outbox)"):  # noqa: ASYNC110  a worker takes it
            await asyncio.sleep(0.02)
        size: int = await connection.fetchval("SELECT coalesce((SELECT size FROM log_head), 0)")
    return size


async def next_entry(followed: Line) -> dict[str, Any]:
    entry: dict[str, Any] = (await followed.next())["auditEntry"]
    return entry


async def test_what_is_done_and_refused_in_another_process_comes_in_the_order_of_the_log(
    pair: tuple[Api, Api], club: Club
) -> None:
    here, there = pair
    perk = await club.perk(units=5)
    members = [await club.member(club.partners[perk.partner_id]) for _ in range(8)]
    size, claim = await size_of(club.database), {"perk": {"id": f"perk_{perk.id.hex}"}, "idempotencyKey": "k"}
    async with following(here, here.staff(), ENTRIES, fromIndex=size) as followed:
        claims = [(await there.member(member)(CLAIM, input=claim)).data for member in members]
        told = [await next_entry(followed) for _ in range(8)]
    assert [entry["index"] for entry in told] == list(range(size, size + 8))
    assert {entry["action"] for entry in told} == {"perk.claimed"}
    refused = [one["claimPerk"]["hold"] is None for one in claims]
    assert refused == [False] * 5 + [True] * 3
    assert [entry["outcome"] == "REFUSED" for entry in told] == refused
    hashes = [one["claimPerk"]["hold"]["leafHash"] for one in claims if one["claimPerk"]["hold"]]
    assert [entry["leafHash"] for entry in told if entry["outcome"] == "DONE"] == hashes


async def test_who_comes_back_goes_on_where_it_was(pair: tuple[Api, Api], club: Club) -> None:
    here, there = pair
    size = await size_of(club.database)
    await write(club.database, datetime.now(UTC), 3)
    async with following(here, here.staff(), ENTRIES, fromIndex=size) as followed:
        seen = [(await next_entry(followed))["index"] for _ in range(2)]
    await write(club.database, datetime.now(UTC), 3)
    async with following(there, there.staff(), ENTRIES, fromIndex=seen[-1] + 1) as followed:
        seen += [(await next_entry(followed))["index"] for _ in range(4)]
    assert seen == list(range(size, size + 6))


async def test_without_a_place_it_begins_with_what_comes_next_and_a_filter_holds(
    pair: tuple[Api, Api], club: Club
) -> None:
    here, _ = pair
    rows = await Rows.made(club)
    await size_of(club.database)
    wanted = {"perk": f"perk_{rows.perk.id.hex}", "outcome": "DONE"}
    async with following(here, here.staff(), ENTRIES, filter=wanted) as followed:
        assert await followed.silent()
        await write(club.database, datetime.now(UTC), 3)
        await club.hold(rows.member, rows.perk)
        assert (await next_entry(followed))["action"] == "perk.claimed"
        assert await followed.silent()


async def test_a_burst_of_thousands_is_told_whole_and_in_order(pair: tuple[Api, Api], club: Club) -> None:
    here, _ = pair
    size = await size_of(club.database)
    async with following(here, here.staff(), ENTRIES, fromIndex=size) as followed:
        for count in (1, 1_500, 1_500):
            await write_many(club.database, datetime.now(UTC), count)
        assert [(await next_entry(followed))["index"] for _ in range(3_001)] == list(range(size, size + 3_001))


async def test_who_does_not_read_is_not_read_for(api: Api, club: Club, monkeypatch: pytest.MonkeyPatch) -> None:
    windows, reading = [], entries.logged_entries

    async def read(connection: Any, wanted: Any, start: int, end: int) -> list[Any]:
        windows.append((start, end))
        return await reading(connection, wanted, start, end)

    monkeypatch.setattr(entries, "logged_entries", read)
    monkeypatch.setattr(entries, "LOGGED_MAX", 10)
    monkeypatch.setattr(audit, "selected", lambda _: frozenset())
    await write(club.database, club.now, 40)
    await sequencer_on(club.database, club.keys).carry_over()
    caller = Caller(CallerKind.STAFF, "auditor", frozenset({"audit:read"}))
    info: Any = SimpleNamespace(context=Context(caller, club.now, "a request", api.service.resources))
    async with aclosing(audit.follow_entries(info, from_index=0)) as events:
        assert (await anext(events)).index == 0
        await asyncio.sleep(0.3)
        assert windows == [(0, 10)]
        assert [(await anext(events)).index for _ in range(10)] == list(range(1, 11))
        assert windows == [(0, 10), (10, 20)]


async def test_entries_that_are_followed_can_have_their_proofs_with_them(pair: tuple[Api, Api], club: Club) -> None:
    here, _ = pair
    size = await size_of(club.database)
    await write(club.database, datetime.now(UTC), 5)
    keys = (await here.anonymous()("{ auditCheckpoint { keys } }")).data["auditCheckpoint"]["keys"]
    async with following(here, here.staff(), PROVEN, fromIndex=size) as followed:
        for index in range(size, size + 5):
            told = await next_entry(followed)
            assert (told["index"], told["proof"]["index"]) == (index, index)
            parse(told["proof"]["proof"]).verify(told["leaf"].encode(), [Verifier.parse(key) for key in keys])


async def test_a_place_that_the_log_has_not_reached_is_bad_input(pair: tuple[Api, Api], club: Club) -> None:
    here, _ = pair
    size = await size_of(club.database)
    for place in (-1, size + 1_000):
        async with following(here, here.staff(), ENTRIES, fromIndex=place) as followed:
            [error] = (await followed.hear("error"))["payload"]
            assert error["extensions"]["code"] == "BAD_INPUT"


async def test_a_log_that_is_shorter_than_it_was_ends_it(pair: tuple[Api, Api], club: Club) -> None:
    here, _ = pair
    size = await size_of(club.database)
    monkey = "UPDATE log_head SET size = size + $1"
    async with following(here, here.staff(), ENTRIES, fromIndex=size) as followed:
        assert await followed.silent()
        await club.sql(monkey, -1)
        here.service.news.announce()
        try:
            [error] = (await followed.hear("error"))["payload"]
        finally:
            await club.sql(monkey, 1)
    assert (error["extensions"]["code"], error["extensions"]["limit"]) == ("BAD_INPUT", size - 1)


async def test_only_staff_with_the_scope_follow_the_log(pair: tuple[Api, Api], club: Club) -> None:
    here, _ = pair
    rows = await Rows.made(club)
    for voice, code in (
        (here.partner(rows.partner), "FORBIDDEN"),
        (here.member(rows.member), "FORBIDDEN"),
        (here.staff("members:admin"), "INSUFFICIENT_SCOPE"),
    ):
        async with following(here, voice, ENTRIES) as followed:
            [error] = (await followed.hear("error"))["payload"]
            assert error["extensions"]["code"] == code


async def test_the_documents_of_the_repository_are_answered(pair: tuple[Api, Api], club: Club) -> None:
    here, _ = pair
    rows = await Rows.made(club)
    hold = await club.hold(rows.member, rows.perk)
    size = await size_of(club.database)
    given = {"AuditProof": {"redemptionId": f"hold_{hold.id.hex}"}, "AuditCheckpoint": {"since": 1}, "AuditEntries": {}}
    for name, variables in given.items():
        answer = await here.staff()((OPERATIONS / f"{name}.graphql").read_text(), **variables)
        assert all(answer.data.values())
    text = (OPERATIONS / "AuditEntry.graphql").read_text()
    async with following(here, here.staff(), text, fromIndex=size - 1) as followed:
        assert (await next_entry(followed))["index"] == size - 1
