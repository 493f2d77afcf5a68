"""The search of entries against a plain reading of the table: every filter, page by page, nothing missed or twice."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from gateway.database import Database, open_database
from partners import entries
from partners.entries import Entry, EntryFilter, Search, find_entry, logged_entries, search_entries
from partners.errors import BadInput
from tests.benchmarks.log_pages import filters, fits
from tests.benchmarks.long_log import LAST_MS, STEP_US, number, write_log
from tests.sequencing import write

SIZE = 1_200
MIDDLE = datetime.fromtimestamp(LAST_MS / 1000, UTC) - timedelta(microseconds=STEP_US * SIZE // 2)


@pytest.fixture(scope="module")
async def log(new_database: Callable[[], Awaitable[str]]) -> AsyncIterator[Database]:
    """A log of an entry every three seconds."""
    opened = open_database(await new_database(), connections=6)
    async with opened.connection() as connection:
        await write_log(connection, SIZE)
    yield opened
    await opened.engine.dispose()


@pytest.fixture(scope="module")
async def every(log: Database) -> list[Entry]:
    """All entries, newest first."""
    columns = ", ".join(f"e.{name}" for name in entries.NAMES)
    async with log.connection() as connection:
        rows = await connection.fetch(
            f"SELECT {columns}, l.index FROM audit_entry e JOIN log_leaf l ON l.entry_id = e.id ORDER BY e.id DESC"
        )
    return [Entry(*row) for row in rows]


async def turned(database: Database, wanted: EntryFilter, first: int) -> list[Entry]:
    """All pages, one after the other."""
    found: list[Entry] = []
    after = None
    async with database.connection() as connection:
        while True:
            page = await search_entries(connection, wanted, first=first, after=after)
            found += page.rows[:first]
            if len(page.rows) <= first and page.looked_to is None:
                return found
            after = found[-1].id if len(page.rows) > first else page.looked_to


@pytest.mark.parametrize("name", filters(SIZE))
async def test_the_pages_of_a_filter_are_what_fits_in_order(
    log: Database, every: list[Entry], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = filters(SIZE)[name]
    expected = [entry for entry in every if fits(entry, wanted)]
    first = 7 if len(expected) < 100 else 90
    assert await turned(log, wanted, first) == expected
    monkeypatch.setattr(entries, "LOOKED_THROUGH", (5, 30))
    assert await turned(log, wanted, first) == expected


async def test_any_combination_of_conditions_finds_what_fits(
    log: Database, every: list[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = Random(5)
    monkeypatch.setattr(entries, "LOOKED_THROUGH", (5, 50))
    for _ in range(40):
        model = dice.choice(every)
        given: dict[str, Any] = {
            "actions": dice.choice(
                [[model.action], ["perk.claimed", "tier.assigned"], ["perk.paused", model.action], []]
            ),
            "outcome": model.outcome,
            "partner_id": model.partner_id,
            "perk_id": model.perk_id,
            "member_id": model.member_id,
            "subject_id": model.subject_id,
            "actor_id": model.actor_id,
            "since": MIDDLE - timedelta(seconds=dice.randrange(5_000)),
            "until": MIDDLE + timedelta(seconds=dice.randrange(5_000)),
        }
        wanted = EntryFilter(**{name: given[name] for name in dice.sample(list(given), dice.randint(1, 4))})
        assert await turned(log, wanted, 10) == [entry for entry in every if fits(entry, wanted)], wanted


async def test_each_walk_has_its_index_and_order_in_the_one_plan_for_all_values(log: Database) -> None:
    """A table as small as this is rather read whole; from some 3,000 entries on these plans are chosen freely."""
    async with log.connection() as connection, connection.transaction():
        await connection.execute("SET LOCAL enable_seqscan = off")
        await connection.execute("SET LOCAL enable_bitmapscan = off")
        for wanted in filters(SIZE).values():
            search, (low, high) = Search.of(wanted), wanted.span
            given = (search.values, high, low, 21, *search.conditions.values())
            await connection.execute(f"PREPARE walk AS {search.found(20)}")
            rows = await connection.fetch(f"EXPLAIN EXECUTE walk ({', '.join(map(literal, given))})")
            await connection.execute("DEALLOCATE walk")
            plan = "\n".join(row[0] for row in rows)
            assert "$2" in plan, "this plan is for these values alone"
            names = {"id": "pk_audit_entry", "outcome": "ix_audit_entry_refused"}
            index = names.get(search.driver, f"ix_audit_entry_{search.driver.removesuffix('_id')}")
            assert re.findall(r"(?:Scan|Scan Backward)(?: using (\w+))? on audit_entry", plan) == [index], plan
            assert f"{search.driver} DESC, audit_entry.id DESC" not in plan, "what is walked through is sorted"


def literal(value: Any) -> str:
    """A value as SQL writes it."""
    if isinstance(value, list):
        return f"'{{{','.join('NULL' if one is None else str(one) for one in value)}}}'"
    return f"'{value}'"


async def test_a_page_that_finds_little_looks_through_six_thousand_entries_and_says_where_it_stopped(
    log: Database, every: list[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entries, "LOOKED_THROUGH", (100, 200))
    wanted = EntryFilter(partner_id=number(1, 0), actor_id="nobody")
    async with log.connection() as connection:
        page = await search_entries(
            connection, EntryFilter(outcome="DONE", actions=["nothing", "hold.expired"]), first=100, after=None
        )
        assert page.looked_to == every[299].id
        assert all(row.id >= page.looked_to for row in page.rows)
        assert (await search_entries(connection, wanted, first=5, after=None)).looked_to is None


async def test_entries_at_places_of_the_log_come_in_its_order(log: Database, every: list[Entry]) -> None:
    every = every[::-1]
    wanted = EntryFilter(actions=["hold.expired", "perk.claimed"], outcome="DONE")
    async with log.connection() as connection:
        assert await logged_entries(connection, EntryFilter(), 5, 25) == every[5:25]
        assert await logged_entries(connection, wanted, 100, 200) == [
            one for one in every[100:200] if fits(one, wanted)
        ]
        assert await find_entry(connection, every[7].id) == every[7]
        assert await find_entry(connection, number(9, 9)) is None


def test_a_filter_that_can_not_be_says_so() -> None:
    with pytest.raises(BadInput, match="DONE or REFUSED"):
        EntryFilter(outcome="done")
    with pytest.raises(BadInput, match="at most 20"):
        EntryFilter(actions=["one"] * 21)


@pytest.mark.parametrize("moment", [datetime.min, datetime(1969, 7, 20), datetime.max])
async def test_no_moment_is_too_early_or_too_late(log: Database, moment: datetime) -> None:
    moment = moment.replace(tzinfo=UTC)
    async with log.connection() as connection:
        since = await search_entries(connection, EntryFilter(since=moment), first=3, after=None)
        until = await search_entries(connection, EntryFilter(until=moment), first=3, after=None)
    assert {len(since.rows), len(until.rows)} == {0, 4}


async def test_an_entry_that_was_written_late_or_by_a_fast_clock_is_found_by_its_time(
    empty_database: Database,
) -> None:
    async with empty_database.connection() as connection:
        clock = await connection.fetchval("SELECT clock_timestamp()")
        for minutes in (-25, 4):
            told = clock + timedelta(minutes=minutes)
            await write(empty_database, told)
            for wanted in (EntryFilter(until=told + timedelta(seconds=1)), EntryFilter(since=told)):
                page = await search_entries(connection, wanted, first=9, after=None)
                assert told in [row.at for row in page.rows], (minutes, wanted)
