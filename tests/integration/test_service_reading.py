"""What each side reads of bespoke requests, and what is kept of it."""

import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event

from gateway.database import Database
from partners import tables
from partners.actors import Actor, ActorKind
from partners.references import Asker
from partners.services import reading as service_reading
from partners.services.reading import RequestFilter, Seen
from partners.tables import PerkKind, ServiceState
from partners.threads import clocks
from tests.factories import STAFF, Club, member_actor, partner_actor


async def a_request(club: Club, database: Database, perk: tables.Perk, member: tables.Member, **thread: Any) -> UUID:
    """A row as some step may have left it."""
    request_id = uuid4()
    state = thread.pop("state", ServiceState.SUBMITTED)
    submitted_at = None if state is ServiceState.DRAFT else club.now
    async with database.sessions.begin() as session:
        session.add(tables.Thread(id=request_id, **thread))
        await session.flush()
        session.add(
            tables.ServiceRequest(
                id=request_id,
                perk_id=perk.id,
                partner_id=perk.partner_id,
                member_id=member.id,
                state=state,
                created_at=club.now,
                submitted_at=submitted_at,
            )
        )
    return request_id


async def listed(club: Club, database: Database, actor: Actor, **wanted: Any) -> Sequence[Seen]:
    async with database.sessions() as session:
        return await service_reading.list_requests(
            session, actor, RequestFilter(**wanted), first=500, after=None, now=club.now
        )


async def ids(club: Club, database: Database, actor: Actor, **wanted: Any) -> set[UUID]:
    return {one.request.id for one in await listed(club, database, actor, **wanted)}


async def test_the_database_finds_just_the_breaches_that_the_clocks_tell(club: Club, database: Database) -> None:
    chance = random.Random(7)
    perk = await club.perk(kind=PerkKind.SERVICE)
    member = await club.member()

    def moment() -> Any:
        return club.now - timedelta(seconds=chance.randrange(0, 200))

    for _ in range(200):
        solved = chance.choice([None, moment()])
        await a_request(
            club,
            database,
            perk,
            member,
            answer_within=chance.choice([None, 1, 60, 120]),
            solve_within=chance.choice([None, 60, 120, 180]),
            opened_at=chance.choice([None, moment(), moment(), moment()]),
            answered_at=chance.choice([None, moment()]),
            solved_at=solved,
            waiting_since=None if solved else chance.choice([None, moment()]),
            paused_before_answer=chance.choice([0, 30]),
            paused_seconds=chance.choice([30, 60]),
        )
    rows = await listed(club, database, STAFF, perk_id=perk.id)
    told = {one.request.id: clocks(one.thread, club.now) for one in rows}
    late = {id for id, seen in told.items() if seen.answer_breached or seen.solve_breached}
    assert 20 < len(late) < 180
    assert await ids(club, database, STAFF, perk_id=perk.id, breached=True) == late
    assert await ids(club, database, STAFF, perk_id=perk.id, breached=False) == told.keys() - late


async def test_each_side_reads_its_own(club: Club, database: Database) -> None:
    perk = await club.perk(kind=PerkKind.SERVICE)
    partner = club.partners[perk.partner_id]
    member, other = await club.member(partner), await club.member(partner)
    mine = await a_request(club, database, perk, member)
    theirs = await a_request(club, database, perk, other)
    draft = await a_request(club, database, perk, member, state=ServiceState.DRAFT)
    assert await ids(club, database, partner_actor(partner)) == {mine, theirs}
    assert await ids(club, database, partner_actor(await club.partner())) == set()
    assert await ids(club, database, member_actor(member)) == {mine, draft}
    assert await ids(club, database, member_actor(member), state=ServiceState.DRAFT) == {draft}
    assert await ids(club, database, STAFF, perk_id=perk.id) == {mine, theirs}
    assert await ids(club, database, STAFF, member_id=other.id) == {theirs}


async def test_a_partner_reads_what_was_said_while_the_member_lets_it(club: Club, database: Database) -> None:
    perk = await club.perk(kind=PerkKind.SERVICE)
    partner = club.partners[perk.partner_id]
    member = await club.member()
    alias = await club.consent(member, partner, scopes=["redemptions:read"])
    request_id = await a_request(club, database, perk, member)
    bound = Actor(ActorKind.PARTNER, "pos", partner_id=partner.id, alias=alias)
    for actor in (partner_actor(partner), bound):
        [seen] = await listed(club, database, actor)
        assert (seen.request.id, seen.shown) == (request_id, True)
    assert await ids(club, database, partner_actor(partner), alias=alias) == {request_id}
    await club.withdraw(member, partner)
    [seen] = await listed(club, database, partner_actor(partner))
    assert seen.shown is False
    assert await ids(club, database, bound) == set()
    assert await ids(club, database, partner_actor(partner), alias=alias) == set()
    assert await ids(club, database, partner_actor(partner), alias="nobody") == set()
    [own] = await listed(club, database, member_actor(member))
    assert own.shown is True


async def test_a_disclosure_is_kept_of_each_that_is_shown(club: Club, database: Database) -> None:
    perk = await club.perk(kind=PerkKind.SERVICE)
    partner = club.partners[perk.partner_id]
    member, silent = await club.member(partner), await club.member()
    for one in (member, silent):
        await a_request(club, database, perk, one)
    rows = await listed(club, database, partner_actor(partner))
    async with database.sessions.begin() as session:
        asker = Asker(partner.id, "redemptions:read", "client")
        await service_reading.keep_disclosures(session, rows, asker, club.now)
    kept = await club.sql("SELECT member_id, kind, perk_id, client_id FROM disclosure WHERE perk_id = $1", perk.id)
    assert [tuple(row) for row in kept] == [(member.id, "SERVICE", perk.id, "client")]


@pytest.mark.parametrize("requests", [1, 30])
async def test_a_page_is_one_statement_however_long(club: Club, database: Database, requests: int) -> None:
    perk = await club.perk(kind=PerkKind.SERVICE)
    partner = club.partners[perk.partner_id]
    member = await club.member(partner)
    for _ in range(requests):
        await a_request(club, database, perk, member)
    statements: list[str] = []

    def executing(_: Any, __: Any, statement: str, *___: Any) -> None:
        statements.append(statement)

    event.listen(database.engine.sync_engine, "before_cursor_execute", executing)
    try:
        assert len(await listed(club, database, partner_actor(partner))) == requests
    finally:
        event.remove(database.engine.sync_engine, "before_cursor_execute", executing)
    assert len(statements) == 1
