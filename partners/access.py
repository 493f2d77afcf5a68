"""Standing rights: granted by a redemption, used at a counter, and over when the term, the tier or somebody says so."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from asyncpg import Connection
from sqlalchemy.ext.asyncio import AsyncSession

from partners.actors import Actor, ActorKind
from partners.codes import code_hash
from partners.errors import BadInput
from partners.reading import coarse_past
from partners.redemptions import REASON_LENGTH_MAX
from partners.tables import AccessState
from partners.tables.columns import new_id

FIRST_ID = UUID(int=0)
TIER_DROP, REVERSED, MEMBER_ERASED = "TIER_DROP", "REVERSED", "MEMBER_ERASED"
BY_ITSELF = frozenset({"TERM_OVER", TIER_DROP, REVERSED})


@dataclass(frozen=True, slots=True)
class Used:
    """USED, REPLAYED, KEY_REUSED or a refusal; the right it is about, where it may be known, and the use."""

    code: str
    grant_id: UUID | None
    use_id: UUID | None


async def use_access(
    connection: "Connection[Any]",
    *,
    grant_id: UUID | None,
    code: str | None,
    actor: Actor,
    key: str,
    fingerprint: bytes,
    now: datetime,
) -> Used:
    """Uses a right once, by its id or by the code of the hold it came from, in one statement that is its own
    transaction; what has ended meanwhile is settled by it.

    Refusals: NOT_AVAILABLE (the one answer to a wrong code, another partner's and one that was taken away),
    CONSENT_MISSING, MEMBERSHIP_SUSPENDED, PARTNER_SUSPENDED, ENDED after its term, TIER_TOO_LOW or TIER_EXPIRED after a
    tier drop that it does not outlive, ALLOWANCE_EXHAUSTED when every use is used.
    """
    row = await connection.fetchrow(
        "SELECT * FROM use_access($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        grant_id,
        None if code is None else code_hash(code),
        actor.partner_id,
        actor.alias,
        actor.owner,
        key,
        fingerprint,
        now,
        actor.kind.value,
        actor.id,
        new_id(),
    )
    assert row is not None
    return Used(row["outcome"], row["grant_id"], row["use_id"])


async def find_granted(connection: "Connection[Any]", actor: Actor, key: str) -> tuple[UUID, bytes] | None:
    """The redemption that a key of the actor's made, and the fingerprint of what it asked for; None: it is new."""
    row = await connection.fetchrow(
        "SELECT result_id, fingerprint FROM idempotency_key WHERE owner = $1 AND key = $2", actor.owner, key
    )
    return None if row is None else (row["result_id"], row["fingerprint"])


async def revoke_access(
    connection: "Connection[Any]", grant_id: UUID, reason: str, *, actor: Actor, now: datetime
) -> str:
    """Takes a right away, for a reason that its member reads: REVOKED, NOT_AVAILABLE (unknown or out of reach), or
    WRONG_STATE for one that has ended."""
    if not 1 <= len(reason.strip()) <= REASON_LENGTH_MAX:
        raise BadInput(f"reason: 1 to {REASON_LENGTH_MAX} characters")
    if reason.strip() in BY_ITSELF:
        raise BadInput("reason: in words; this one says that the right ended by itself")
    outcome: str = await connection.fetchval(
        "SELECT revoke_access($1, $2, $3, $4, $5, $6, $7, $8)",
        grant_id,
        actor.partner_id,
        actor.alias,
        actor.owner,
        reason.strip(),
        now,
        actor.kind.value,
        actor.id,
    )
    return outcome


@dataclass(frozen=True, slots=True)
class Right:
    """A right as it is at a moment, settled or not. `ended_reason` is TERM_OVER, TIER_DROP or REVERSED where it ended
    by itself, and else what whoever took it away said."""

    id: UUID
    redemption_id: UUID
    perk_id: UUID
    partner_id: UUID
    member_id: UUID
    state: str
    tier: str | None
    uses_max: int | None
    used: int
    starts_at: datetime
    ends_at: datetime | None
    ended_at: datetime | None
    ended_reason: str | None

    @property
    def remaining(self) -> int | None:
        """Uses that are left; none of what has ended, and null without a limit."""
        if self.state != AccessState.GRANTED:
            return 0
        return None if self.uses_max is None else self.uses_max - self.used

    def as_partners_see_it(self) -> "Right":
        """A tier drops, a member is erased, and staff take redemptions back at all partners in one moment, by which two
        could match the member (law 8): its day will do. That somebody was erased is nobody's business."""
        if self.ended_at is None or self.ended_reason not in (TIER_DROP, REVERSED, MEMBER_ERASED):
            return self
        reason = None if self.ended_reason == MEMBER_ERASED else self.ended_reason
        return replace(self, ended_at=coarse_past(self.ended_at, self.starts_at), ended_reason=reason)


@dataclass(frozen=True, slots=True)
class RightFilter:
    """Every condition that is given must hold. `just_made`: what the actor itself gave, used or took away in this
    request, which needs no leave to read."""

    id: UUID | None = None
    redemption_id: UUID | None = None
    perk_id: UUID | None = None
    member_id: UUID | None = None
    alias: str | None = None
    state: str | None = None
    just_made: bool = False


def scoped(actor: Actor, wanted: RightFilter, now: datetime) -> tuple[str, dict[str, Any]]:
    """What every read goes through: a partner's own, a member's own, or all for staff. By an alias a partner reaches
    only who lets it read redemptions, and one that it acted for just now."""
    given: dict[str, Any] = {"partner": actor.partner_id, "now": now}
    conditions = ["true"]
    if actor.kind is ActorKind.PARTNER:
        conditions.append("g.partner_id = :partner")
    if actor.kind is ActorKind.MEMBER:
        conditions.append("g.member_id = :own")
        given["own"] = actor.member_id
    for name in ("id", "redemption_id", "perk_id", "member_id"):
        if (value := getattr(wanted, name)) is not None:
            conditions.append(f"g.{name} = :{name}")
            given[name] = value
    for place, alias in enumerate(sorted({actor.alias, wanted.alias} - {None}, key=str)):
        conditions.append(NAMED.format(place) + ("" if wanted.just_made else CONSENTED))
        given[f"alias{place}"] = alias
    if wanted.state is not None:
        conditions.append("s.state = :state")
        given["state"] = wanted.state
    return " AND ".join(conditions), given


NAMED = """g.member_id = (SELECT a.member_id FROM member_alias a
  WHERE a.partner_id = :partner AND a.alias = :alias{})"""
# Not EXISTS: that is answered for all of a partner's consents at once, however few rows are asked about.
CONSENTED = """ AND (SELECT true FROM consent c WHERE c.member_id = g.member_id AND c.partner_id = :partner
  AND c.state = 'GRANTED' AND (c.expires_at IS NULL OR c.expires_at > :now) AND 'redemptions:read' = ANY (c.scopes))"""
LETS = """(SELECT true FROM consent c WHERE c.member_id = g.member_id AND c.partner_id = :partner
  AND c.state = 'GRANTED' AND (c.expires_at IS NULL OR c.expires_at > :now) AND '{}' = ANY (c.scopes))"""
SOURCE = "FROM access_grant g CROSS JOIN LATERAL access_at(g, :now) AS s WHERE"
# Who withdrew consent is no longer followed: to the partner the right stands until its term is over.
TO_PARTNER = f"""FROM access_grant g CROSS JOIN LATERAL access_at(g, :now) AS i CROSS JOIN LATERAL (
  SELECT i.reason IS DISTINCT FROM '{TIER_DROP}' OR {LETS.format("redemptions:read")} IS NOT NULL AS told OFFSET 0) AS t
CROSS JOIN LATERAL (SELECT
  CASE WHEN t.told THEN i.state WHEN g.ends_at <= :now THEN 'LAPSED' ELSE 'GRANTED' END AS state,
  CASE WHEN t.told THEN i.ended_at WHEN g.ends_at <= :now THEN g.ends_at END AS ended_at,
  CASE WHEN t.told THEN i.reason WHEN g.ends_at <= :now THEN 'TERM_OVER' END AS reason) AS s WHERE"""  # noqa: S608  constants alone
COLUMNS = """g.id, g.redemption_id, g.perk_id, g.partner_id, g.member_id, s.state, {tier} AS tier, g.uses_max, g.used,
  g.starts_at, g.ends_at, s.ended_at, s.reason AS ended_reason"""
TIER_TO_PARTNER = f"CASE WHEN {LETS.format('member.tier:read')} THEN g.tier END"


async def list_access(
    session: AsyncSession, actor: Actor, wanted: RightFilter, *, first: int, after: UUID | None, now: datetime
) -> list[Right]:
    """Rights within the actor's reach, newest first, as many as `first`, by one statement. A partner reads the tier of
    those who let it."""
    conditions, given = scoped(actor, wanted, now)
    partner_reads = actor.kind is ActorKind.PARTNER
    columns = COLUMNS.format(tier=TIER_TO_PARTNER if partner_reads else "g.tier")
    source = TO_PARTNER if partner_reads else SOURCE
    if after is not None:
        conditions, given = f"{conditions} AND g.id < :after", given | {"after": after}
    query = f"SELECT {columns} {source} {conditions} ORDER BY g.id DESC LIMIT :first"
    rows = await session.execute(sa.text(query), given | {"first": first})
    rights = [Right(**row._mapping) for row in rows]
    return [one.as_partners_see_it() for one in rights] if partner_reads else rights


async def count_access(session: AsyncSession, actor: Actor, wanted: RightFilter, now: datetime) -> int:
    """How many there are in all."""
    conditions, given = scoped(actor, wanted, now)
    source = TO_PARTNER if actor.kind is ActorKind.PARTNER else SOURCE
    counted: int | None = await session.scalar(sa.text(f"SELECT count(*) {source} {conditions}"), given)
    return counted or 0


LAPSE = """
SELECT count(settled) FROM (
  SELECT settle_access(id, $1) AS settled FROM (
    SELECT id FROM (
      SELECT id FROM access_grant WHERE state = 'GRANTED' AND ends_at <= $1 ORDER BY ends_at LIMIT $2
    ) AS few ORDER BY id OFFSET 0) AS due
) AS done
"""
# The right's own row is looked at again under its lock.
DROP = """
WITH watched AS MATERIALIZED (
  SELECT g.id, (access_at(g, $1)).state FROM access_grant g
  WHERE g.state = 'GRANTED' AND g.on_tier_drop <> 'KEEP' AND g.id > $3 ORDER BY g.id LIMIT $2
), ended AS MATERIALIZED (
  SELECT settle_access(id, $1) AS settled
  FROM (SELECT id FROM watched WHERE state <> 'GRANTED' ORDER BY id OFFSET 0) AS due
)
SELECT (SELECT max(id::text)::uuid FROM watched) AS last, (SELECT count(*) FROM watched) AS seen,
  (SELECT count(*) FROM ended) AS ended
"""


async def lapse_access(connection: "Connection[Any]", now: datetime, *, limit: int = 500) -> int:
    """Settles rights whose term is over, a batch in one transaction; how many. Uses do so by themselves: this is for
    the record."""
    settled: int = await connection.fetchval(LAPSE, now, limit)
    return settled


async def follow_tiers(
    connection: "Connection[Any]", after: UUID, now: datetime, *, limit: int = 1_000
) -> tuple[UUID, int]:
    """Settles, of the next thousand rights after `after` that do not outlive a tier drop, those that have ended; where
    to go on (the beginning again after the last), and how many."""
    row = await connection.fetchrow(DROP, now, limit, after)
    assert row is not None
    return (row["last"] if row["seen"] == limit else FIRST_ID), row["ended"]
