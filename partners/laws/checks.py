"""What a law's check is and how it is run: one query over whole tables that names the rows at fault."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asyncpg import Connection

NAMED_MAX = 10


@dataclass(frozen=True, slots=True)
class Check:
    """`sql` returns one column, the ids at fault, and may use the views of `FIND`. Law 0 is what foreign keys
    would keep, had the hot tables any (docs/decisions/0005-claims.md); not `broken` is for information only."""

    law: int
    name: str
    sentence: str
    sql: str
    broken: bool = True


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found: `count` rows, of which `rows` names the first ten."""

    law: int
    name: str
    sentence: str
    count: int
    rows: tuple[str, ...]
    broken: bool = True


# `returned` is what reversals gave back of a redemption: to the stock (also for those who wait) and to the allowance.
# `live` is what each hold still takes. `use` is what counts of it towards each allowance that its perk has or had, with
# the limit of its own tier and policy and the calendar period it falls into; `nth` tells equal allowances apart.
FIND = """
WITH moment AS (
  SELECT $1::timestamptz AS now
), returned AS MATERIALIZED (
  SELECT redemption_id, sum(units) FILTER (WHERE stock <> 'BURN') AS stock_units,
    sum(units) FILTER (WHERE returns_allowance) AS units, sum(amount) FILTER (WHERE returns_allowance) AS amount
  FROM reversal GROUP BY redemption_id
), live AS MATERIALIZED (
  SELECT h.id, h.perk_id, h.pools, h.pool_units, coalesce(r.units - coalesce(b.stock_units, 0), h.units) AS units
  FROM hold h LEFT JOIN redemption r ON r.hold_id = h.id LEFT JOIN returned b ON b.redemption_id = r.id
  WHERE h.state IN ('HELD', 'CONFIRMED')
), allowance AS MATERIALIZED (
  SELECT a.*, row_number() OVER (PARTITION BY perk_id, version, period, hours, week_starts, per, measure) AS nth
  FROM (
    SELECT y.perk_id, y.version, a ->> 'period' AS period, coalesce((a ->> 'hours')::int, 0) AS hours,
      coalesce(a ->> 'week_starts', 'MONDAY') AS week_starts, coalesce(a ->> 'per', 'member') AS per,
      coalesce(a ->> 'measure', 'units') AS measure, a -> 'units' AS units,
      coalesce((a ->> 'otherwise')::bigint, 0) AS otherwise
    FROM policy y, jsonb_path_query(y.rules, '$[*] ? (@.kind == "allowance")') AS a
  ) AS a
), use AS (
  SELECT h.id, h.perk_id, h.policy_version, h.held_at, d.period, d.hours, d.week_starts, d.per, d.measure, d.nth,
    CASE WHEN d.per = 'device' THEN encode(h.device, 'hex') WHEN d.per = 'household' AND h.household IS NOT NULL
      THEN 'household ' || h.household ELSE h.member_id::text END AS subject,
    CASE d.measure WHEN 'amount' THEN h.counted_amount ELSE h.counted END AS n,
    CASE WHEN a.perk_id IS NOT NULL THEN coalesce((a.units ->> h.tier)::bigint, a.otherwise) END AS allowed,
    CASE d.period WHEN 'EVER' THEN NULL WHEN 'ROLLING' THEN NULL ELSE z.zone || CASE d.period
      WHEN 'WEEK' THEN date_trunc('week', (h.held_at AT TIME ZONE z.zone) - make_interval(days => array_position(
        ARRAY['MONDAY', 'TUESDAY', 'WEDNESDAY', 'THURSDAY', 'FRIDAY', 'SATURDAY', 'SUNDAY'], d.week_starts) - 1))
      ELSE date_trunc(lower(d.period), h.held_at AT TIME ZONE z.zone) END END AS bucket
  FROM hold h JOIN perk p ON p.id = h.perk_id
  LEFT JOIN policy y ON y.perk_id = h.perk_id AND y.version = h.policy_version
  CROSS JOIN LATERAL (SELECT coalesce(y.time_zone, p.time_zone) AS zone) AS z
  JOIN (SELECT DISTINCT perk_id, period, hours, week_starts, per, measure, nth FROM allowance) AS d
    ON d.perk_id = h.perk_id
  LEFT JOIN allowance a ON a.version = h.policy_version
    AND (a.perk_id, a.period, a.hours, a.week_starts, a.per, a.measure, a.nth)
      = (d.perk_id, d.period, d.hours, d.week_starts, d.per, d.measure, d.nth)
  WHERE h.counted > 0 AND (d.per <> 'device' OR h.device IS NOT NULL)
), change AS (
  SELECT 'perk.claimed' AS action, id AS subject FROM hold
  UNION ALL SELECT 'hold.extended', id FROM hold, generate_series(1, extensions) WHERE extensions > 0
  UNION ALL SELECT 'hold.released', id FROM hold WHERE state = 'RELEASED'
  UNION ALL SELECT 'hold.expired', id FROM hold WHERE state = 'EXPIRED'
  UNION ALL SELECT 'hold.confirmed', id FROM redemption
  UNION ALL SELECT 'redemption.reversed', redemption_id FROM reversal
  UNION ALL SELECT 'waitlist.joined', id FROM waitlist_entry
  UNION ALL SELECT 'waitlist.withdrawn', id FROM waitlist_entry WHERE state = 'WITHDRAWN'
  UNION ALL SELECT 'access.used', grant_id FROM access_use
), entry AS (
  SELECT action, subject_id AS subject FROM audit_entry WHERE outcome = 'DONE' AND action IN ('perk.claimed',
    'hold.extended', 'hold.released', 'hold.expired', 'hold.confirmed', 'redemption.reversed', 'waitlist.joined',
    'waitlist.withdrawn', 'access.used')
), fault(id) AS MATERIALIZED (
  {sql}
)
SELECT (SELECT count(*) FROM fault), ARRAY(SELECT coalesce(id::text, 'none') FROM fault ORDER BY id LIMIT $2)
"""


@asynccontextmanager
async def snapshot(connection: "Connection[Any]") -> AsyncIterator[None]:
    """One moment of the database, with memory for joins of whole tables. May stand within another."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute("SET LOCAL work_mem = '64MB'")
        yield


async def find(connection: "Connection[Any]", checks: Sequence[Check], now: datetime) -> list[Finding]:
    """The findings of the checks that have any."""
    findings = []
    for check in checks:
        [(count, rows)] = await connection.fetch(FIND.format(sql=check.sql), now, NAMED_MAX)
        if count:
            findings.append(Finding(check.law, check.name, check.sentence, count, tuple(rows), check.broken))
    return findings
