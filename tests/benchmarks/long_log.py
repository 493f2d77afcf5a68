"""A log of as many entries as wanted, written straight into the tables, since making it is not what is measured."""

from hashlib import md5
from typing import Any
from uuid import UUID

from asyncpg import Connection

from partners.merkle import CompactRange
from partners.notes import Checkpoint, sign_checkpoint

ORIGIN = "perks.example/log"
BATCH = 250_000
LARGEST, GONE = 0, 99
LAST_MS, STEP_US = 1_790_000_000_000, 3_000_000
# One partner has a fifth of all, the others a hundredth each; one left after the first hundredth of the log.
FILL = """
WITH n AS (
  SELECT n, $2::bigint - (($3 - n) * $4 / 1000)::bigint AS ms, abs(hashint4(n::int)::bigint) AS a,
    abs(hashint4extended(n::int, 7)) AS b
  FROM generate_series($1::bigint, $1 + $5 - 1) AS n
), drawn AS (
  SELECT n, ms, a, b, encode(overlay(decode(md5(n::text), 'hex') PLACING
      int8send((ms << 16) | (7 << 12) | (b % 4096)) FROM 1 FOR 8), 'hex')::uuid AS id,
    CASE WHEN a % 5 = 0 THEN 0 WHEN n < $3 / 100 AND a % 50 = 1 THEN 99 ELSE (a / 5) % 98 + 1 END AS partner,
    CASE WHEN b % 100 < 45 THEN 'perk.claimed' WHEN b % 100 < 75 THEN 'hold.confirmed'
      WHEN b % 100 < 85 THEN 'hold.expired' WHEN b % 100 < 90 THEN 'hold.released'
      WHEN b % 100 < 95 THEN 'tier.assigned' WHEN b % 100 < 98 THEN 'consent.granted'
      WHEN b % 100 < 99 THEN 'redemption.reversed'
      WHEN b % 10000 < 9998 THEN 'service.messaged' WHEN n < $3 / 10 THEN 'perk.paused' ELSE 'perk.updated' END
      AS action
  FROM n
), told AS (
  SELECT *, number(2, partner * 10 + b % 10) AS perk_id, number(3, (a / 7) % 200000) AS member_id,
    CASE WHEN action IN ('perk.claimed', 'hold.confirmed', 'hold.released') THEN CASE WHEN b % 3 = 0 THEN 'member'
        ELSE 'partner' END WHEN action LIKE 'perk.%' THEN 'staff' ELSE 'system' END AS actor_kind,
    CASE WHEN action = 'perk.claimed' AND a % 8 = 0 THEN 'REFUSED' ELSE 'DONE' END AS outcome FROM drawn
), leaves AS (
  SELECT *, CASE actor_kind WHEN 'member' THEN member_id::text WHEN 'partner' THEN 'client_' || md5(partner::text)
      WHEN 'staff' THEN 'staff-' || a % 20 ELSE 'system' END AS actor_id,
    concat('{"action":"', action, '","actor":"', actor_kind, '","amount":0,"at":"', to_timestamp(ms / 1000.0),
      '","id":"', id, '","member":"', md5(member_id::text), md5(n::text), '","outcome":"', outcome, '","partner":"',
      number(1, partner), '","perk":"', perk_id, '","policyVersion":1,"reasons":[],"subject":"', id,
      '","tier":"gold","units":1,"v":2}')
      AS leaf FROM told
), written AS (
  INSERT INTO audit_entry (id, at, action, outcome, reasons, actor_kind, actor_id, partner_id, perk_id, member_id,
    subject_id, leaf, leaf_hash)
  SELECT id, to_timestamp(ms / 1000.0), action, outcome, '{}', actor_kind, actor_id, number(1, partner), perk_id,
    member_id, number(4, n / 3), leaf, leaf_hash(leaf) FROM leaves ORDER BY n
)
INSERT INTO log_leaf (index, entry_id, leaf_hash) SELECT n, id, leaf_hash(leaf) FROM leaves ORDER BY n
"""
NUMBER = """
CREATE OR REPLACE FUNCTION pg_temp.number(kind bigint, n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
  SELECT (lpad(to_hex(kind), 8, '0') || '-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid $$
"""
SEED = bytes(32)


def number(kind: int, n: int) -> UUID:
    """The id of the n-th partner (1), perk (2), member (3) or subject (4)."""
    return UUID(f"{kind:08x}-0000-7000-8000-{n:012x}")


def client_of(partner: int) -> str:
    """The client that acts for the n-th partner."""
    return f"client_{md5(str(partner).encode(), usedforsecurity=False).hexdigest()}"


async def write_log(connection: "Connection[Any]", size: int) -> None:
    """Replaces the log by one of so many entries, an entry every three seconds, whose tree is as it should be."""
    async with connection.transaction():
        indexes = await connection.fetch(
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'audit_entry' AND indexname LIKE 'ix%'"
        )
        for one in indexes:
            await connection.execute(f"DROP INDEX {one['indexname']}")
        await connection.execute("TRUNCATE audit_entry, outbox, log_leaf, log_node, log_head")
        await connection.execute(NUMBER)
        for first in range(0, size, BATCH):
            await connection.execute(
                FILL.replace("number(", "pg_temp.number("), first, LAST_MS, size, STEP_US, min(BATCH, size - first)
            )
        for one in indexes:
            await connection.execute(one["indexdef"])
        await grow_tree(connection, size)
    await connection.execute("VACUUM (ANALYZE) audit_entry, log_leaf, log_node")


async def grow_tree(connection: "Connection[Any]", size: int) -> None:
    """The nodes above the leaves, and the head."""
    tree = CompactRange()
    for first in range(0, size, BATCH):
        rows = await connection.fetch(
            "SELECT leaf_hash FROM log_leaf WHERE index >= $1 AND index < $2 ORDER BY index", first, first + BATCH
        )
        tree.append(row["leaf_hash"] for row in rows)
        nodes = [(node.level, node.index, node.hash) for node in tree.completed]
        tree.completed.clear()
        await connection.copy_records_to_table("log_node", records=nodes, columns=["level", "index", "hash"])
    note = sign_checkpoint(Checkpoint(ORIGIN, size, tree.root()), SEED)
    await connection.execute(
        "INSERT INTO log_head (id, origin, size, frontier, checkpoint) VALUES (1, $1, $2, $3, $4)",
        ORIGIN,
        size,
        tree.frontier,
        note,
    )
