"""A log that goes on under a new name, behind an entry that holds the last checkpoint of the one that ends."""

from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from asyncpg import Connection, Record

from partners.actors import Actor
from partners.keys import Keys
from partners.log_forks import CONTINUED
from partners.log_keys import add_key, new_log_key, open_seeds, require_own
from partners.merkle import CompactRange, leaf_hash
from partners.notes import Checkpoint, sign_checkpoint
from partners.sequencing import columns_of

HASHES_AT_ONCE = 10_000
# In the order in which everybody else takes them, so that nobody waits in a circle: endpoints, then the cursor, whose
# lock keeps messages from being made by half-moved indexes, then messages.
MOVE = """
SELECT FROM webhook_endpoint ORDER BY id FOR UPDATE;
SELECT FROM webhook_cursor FOR UPDATE;
LOCK TABLE webhook_message IN SHARE ROW EXCLUSIVE MODE;
UPDATE webhook_cursor SET index = index + 1;
UPDATE webhook_endpoint SET since = since + 1;
UPDATE webhook_message SET index = index + 1;
UPDATE log_leaf SET index = -index - 2;
UPDATE log_leaf SET index = -index - 1;
DELETE FROM log_node;
"""
LEAF = """
SELECT id, audit_leaf(id, $1, $2, 'DONE', '{}', $3, $4, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL) AS leaf
FROM (SELECT new_id() AS id OFFSET 0) AS fresh
"""
PLACE = """
WITH entry AS (
  INSERT INTO audit_entry (id, at, action, outcome, reasons, actor_kind, actor_id, leaf, leaf_hash)
  VALUES ($1, $2, $3, 'DONE', '{}', $4, $5, $6, $7)
)
INSERT INTO log_leaf (index, entry_id, leaf_hash) VALUES (0, $1, $7)
"""
ADD_NODES = "INSERT INTO log_node (level, index, hash) SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::bytea[])"
SIGNING = "SELECT label, sealed FROM log_key WHERE origin = $1 AND retired_at IS NULL ORDER BY created_at"
RETIRE = "UPDATE log_key SET retired_at = $2 WHERE origin = $1 AND retired_at IS NULL"
KEEP = "UPDATE log_head SET number = number + 1, origin = $1, size = $2, frontier = $3, checkpoint = $4"


# Files tell places in the log: one that is half made would tell those of both.
EXPORT_ANEW = """
UPDATE export SET state = 'QUEUED', cursor = NULL, rows = 0, total = NULL, leased_until = NULL,
  wanted = CASE kind WHEN 'ENTRIES' THEN wanted || jsonb_build_object('last', $1::text) ELSE wanted END
WHERE state IN ('QUEUED', 'RUNNING')
"""


def next_name(origin: str) -> str:
    """The name after a log's: `perks.example/log`, `perks.example/log/2`, `perks.example/log/3`, …"""
    before, _, number = origin.rpartition("/")
    return f"{before}/{int(number) + 1}" if number.isascii() and number.isdigit() else f"{origin}/2"


async def continue_log(
    connection: "Connection[Any]", head: "Record", last: str, origin: str, keys: Keys, actor: Actor, now: datetime
) -> str:
    """Renames the log to `origin` in the caller's transaction, which holds the lock on the `head`; returns the signed
    checkpoint. Leaf 0 is an entry `log.continued` with the checkpoint `last`, a note; after it come all entries that
    are left, in their old order. Whoever signed the old log signs the new one.

    Writes every row of the log's indexes anew, in flat memory; about a minute for a million entries on a small machine.
    """
    await connection.execute(MOVE)
    await place_first(connection, last, actor, now)
    tree = await grow_anew(connection)
    signing = await connection.fetch(SIGNING, head["origin"])
    seeds = open_seeds(keys, [row["label"] for row in signing], [row["sealed"] for row in signing])
    if not seeds:
        require_own(keys, head["origin"], head["checkpoint"])
        seeds = [keys.log]
    await connection.execute(RETIRE, head["origin"], now)
    for seed in seeds:
        await add_key(connection, new_log_key(keys, origin, seed, now))
    note = sign_checkpoint(Checkpoint(origin, tree.size, tree.root()), *seeds)
    await connection.execute(EXPORT_ANEW, str(UUID(int=tree.size)))
    await connection.execute(KEEP, origin, tree.size, tree.frontier, note)
    return note


async def place_first(connection: "Connection[Any]", last: str, actor: Actor, now: datetime) -> UUID:
    """The entry that the new log begins with: canonical as every leaf, with the old log's checkpoint in it."""
    made = await connection.fetchrow(LEAF, now, CONTINUED, actor.kind.value, actor.id)
    assert made is not None
    # Sorted and without spaces, with no escape that RFC 8785 would write otherwise: canonical.
    leaf = orjson.dumps(orjson.loads(made["leaf"]) | {"checkpoint": last}, option=orjson.OPT_SORT_KEYS)
    kind, hashed = actor.kind.value, leaf_hash(leaf)
    await connection.execute(PLACE, made["id"], now, CONTINUED, kind, actor.id, leaf.decode(), hashed)
    entry_id: UUID = made["id"]
    return entry_id


async def grow_anew(connection: "Connection[Any]") -> CompactRange:
    """The tree of all leaves, with its nodes stored."""
    tree = CompactRange()
    cursor = await connection.cursor("SELECT leaf_hash FROM log_leaf ORDER BY index")
    while rows := await cursor.fetch(HASHES_AT_ONCE):
        tree.append(row["leaf_hash"] for row in rows)
        await connection.execute(ADD_NODES, *columns_of(tree.completed))
        tree.completed.clear()
    return tree
