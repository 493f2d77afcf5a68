"""Exports by one call each: asked for, made by a worker of the test's own, and their bytes."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from gateway.database import Database
from gateway.exports import Exporter
from partners import exports, tables
from partners.actors import Actor
from partners.exports import Ask, Wanted
from partners.facts import RefusalCode
from partners.tables import ExportFormat, ExportKind
from tests.factories import STAFF, Club, partner_actor

CSV, JSONL, PARQUET = ExportFormat


class Time:
    """A clock that a test moves."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)


async def asked(
    database: Database,
    actor: Actor,
    now: datetime,
    *,
    kind: ExportKind = ExportKind.REDEMPTIONS,
    format: ExportFormat = CSV,
    **wanted: Any,
) -> tuple[tables.Export | None, RefusalCode | None]:
    """What a request is answered."""
    ask = Ask(kind, format, Wanted(**({"client_id": actor.id} | wanted)))
    async with database.sessions.begin() as session:
        return await exports.request_export(session, ask, actor=actor, now=now)


async def requested(database: Database, actor: Actor, now: datetime, **given: Any) -> UUID:
    """An export that waits to be made."""
    export, refused = await asked(database, actor, now, **given)
    assert export is not None, refused
    return export.id


def exporter(database: Database, clock: Callable[[], datetime]) -> Exporter:
    return Exporter(database, clock, asyncio.Event())


async def row(database: Database, export_id: UUID) -> tables.Export:
    async with database.sessions() as session:
        found = await session.get(tables.Export, export_id)
    assert found is not None
    return found


async def content(database: Database, export_id: UUID) -> bytes:
    """Its file, whose parts follow each other without a gap."""
    async with database.connection() as connection:
        parts = await connection.fetch(
            'SELECT number, "offset", body FROM export_part WHERE export_id = $1 ORDER BY number', export_id
        )
    assert [part["number"] for part in parts] == [*range(len(parts))]
    whole = b"".join(part["body"] for part in parts)
    assert [part["offset"] for part in parts] == [
        sum(len(one["body"]) for one in parts[:place]) for place in range(len(parts))
    ]
    return whole


async def made(club: Club, actor: Actor = STAFF, **given: Any) -> bytes:
    """The file of an export, asked for and made at once."""
    export_id = await requested(club.database, actor, club.now, **given)
    await exporter(club.database, lambda: club.now).work()
    done = await row(club.database, export_id)
    assert (done.state, done.fault, done.rows) == ("DONE", None, done.total)
    found = await content(club.database, export_id)
    assert done.bytes == len(found)
    return found


async def made_for(club: Club, partner: tables.Partner, **given: Any) -> bytes:
    return await made(club, partner_actor(partner), **given)


SEED = """
INSERT INTO redemption (id, hold_id, perk_id, partner_id, member_id, tier, policy_version, fulfilment, confirmed_by,
  confirmed_at, leaf_hash, units, amount, currency, reversals, reversed_units, reversed_amount)
SELECT new_id(), gen_random_uuid(), $1, $2, ($3::uuid[])[1 + n % cardinality($3::uuid[])], 'gold', 1,
  (ARRAY['PENDING', 'FULFILLED'])[1 + n % 2], 'seed', $4::timestamptz + n * interval '1 second', sha256(n::text::bytea),
  1 + n % 3, n, 'CHF', 0, 0, 0
FROM generate_series(1, $5) n
"""


async def seeded(club: Club, count: int, members: int = 7) -> tables.Partner:
    """A partner with so many redemptions by some members who consent, straight in the tables of a test's own."""
    perk = await club.perk()
    partner = club.partners[perk.partner_id]
    people = [(await club.member(partner)).id for _ in range(members)]
    await club.sql(SEED, perk.id, partner.id, people, club.now - timedelta(days=30), count)
    return partner
