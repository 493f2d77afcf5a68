"""Exports of many rows: how many a second in each format, and how much memory the worker takes for it."""

import asyncio
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson

from gateway.app import Service
from gateway.database import Database, open_database
from gateway.exports import Exporter
from partners import exports
from partners.actors import Actor, ActorKind
from partners.exports import Ask, Wanted
from partners.tables import ExportFormat, ExportKind
from tests.benchmarks.club import Brand
from tests.benchmarks.load import WrongAnswer
from tests.benchmarks.measuring import Plan

ROWS = 1_000_000
ROWS_QUICK = 100_000
SECONDS_OF_A_FULL_RUN = 10
ROOT = Path(__file__).parents[2]
# Each with its entry and its leaf in the log, in steps that leave PostgreSQL's memory small.
REDEEM = """
WITH made AS (
  INSERT INTO redemption (id, hold_id, perk_id, partner_id, member_id, tier, policy_version, fulfilment, confirmed_by,
    confirmed_at, leaf_hash, units, amount, currency, reversals, reversed_units, reversed_amount)
  SELECT new_id(), gen_random_uuid(), ($2::uuid[])[1 + n % cardinality($2::uuid[])], $1,
    ($3::uuid[])[1 + n * 7919::bigint % cardinality($3::uuid[])], 'gold', 1, 'PENDING', 'partner:bench', $4,
    sha256(n::text::bytea), 1, n % 10000, 'CHF', 0, 0, 0
  FROM generate_series($5::bigint, $6::bigint) n
  RETURNING id, partner_id, perk_id, member_id, leaf_hash
), told AS (
  INSERT INTO audit_entry (id, at, action, outcome, reasons, actor_kind, actor_id, partner_id, perk_id, member_id,
    subject_id, leaf, leaf_hash)
  SELECT new_id(), $4, 'hold.confirmed', 'DONE', '{}', 'partner', 'bench', partner_id, perk_id, member_id, id,
    concat('{"action":"hold.confirmed","actor":"partner","amount":0,"at":"', $4, '","id":"', id, '","member":"',
      encode(leaf_hash, 'hex'), '","outcome":"DONE","partner":"', partner_id, '","perk":"', perk_id,
      '","policyVersion":1,"reasons":[],"subject":"', id, '","tier":"gold","units":1,"v":2}'),
    leaf_hash FROM made RETURNING id, leaf_hash
)
INSERT INTO log_leaf (index, entry_id, leaf_hash)
SELECT (SELECT coalesce(max(index) + 1, 0) FROM log_leaf) + row_number() OVER () - 1, id, leaf_hash FROM told
"""
STEP = 50_000
HEAD = """
INSERT INTO log_head (id, origin, size, frontier, checkpoint)
VALUES (1, 'bench/log', (SELECT count(*) FROM log_leaf), '', '') ON CONFLICT (id) DO UPDATE SET size = EXCLUDED.size
"""


async def measure_exports(service: Service, *, brand: Brand, plan: Plan) -> dict[str, Any]:
    """Figures by kind and format: of the brand's redemptions, and of all entries. The worker has the gateway's core."""
    rows, cores = ROWS if plan.seconds >= SECONDS_OF_A_FULL_RUN else ROWS_QUICK, os.sched_getaffinity(0)
    async with service.database.connection() as connection:
        members = [one["member_id"] for one in await connection.fetch("SELECT DISTINCT member_id FROM consent")]
    await redeem_many(service.database, brand.id, brand.perks, members, rows)
    figures: dict[str, Any] = {}
    for kind in ExportKind:
        for format in ExportFormat:
            os.sched_setaffinity(0, {plan.core})  # which the worker inherits
            try:
                found = await measure_one(service.database, brand.id, kind, format)
            finally:
                os.sched_setaffinity(0, cores)
            if found["rows"] < rows:
                raise WrongAnswer(f"{found['rows']:,} rows of {rows:,} were exported")
            figures[f"{kind.lower()} {format}"] = found
    return figures


async def redeem_many(database: Database, partner: UUID, perks: Any, members: Any, rows: int) -> None:
    """So many redemptions of a partner's perks, with what the log has of them; then its statistics are known."""
    now = datetime.now(UTC) - timedelta(minutes=1)
    async with database.connection() as connection:
        for first in range(1, rows + 1, STEP):
            last = min(first + STEP - 1, rows)
            await connection.execute(REDEEM, partner, list(perks), list(members), now, first, last, timeout=600)
        await connection.execute(HEAD)
        await connection.execute("VACUUM ANALYZE redemption, audit_entry, log_leaf", timeout=600)


async def measure_one(database: Database, partner: UUID, kind: ExportKind, format: ExportFormat) -> dict[str, Any]:
    """An export that a worker makes in a process of its own: rows a second, megabytes, and the worker's memory."""
    of_partner = kind is ExportKind.REDEMPTIONS
    actor = Actor(ActorKind.PARTNER, "bench", partner) if of_partner else Actor(ActorKind.STAFF, "bench")
    async with database.sessions.begin() as session:
        ask = Ask(kind, format, Wanted(client_id="bench"))
        export, refused = await exports.request_export(session, ask, actor=actor, now=datetime.now(UTC))
    if export is None:
        raise WrongAnswer(str(refused))
    url = database.engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-m", "tests.benchmarks.exports", url]
    worker = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=subprocess.PIPE)
    told, _ = await worker.communicate()
    async with database.connection() as connection:
        row = await connection.fetchrow("SELECT state, rows, bytes FROM export WHERE id = $1", export.id)
        await connection.execute(
            "UPDATE export SET state = 'CANCELLED', expires_at = created_at WHERE id = $1", export.id
        )
    if row["state"] != "DONE":
        raise WrongAnswer(f"an export is {row['state']}")
    spent = orjson.loads(told)
    return {
        "rows": row["rows"],
        "per_second": round(row["rows"] / spent["seconds"]),
        "megabytes": round(row["bytes"] / 1e6, 1),
        "before_megabytes": spent["before_megabytes"],
        "peak_megabytes": spent["peak_megabytes"],
        "longest_block_ms": spent["longest_block_ms"],
        "cpu_ms_of_1000_rows": round(1e6 * spent["cpu_seconds"] / row["rows"], 2),
    }


def peak_megabytes() -> float:
    """The most that this process ever held; getrusage would tell of the process that it was forked from."""
    [line] = [one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM:")]
    return round(int(line.split()[1]) / 1024, 1)


async def work(url: str) -> None:
    """The worker alone; prints what it took, and for how long it kept the event loop from anything else."""
    database, longest = open_database(url, connections=6), 0.0
    exporter = Exporter(database, lambda: datetime.now(UTC), asyncio.Event())

    async def beat() -> None:
        nonlocal longest
        while True:
            slept = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - slept - 0.001)

    before, began, spent = peak_megabytes(), time.perf_counter(), time.process_time()
    beating = asyncio.create_task(beat())
    await exporter.work()
    beating.cancel()
    told = {
        "seconds": round(time.perf_counter() - began, 3),
        "before_megabytes": before,
        "peak_megabytes": peak_megabytes(),
        "longest_block_ms": round(1000 * longest, 1),
        "cpu_seconds": round(time.process_time() - spent, 3),
    }
    sys.stdout.write(orjson.dumps(told).decode())


if __name__ == "__main__":
    import structlog

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(work(sys.argv[1]))
