"""Proofs of the log: that an entry is in it, and that it only grows (RFC 6962, in the formats of C2SP)."""

import asyncio
from datetime import datetime
from uuid import UUID

import strawberry

from partners import proofs
from partners.actors import ActorKind
from partners.errors import BadInput, TryAgain
from partners.merkle import HASH_BYTES
from partners.notes import encoded
from partners.proofs import Leaf, LogState, Proof, Provable
from partners.tlog_proofs import render
from schema.context import Info
from schema.ids import split_id
from schema.members import MAY_SEE_TIER
from schema.permissions import Authenticated, Public, field, object_type
from schema.redemptions import disclose
from schema.selection import selected

WAITS_S = (0.05, 0.1, 0.15, 0.2, 0.25, 0.25)  # a second, ten times what the sequencer takes to look again


@object_type(permission=Authenticated, description="That an entry is in the log: anybody can check it without us.")
class AuditProof:
    leaf: str | None = field(
        permission=MAY_SEE_TIER,
        description="The canonical JSON (RFC 8785) that the log holds, byte for byte. It tells the tier and who it was "
        "about, as a hash of this partner's own: to a partner null unless the member lets it read the tier now.",
    )
    leaf_hash: str = field(description="SHA-256 of 0x00 and the leaf, in hexadecimal (RFC 6962).")
    index: int = field(description="Its place in the log, from 0 on.")
    tree_size: int = field(description="How many entries the checkpoint is of.")
    hashes: list[str] = field(description="From the leaf up to the root, in base64 (RFC 6962 section 2.1.1).")
    root_hash: str = field(description="The root of the checkpoint, in base64.")
    checkpoint: str = field(description="The log's checkpoint as a signed note (C2SP tlog-checkpoint).")
    proof: str = field(description="All of it as one text that tools read from a file (C2SP tlog-proof).")

    @classmethod
    def of(cls, proof: Proof, leaf: str | None, leaf_hash: bytes) -> "AuditProof":
        """A proof as the API says it."""
        return cls(
            leaf=leaf,
            leaf_hash=leaf_hash.hex(),
            index=proof.index,
            tree_size=proof.checkpoint.size,
            hashes=[encoded(one) for one in proof.hashes],
            root_hash=encoded(proof.checkpoint.root),
            checkpoint=proof.note,
            proof=render(proof.index, proof.hashes, proof.note),
        )


async def find_proof(info: Info, redemption_id: strawberry.ID, leaf_hash: str | None = None) -> AuditProof | None:
    """A proof at once, or within the second that the log takes; TRY_AGAIN after that. Two statements, and one more
    that keeps what a partner is told."""
    context = info.context
    leaf = await placed_leaf(info, *provable_id(redemption_id), read_hash(leaf_hash))
    if leaf is None or leaf.index is None:
        return None
    shown = "leaf" in selected(info) and leaf.told
    if shown and leaf.member_id is not None and context.actor.kind is ActorKind.PARTNER:
        await disclose(info, {leaf.member_id})
    async with context.resources.connection() as connection:
        found = await proofs.prove(connection, leaf.note, {leaf.leaf_hash: leaf.index})
    await context.resources.vouch(leaf.note)
    return AuditProof.of(found[leaf.leaf_hash], leaf.leaf if shown else None, leaf.leaf_hash)


def provable_id(redemption_id: str) -> tuple[Provable, UUID]:
    """Kind and row of what carries the hash of a leaf; BadInput."""
    found = split_id(redemption_id)
    if found is None or found[0] not in list(Provable):
        raise BadInput("redemptionId: the id of a redemption, or of a hold or reversal")
    return Provable(found[0]), found[1]


def read_hash(text: str | None) -> bytes | None:
    """The hash of a leaf; BadInput."""
    try:
        found = None if text is None else bytes.fromhex(text)
    except ValueError:
        found = b""
    if found is not None and len(found) != HASH_BYTES:
        raise BadInput("leafHash: 64 hexadecimal digits")
    return found


async def placed_leaf(info: Info, kind: Provable, id: UUID, leaf_hash: bytes | None) -> Leaf | None:
    """The leaf once it has its place, None at once for what is not there or out of sight; TryAgain after a second."""
    context = info.context
    for wait_s in (*WAITS_S, None):
        async with context.reading() as session:
            leaf = await proofs.find_leaf(session, kind, id, context.actor, context.now, leaf_hash)
        if leaf is None or leaf.index is not None:
            return leaf
        if wait_s is not None:
            await asyncio.sleep(wait_s)
    raise TryAgain("it has no place in the log yet; try again", retryAfter=1)


@object_type(
    permission=Public, description="A checkpoint that witnesses have signed, too: others saw the log like this."
)
class WitnessedCheckpoint:
    note: str = field(description="The note with the signatures of the log and of the witnesses.")
    size: int = field(description="How many entries it is of.")
    witnesses: int = field(description="How many witnesses signed it.")
    at: datetime = field(description="When we had their signatures.")


@object_type(permission=Public, description="The log as it is: what to keep, and what an older one is compared with.")
class AuditCheckpoint:
    note: str = field(description="The signed note (C2SP tlog-checkpoint), as at `/log/checkpoint`.")
    origin: str = field(description="The log's name.")
    size: int = field(description="How many entries it has.")
    root_hash: str = field(description="The root of its tree, in base64.")
    consistency: list[str] | None = field(
        description="Hashes in base64 that prove it to begin with its first `since` entries (RFC 6962 section 2.1.2); "
        "null where no `since` was given."
    )
    keys: list[str] = field(description="The verifier keys that sign it now, as tools take them (C2SP signed-note).")
    witnessed: WitnessedCheckpoint | None = field(description="The last that witnesses signed; null before the first.")

    @classmethod
    def of(cls, state: LogState) -> "AuditCheckpoint":
        """The log as the API says it."""
        seen = state.witnessed
        return cls(
            note=state.note,
            origin=state.checkpoint.origin,
            size=state.checkpoint.size,
            root_hash=encoded(state.checkpoint.root),
            consistency=None if state.consistency is None else [encoded(one) for one in state.consistency],
            keys=state.keys,
            witnessed=None
            if seen is None
            else WitnessedCheckpoint(note=seen.note, size=seen.size, witnesses=seen.witnesses, at=seen.at),
        )


async def find_checkpoint(info: Info, since: int | None = None) -> AuditCheckpoint | None:
    """One statement, and one more for a proof."""
    async with info.context.resources.connection() as connection:
        state = await proofs.read_state(connection, since)
    if state is None:
        return None
    await info.context.resources.vouch(state.note)
    return AuditCheckpoint.of(state)
