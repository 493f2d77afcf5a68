"""Pools of partners' codes: filled from lists and files, sealed at rest, and each code given to one redemption."""

import asyncio
import hashlib
import hmac
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from asyncpg import Connection

from partners.actors import Actor, ActorKind
from partners.code_lines import Line
from partners.errors import BadInput, NotFound
from partners.keys import derive
from partners.kinds.code import Code, CodeFormat
from partners.references import PerkRef
from partners.sealing import open_sealed, seal
from partners.tables import PerkKind

TOGETHER = 250  # codes that are sealed before others get their turn: under 3 ms
CHUNK = 10_000
FAULTS_TOLD_MAX = 100


@dataclass(frozen=True, slots=True)
class CodePool:
    """The pool of one perk, and what its codes look like."""

    perk_id: UUID
    partner_id: UUID
    handle: str
    format: CodeFormat


@dataclass(frozen=True, slots=True)
class Stocked:
    """How many codes there are: `assigned` to redemptions, `held` for claims that are not confirmed yet, and `free`."""

    total: int
    assigned: int
    held: int
    low_at: int | None

    @property
    def free(self) -> int:
        """Codes that a claim or somebody who waits may have."""
        return self.total - self.assigned - self.held

    def numbers(self) -> dict[str, int | None]:
        """All of them, for JSON."""
        return {
            "total": self.total,
            "free": self.free,
            "held": self.held,
            "assigned": self.assigned,
            "lowAt": self.low_at,
        }


@dataclass(slots=True)
class Report:
    """What became of a list of codes; `faults` has the first hundred lines that were not taken, and why."""

    added: int = 0
    duplicates: int = 0
    malformed: int = 0
    faults: list[tuple[int, str]] = field(default_factory=list)

    def told(self, line: int, why: str) -> None:
        """One more fault, if it is among the first."""
        if len(self.faults) < FAULTS_TOLD_MAX:
            self.faults.append((line, why))


async def find_pool(connection: "Connection[Any]", perk: PerkRef, actor: Actor) -> CodePool:
    """The pool of a perk within the actor's reach; NotFound, and BadInput for a perk of another kind."""
    named = "id = $1" if perk.id is not None else "handle = $1"
    own = "AND partner_id = $2" if actor.kind is ActorKind.PARTNER else "AND $2::uuid IS NULL"
    row = await connection.fetchrow(
        f"SELECT id, partner_id, handle, kind, settings::text FROM perk WHERE {named} {own}",  # noqa: S608  constants alone
        perk.id or perk.handle,
        actor.partner_id,
    )
    if row is None:
        raise NotFound("no such perk")
    if row["kind"] != PerkKind.CODE:
        raise BadInput(f"perk: {row['handle']} is of kind {row['kind']} and has no codes")
    code = Code.model_validate(orjson.loads(row["settings"]))
    return CodePool(row["id"], row["partner_id"], row["handle"], code.format)


@dataclass(slots=True)
class Batch:
    """Codes on their way into a pool: checked, hashed and sealed before the database is asked for anything.

    `key` seals; a key derived from it hashes, so that two equal codes are found without opening any.
    """

    pool: CodePool
    key: bytes
    report: Report = field(default_factory=Report)
    lines: dict[bytes, int] = field(default_factory=dict)
    sealed: list[bytes] = field(default_factory=list)

    async def take(self, lines: Sequence[Line]) -> None:
        """Adds lines, a few at a time, so that whoever else is served in this process does not wait."""
        hashing = derive(self.key, b"code-hashes/1")
        for start in range(0, len(lines), TOGETHER):
            for number, code in lines[start : start + TOGETHER]:
                self._take(number, code, hashing)
            await asyncio.sleep(0)

    def _take(self, number: int, code: str | BadInput, hashing: bytes) -> None:
        fault = code.message if isinstance(code, BadInput) else self.pool.format.fault(code)
        if isinstance(code, BadInput) or fault is not None:
            self.report.malformed += 1
            self.report.told(number, fault or "")
            return
        hashed = hash_of(hashing, self.pool.perk_id, code)
        if hashed in self.lines:
            self.report.duplicates += 1
            self.report.told(number, f"the same code as in line {self.lines[hashed]}")
            return
        self.lines[hashed] = number
        self.sealed.append(seal(self.key, code.encode(), place_of(self.pool.perk_id, hashed)))


def hash_of(hashing: bytes, perk_id: UUID, code: str) -> bytes:
    """HMAC-SHA-256 of a code in its pool."""
    return hmac.digest(hashing, perk_id.bytes + code.encode(), hashlib.sha256)


def place_of(perk_id: UUID, hashed: bytes) -> bytes:
    """Where a sealed code belongs: it opens nowhere else."""
    return b"perk_code\0" + perk_id.bytes + hashed


# NOT IN, not a join: the planner takes an array for ten rows, and would compare each with each.
INSERT = """
WITH given AS (
  SELECT * FROM unnest($2::bytea[], $3::bytea[]) WITH ORDINALITY AS g(hash, sealed, place)
), added AS (
  INSERT INTO perk_code (perk_id, hash, sealed, added_at)
  SELECT $1, g.hash, g.sealed, $4 FROM given g ORDER BY g.place ON CONFLICT DO NOTHING RETURNING hash
)
SELECT g.place FROM given g WHERE g.hash NOT IN (SELECT a.hash FROM added a) ORDER BY g.place
"""
# Before units are null no code was counted.
STOCK = """
WITH stocked AS (
  UPDATE capacity SET units = coalesce(units, taken) + $2, kept = kept + CASE WHEN waiting > 0 THEN $2 ELSE 0 END
  WHERE perk_id = $1 RETURNING perk_id
)
SELECT record_audit($3, 'codes.added', 'DONE', '{}', $4, $5, $6, perk_id, NULL, perk_id, NULL, NULL, $2) FROM stocked
"""


async def add_codes(connection: "Connection[Any]", batch: Batch, actor: Actor, now: datetime) -> Report:
    """Puts a batch into its pool, in the transaction that the caller has begun; what the pool has already is named.

    Two batches for one pool take turns. The perk itself is locked at the end alone, so that claims go on meanwhile; new
    codes are kept for those who wait, where somebody does.
    """
    pool, report = batch.pool, batch.report
    hashes, numbers = list(batch.lines), list(batch.lines.values())
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('codes:' || $1, 0))", str(pool.perk_id))
    for start in range(0, len(hashes), CHUNK):
        some, sealed = hashes[start : start + CHUNK], batch.sealed[start : start + CHUNK]
        there = await connection.fetch(INSERT, pool.perk_id, some, sealed, now)
        report.duplicates += len(there)
        report.added += len(some) - len(there)
        for row in there:
            report.told(numbers[start + row["place"] - 1], "a code that the pool has already")
    if report.added:
        who = (actor.kind.value, actor.id, pool.partner_id)
        await connection.execute(STOCK, pool.perk_id, report.added, now, *who)
    report.faults.sort()
    return report


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """How many codes left a pool, and why others did not: `given` out, needed for what is `held`, or `unknown`."""

    withdrawn: int
    given: int
    held: int
    unknown: int


async def withdraw_codes(
    connection: "Connection[Any]", pool: CodePool, codes: Iterable[str] | None, key: bytes, actor: Actor, now: datetime
) -> Withdrawn:
    """Takes codes out of a pool that nobody has yet, these or (None) all; what is held keeps as many."""
    hashing = derive(key, b"code-hashes/1")
    hashes = None if codes is None else list({hash_of(hashing, pool.perk_id, code.strip()) for code in codes})
    row = await connection.fetchrow(
        "SELECT * FROM withdraw_codes($1, $2, $3, $4, $5)", pool.perk_id, hashes, now, actor.kind.value, actor.id
    )
    assert row is not None
    return Withdrawn(row["withdrawn"], row["given"], row["kept_back"], row["unknown"])


async def count_codes(
    connection: "Connection[Any]", perk_ids: Collection[UUID], now: datetime
) -> Mapping[UUID, Stocked]:
    """How many codes these perks have, by one statement that reads no code: units are codes, and what is taken and no
    longer held is given out. A hold that is overdue counts as given back."""
    rows = await connection.fetch(
        """
        SELECT c.perk_id, c.units, c.taken, c.low_at, h.held, h.live FROM capacity c JOIN perk p ON p.id = c.perk_id,
          LATERAL (SELECT coalesce(sum(units), 0)::int AS held,
            coalesce(sum(units) FILTER (WHERE expires_at > $2), 0)::int AS live
            FROM hold WHERE perk_id = c.perk_id AND state = 'HELD') AS h
        WHERE c.perk_id = ANY ($1::uuid[]) AND p.kind = 'CODE'
        """,
        list(perk_ids),
        now,
    )
    return {
        row["perk_id"]: Stocked(row["units"] or 0, row["taken"] - row["held"], row["live"], row["low_at"])
        for row in rows
    }


async def read_codes(connection: "Connection[Any]", redemption_ids: Collection[UUID], key: bytes) -> dict[UUID, str]:
    """The codes of redemptions that the caller may see already; for redemptions without one there is nothing."""
    rows = await connection.fetch(
        "SELECT redemption_id, perk_id, hash, sealed FROM perk_code WHERE redemption_id = ANY ($1::uuid[])",
        list(redemption_ids),
    )
    return {
        row["redemption_id"]: open_sealed(key, row["sealed"], place_of(row["perk_id"], row["hash"])).decode()
        for row in rows
    }


async def pause_empty(connection: "Connection[Any]", now: datetime) -> int:
    """Pauses the perks whose partners want that once every code is given out; each in its own transaction. How many."""
    empty = await connection.fetch(
        """
        SELECT p.id FROM perk p JOIN capacity c ON c.perk_id = p.id
        WHERE p.kind = 'CODE' AND p.state = 'PUBLISHED' AND p.settings ->> 'when_empty' = 'PAUSE'
          AND c.units > 0 AND c.taken = c.units
        ORDER BY p.id
        """
    )
    return sum([await connection.fetchval("SELECT pause_empty_pool($1, $2)", row["id"], now) for row in empty])
