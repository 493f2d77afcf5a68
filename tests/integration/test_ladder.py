"""The programme's ladder in the database: kept in step with its file, and never at the cost of anybody's tier."""

import asyncio
from datetime import datetime

import pytest

from gateway.database import Database
from partners.keys import Keys
from partners.programme import Programme, ProgrammeInvalid, keep_programme
from tests.factories import Club


def ladder(name: str = "Club", **ranks: int) -> Programme:
    tiers = [{"handle": handle, "name": handle.title(), "rank": rank} for handle, rank in ranks.items()]
    return Programme.model_validate({"name": name, "time_zone": "Europe/Zurich", "tier": tiers})


async def keep(database: Database, programme: Programme) -> None:
    async with database.sessions.begin() as session:
        await keep_programme(session, programme)


async def stored(database: Database) -> dict[str, tuple[str, int]]:
    async with database.connection() as connection:
        return {row["handle"]: (row["name"], row["rank"]) for row in await connection.fetch("SELECT * FROM tier")}


async def versions(database: Database) -> list[int]:
    async with database.connection() as connection:
        rows = await connection.fetch("SELECT xmin::text::bigint AS version FROM tier ORDER BY handle")
    return [row["version"] for row in rows]


async def test_tiers_swap_ranks_come_and_go(empty_database: Database) -> None:
    await keep(empty_database, ladder(a=1, b=2, c=3))
    assert await stored(empty_database) == {"a": ("A", 1), "b": ("B", 2), "c": ("C", 3)}
    await keep(empty_database, ladder(c=1, a=2, b=3))
    assert await stored(empty_database) == {"a": ("A", 2), "b": ("B", 3), "c": ("C", 1)}
    await keep(empty_database, ladder(d=2, c=1000))
    assert await stored(empty_database) == {"c": ("C", 1000), "d": ("D", 2)}


async def test_keeping_the_same_ladder_again_writes_no_tier(empty_database: Database) -> None:
    await keep(empty_database, ladder(a=1, b=2))
    before = await versions(empty_database)
    await keep(empty_database, ladder("Another name", a=1, b=2))
    assert await versions(empty_database) == before
    async with empty_database.connection() as connection:
        [row] = await connection.fetch("SELECT name, time_zone FROM programme")
    assert tuple(row) == ("Another name", "Europe/Zurich")


@pytest.mark.parametrize("lapsed", [False, True])
async def test_a_tier_that_members_have_or_had_stays(
    empty_database: Database, keys: Keys, now: datetime, lapsed: bool
) -> None:
    await keep(empty_database, ladder(a=1, b=2))
    club = Club(empty_database, ladder(a=1, b=2), keys, now)
    member = await club.member(tier="b")
    if lapsed:
        await club.assign(member, "a")
    with pytest.raises(ProgrammeInvalid, match="members have or had the tier 'b'"):
        await keep(empty_database, ladder(a=1, c=2))
    assert await stored(empty_database) == {"a": ("A", 1), "b": ("B", 2)}
    await keep(empty_database, ladder(b=1, a=3))


async def test_four_processes_that_start_at_once_agree(empty_database: Database) -> None:
    async with empty_database.connection() as connection:
        await connection.execute("DELETE FROM tier; DELETE FROM programme")
    await asyncio.gather(*(keep(empty_database, ladder(a=1, b=2)) for _ in range(4)))
    assert await stored(empty_database) == {"a": ("A", 1), "b": ("B", 2)}
    ladders = [ladder(a=1, b=2, c=3), ladder(c=1, b=2, a=3)]
    await asyncio.gather(*(keep(empty_database, ladders[number % 2]) for number in range(8)))
    assert await stored(empty_database) in [
        {tier.handle: (tier.name, tier.rank) for tier in one.tiers} for one in ladders
    ]
