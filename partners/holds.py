"""Claim, release, expire: a hold sets capacity and allowance aside. The statements are in alembic/sql."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from asyncpg import Connection

from partners.actors import Actor, ActorKind
from partners.codes import code_hash, hold_code
from partners.eligibility import Decision, Known
from partners.tables.columns import new_id
from partners.values import value


@value
class Claim:
    """One claim that the rules have answered; it goes into its perk's next batch."""

    actor: Actor
    key: str
    fingerprint: bytes
    now: datetime
    known: Known
    decision: Decision


@value
class Held:
    """A hold as its owner sees it."""

    id: UUID
    perk_id: UUID
    member_id: UUID
    state: str
    tier: str | None
    policy_version: int
    held_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    leaf_hash: bytes


@value
class Claimed:
    """What the batch said: HELD, REPLAYED, KEY_REUSED, REFUSED, CAPACITY_EXHAUSTED, ALLOWANCE_EXHAUSTED; or STALE
    (judged on older facts) and KEY_RACE (the key was bound meanwhile), after which the claim is made again."""

    outcome: str
    hold: Held | None


CLAIM = """
SELECT * FROM claim_perk($1, $2::uuid[], $3::text[], $4::text[], $5::bytea[], $6::timestamptz[], $7::uuid[],
  $8::int[], $9::int[], $10::text[], $11::text[], $12::int[], $13::timestamptz[], $14::bytea[], $15::text[],
  $16::text[], $17::text[])
ORDER BY ordinal
"""


async def claim_batch(
    connection: "Connection[Any]", perk_id: UUID, claims: Sequence[Claim], codes: bytes
) -> list[Claimed]:
    """Claims on one perk, first come first served, in one statement that is its own transaction.

    Two claims with the same owner and key share one place: the second is answered like a replay. `codes` is the
    key of hold codes. Everything that could have changed since the rules answered is checked again in there.
    """
    places: dict[tuple[str, str, bytes], int] = {}
    firsts = [
        places.setdefault((claim.actor.owner, claim.key, claim.fingerprint), at) for at, claim in enumerate(claims)
    ]
    distinct = [claim for at, claim in enumerate(claims) if firsts[at] == at]
    rows = await connection.fetch(CLAIM, perk_id, *columns_of(distinct, [new_id() for _ in distinct], codes))
    answers = dict(zip(places.values(), (claimed_of(perk_id, row) for row in rows), strict=True))
    return [
        Claimed("REPLAYED", answers[first].hold) if first != at and answers[first].outcome == "HELD" else answers[first]
        for at, first in enumerate(firsts)
    ]


def columns_of(claims: Sequence[Claim], ids: Sequence[UUID], codes: bytes) -> list[list[Any]]:
    """The arguments of `claim_perk`, an array each."""
    return [
        list(ids),
        [claim.actor.owner for claim in claims],
        [claim.key for claim in claims],
        [claim.fingerprint for claim in claims],
        [claim.now for claim in claims],
        [claim.known.member_id for claim in claims],
        [claim.known.member_version for claim in claims],
        [claim.known.perk_version for claim in claims],
        [None if claim.known.member is None else claim.known.member.tier for claim in claims],
        [period_of(claim) for claim in claims],
        [None if claim.decision.allowance is None else claim.decision.allowance.limit for claim in claims],
        [claim.now + timedelta(seconds=claim.known.hold_seconds) for claim in claims],
        [code_hash(hold_code(codes, one)) for one in ids],
        [claim.actor.kind.value for claim in claims],
        [claim.actor.id for claim in claims],
        [",".join(sorted({refusal.code.value for refusal in claim.decision.refusals})) for claim in claims],
    ]


def period_of(claim: Claim) -> str | None:
    """The allowance period that a claim would use; None where the perk has no allowance."""
    rule = claim.known.policy.allowance
    return None if rule is None else rule.key_at(claim.now, claim.known.perk.zone)


def claimed_of(perk_id: UUID, row: Any) -> Claimed:
    """One row of the batch's answer."""
    if row["outcome"] not in ("HELD", "REPLAYED"):
        return Claimed(row["outcome"], None)
    return Claimed(
        row["outcome"],
        Held(
            row["id"],
            perk_id,
            row["member_id"],
            row["state"],
            row["tier"],
            row["policy_version"],
            row["held_at"],
            row["expires_at"],
            row["ended_at"],
            row["leaf_hash"],
        ),
    )


async def release_hold(connection: "Connection[Any]", hold_id: UUID, actor: Actor, now: datetime) -> str:
    """Gives a hold back: RELEASED (also when it already was), HOLD_EXPIRED, or NOT_AVAILABLE for one that is
    confirmed, unknown or out of the actor's reach."""
    member_id = actor.member_id if actor.kind is ActorKind.MEMBER else None
    outcome: str = await connection.fetchval(
        "SELECT release_hold($1, $2, $3, $4, $5, $6, $7)",
        hold_id,
        actor.partner_id,
        actor.alias,
        member_id,
        now,
        actor.kind.value,
        actor.id,
    )
    return outcome


async def expire_overdue(connection: "Connection[Any]", now: datetime) -> int:
    """Ends every overdue hold, perk by perk, each in its own transaction; returns how many."""
    perks = await connection.fetch(
        "SELECT DISTINCT perk_id FROM hold WHERE state = 'HELD' AND expires_at <= $1 ORDER BY perk_id", now
    )
    return sum([await connection.fetchval("SELECT expire_holds($1, $2)", row["perk_id"], now) for row in perks])
