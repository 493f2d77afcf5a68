"""The migrations and the tables say the same, both ways, and a database that is behind is named."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import pytest
from alembic import command
from sqlalchemy import Connection, text

import auth.tables  # noqa: F401  its tables belong to the same metadata
from gateway.database import Database, open_database
from gateway.migrations import config, migrate, newest, require_migrated
from partners.errors import Unavailable
from partners.keys import Keys
from partners.laws import Finding, check_laws
from partners.programme import Programme
from partners.tables import PerkKind
from tests.factories import Club


async def test_the_tables_need_no_further_migration(database: Database) -> None:
    def check(connection: Connection) -> None:
        command.check(config(connection))

    async with database.engine.connect() as connection:
        await connection.run_sync(check)
    assert newest() == "0004"


async def test_down_and_up_again(new_database: Callable[[], Awaitable[str]]) -> None:
    opened = open_database(await new_database(), connections=2)

    def down(connection: Connection) -> None:
        command.downgrade(config(connection), "base")

    async with opened.engine.begin() as connection:
        await connection.run_sync(down)
        left = await connection.scalar(
            text("SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'")
        )
    assert left == 1  # Alembic's own
    with pytest.raises(Unavailable, match="perks migrate"):
        await require_migrated(opened.engine)
    assert await migrate(opened.engine) == newest()
    await require_migrated(opened.engine)
    await opened.engine.dispose()


# The steps of a hold as revision 0002 has them: a member claims under two a month, the desk confirms and takes back.
CLAIM = """
SELECT id FROM claim_perk($1, ARRAY[new_id()], ARRAY['member:' || $2::uuid], ARRAY[new_id()::text], ARRAY[''::bytea],
  ARRAY[$3::timestamptz], ARRAY[$2::uuid], ARRAY[(SELECT version FROM member WHERE id = $2::uuid)],
  ARRAY[(SELECT version FROM perk WHERE id = $1)], ARRAY['gold'], ARRAY['this month'], ARRAY[2],
  ARRAY[$3::timestamptz + interval '15 minutes'], ARRAY[sha256(new_id()::text::bytea)], ARRAY['member'],
  ARRAY[$2::uuid::text], ARRAY['']) WHERE outcome = 'HELD'"""
CONFIRM = """
SELECT redemption_id FROM confirm_hold($1, NULL, NULL, NULL, 'staff:desk', new_id()::text, '', $2, 'staff', 'desk',
  new_id()) WHERE outcome = 'CONFIRMED'"""
REVERSE = """
SELECT reversal_id FROM reverse_redemption($1, NULL, NULL, 'staff:desk', new_id()::text, '', $2, 'staff', 'desk',
  new_id(), 'spoilt', 'PARTNER', $3) WHERE outcome = 'REVERSED'"""


async def down(club: Club, revision: str) -> None:
    async with club.database.engine.begin() as connection:
        await connection.run_sync(lambda bare: command.downgrade(config(bare), revision))
    await club.database.engine.dispose()


async def up(club: Club) -> list[Finding]:
    """Up to the newest revision; what breaks a law there."""
    await migrate(club.database.engine)
    await club.database.engine.dispose()
    async with club.database.connection() as connection:
        return [one for one in await check_laws(connection, club.now) if one.broken]


async def test_what_was_held_before_0003_keeps_every_law_both_ways(
    empty_database: Database, programme: Programme, keys: Keys, now: datetime
) -> None:
    club = Club(empty_database, programme, keys, now)
    rules = [{"kind": "allowance", "period": "MONTH", "units": {"gold": 2}}]
    perks = [await club.perk(kind=kind, rules=rules) for kind in PerkKind]
    member = await club.member(*club.partners.values())
    await down(club, "0002")
    await club.sql("UPDATE capacity SET units = 5")
    before = now - timedelta(minutes=1)
    for perk in perks:
        for ending in ("RELEASED", "RESTOCK", "WAITLIST", "BURN", "CONFIRMED", "HELD"):
            [(hold,)] = await club.sql(CLAIM, perk.id, member.id, before)
            if ending == "RELEASED":
                await club.sql("SELECT release_hold($1, NULL, NULL, NULL, $2, 'staff', 'desk')", hold, before)
            elif ending != "HELD":
                [(redemption,)] = await club.sql(CONFIRM, hold, before)
                if ending != "CONFIRMED":
                    assert await club.sql(REVERSE, redemption, before, ending)
    assert await up(club) == []
    assert [(await club.decision(member, perk)).allowances[0].used for perk in perks] == [2] * len(perks)
    went = await club.sql(
        "SELECT (confirm_hold(id, NULL, NULL, NULL, NULL, 'staff:desk', id::text, '', $1, 'staff', 'desk', new_id(),"
        " NULL, NULL)).outcome FROM hold WHERE state = 'HELD'",
        now,
    )
    assert [row["outcome"] for row in went] == ["CONFIRMED"] * len(perks)
    taken = await club.sql("SELECT taken FROM capacity")
    assert [row["taken"] for row in taken] == [3] * len(perks)
    await down(club, "0002")
    assert await up(club) == []
