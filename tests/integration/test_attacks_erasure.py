"""Erasure under attack: whatever is on its way as it begins, however it is cut short, nothing is left of the person."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from asyncpg import PostgresError

import auth.personal_data
from auth.erasure import carry_on, erase_member
from gateway.database import Database
from gateway.erasing import erase_on
from partners import erasure, personal_data, tables
from partners.actors import SYSTEM, Actor, ActorKind
from partners.deliveries import Delivery
from partners.erasure import PARTNERS_TOLD_WITHIN, begin_erasure
from partners.errors import NotFound, PerksError
from partners.facts import Circumstances
from partners.imports import Import, import_members
from partners.import_rows import MemberRow
from partners.keys import Keys
from partners.laws import check_laws
from partners.members import view_member
from partners.passes import create_pass
from partners.programme import Programme
from partners.references import Asker, MemberRef
from partners.tables import FulfilmentMethod, MemberState
from tests.factories import STAFF, Club, member_actor, partner_actor
from tests.fulfilling import HOME, a_sample, redeemed
from tests.integration.test_erasure import everything

MARK = "Ada-was-here"


@pytest.fixture
def own(empty_database: Database, programme: Programme, keys: Keys, club: Club) -> Club:
    return Club(empty_database, programme, keys, club.now)


async def erase(club: Club, member: tables.Member) -> UUID:
    database = club.database
    return await erase_member(
        database.sessions.begin, database.connection, MemberRef(id=member.id), STAFF, club.now
    )


async def begun(club: Club, member: tables.Member) -> None:
    """The first transaction alone: then the process is killed."""
    async with club.database.sessions.begin() as session:
        await begin_erasure(session, MemberRef(id=member.id), club.now)


async def assert_laws(club: Club) -> None:
    async with club.database.connection() as connection:
        assert [found for found in await check_laws(connection, club.now) if found.broken] == []
