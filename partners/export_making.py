"""How an export is made: part by part, each committed with its cursor, so that whoever goes on repeats none."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from asyncpg import Connection

from partners.errors import PerksError
from partners.export_formats import WRITERS, Writer
from partners.export_rows import Batch, Source
from partners.exports import KEPT, Wanted
from partners.tables import DisclosureKind, ExportFormat, ExportKind

PART_BYTES_MAX = 524_288
LEASE = timedelta(minutes=1)
ATTEMPTS_MAX = 5
"""Of which the last ones come 10, 20, 40 and 80 s after one that failed; a part that was made begins to count anew."""
PATIENCE = timedelta(minutes=1)
"""How long making waits for transactions that were open at the request."""
PARTS_REMOVED_AT_ONCE = 50
TAKE = """
UPDATE export SET state = 'RUNNING', leased_until = $2, attempts = attempts + 1,
  cursor = CASE format WHEN 'PARQUET' THEN NULL ELSE cursor END, rows = CASE format WHEN 'PARQUET' THEN 0 ELSE rows END
WHERE id = (
  SELECT id FROM export WHERE state IN ('QUEUED', 'RUNNING') AND (leased_until IS NULL OR leased_until <= $1)
    AND (pg_snapshot_xmin(pg_current_snapshot()) >= CAST(wanted->>'settled' AS xid8) OR created_at <= $3)
  ORDER BY coalesce(leased_until, created_at), id LIMIT 1 FOR UPDATE SKIP LOCKED
) RETURNING id, partner_id, kind, format, wanted, cursor, bytes, total, attempts
"""
MINE = "SELECT cursor, rows, bytes FROM export WHERE id = $1 AND state = 'RUNNING' AND leased_until = $2 FOR UPDATE"
NUMBER = "SELECT coalesce(max(number) + 1, 0) FROM export_part WHERE export_id = $1"
ADD = """
INSERT INTO export_part (export_id, number, "offset", body)
SELECT $1, * FROM unnest($2::int[], $3::bigint[], $4::bytea[])
"""
# One row for each member and export, under the export's own id: a part that is made again tells nobody twice.
TELL = """
INSERT INTO disclosure (member_id, id, at, partner_id, client_id, kind) SELECT unnest($1::uuid[]), $2, $3, $4, $5, $6
ON CONFLICT DO NOTHING
"""
ADVANCE = """
UPDATE export SET cursor = $2, rows = $3, bytes = $4, leased_until = $5,
  attempts = CASE WHEN $6 THEN 1 ELSE attempts END
WHERE id = $1
"""
FINISH = """
UPDATE export SET state = 'DONE', total = rows, leased_until = NULL, ended_at = $2, expires_at = $3, attempts = 1
WHERE id = $1
"""
GIVE_BACK = """
UPDATE export SET leased_until = $3, attempts = attempts - 1 WHERE id = $1 AND state = 'RUNNING' AND leased_until = $2
"""
POSTPONE = "UPDATE export SET leased_until = $3, fault = $4 WHERE id = $1 AND state = 'RUNNING' AND leased_until = $2"
FAIL = """
UPDATE export SET state = 'FAILED', leased_until = NULL, ended_at = $3, expires_at = $3, fault = $4
WHERE id = $1 AND state = 'RUNNING' AND leased_until = $2
"""
REMOVE_PARTS = f"""
DELETE FROM export_part WHERE ctid = ANY (ARRAY(SELECT ctid FROM export_part WHERE export_id = $1
  LIMIT {PARTS_REMOVED_AT_ONCE}))
"""  # noqa: S608  a constant
DUE = "SELECT id FROM export WHERE expires_at <= $1 AND state NOT IN ('QUEUED', 'RUNNING') ORDER BY expires_at LIMIT 1"


class ExportFailed(PerksError):
    """Making it failed as often as it is tried; operators see why in the log."""

    code = "EXPORT_FAILED"


class LeaseLost(Exception):
    """The export was cancelled, or another worker makes it since this one took too long."""


@dataclass
class Making:
    """An export that this process makes: while its lease lasts nobody else does."""

    id: UUID
    source: Source
    format: ExportFormat
    writer: Writer
    leased_until: datetime
    attempts: int
    total: int | None

    async def make_part(self, connection: "Connection[Any]", now: datetime) -> bool:
        """Makes the next part, in the caller's transaction; whether it was the last. LeaseLost."""
        export = await connection.fetchrow(MINE, self.id, self.leased_until)
        if export is None:
            raise LeaseLost
        batch = await self.source.read(connection, export["cursor"], now)
        last = batch.cursor >= self.source.wanted.last
        body, told = await asyncio.to_thread(self._written, batch, first=export["cursor"] is None, last=last)
        if body:
            await self._keep(connection, body, export["bytes"])
        if told:
            await self._tell(connection, told, now)
        size, rows, lease = export["bytes"] + len(body), export["rows"] + len(batch.records), now + LEASE
        await connection.execute(ADVANCE, self.id, batch.cursor, rows, size, lease, self.writer.resumable)
        if last:
            await connection.execute(FINISH, self.id, now, now + KEPT)
        return last

    def renewed(self, now: datetime) -> None:
        """The last part is committed, and the lease with it."""
        self.leased_until = now + LEASE
        self.attempts = 1 if self.writer.resumable else self.attempts

    def _written(self, batch: Batch, *, first: bool, last: bool) -> tuple[bytes, list[UUID]]:
        """The bytes that follow, and whom they tell of. Outside the event loop, which it would hold up for too long."""
        pieces = [self.writer.head()] if first else []
        pieces.append(self.writer.add(batch.rows()))
        if last:
            pieces.append(self.writer.tail())
        return b"".join(pieces), sorted(batch.told())

    async def _keep(self, connection: "Connection[Any]", body: bytes, offset: int) -> None:
        number = await connection.fetchval(NUMBER, self.id)
        starts = range(0, len(body), PART_BYTES_MAX)
        bodies = [body[start : start + PART_BYTES_MAX] for start in starts]
        numbers = [*range(number, number + len(bodies))]
        await connection.execute(ADD, self.id, numbers, [offset + start for start in starts], bodies)

    async def _tell(self, connection: "Connection[Any]", members: list[UUID], now: datetime) -> None:
        partner, client, kind = self.source.for_partner, self.source.wanted.client_id, DisclosureKind.REDEMPTIONS.value
        await connection.execute(TELL, members, self.id, now, partner, client, kind)


async def take_export(connection: "Connection[Any]", now: datetime) -> Making | None:
    """The export that has waited longest, for a minute and with each part for another; None when nobody waits.

    Parquet, and what was told to begin anew, has no cursor: what there was of it is removed first. One that crashed too
    often is FAILED.
    """
    leased_until = now + LEASE
    row = await connection.fetchrow(TAKE, now, leased_until, now - PATIENCE)
    if row is None:
        return None
    if row["attempts"] > ATTEMPTS_MAX:
        await connection.execute(FAIL, row["id"], leased_until, now, ExportFailed.code)
        return await take_export(connection, now)
    if row["cursor"] is None and row["bytes"]:
        await remove_parts(connection, row["id"])
        await connection.execute("UPDATE export SET bytes = 0 WHERE id = $1", row["id"])
    source = Source(ExportKind(row["kind"]), Wanted.model_validate(row["wanted"]), row["partner_id"])
    format = ExportFormat(row["format"])
    try:
        writer = WRITERS[format](source.columns)
        making = Making(row["id"], source, format, writer, leased_until, row["attempts"], row["total"])
        if making.total is None:
            making.total = await source.count(connection)
            await connection.execute("UPDATE export SET total = $2 WHERE id = $1", making.id, making.total)
    except PerksError as fault:
        await connection.execute(FAIL, row["id"], leased_until, now, fault.code)
        return await take_export(connection, now)
    return making


async def give_back(connection: "Connection[Any]", making: Making, until: datetime | None) -> None:
    """Lets any worker go on with it, the sooner the earlier `until` is."""
    await connection.execute(GIVE_BACK, making.id, making.leased_until, until)


async def tell_failure(connection: "Connection[Any]", making: Making, fault: Exception, now: datetime) -> None:
    """Makes it wait, longer each time, or FAILED: after so many attempts, or when another would end likewise."""
    code = fault.code if isinstance(fault, PerksError) else ExportFailed.code
    if isinstance(fault, PerksError) or making.attempts >= ATTEMPTS_MAX:
        await connection.execute(FAIL, making.id, making.leased_until, now, code)
    else:
        later = now + timedelta(seconds=5 * 2**making.attempts)
        await connection.execute(POSTPONE, making.id, making.leased_until, later, code)


async def remove_due(connection: "Connection[Any]", now: datetime) -> int:
    """Removes the files that were kept for long enough, or that nobody wants any more; returns how many."""
    await connection.execute("UPDATE export SET state = 'EXPIRED' WHERE expires_at <= $1 AND state = 'DONE'", now)
    removed = 0
    while (export_id := await connection.fetchval(DUE, now)) is not None:
        await remove_parts(connection, export_id)
        await connection.execute("UPDATE export SET expires_at = NULL WHERE id = $1", export_id)
        removed += 1
    return removed


async def remove_parts(connection: "Connection[Any]", export_id: UUID) -> None:
    """Some at a time, each in a transaction of its own: a file may have thousands."""
    while await connection.execute(REMOVE_PARTS, export_id) != "DELETE 0":
        pass
