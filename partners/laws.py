"""ADD A LAW'S CHECK HERE: what must hold of a live database, as queries that name the rows that break it.

A check is one query over whole tables that returns the ids at fault. All run in one read-only snapshot, so that
claims may go on meanwhile. The laws have the numbers of docs/architecture.md; law 7 is in partners/log_laws.py.
"""

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


FIND = """
WITH moment AS (
  SELECT $1::timestamptz AS now
), rule AS MATERIALIZED (
  SELECT perk_id, version, jsonb_path_query_first(rules, '$[*] ? (@.kind == "allowance")') AS allowance FROM policy
), change AS (
  SELECT 'perk.claimed' AS action, id AS subject FROM hold
  UNION ALL SELECT 'hold.released', id FROM hold WHERE state = 'RELEASED'
  UNION ALL SELECT 'hold.expired', id FROM hold WHERE state = 'EXPIRED'
  UNION ALL SELECT 'hold.confirmed', id FROM redemption
  UNION ALL SELECT 'redemption.reversed', redemption_id FROM reversal
), entry AS (
  SELECT action, subject_id AS subject FROM audit_entry WHERE outcome = 'DONE'
    AND action IN ('perk.claimed', 'hold.released', 'hold.expired', 'hold.confirmed', 'redemption.reversed')
), fault(id) AS MATERIALIZED (
  {sql}
)
SELECT (SELECT count(*) FROM fault), ARRAY(SELECT coalesce(id::text, 'none') FROM fault ORDER BY id LIMIT $2)
"""

CHECKS = (
    Check(
        1,
        "capacity_exceeded",
        "a perk has more taken than it has units, or fewer than none",
        "SELECT perk_id FROM capacity WHERE taken < 0 OR taken > units",
    ),
    Check(
        2,
        "allowance_exceeded",
        "a hold has a slot beyond what the policy it was claimed under allows its tier",
        """
  SELECT h.id FROM hold h LEFT JOIN rule r ON r.perk_id = h.perk_id AND r.version = h.policy_version
  WHERE h.slot NOT BETWEEN 1
    AND coalesce((r.allowance -> 'units' ->> h.tier)::int, (r.allowance ->> 'otherwise')::int, 0)""",
    ),
    Check(
        2,
        "allowance_slot_shared",
        "two holds have the same slot of a member's allowance",
        """
  SELECT id FROM hold JOIN (
    SELECT member_id, perk_id, period, slot FROM hold WHERE slot IS NOT NULL GROUP BY 1, 2, 3, 4 HAVING count(*) > 1
  ) AS shared USING (member_id, perk_id, period, slot)""",
    ),
    Check(
        2,
        "allowance_without_period",
        "a hold under an allowance has no period, or one under none has",
        """
  SELECT h.id FROM hold h JOIN rule r ON r.perk_id = h.perk_id AND r.version = h.policy_version
  WHERE (h.period IS NULL) <> (r.allowance IS NULL)""",
    ),
    Check(
        2,
        "allowance_miscounted",
        "a use that counts has no slot, or one that was given back still has its slot",
        """
  SELECT h.id FROM hold h
  LEFT JOIN redemption r ON r.hold_id = h.id LEFT JOIN reversal v ON v.redemption_id = r.id
  WHERE (h.slot IS NOT NULL)
    <> (h.period IS NOT NULL AND (h.state = 'HELD' OR h.state = 'CONFIRMED' AND v.id IS NULL))""",
    ),
    Check(
        3,
        "key_without_result",
        "an idempotency key leads to nothing",
        """
  SELECT k.owner || ' ' || k.key FROM idempotency_key k WHERE NOT EXISTS (SELECT FROM hold WHERE id = k.result_id)
    AND NOT EXISTS (SELECT FROM redemption WHERE id = k.result_id)
    AND NOT EXISTS (SELECT FROM reversal WHERE id = k.result_id)""",
    ),
    Check(
        3,
        "result_of_two_keys",
        "one hold, redemption or reversal came of two idempotency keys",
        "SELECT result_id FROM idempotency_key GROUP BY 1 HAVING count(*) > 1",
    ),
    Check(
        4,
        "hold_end_unclear",
        "a hold has ended without a time, or has a time and goes on",
        "SELECT id FROM hold WHERE (state = 'HELD') <> (ended_at IS NULL)",
    ),
    Check(
        4,
        "confirmed_without_redemption",
        "a confirmed hold has no redemption, or more than one",
        """
  SELECT h.id FROM hold h LEFT JOIN redemption r ON r.hold_id = h.id WHERE h.state = 'CONFIRMED'
  GROUP BY h.id HAVING count(r.id) <> 1""",
    ),
    Check(
        4,
        "redemption_without_confirmed_hold",
        "a redemption's hold is not confirmed, or is of another perk, partner, member, tier or policy",
        """
  SELECT r.id FROM redemption r LEFT JOIN hold h ON h.id = r.hold_id AND h.state = 'CONFIRMED'
  WHERE (h.perk_id, h.partner_id, h.member_id, h.policy_version, h.tier)
    IS DISTINCT FROM (r.perk_id, r.partner_id, r.member_id, r.policy_version, r.tier)""",
    ),
    Check(
        4,
        "reversal_without_redemption",
        "a reversal's redemption does not exist, or is of another perk",
        """
  SELECT v.id FROM reversal v LEFT JOIN redemption r ON r.id = v.redemption_id AND r.perk_id = v.perk_id
  WHERE r.id IS NULL""",
    ),
    Check(
        4,
        "hold_overdue",
        "a hold is overdue by more than a minute: the next claim settles it, the sweeper should have",
        "SELECT id FROM hold, moment WHERE state = 'HELD' AND expires_at < moment.now - interval '60 seconds'",
        broken=False,
    ),
    Check(
        5,
        "capacity_not_conserved",
        "what a perk has taken is not what is held and confirmed less what was restocked",
        """
  SELECT perk_id FROM capacity c
  LEFT JOIN (SELECT perk_id, count(*) AS n FROM hold WHERE state IN ('HELD', 'CONFIRMED') GROUP BY 1) AS used
    USING (perk_id)
  LEFT JOIN (SELECT perk_id, count(*) AS n FROM reversal WHERE stock = 'RESTOCK' GROUP BY 1) AS back USING (perk_id)
  WHERE c.taken <> coalesce(used.n, 0) - coalesce(back.n, 0)""",
    ),
    Check(
        6,
        "change_without_entry",
        "a change of a hold or redemption left no audit entry",
        "SELECT subject FROM (TABLE change EXCEPT TABLE entry) AS missing",
    ),
    Check(
        6,
        "entry_without_change",
        "an audit entry tells of a change that was not made, or that another entry tells already",
        "SELECT subject FROM (TABLE entry EXCEPT ALL TABLE change) AS extra",
    ),
    Check(
        6,
        "answered_leaf_differs",
        "the leaf hash that a caller was given is not the audit entry's",
        """
  SELECT a.id FROM (
    SELECT id, 'perk.claimed' AS action, id AS subject_id, leaf_hash FROM hold
    UNION ALL SELECT id, 'hold.confirmed', id, leaf_hash FROM redemption
    UNION ALL SELECT id, 'redemption.reversed', redemption_id, leaf_hash FROM reversal
  ) AS a JOIN audit_entry e USING (action, subject_id) WHERE e.outcome = 'DONE' AND e.leaf_hash <> a.leaf_hash""",
    ),
    Check(
        0,
        "hold_refers_to_nothing",
        "a hold's perk (of its partner), capacity, member or policy does not exist",
        """
  SELECT h.id FROM hold h LEFT JOIN perk p ON p.id = h.perk_id AND p.partner_id = h.partner_id
  LEFT JOIN capacity c ON c.perk_id = h.perk_id LEFT JOIN member m ON m.id = h.member_id
  LEFT JOIN rule r ON r.perk_id = h.perk_id AND r.version = h.policy_version
  WHERE p.id IS NULL OR c.perk_id IS NULL OR m.id IS NULL OR r.perk_id IS NULL""",
    ),
    Check(
        0,
        "entry_refers_to_nothing",
        "an audit entry's partner, perk or member does not exist",
        """
  SELECT e.id FROM audit_entry e LEFT JOIN partner b ON b.id = e.partner_id LEFT JOIN perk p ON p.id = e.perk_id
  LEFT JOIN member m ON m.id = e.member_id
  WHERE (e.partner_id, e.perk_id, e.member_id) IS DISTINCT FROM (b.id, p.id, m.id)""",
    ),
)


async def check_laws(connection: "Connection[Any]", now: datetime) -> list[Finding]:
    """Laws 1 to 6 and the references, over everything at one moment; no finding is the good answer."""
    async with snapshot(connection):
        return await find(connection, CHECKS, now)


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
