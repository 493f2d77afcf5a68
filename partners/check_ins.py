"""Who comes to an event: guests are checked in by code, a party perhaps in parts, and who never came is a no-show."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from asyncpg import Connection
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from partners import tables
from partners.actors import Actor
from partners.fulfilments import FAILED, FULFILLED, Promise, keep, lock_promise, refuse
from partners.redemptions import Outcome, check_parts
from partners.tables import PerkKind

# Guests are checked in from so long before a session begins until so long after it ends, or after it began where its
# end is not known; whoever has not come by then never came.
DOORS_OPEN_BEFORE = timedelta(hours=2)
DOORS_CLOSE_AFTER = timedelta(hours=2)
DOORS_CLOSE_AFTER_START = timedelta(hours=24)
NO_SHOWS_MAX = 1_000


async def check_in(
    session: AsyncSession,
    *,
    id: UUID | None,
    code: str | None,
    units: int | None,
    key: str,
    fingerprint: bytes,
    actor: Actor,
    now: datetime,
) -> Outcome:
    """So many `units` of a party came (None: all who have not yet): CHECKED_IN, REPLAYED for a key that acted, or
    KEY_REUSED for one that did something else.

    Refusals: NOT_AVAILABLE (the one answer to a wrong code and another partner's), ALREADY_REVERSED, WRONG_STATE (no
    event, or it FAILED), OUTSIDE_WINDOW (before or after the doors of its session), UNITS_EXCEEDED (more than are left,
    or all are in).
    """
    check_parts(units, None, least=1)
    promise = await lock_promise(session, actor, now, id=id, code=code)
    bound = await session.get(tables.IdempotencyKey, (actor.owner, key))
    if bound is not None:
        arrival = await session.get(tables.CheckIn, bound.result_id) if bound.fingerprint == fingerprint else None
        return Outcome("KEY_REUSED", None) if arrival is None else Outcome("REPLAYED", arrival.redemption_id)
    refusal = "NOT_AVAILABLE" if promise is None else refused_to_enter(promise, units, now)
    if promise is None or refusal is not None:
        return await refuse(session, "redemption.checked_in", promise, refusal or "NOT_AVAILABLE", actor, now)
    known, row = promise.fulfilment, promise.redemption
    came = promise.units_left - known.checked_in if units is None else units
    arrival = tables.CheckIn(redemption_id=row.id, units=came, checked_in_at=now, checked_in_by=actor.owner)
    binding = tables.IdempotencyKey(
        owner=actor.owner, key=key, fingerprint=fingerprint, result_id=arrival.id, created_at=now
    )
    statement = insert(tables.IdempotencyKey).values(binding.model_dump()).on_conflict_do_nothing()
    if await session.scalar(statement.returning(col(tables.IdempotencyKey.result_id))) is None:
        # Bound meanwhile, to another redemption, for this one is locked.
        return Outcome("KEY_REUSED", None)
    session.add(arrival)
    known.checked_in += came
    known.fulfilled_at = known.fulfilled_at or now
    row.fulfilment = FULFILLED
    await keep(session, promise, "redemption.checked_in", row.fulfilment, actor, now, units=came)
    return Outcome("CHECKED_IN", row.id)


def refused_to_enter(promise: Promise, units: int | None, now: datetime) -> str | None:
    """Why nobody, or not so many, may come in now."""
    option, left = promise.option, promise.units_left - promise.fulfilment.checked_in
    if promise.units_left == 0:
        return "ALREADY_REVERSED"
    if promise.perk.kind != PerkKind.EVENT or promise.state is FAILED:
        return "WRONG_STATE"
    if option is not None and option.starts_at is not None:
        closes = option.ends_at + DOORS_CLOSE_AFTER if option.ends_at else option.starts_at + DOORS_CLOSE_AFTER_START
        if not option.starts_at - DOORS_OPEN_BEFORE <= now < closes:
            return "OUTSIDE_WINDOW"
    return "UNITS_EXCEEDED" if (units or 1) > left else None


# Sessions that are over come from their index, and of each only what is still open. Who checks somebody in at this
# moment has the lock, and is passed over until the next time.
MARK_NO_SHOWS = f"""
WITH due AS MATERIALIZED (
  SELECT r.id FROM perk_option o JOIN redemption r ON r.option_id = o.id JOIN perk p ON p.id = o.perk_id
  WHERE o.starts_at IS NOT NULL AND coalesce(o.ends_at, o.starts_at) <= $1::timestamptz - $2::interval
    AND p.kind = 'EVENT' AND (o.ends_at IS NOT NULL OR o.starts_at <= $1::timestamptz - $3::interval)
    AND r.fulfilment IN ('PENDING', 'SCHEDULED') AND r.reversed_units < r.units
  LIMIT {NO_SHOWS_MAX} FOR UPDATE OF r SKIP LOCKED
), missed AS (
  UPDATE redemption SET fulfilment = 'NO_SHOW' WHERE id = ANY (ARRAY(SELECT id FROM due))
  RETURNING id, partner_id, perk_id, member_id, policy_version, tier, units - reversed_units AS units
)
SELECT record_audit($1, 'fulfilment.updated', 'DONE', ARRAY['NO_SHOW'], 'system', 'system', partner_id, perk_id,
  member_id, id, policy_version, tier, units) FROM missed
"""  # noqa: S608  constants alone


async def mark_no_shows(connection: "Connection[Any]", now: datetime) -> int:
    """Closes up to 1,000 redemptions of sessions whose doors are closed and to which nobody came; how many."""
    return len(await connection.fetch(MARK_NO_SHOWS, now, DOORS_CLOSE_AFTER, DOORS_CLOSE_AFTER_START))
