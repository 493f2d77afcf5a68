"""What comes back and what comes in: holds that expire, units offered to those who wait, codes that are added."""

import time
from typing import Any

from gateway.app import Service
from gateway.waitlists import Promoter
from partners.actors import SYSTEM
from partners.code_lines import CodeLines
from partners.holds import expire_overdue
from partners.pool_codes import Batch, add_codes, find_pool
from partners.references import PerkRef
from partners.tables.columns import new_id
from tests.benchmarks.club import Brand, copy, enrol, introduce, offer
from tests.benchmarks.load import WrongAnswer

EXPIRING = 10_000
WAITING = 1_000
CODES = 100_000
ONCE_EVER = [{"kind": "allowance", "period": "EVER", "otherwise": 1}]
WAITLIST = '{"offer_seconds": 172800, "offers": 1, "skip": true}'
Figures = dict[str, Any]


async def measure_stock(service: Service, brand: Brand) -> Figures:
    """Seconds by what was done."""
    expired = await measure_expiry(service)
    return expired | await measure_promotion(service, brand) | await measure_upload(service, brand)


DUE = """
WITH few AS (
  SELECT perk_id FROM hold WHERE state = 'HELD' GROUP BY perk_id ORDER BY count(*) DESC LIMIT $1
), due AS (
  SELECT h.id FROM few CROSS JOIN LATERAL (
    SELECT id FROM hold WHERE perk_id = few.perk_id AND state = 'HELD' LIMIT $2) AS h
), late AS (
  UPDATE hold SET expires_at = $3 WHERE id IN (SELECT id FROM due) RETURNING 1
)
SELECT count(*) FROM late
"""


async def measure_expiry(service: Service) -> Figures:
    """How long the sweeper takes to end 10,000 overdue holds of one perk, and of ten."""
    found: Figures = {}
    async with service.database.connection() as connection:
        for perks in (1, 10):
            [(busy,)] = await connection.fetch(
                DUE,
                perks,
                EXPIRING // perks,
                service.clock(),
            )
            began = time.perf_counter()
            expired = await expire_overdue(connection, service.clock())
            if expired != busy:
                raise WrongAnswer(f"{expired} of {busy} holds expired")
            found[f"{expired:,} overdue holds of {perks} perks expired"] = since(began)
    return found


async def measure_promotion(service: Service, brand: Brand) -> Figures:
    """How long a thousand waiting members take to be offered a thousand units that came back."""
    now, perk = service.clock(), new_id()
    members = await enrol(service, WAITING, "waiting", now)
    await introduce(service, brand.id, members, now)
    async with service.database.connection() as connection:
        await offer(connection, brand.id, brand.handle, [perk], now, units=WAITING, policies=[ONCE_EVER], name="waited")
        await connection.execute("UPDATE perk SET waitlist = $2 WHERE id = $1", perk, WAITLIST)
        await copy(
            connection,
            "waitlist_entry",
            "id perk_id partner_id member_id units state joined_by joined_at",
            ((new_id(), perk, brand.id, member, 1, "WAITING", "bench", now) for member in members),
        )
        await connection.execute("UPDATE capacity SET waiting = $2, kept = $2 WHERE perk_id = $1", perk, WAITING)
        await connection.execute("ANALYZE waitlist_entry, member, consent, capacity, perk")
    began = time.perf_counter()
    offered, _ = await Promoter(service.database, service.programme, service.keys, service.clock).promote(perk)
    if offered != WAITING:
        raise WrongAnswer(f"{offered} of {WAITING} who wait were offered a unit")
    return {f"{WAITING:,} who wait offered a unit each": since(began)}


async def measure_upload(service: Service, brand: Brand) -> Figures:
    """How long 100,000 codes take to be read, sealed and stored."""
    now, perk = service.clock(), new_id()
    async with service.database.connection() as connection:
        await offer(connection, brand.id, brand.handle, [perk], now, units=0, policies=[ONCE_EVER], name="codes")
        await connection.execute("UPDATE perk SET kind = 'CODE' WHERE id = $1", perk)
        began = time.perf_counter()
        pool = await find_pool(connection, PerkRef(id=perk), SYSTEM)
        batch, reader = Batch(pool, service.keys.sealing), CodeLines()
        content = "\n".join(f"CODE-{number:012d}" for number in range(CODES)).encode()
        await batch.take([*reader.feed(content), *reader.feed(b"", last=True)])
        async with connection.transaction():
            report = await add_codes(connection, batch, SYSTEM, now)
    if report.added != CODES:
        raise WrongAnswer(f"{report.added} of {CODES} codes were added")
    return {f"{CODES:,} codes read, sealed and stored": since(began)}


def since(began: float) -> float:
    """Seconds."""
    return round(time.perf_counter() - began, 3)
