"""Checkpoints that witnesses have signed, each with all their signatures, as the database keeps them."""

from datetime import datetime, timedelta
from typing import Any

from asyncpg import Connection

from partners.notes import signatures_in
from partners.values import value

KEPT = timedelta(days=90)
HEAD = "SELECT origin, size, checkpoint FROM log_head WHERE size > 0"
OPEN = """
INSERT INTO witnessed_checkpoint (origin, size, note, witnesses, at) VALUES ($1, $2, $3, 0, $4)
ON CONFLICT (origin, size) DO NOTHING
"""
LOCK = "SELECT note FROM witnessed_checkpoint WHERE origin = $1 AND size = $2 FOR UPDATE"
KEEP = "UPDATE witnessed_checkpoint SET note = $3, witnesses = $4, at = $5 WHERE origin = $1 AND size = $2"
# Sizes grow with time, so that the oldest are found by the key; an index on the time would serve this alone.
FORGET = """
DELETE FROM witnessed_checkpoint WHERE origin = $1 AND at < $2 AND size < $3 AND size = ANY (ARRAY(
  SELECT size FROM witnessed_checkpoint WHERE origin = $1 ORDER BY size LIMIT 100))
"""


@value
class SignedHead:
    """The newest checkpoint of the log, as the log signed it."""

    origin: str
    size: int
    note: str


async def read_signed_head(connection: "Connection[Any]") -> SignedHead | None:
    """The log's newest checkpoint; None while the log is empty."""
    row = await connection.fetchrow(HEAD)
    return None if row is None else SignedHead(row["origin"], row["size"], row["checkpoint"])


async def keep_cosignature(connection: "Connection[Any]", head: SignedHead, line: str, now: datetime) -> None:
    """Adds a witness's signature line to those of a checkpoint, or replaces an older one of the same key, in one
    transaction of its own; forgets checkpoints that were witnessed more than 90 days ago, but never the newest."""
    async with connection.transaction():
        await connection.execute(OPEN, head.origin, head.size, head.note, now)
        kept = await connection.fetchval(LOCK, head.origin, head.size)
        note, witnesses = merged(head.note, kept, line)
        await connection.execute(KEEP, head.origin, head.size, note, witnesses, now)
        await connection.execute(FORGET, head.origin, now - KEPT, head.size)


def merged(note: str, kept: str, line: str) -> tuple[str, int]:
    """A note with the signatures that another one of the same text has beside its own, and with a new one; and how
    many it has beside its own."""
    own = {label for label, *_ in signatures_in(note)}
    others = {label: one for label, _, one in signatures_in(kept) if label not in own}
    [(label, _, _)] = signatures_in(f"\n\n{line}")
    others[label] = line
    return note + "".join(others.values()), len(others)
