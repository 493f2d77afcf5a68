"""Disclosures are kept by the very statement that finds the answer: no round trip more, and none without the other."""

import asyncpg
import pytest
import sqlalchemy as sa

from gateway.database import Database
from partners import members, tables
from partners.browsing import OfferFilter, browse
from partners.eligibility import Question, learn
from partners.references import Asker, MemberRef, PerkRef
from tests.factories import Club, partner_actor

CLIENT = "client_of_the_test"


async def kept(club: Club, member: tables.Member) -> list[str]:
    rows = await club.sql("SELECT kind, client_id FROM disclosure WHERE member_id = $1 ORDER BY id", member.id)
    assert {row["client_id"] for row in rows} <= {CLIENT}
    return [row["kind"] for row in rows]


async def test_answer_and_disclosure_are_one_statement(club: Club, database: Database) -> None:
    perk = await club.perk()
    partner, member = club.partners[perk.partner_id], await club.member()
    alias = await club.consent(member, partner)
    asker, reference = Asker(partner.id, "eligibility:read", CLIENT), MemberRef(alias=alias)
    statements: list[str] = []

    async def both(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        await learn(connection, [Question(reference, PerkRef(id=perk.id), club.now, asker)])
        await browse(
            connection, partner_actor(partner), OfferFilter(), now=club.now, member=reference, asker=asker, first=9
        )

    async with database.connection() as connection:
        await both(connection)  # a driver's first call asks for the types as well
        with connection.query_logger(lambda record: statements.append(record.query)):
            await both(connection)
    assert len(statements) == 2
    assert await kept(club, member) == ["ELIGIBILITY", "CATALOGUE"] * 2


async def test_a_view_and_its_disclosures_are_one_statement(club: Club, database: Database) -> None:
    partner = await club.partner()
    people = [await club.member() for _ in range(3)]
    aliases = [await club.consent(one, partner) for one in people]
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    async with database.reading() as session:
        sa.event.listen(database.engine.sync_engine, "before_cursor_execute", note)
        try:
            seen = await members.view_members(
                session, [one.id for one in people], asker=Asker(partner.id, "redemptions:read", CLIENT), now=club.now
            )
            await members.view_member(
                session,
                MemberRef(alias=aliases[0]),
                asker=Asker(partner.id, "member.tier:read", CLIENT),
                now=club.now,
            )
        finally:
            sa.event.remove(database.engine.sync_engine, "before_cursor_execute", note)
    assert len(seen) == 3
    assert len(statements) == 2
    assert [await kept(club, one) for one in people] == [
        ["REDEMPTIONS", "MEMBERSHIP"],
        ["REDEMPTIONS"],
        ["REDEMPTIONS"],
    ]


async def test_where_nothing_can_be_kept_nothing_is_answered(club: Club, database: Database) -> None:
    perk = await club.perk()
    partner, member = club.partners[perk.partner_id], await club.member()
    alias = await club.consent(member, partner)
    asker = Asker(partner.id, "eligibility:read", CLIENT)
    async with database.connection() as connection:
        await connection.execute("SET default_transaction_read_only = on")
        try:
            with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                await learn(connection, [Question(MemberRef(alias=alias), PerkRef(id=perk.id), club.now, asker)])
        finally:
            await connection.execute("RESET default_transaction_read_only")
    assert await kept(club, member) == []
