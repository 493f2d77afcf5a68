"""The same claim as most would write it, to be compared with: a transaction of its own that locks the perk's row."""

from typing import Any
from uuid import UUID

from asyncpg import Connection

from partners.codes import code_hash, hold_code
from partners.holds import Claim
from partners.tables.columns import new_id

ROUND_TRIPS = 9  # with BEGIN and COMMIT


async def claim_plainly(connection: "Connection[Any]", perk_id: UUID, claim: Claim, codes: bytes) -> str:
    """HELD, REPLAYED, ALLOWANCE_EXHAUSTED or CAPACITY_EXHAUSTED; writes what the real one writes."""
    known, hold = claim.known, new_id()
    assert known.member is not None
    [allowance] = known.policy.allowances
    window = allowance.window(claim.now, known.perk.zone)
    async with connection.transaction():
        lock = "SELECT units - taken FROM capacity WHERE perk_id = $1 FOR UPDATE"
        left = await connection.fetchval(lock, perk_id)
        bound = "SELECT fingerprint FROM idempotency_key WHERE owner = $1 AND key = $2"
        if await connection.fetchval(bound, claim.actor.owner, claim.key) is not None:
            return "REPLAYED"
        used = await connection.fetchval(
            "SELECT coalesce(sum(counted), 0) FROM hold WHERE member_id = $1 AND perk_id = $2 AND counted > 0"
            " AND held_at >= coalesce($3::timestamptz, '-infinity')"
            " AND held_at < coalesce($4::timestamptz, 'infinity')",
            known.member_id,
            perk_id,
            window.starts,
            window.ends,
        )
        if used >= allowance.limit(known.member.tier):
            return "ALLOWANCE_EXHAUSTED"
        if left is not None and left < 1:
            return "CAPACITY_EXHAUSTED"
        await connection.execute(
            "INSERT INTO idempotency_key (owner, key, fingerprint, result_id, created_at) VALUES ($1, $2, $3, $4, $5)",
            claim.actor.owner,
            claim.key,
            claim.fingerprint,
            hold,
            claim.now,
        )
        leaf = await connection.fetchval(
            "SELECT record_audit($1, 'perk.claimed', 'DONE', '{}', $2, $3, $4, $5, $6, $7, $8, $9, 1, 0)",
            claim.now,
            claim.actor.kind.value,
            claim.actor.id,
            known.partner_id,
            perk_id,
            known.member_id,
            hold,
            known.policy_version,
            known.member.tier,
        )
        await connection.execute(
            "INSERT INTO hold (id, perk_id, partner_id, member_id, state, claimed_by, tier, policy_version, units,"
            " counted, amount, counted_amount, extensions, code_hash, leaf_hash, held_at, expires_at)"
            " VALUES ($1, $2, $3, $4, 'HELD', $5, $6, $7, 1, 1, 0, 0, 0, $8, $9, $10::timestamptz,"
            " $10::timestamptz + interval '15 minutes')",
            hold,
            perk_id,
            known.partner_id,
            known.member_id,
            claim.actor.owner,
            known.member.tier,
            known.policy_version,
            code_hash(hold_code(codes, hold)),
            leaf,
            claim.now,
        )
        await connection.execute("UPDATE capacity SET taken = taken + 1 WHERE perk_id = $1", perk_id)
    return "HELD"
