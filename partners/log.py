"""The transparency log in the database: the one step by which it grows, and the hashes that proofs are made of."""

from collections.abc import Sequence
from typing import Any

from asyncpg import Connection

from partners.merkle import CompactRange, Node, Range
from partners.notes import Checkpoint, sign_checkpoint
from partners.tiles import Span, fold, spans_of

BATCH_MAX = 4096
CREATE = "INSERT INTO log_head (id, origin, size, frontier, checkpoint) VALUES (1, '', 0, '', '') ON CONFLICT DO NOTHING"
TAKE = """
WITH head AS MATERIALIZED (
  SELECT size, frontier FROM log_head FOR UPDATE SKIP LOCKED
), taken AS (
  DELETE FROM outbox WHERE EXISTS (SELECT FROM head)
    AND entry_id = ANY (ARRAY(SELECT entry_id FROM outbox ORDER BY entry_id LIMIT $1))
  RETURNING entry_id, leaf_hash
), placed AS (
  INSERT INTO log_leaf (index, entry_id, leaf_hash)
  SELECT size + row_number() OVER (ORDER BY entry_id) - 1, entry_id, leaf_hash FROM taken CROSS JOIN head
  RETURNING index, leaf_hash
)
SELECT size, frontier, ARRAY(SELECT leaf_hash FROM placed ORDER BY index) AS leaf_hashes FROM head
"""
KEEP = """
WITH grown AS (
  INSERT INTO log_node (level, index, hash) SELECT * FROM unnest($5::smallint[], $6::bigint[], $7::bytea[])
)
UPDATE log_head SET size = $1, frontier = $2, checkpoint = $3, origin = $4
"""
READ_SPANS = """
SELECT CASE WHEN span.level = 0 THEN ARRAY(
    SELECT leaf_hash FROM log_leaf WHERE index >= first AND index < first + count ORDER BY index)
  ELSE ARRAY(SELECT hash FROM log_node n WHERE n.level = span.level AND index >= first AND index < first + count
    ORDER BY index) END AS hashes
FROM unnest($1::smallint[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS span(level, first, count, number)
ORDER BY span.number
"""


async def sequence(connection: "Connection[Any]", key: bytes, origin: str) -> int:
    """Moves at most 4,096 entries from the outbox into the log and signs the new checkpoint, in one transaction of
    its own; returns how many, 0 also while another sequencer is at it. `key` is the log's seed of 32 bytes.

    The lock on the head lets one work at a time; taking by DELETE passes over nothing that commits late.
    """
    if not await connection.fetchval("SELECT EXISTS (SELECT FROM outbox)"):
        return 0
    async with connection.transaction(isolation="read_committed"):
        head = await connection.fetchrow(TAKE, BATCH_MAX)
        if head is None:
            # Another has the head, or nobody made one yet: making it is then harmless, and one more try tells.
            await connection.execute(CREATE)
            head = await connection.fetchrow(TAKE, BATCH_MAX)
        if head is None or not head["leaf_hashes"]:
            return 0
        tree = CompactRange(head["size"], head["frontier"]).append(head["leaf_hashes"])
        note = sign_checkpoint(Checkpoint(origin, tree.size, tree.root()), key)
        await connection.execute(KEEP, tree.size, tree.frontier, note, origin, *columns_of(tree.completed))
        return len(head["leaf_hashes"])


def columns_of(nodes: Sequence[Node]) -> tuple[list[int], list[int], list[bytes]]:
    """Levels, indexes and hashes."""
    return [node.level for node in nodes], [node.index for node in nodes], [node.hash for node in nodes]


async def read_ranges(connection: "Connection[Any]", ranges: Sequence[Range]) -> list[bytes]:
    """The roots of ranges of leaves, in order, by one statement that reads at most 128 hashes for each full subtree.

    The ranges are those of `partners.merkle`; LookupError when the log has not got so far.
    """
    spans = spans_of(ranges)
    return fold(ranges, await read_spans(connection, spans))


async def read_spans(connection: "Connection[Any]", spans: Sequence[Span]) -> list[list[bytes]]:
    """The hashes of each span, as many as there are of it."""
    rows = await connection.fetch(
        READ_SPANS, [span.level for span in spans], [span.first for span in spans], [span.count for span in spans]
    )
    return [row["hashes"] for row in rows]
