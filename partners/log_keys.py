"""Who signs the log's checkpoints: keys made at random or from the operator's secret, sealed, several at a time."""

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from asyncpg import Connection, Record
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from partners import audit
from partners.actors import Actor
from partners.errors import Conflict, NotFound, Unavailable
from partners.keys import Keys
from partners.notes import NoteInvalid, Verifier, open_checkpoint, verifier_of
from partners.sealing import Unsealable, open_sealed, seal
from partners.tables import LogHead, LogKey

SEED_BYTES = 32
CONTEXT = b"log_key/"
ADD = """
INSERT INTO log_key (label, origin, verifier, sealed, created_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (label) DO NOTHING
"""
VERIFIERS = """
SELECT verifier FROM log_key WHERE origin = $1 AND (retired_at IS NULL OR NOT $2)
ORDER BY retired_at DESC NULLS FIRST, created_at, label
"""


def new_log_key(keys: Keys, origin: str, seed: bytes, now: datetime) -> LogKey:
    """A key of 32 bytes as a row of the log `origin`, sealed for that row alone."""
    verifier = verifier_of(origin, seed)
    sealed = seal(keys.log_sealing[0], seed, CONTEXT + verifier.label.encode())
    return LogKey(label=verifier.label, origin=origin, verifier=str(verifier), sealed=sealed, created_at=now)


def first_key(keys: Keys, origin: str, checkpoint: str, now: datetime) -> LogKey:
    """The key that a log begins with, which the secret alone decides: logs from before there were rows go on with it.
    Unavailable as `require_own`."""
    require_own(keys, origin, checkpoint)
    return new_log_key(keys, origin, keys.log, now)


def require_own(keys: Keys, origin: str, checkpoint: str) -> None:
    """Unavailable when the last checkpoint of a log without rows, if it has one, is of another secret's key."""
    try:
        if checkpoint:
            open_checkpoint(checkpoint, verifier_of(origin, keys.log))
    except NoteInvalid as fault:
        raise Unavailable(
            f"the log {origin} is signed with the key of another secret ({fault}): set PERKS_SECRET, and"
            " PERKS_LOG_SECRET if it had one, to what they were"
        ) from None


async def add_key(connection: "Connection[Any]", key: LogKey) -> None:
    """Stores a key, unless it is stored already."""
    await connection.execute(ADD, key.label, key.origin, key.verifier, key.sealed, key.created_at)


async def signing_seeds(
    connection: "Connection[Any]", head: "Record", keys: Keys, origin: str, now: datetime
) -> list[bytes]:
    """The seeds that sign now, the older first; the first key of a log that has none is made. `head` has the log's
    `origin` and `checkpoint`, and its keys' `labels` and `sealed`. Unavailable when the secret does not open them.
    """
    if head["labels"]:
        return open_seeds(keys, head["labels"], head["sealed"])
    await add_key(connection, first_key(keys, origin, head["checkpoint"], now))
    return [keys.log]


def open_seeds(keys: Keys, labels: Sequence[str], sealed: Sequence[bytes]) -> list[bytes]:
    """The seeds of keys; Unavailable unless the operator's secrets open every one."""
    return [open_seed(keys, label, one) for label, one in zip(labels, sealed, strict=True)]


def open_seed(keys: Keys, label: str, sealed: bytes) -> bytes:
    """The seed of one key; Unavailable."""
    for sealing in keys.log_sealing:
        try:
            return open_sealed(sealing, sealed, CONTEXT + label.encode())
        except Unsealable:
            continue
    raise Unavailable(
        f"the log's key {label} was sealed with another secret: set PERKS_LOG_SECRET, or PERKS_SECRET, to what it was"
    )


async def read_verifiers(connection: "Connection[Any]", origin: str, *, signing: bool = False) -> list[Verifier]:
    """The public side of every key that the log has or had: those that sign first, then the last retired; or only of
    those that are `signing`."""
    return [Verifier.parse(row["verifier"]) for row in await connection.fetch(VERIFIERS, origin, signing)]


async def list_keys(session: AsyncSession) -> list[LogKey]:
    """All keys of all logs that the database held, oldest first."""
    return list(await session.scalars(sa.select(LogKey).order_by(col(LogKey.created_at), col(LogKey.label))))


async def rotate_key(session: AsyncSession, keys: Keys, actor: Actor, now: datetime) -> LogKey:
    """A new random key that signs beside the others from the next checkpoint on; Conflict while there is no log."""
    head, signing = await lock_keys(session)
    if not signing:
        signing = [first_key(keys, head.origin, head.checkpoint, now)]
        session.add(signing[0])
    for one in signing:
        open_seed(keys, one.label, one.sealed)  # who can't sign with them must not add one that nobody else can open
    key = new_log_key(keys, head.origin, secrets.token_bytes(SEED_BYTES), now)
    session.add(key)
    await session.flush()
    await audit.record(session, "log_key.rotated", audit.Subject(), actor, now)
    return key


async def retire_key(session: AsyncSession, label: str, actor: Actor, now: datetime) -> LogKey:
    """Ends a key's signing; NotFound unless it signs, Conflict for the last one that does."""
    _, signing = await lock_keys(session)
    key = next((one for one in signing if one.label == label), None)
    if key is None:
        raise NotFound(f"no key {label} signs the log")
    if len(signing) == 1:
        raise Conflict("this is the only key that signs the log: `perks keys log rotate` first")
    key.retired_at = now
    session.add(key)
    await session.flush()
    await audit.record(session, "log_key.retired", audit.Subject(), actor, now)
    return key


async def lock_keys(session: AsyncSession) -> tuple[LogHead, list[LogKey]]:
    """The log's head and the keys that sign it, which nobody else changes until the transaction ends; Conflict while
    the log is empty."""
    await session.execute(sa.text("LOCK TABLE log_key IN SHARE ROW EXCLUSIVE MODE"))
    head = await session.scalar(sa.select(LogHead).where(col(LogHead.size) > 0))
    if head is None:
        raise Conflict("the log is empty: nothing has been recorded, or no sequencer has run")
    signing = sa.select(LogKey).where(col(LogKey.origin) == head.origin, col(LogKey.retired_at).is_(None))
    return head, list(await session.scalars(signing.order_by(col(LogKey.created_at))))
