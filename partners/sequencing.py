"""The one step by which the log grows, so that what committed is provable, in order and exactly once."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

from asyncpg import Connection

from partners.keys import Keys
from partners.log_forks import require_onward
from partners.log_keys import add_key, new_log_key, open_seeds, require_own, signing_seeds
from partners.merkle import CompactRange, Node
from partners.notes import Checkpoint, sign_checkpoint
from partners.values import value

BATCH_MAX = 4096
CREATE = (
    "INSERT INTO log_head (id, origin, size, frontier, checkpoint) VALUES (1, '', 0, '', '') ON CONFLICT DO NOTHING"
)
TAKE = """
WITH head AS MATERIALIZED (
  SELECT origin, size, frontier, checkpoint FROM log_head FOR UPDATE SKIP LOCKED
), taken AS (
  DELETE FROM outbox WHERE EXISTS (SELECT FROM head)
    AND entry_id = ANY (ARRAY(SELECT entry_id FROM outbox ORDER BY entry_id LIMIT $1))
  RETURNING entry_id, leaf_hash
), placed AS (
  INSERT INTO log_leaf (index, entry_id, leaf_hash)
  SELECT size + row_number() OVER (ORDER BY entry_id) - 1, entry_id, leaf_hash FROM taken CROSS JOIN head
  RETURNING index, leaf_hash
)
SELECT head.*, ARRAY(SELECT leaf_hash FROM placed ORDER BY index) AS leaf_hashes, keys.* FROM head CROSS JOIN LATERAL (
  SELECT array_agg(label ORDER BY created_at) AS labels, array_agg(sealed ORDER BY created_at) AS sealed
  FROM log_key WHERE log_key.origin = head.origin AND retired_at IS NULL) AS keys
"""
KEEP = """
WITH grown AS (
  INSERT INTO log_node (level, index, hash) SELECT * FROM unnest($5::smallint[], $6::bigint[], $7::bytea[])
)
UPDATE log_head SET size = $1, frontier = $2, checkpoint = $3, origin = $4
"""
LOOK = """
SELECT head.*, keys.* FROM log_head AS head CROSS JOIN LATERAL (
  SELECT array_agg(label ORDER BY created_at) AS labels, array_agg(sealed ORDER BY created_at) AS sealed
  FROM log_key WHERE log_key.origin = head.origin AND retired_at IS NULL) AS keys
"""


@value
class Grown:
    """By how many leaves the log grew, and its new checkpoint as a signed note."""

    count: int
    note: str


async def nothing_known() -> None:
    """Of a log that nobody keeps a mark of."""


async def sequence(
    connection: "Connection[Any]",
    keys: Keys,
    origin: str,
    now: datetime,
    known: Callable[[], Awaitable[Checkpoint | None]] = nothing_known,
) -> Grown | None:
    """Moves at most 4,096 entries from the outbox into the log and signs the new checkpoint, in one transaction of
    its own; None when there is nothing to move, also while another sequencer is at it.

    `origin` names a log that is new; one that exists keeps its name. Every key that signs the log signs the
    checkpoint. The lock on the head lets one work at a time; taking by DELETE passes over nothing that commits late.
    LogForked unless the log continues the checkpoint that is `known`; Unavailable when the keys can't be opened.
    """
    if not await connection.fetchval("SELECT EXISTS (SELECT FROM outbox)"):
        return None
    mark = await known()
    async with connection.transaction(isolation="read_committed"):
        head = await connection.fetchrow(TAKE, BATCH_MAX)
        if head is None:
            # Another has the head, or nobody made one yet: making it is then harmless, and one more try tells.
            await connection.execute(CREATE)
            head = await connection.fetchrow(TAKE, BATCH_MAX)
        if head is None or not head["leaf_hashes"]:
            return None
        name, tree = head["origin"] or origin, CompactRange(head["size"], head["frontier"])
        await require_onward(connection, head["origin"], tree, mark)
        seeds = await signing_seeds(connection, head, keys, name, now)
        tree.append(head["leaf_hashes"])
        note = sign_checkpoint(Checkpoint(name, tree.size, tree.root()), *seeds)
        await connection.execute(KEEP, tree.size, tree.frontier, note, name, *columns_of(tree.completed))
        return Grown(len(head["leaf_hashes"]), note)


async def examine(
    connection: "Connection[Any]", keys: Keys, known: Checkpoint | None = None, *, now: datetime | None = None
) -> None:
    """Whether the next step could be done: LogForked and Unavailable as it would raise them.

    Given `now`, a log from before keys were stored gets its row, so that its key can be read; else it only reads.
    """
    head = await connection.fetchrow(LOOK)
    if head is None:
        await require_onward(connection, "", CompactRange(), known)
    else:
        await require_onward(connection, head["origin"], CompactRange(head["size"], head["frontier"]), known)
        if head["labels"]:
            open_seeds(keys, head["labels"], head["sealed"])
        elif head["origin"]:
            require_own(keys, head["origin"], head["checkpoint"])
            if now is not None:
                await add_key(connection, new_log_key(keys, head["origin"], keys.log, now))


def columns_of(nodes: Sequence[Node]) -> tuple[list[int], list[int], list[bytes]]:
    """Levels, indexes and hashes."""
    return [node.level for node in nodes], [node.index for node in nodes], [node.hash for node in nodes]
