"""Proofs for whom a log concerns: that what it redeemed is in the log, and that the log only grows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from asyncpg import Connection
from sqlalchemy.ext.asyncio import AsyncSession

from partners import tables
from partners.actors import Actor, ActorKind
from partners.entries import Entry
from partners.errors import BadInput, TryAgain
from partners.log import read_ranges
from partners.merkle import consistency_ranges, inclusion_ranges, is_included
from partners.notes import Checkpoint, note_text
from partners.redemptions import consents_to, named_by

TABLES = tables.metadata.tables
STATE = """
SELECT h.size, h.checkpoint, w.size AS witnessed_size, w.note, w.witnesses, w.at,
  ARRAY(SELECT verifier FROM log_key k WHERE k.origin = h.origin AND retired_at IS NULL ORDER BY created_at) AS keys
FROM log_head h LEFT JOIN LATERAL (
  SELECT * FROM witnessed_checkpoint w WHERE w.origin = h.origin ORDER BY w.size DESC LIMIT 1) AS w ON true
WHERE h.size > 0
"""


class Provable(StrEnum):
    """The rows that carry the hash of their leaf."""

    REDEMPTION = "redemption"
    HOLD = "hold"
    REVERSAL = "reversal"


@dataclass(frozen=True, slots=True)
class Leaf:
    """An entry's leaf; `note` is the log's checkpoint, and `index` its place, None while it waits for one. `told` is
    whether the asker may read it: it tells the member's tier, and which of a partner's redemptions are one member's."""

    leaf: str
    leaf_hash: bytes
    member_id: UUID | None
    told: bool
    index: int | None
    note: str


@dataclass(frozen=True, slots=True)
class Proof:
    """The hashes that lead from the leaf at `index` to the root of the checkpoint, from the leaf up (RFC 6962 section
    2.1.1); `note` is the checkpoint as it was signed."""

    index: int
    hashes: list[bytes]
    checkpoint: Checkpoint
    note: str


def provable(kind: Provable) -> Any:
    """The rows of a kind: `id`, what their entry is about (`subject_id`), whose they are, and `leaf_hash`."""
    row = TABLES[kind.value].c
    if kind is Provable.REVERSAL:
        of = TABLES[Provable.REDEMPTION.value].c
        owned = sa.select(row.id, row.leaf_hash, of.id.label("subject_id"), of.partner_id, of.member_id)
        return owned.where(of.id == row.redemption_id).subquery()
    return sa.select(row.id, row.leaf_hash, row.id.label("subject_id"), row.partner_id, row.member_id).subquery()


async def find_leaf(
    session: AsyncSession, kind: Provable, id: UUID, actor: Actor, now: datetime, leaf_hash: bytes | None = None
) -> Leaf | None:
    """The leaf of what was claimed, redeemed or taken back, within the actor's reach, by one statement that does the
    same whether there is no such row or it is another's.

    With a `leaf_hash` that of a later step with it, which must be the actor's own: the place of others' in the log
    would tell when they took theirs (law 8).
    """
    row, entry, place, head = provable(kind).c, *(TABLES[name].c for name in ("audit_entry", "log_leaf", "log_head"))
    told = consents_to(actor, row.member_id, "member.tier:read", now) if actor.kind is ActorKind.PARTNER else sa.true()
    chosen = entry.leaf_hash == row.leaf_hash
    if leaf_hash is not None:
        own = sa.true() if actor.kind is ActorKind.STAFF else taken_by(entry, actor)
        chosen = sa.and_(entry.leaf_hash == leaf_hash, sa.or_(chosen, own))
    query = (
        sa.select(entry.leaf, entry.leaf_hash, row.member_id, told, place.index, head.checkpoint)
        .join_from(row.id.table, entry.id.table, sa.and_(entry.subject_id == row.subject_id, chosen))
        .outerjoin(place.index.table, place.entry_id == entry.id)
        .outerjoin(head.id.table, sa.true())
        .where(row.id == id)
    )
    if actor.kind is ActorKind.PARTNER:
        query = query.where(row.partner_id == actor.partner_id)
        if kind is Provable.REVERSAL:
            query = query.where(entry.actor_kind.in_([ActorKind.PARTNER.value, ActorKind.MEMBER.value]))
    if actor.alias is not None:
        query = query.where(row.member_id == named_by(actor, actor.alias))
        query = query.where(consents_to(actor, row.member_id, "redemptions:read", now))
    if actor.kind is ActorKind.MEMBER:
        query = query.where(row.member_id == actor.member_id)
    found = (await session.execute(query)).first()
    return None if found is None else Leaf(*found)


def taken_by(entry: Any, actor: Actor) -> Any:
    """Whether an entry is of a step that the actor took itself."""
    return sa.and_(entry.actor_kind == actor.kind.value, entry.actor_id == actor.id)


async def prove(connection: "Connection[Any]", note: str, places: Mapping[bytes, int]) -> dict[bytes, Proof]:
    """Proofs that leaves, by their hashes, are at their places in the tree of a checkpoint, by one statement for all:
    neighbours share most of what is read. TryAgain when the log was continued under another name meanwhile."""
    checkpoint = Checkpoint.parse(note_text(note))
    paths = {leaf: inclusion_ranges(index, checkpoint.size) for leaf, index in places.items()}
    wanted = list(dict.fromkeys(one for path in paths.values() for one in path))
    try:
        roots = dict(zip(wanted, await read_ranges(connection, wanted), strict=True))
    except LookupError:
        raise TryAgain("the log moves; try again", retryAfter=1) from None
    proofs = {}
    for leaf, index in places.items():
        hashes = [roots[one] for one in paths[leaf]]
        if not is_included(index, checkpoint.size, leaf, hashes, checkpoint.root):
            raise TryAgain("the log moves; try again", retryAfter=1)
        proofs[leaf] = Proof(index, hashes, checkpoint, note)
    return proofs


async def prove_entries(connection: "Connection[Any]", entries: Sequence[Entry]) -> dict[bytes, Proof]:
    """Proofs of the entries that have their places, by the hashes of their leaves; two statements."""
    places = {entry.leaf_hash: entry.index for entry in entries if entry.index is not None}
    note = await connection.fetchval("SELECT checkpoint FROM log_head") if places else None
    return {} if note is None else await prove(connection, note, places)


@dataclass(frozen=True, slots=True)
class Witnessed:
    """The last checkpoint that witnesses signed, too: how many, and when we had it."""

    note: str
    size: int
    witnesses: int
    at: datetime


@dataclass(frozen=True, slots=True)
class LogState:
    """The log's checkpoint as a note and as it reads, the verifier keys that sign it, what was last witnessed, and the
    hashes that prove it to begin with the older tree that was asked about (RFC 6962 section 2.1.2)."""

    note: str
    checkpoint: Checkpoint
    keys: list[str]
    witnessed: Witnessed | None
    consistency: list[bytes] | None


async def read_state(connection: "Connection[Any]", since: int | None) -> LogState | None:
    """The log as it is, None while it is empty, with the proof that it continues its tree of `since` leaves.

    At most two statements. BadInput when the log never had that size.
    """
    row = await connection.fetchrow(STATE)
    size = 0 if row is None else row["size"]
    if since is not None and not 0 <= since <= size:
        raise BadInput(
            f"since: 0 to {size}, the size of the log; a signed checkpoint of a larger one proves that it lost entries",
            limit=size,
        )
    if row is None:
        return None
    witnessed = None
    if row["note"] is not None:
        witnessed = Witnessed(row["note"], row["witnessed_size"], row["witnesses"], row["at"])
    consistency = None if since is None else await read_ranges(connection, consistency_ranges(since, size))
    note = row["checkpoint"]
    return LogState(note, Checkpoint.parse(note_text(note)), row["keys"], witnessed, consistency)
