"""The transparency log in the database, as it is read: the hashes that proofs and roots of any size are made of."""

from collections.abc import Sequence
from typing import Any

from asyncpg import Connection

from partners.merkle import Range
from partners.tiles import Span, fold, spans_of

READ_SPANS = """
SELECT CASE WHEN span.level = 0 THEN ARRAY(
    SELECT leaf_hash FROM log_leaf WHERE index >= first AND index < first + count ORDER BY index)
  ELSE ARRAY(SELECT hash FROM log_node n WHERE n.level = span.level AND index >= first AND index < first + count
    ORDER BY index) END AS hashes
FROM unnest($1::smallint[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS span(level, first, count, number)
ORDER BY span.number
"""


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
