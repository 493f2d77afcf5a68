"""From the log to messages, and what becomes of each: made once, leased, told or tried again, given up, forgotten.

Order: a message is not leased while an earlier one of its lane is pending, whichever process has that one, and however
it went. A lease that nobody ends is over by itself, so that what was under way at a crash is sent again.
"""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from asyncpg import Connection

from partners.values import value
from partners.webhooks.content import Told
from partners.webhooks.events import IS_STAGGERED, IS_WANTED, LANE, TOLD_AT
from partners.webhooks.schedule import GIVEN_UP_AFTER

BATCH_MAX = 1_000
LEASE = timedelta(seconds=60)
TRIED_LATELY = timedelta(hours=12)

BEHIND = "SELECT EXISTS (SELECT FROM webhook_cursor c, log_head h WHERE c.index < h.size)"
TAKE = "SELECT c.index, h.size FROM webhook_cursor c, log_head h FOR UPDATE OF c SKIP LOCKED"
# A series, since the planner takes any range of an unknown end for a large part of the log.
MAKE = f"""
INSERT INTO webhook_message (endpoint_id, entry_id, index, action, lane, state, attempts, replays, told_at,
  pending_since, due_at)
SELECT p.id, e.id, l.index, e.action, {LANE}, 'PENDING', 0, 0, t.at, t.at, t.at
FROM generate_series($1::bigint, $2::bigint - 1) AS place(index) JOIN log_leaf l ON l.index = place.index
JOIN audit_entry e ON e.id = l.entry_id
JOIN webhook_endpoint p ON p.partner_id = e.partner_id AND p.state = 'ENABLED' AND p.since <= l.index
CROSS JOIN LATERAL (SELECT greatest({TOLD_AT.format(key="$4::bytea")}, $3::timestamptz) AS at) AS t
WHERE {IS_WANTED}
ON CONFLICT DO NOTHING RETURNING endpoint_id
"""  # noqa: S608  constants
# What is told of a member later than something that came after it is told before that.
PULL = """
WITH late AS MATERIALIZED (
  SELECT ctid, endpoint_id, lane, index, told_at FROM webhook_message
  WHERE endpoint_id = ANY ($1::uuid[]) AND told_at > $2 AND state = 'PENDING'
), sooner AS MATERIALIZED (
  SELECT u.ctid AS row, (SELECT min(n.told_at) FROM webhook_message n WHERE n.endpoint_id = u.endpoint_id
    AND n.lane = u.lane AND n.state = 'PENDING' AND n.index > u.index AND n.told_at < u.told_at) AS at FROM late u
)
UPDATE webhook_message m SET told_at = s.at, pending_since = s.at, due_at = s.at
FROM sooner s WHERE m.ctid = s.row AND s.at IS NOT NULL AND m.state = 'PENDING'
"""


async def make_messages(connection: "Connection[Any]", delays: bytes, now: datetime) -> int | None:
    """Makes the messages of the next 1,000 entries of the log, in a transaction of its own; how many entries, 0 when
    there are no more, None while another process is at it. `delays` is `Names.delays`."""
    if not await connection.fetchval(BEHIND):
        return 0
    async with connection.transaction():
        cursor = await connection.fetchrow(TAKE)
        if cursor is None:
            return None
        end: int = min(cursor["index"] + BATCH_MAX, cursor["size"])
        if await connection.fetchval("SELECT EXISTS (SELECT FROM webhook_endpoint)"):
            made = await connection.fetch(MAKE, cursor["index"], end, now, delays)
            if made:
                await connection.execute(PULL, list({row["endpoint_id"] for row in made}), now)
        else:
            end = cursor["size"]
        await connection.execute("UPDATE webhook_cursor SET index = $1", end)
    return end - int(cursor["index"])


LOOKED_AT = 128
# Of the endpoint `r`: the next of each lane among some that are due.
HEADS = f"""
SELECT m.* FROM (SELECT w.ctid AS place FROM webhook_message w
    WHERE w.endpoint_id = r.id AND w.state = 'PENDING' AND w.due_at <= $5 {{and_which}} LIMIT {LOOKED_AT}
  ) AS w CROSS JOIN LATERAL (
    SELECT m.ctid AS place, m.endpoint_id, m.index FROM webhook_message m
    WHERE m.ctid = w.place AND NOT EXISTS (SELECT FROM webhook_message b WHERE b.endpoint_id = m.endpoint_id
      AND b.lane = m.lane AND b.state = 'PENDING' AND b.index < m.index) LIMIT 1 FOR UPDATE SKIP LOCKED
  ) AS m"""  # noqa: S608  constants
IS_LONG = f"""EXISTS (SELECT FROM webhook_message w WHERE w.endpoint_id = r.id AND w.state = 'PENDING'
  AND w.due_at <= $5 ORDER BY w.due_at, w.index OFFSET {LOOKED_AT} LIMIT 1)"""
# Between the eldest and now.
SOMEWHERE = """AND w.due_at >= $5 - (SELECT random()) * ($5 - (SELECT o.due_at FROM webhook_message o
  WHERE o.endpoint_id = r.id AND o.state = 'PENDING' ORDER BY o.due_at, o.index LIMIT 1))"""
# Endpoints with anything pending are found one after the other by the index; then those that may be tried, each with as
# many messages as it has room for; whoever has the least under way comes first. A lane that waits for its next attempt
# may have any number of messages behind it: so that nobody reads them again and again, 128 of the eldest are looked at
# and, where these are not all, of the youngest and from anywhere. What each says is looked up for it alone (LIMIT 1):
# the planner can't know how few they are, and would read whole tables.
LEASED = f"""
WITH RECURSIVE pending AS (
  (SELECT endpoint_id FROM webhook_message WHERE state = 'PENDING' ORDER BY endpoint_id LIMIT 1)
  UNION ALL
  SELECT (SELECT m.endpoint_id FROM webhook_message m WHERE m.state = 'PENDING' AND m.endpoint_id > q.endpoint_id
    ORDER BY m.endpoint_id LIMIT 1) FROM pending q WHERE q.endpoint_id IS NOT NULL
), ready AS (
  SELECT p.id, p.partner_id, p.url, p.version, p.failures,
    CASE WHEN p.failures > 0 THEN 1 ELSE $1::int END - coalesce(b.busy, 0) AS room, coalesce(b.busy, 0) AS busy
  FROM pending q JOIN webhook_endpoint p ON p.id = q.endpoint_id JOIN partner o ON o.id = p.partner_id
  LEFT JOIN unnest($2::uuid[], $3::int[]) AS b(endpoint_id, busy) ON b.endpoint_id = p.id
  WHERE p.state = 'ENABLED' AND o.state = 'ACTIVE' AND (p.retry_at IS NULL OR p.retry_at <= $5)
), taken AS MATERIALIZED (
  SELECT d.place, r.busy + row_number() OVER (PARTITION BY d.endpoint_id ORDER BY d.index) AS nth
  FROM ready r CROSS JOIN LATERAL (
    {HEADS.format(and_which="ORDER BY w.due_at, w.index")}
    UNION ALL {HEADS.format(and_which="ORDER BY w.due_at DESC, w.index DESC")} WHERE {IS_LONG}
    UNION ALL {HEADS.format(and_which=SOMEWHERE + " ORDER BY w.due_at, w.index")} WHERE {IS_LONG}
    LIMIT greatest(r.room, 0)
  ) AS d
), leased AS (
  UPDATE webhook_message m SET leased_until = $6, due_at = $6
  WHERE m.ctid = ANY (ARRAY(SELECT place FROM taken ORDER BY nth LIMIT $4))
  RETURNING m.endpoint_id, m.entry_id, m.attempts
)
SELECT l.endpoint_id, l.entry_id, l.attempts, r.partner_id, r.url, r.version, r.failures, e.*, a.alias, a.member_id
FROM leased l JOIN ready r ON r.id = l.endpoint_id CROSS JOIN LATERAL (
  SELECT e.action, e.at, e.perk_id, e.subject_id, e.member_id AS about, e.reasons, e.leaf, e.leaf_hash,
    {IS_STAGGERED} AS staggered FROM audit_entry e WHERE e.id = l.entry_id LIMIT 1
) AS e LEFT JOIN LATERAL (
  SELECT a.alias, a.member_id FROM member_alias a WHERE a.partner_id = r.partner_id AND a.member_id = e.about
    AND (starts_with(e.action, 'consent.') OR EXISTS (SELECT FROM consent c WHERE c.member_id = e.about
      AND c.partner_id = r.partner_id AND c.state = 'GRANTED' AND (c.expires_at IS NULL OR c.expires_at > $5)
      AND 'redemptions:read' = ANY (c.scopes))) LIMIT 1
) AS a ON true
"""  # noqa: S608  constants
TOLD = ("action", "at", "perk_id", "subject_id", "reasons", "leaf", "leaf_hash", "staggered", "alias")


@value
class Leased:
    """A message that is for the caller alone to send until `until`; `attempts` and `failures` are those before it."""

    endpoint_id: UUID
    entry_id: UUID
    until: datetime
    attempts: int
    partner_id: UUID
    url: str
    version: int
    failures: int
    member_id: UUID | None
    told: Told


async def lease_messages(
    connection: "Connection[Any]", busy: dict[UUID, int], *, each: int, all: int, now: datetime
) -> list[Leased]:
    """What is due, at most `all` in all and so many that each endpoint has `each` under way, with those that are `busy`
    already. One statement."""
    until = now + LEASE
    rows = await connection.fetch(LEASED, each, list(busy), list(busy.values()), all, now, until)
    return [
        Leased(
            row["endpoint_id"],
            row["entry_id"],
            until,
            row["attempts"],
            row["partner_id"],
            row["url"],
            row["version"],
            row["failures"],
            row["member_id"],
            Told(*(row[name] for name in TOLD)),
        )
        for row in rows
    ]


SOME = 5_000
PARK = f"""
UPDATE webhook_message SET state = 'PARKED', ended_at = $1, leased_until = NULL WHERE ctid = ANY (ARRAY(
  SELECT m.ctid FROM webhook_endpoint p JOIN partner o ON o.id = p.partner_id
  JOIN webhook_message m ON m.endpoint_id = p.id AND m.state = 'PENDING' AND m.pending_since <= $2
    AND coalesce(m.leased_until, $1) <= $1
  WHERE p.failing_since <= $2 AND p.state = 'ENABLED' AND o.state = 'ACTIVE' AND (
    SELECT d.at FROM webhook_delivery d WHERE d.endpoint_id = p.id ORDER BY d.id DESC LIMIT 1) > $3
  LIMIT {SOME} FOR UPDATE OF m SKIP LOCKED))
"""  # noqa: S608  a constant


async def park_messages(connection: "Connection[Any]", now: datetime) -> int:
    """Gives up, for now, up to 5,000 messages that have waited for three days at endpoints that failed throughout; not
    of those that were left alone meanwhile, with their partner suspended. How many."""
    before = now - GIVEN_UP_AFTER
    return counted(await connection.execute(PARK, now, before, now - TRIED_LATELY))


DELIVERED_KEPT, PARKED_KEPT = timedelta(days=30), timedelta(days=90)
ORPHANS = """
WITH RECURSIVE known AS (
  (SELECT endpoint_id FROM webhook_message ORDER BY endpoint_id LIMIT 1)
  UNION ALL
  SELECT (SELECT m.endpoint_id FROM webhook_message m WHERE m.endpoint_id > k.endpoint_id
    ORDER BY m.endpoint_id LIMIT 1) FROM known k WHERE k.endpoint_id IS NOT NULL
), gone AS (
  SELECT endpoint_id FROM known k WHERE NOT EXISTS (SELECT FROM webhook_endpoint p WHERE p.id = k.endpoint_id)
)
SELECT m.ctid FROM gone g JOIN webhook_message m ON m.endpoint_id = g.endpoint_id"""
OLD = (
    ("webhook_message", "state <> 'PENDING' AND state = 'DELIVERED' AND ended_at < $1", DELIVERED_KEPT),
    ("webhook_message", "state <> 'PENDING' AND state = 'PARKED' AND ended_at < $1", PARKED_KEPT),
    ("webhook_delivery", "at < $1", DELIVERED_KEPT),
    ("webhook_secret", "retires_at < $1", DELIVERED_KEPT),
)
DELETE = "DELETE FROM {table} WHERE ctid = ANY (ARRAY({rows} LIMIT {some}))"


async def prune_messages(connection: "Connection[Any]", now: datetime) -> int:
    """Forgets up to 5,000 each of messages and attempts that are 30 days old, parked messages of 90, and all of
    endpoints that are gone; how many. The log keeps what they told, and a replay makes them anew."""
    gone = counted(await connection.execute(DELETE.format(table="webhook_message", rows=ORPHANS, some=SOME)))
    for table, which, kept in OLD:
        rows = f"SELECT ctid FROM {table} WHERE {which}"  # noqa: S608  constants
        statement = DELETE.format(table=table, rows=rows, some=SOME)
        gone += counted(await connection.execute(statement, now - kept))
    return gone


def counted(status: str) -> int:
    """How many rows a command tag tells of."""
    return int(status.rpartition(" ")[2])
