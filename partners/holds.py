"""Claim, release, expire: a hold sets capacity and allowance aside. The statements are in alembic/sql."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from asyncpg import Connection

from partners import tables
from partners.actors import Actor, ActorKind
from partners.codes import code_hash, hold_code
from partners.eligibility import Decision, Known
from partners.facts import Facts, OptionFacts
from partners.reading import coarse_past
from partners.tables.columns import new_id
from partners.values import value


@value
class Claim:
    """One claim that the rules have answered; it goes into its perk's next batch.

    With an `entry_id` it is what the waitlist offers, which may draw on what is kept for those who wait. It is held
    until `expires_at`, or for as long as the perk says.
    """

    actor: Actor
    key: str
    fingerprint: bytes
    now: datetime
    known: Known
    decision: Decision
    entry_id: UUID | None = None
    expires_at: datetime | None = None


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
    units: int
    amount: int
    option_id: UUID | None
    entry_id: UUID | None
    extensions: int


def ended_at(hold: Held | tables.Hold, actor: Actor) -> datetime | None:
    """When a hold ended. What is released may be so with the membership, at all partners in one moment by which two
    could match the member (law 8): to a partner its day."""
    released = hold.state == tables.HoldState.RELEASED
    if hold.ended_at is None or not released or actor.kind is not ActorKind.PARTNER:
        return hold.ended_at
    return coarse_past(hold.ended_at, hold.held_at)


@value
class Claimed:
    """What the batch said: HELD, REPLAYED, RESUMED (the member's own hold again, which alone stood in the way),
    KEY_REUSED, REFUSED by the rules, or the first of the `reasons` that the batch found; or STALE (judged on older
    facts) and KEY_RACE (the key was bound meanwhile), after which the claim is made again."""

    outcome: str
    hold: Held | None
    reasons: tuple[str, ...] = ()


CLAIM = """
SELECT * FROM claim_perk($1, $2::uuid[], $3::text[], $4::text[], $5::bytea[], $6::timestamptz[], $7::uuid[],
  $8::int[], $9::int[], $10::text[], $11::int[], $12::bigint[], $13::uuid[], $14::text[], $15::text[], $16::bytea[],
  $17::text[], $18::uuid[], $19::timestamptz[], $20::bytea[], $21::text[], $22::text[], $23::text[],
  $24::int[], $25::text[], $26::timestamptz[], $27::timestamptz[], $28::bigint[], $29::boolean[], $30::text[])
ORDER BY ordinal
"""


async def claim_batch(
    connection: "Connection[Any]",
    perk_id: UUID,
    claims: Sequence[Claim],
    codes: bytes,
    ranks: Mapping[str, int],
) -> list[Claimed]:
    """Claims on one perk, first come first served, in one statement that is its own transaction.

    Two claims with the same owner and key share one place: the second is answered like a replay. Claims for one
    member, household or device go into one statement each, since the second must see what the first took. `codes` is
    the key of hold codes. Everything that could have changed since the rules answered is checked again in there.
    """
    places: dict[tuple[str, str, bytes], int] = {}
    firsts = [
        places.setdefault((claim.actor.owner, claim.key, claim.fingerprint), at) for at, claim in enumerate(claims)
    ]
    answers: dict[int, Claimed] = {}
    waiting = list(places.values())
    while waiting:
        now, waiting = apart(claims, waiting)
        together = [claims[at] for at in now]
        arguments = columns_of(together, [new_id() for _ in together], codes, ranks)
        rows = await connection.fetch(CLAIM, perk_id, *arguments, *limits_of(together))
        answers.update(zip(now, (claimed_of(perk_id, row) for row in rows), strict=True))
    return [
        replace(answers[first], outcome="REPLAYED")
        if first != at and answers[first].outcome == "HELD"
        else answers[first]
        for at, first in enumerate(firsts)
    ]


def apart(claims: Sequence[Claim], places: Sequence[int]) -> tuple[list[int], list[int]]:
    """Those of the places whose subjects differ, and the rest."""
    seen: set[object] = set()
    now: list[int] = []
    later: list[int] = []
    for at in places:
        known = claims[at].known
        household = None if known.member is None else known.member.household
        subjects = {one for one in (known.member_id, household, known.said.device) if one is not None}
        (later if subjects & seen else now).append(at)
        seen |= subjects
    return now, later


def columns_of(claims: Sequence[Claim], ids: Sequence[UUID], codes: bytes, ranks: Mapping[str, int]) -> list[list[Any]]:
    """The arguments of `claim_perk`, an array each."""
    options = [claim.known.perk.option(claim.known.said.option) for claim in claims]
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
        [claim.known.said.units for claim in claims],
        [claim.known.said.amount for claim in claims],
        [None if option is None else option.id for option in options],
        [pools_of(claim, option, ranks) for claim, option in zip(claims, options, strict=True)],
        [None if claim.known.member is None else claim.known.member.household for claim in claims],
        [claim.known.said.device for claim in claims],
        [claim.known.policy.exclusion for claim in claims],
        [claim.entry_id for claim in claims],
        [ends_of(claim, option) for claim, option in zip(claims, options, strict=True)],
        [code_hash(hold_code(codes, one)) for one in ids],
        [claim.actor.kind.value for claim in claims],
        [claim.actor.id for claim in claims],
        [",".join(sorted({refusal.code.value for refusal in claim.decision.refusals})) for claim in claims],
    ]


def pools_of(claim: Claim, option: OptionFacts | None, ranks: Mapping[str, int]) -> str | None:
    """The pools that a claim may draw from, in their order, as `{1,0}`; None where the perk has none."""
    known = claim.known
    if known.member is None or not known.perk.pools:
        return None
    facts = Facts(claim.now, ranks, known.member, known.perk, known.uses, known.said)
    numbers = [str(pool.number) for pool in facts.open_pools(None if option is None else option.id)]
    return "{" + ",".join(numbers) + "}"


def ends_of(claim: Claim, option: OptionFacts | None) -> datetime:
    """When the hold ends by itself: never after the option's cut-off."""
    ends = claim.expires_at or claim.now + timedelta(seconds=claim.known.hold_seconds)
    return ends if option is None or option.closes_at is None else min(ends, option.closes_at)


def limits_of(claims: Sequence[Claim]) -> list[list[Any]]:
    """The allowances that claims are under, as the last arguments of `claim_perk`: what the rules checked once is
    checked again under the perk's lock."""
    limits: list[tuple[Any, ...]] = []
    for place, claim in enumerate(claims, start=1):
        member = claim.known.member
        if member is None or claim.decision.refusals:
            continue
        for allowance in claim.known.policy.allowances:
            window = allowance.window(claim.now, claim.known.perk.zone)
            subject = allowance.subject(member)
            by_amount, limit = allowance.by_amount, allowance.limit(member.tier)
            limits.append((place, subject, window.starts, window.ends, limit, by_amount, allowance.code.value))
    return [list(column) for column in zip(*limits, strict=True)] if limits else [[] for _ in range(7)]


def claimed_of(perk_id: UUID, row: Any) -> Claimed:
    """One row of the batch's answer."""
    if row["outcome"] not in ("HELD", "REPLAYED", "RESUMED"):
        return Claimed(row["outcome"], None, tuple(row["reasons"]))
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
            row["units"],
            row["amount"],
            row["option_id"],
            row["entry_id"],
            row["extensions"],
        ),
    )


async def extend_hold(connection: "Connection[Any]", hold_id: UUID, actor: Actor, now: datetime) -> str:
    """Holds for as long again, from now: EXTENDED, HOLD_EXPIRED, EXTENSION_LIMIT_REACHED after the second time or for
    what the waitlist offered, ENDED after the option's cut-off or the perk's last day, PERK_PAUSED, CONSENT_MISSING,
    MEMBERSHIP_SUSPENDED, PARTNER_SUSPENDED; NOT_AVAILABLE for one that has ended, is unknown or out of reach."""
    return await step(connection, "SELECT extend_hold($1, $2, $3, $4, $5, $6, $7)", hold_id, actor, now)


async def release_hold(connection: "Connection[Any]", hold_id: UUID, actor: Actor, now: datetime) -> str:
    """Gives a hold back: RELEASED (also when it already was), HOLD_EXPIRED, or NOT_AVAILABLE for one that is
    confirmed, unknown or out of the actor's reach."""
    return await step(connection, "SELECT release_hold($1, $2, $3, $4, $5, $6, $7)", hold_id, actor, now)


async def step(connection: "Connection[Any]", statement: str, hold_id: UUID, actor: Actor, now: datetime) -> str:
    """One step of a hold within the actor's reach."""
    member_id = actor.member_id if actor.kind is ActorKind.MEMBER else None
    outcome: str = await connection.fetchval(
        statement, hold_id, actor.partner_id, actor.alias, member_id, now, actor.kind.value, actor.id
    )
    return outcome


async def expire_overdue(connection: "Connection[Any]", now: datetime) -> int:
    """Ends every overdue hold, perk by perk, each in its own transaction; returns how many."""
    perks = await connection.fetch(
        "SELECT DISTINCT perk_id FROM hold WHERE state = 'HELD' AND expires_at <= $1 ORDER BY perk_id", now
    )
    return sum([await connection.fetchval("SELECT expire_holds($1, $2)", row["perk_id"], now) for row in perks])
