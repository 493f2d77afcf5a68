"""How attempts went: what becomes of their messages, and of the peace of endpoints that fail."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from asyncpg import Connection

from partners.tables import MessageState
from partners.tables.columns import new_id
from partners.values import value
from partners.webhooks.messages import Leased
from partners.webhooks.schedule import Health, delay_after

GONE_STATUS = 410
ASKS_TO_WAIT = frozenset({429, 503})


@value
class Attempt:
    """One attempt: when it began, how long it took, and the answer's status and what it asked to wait, or the fault."""

    message: Leased
    at: datetime
    duration_ms: int
    status: int | None = None
    fault: str | None = None
    asked: timedelta | None = None

    @property
    def succeeded(self) -> bool:
        """Any 2xx; everything else is a failure, redirects too."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_gone(self) -> bool:
        """The endpoint says that there is nobody any more."""
        return self.status == GONE_STATUS

    @property
    def wait(self) -> timedelta | None:
        """What it may ask to wait for."""
        return self.asked if self.status in ASKS_TO_WAIT else None

    def ending(self, now: datetime, chance: float) -> tuple[MessageState, datetime]:
        """The state of its message, and when that is due again."""
        if self.succeeded:
            return MessageState.DELIVERED, now
        delay = delay_after(self.message.attempts + 1, chance, self.wait)
        return (MessageState.PARKED, now) if delay is None else (MessageState.PENDING, now + delay)


# The lease tells whose word counts: what another has leased since, or was replayed, is no longer the caller's to end.
# The member reads what partners were told of it; what of an erased one is still told leaves no trace.
FINISH = """
WITH tried AS (
  SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::uuid[], $5::uuid[], $6::uuid[], $7::smallint[],
    $8::timestamptz[], $9::int[], $10::smallint[], $11::text[], $12::text[], $13::timestamptz[])
  AS t(endpoint_id, entry_id, leased_until, member_id, partner_id, id, number, at, duration_ms, status, fault, state,
    due_at)
), ended AS (
  UPDATE webhook_message m SET state = t.state, attempts = t.number, leased_until = NULL, due_at = t.due_at,
    ended_at = CASE WHEN t.state <> 'PENDING' THEN $14::timestamptz END
  FROM tried t WHERE m.endpoint_id = t.endpoint_id AND m.entry_id = t.entry_id AND m.state = 'PENDING'
    AND m.leased_until = t.leased_until
), disclosed AS (
  INSERT INTO disclosure (member_id, id, at, partner_id, client_id, kind, perk_id)
  SELECT t.member_id, t.id, t.at, t.partner_id, 'endpoint_' || replace(t.endpoint_id::text, '-', ''), 'REDEMPTIONS',
    e.perk_id
  FROM tried t CROSS JOIN LATERAL (SELECT e.action, e.perk_id FROM audit_entry e WHERE e.id = t.entry_id LIMIT 1) AS e
  WHERE t.number = 1 AND NOT starts_with(e.action, 'consent.')
    AND (SELECT b.state FROM member b WHERE b.id = t.member_id) <> 'ERASED'
)
INSERT INTO webhook_delivery (id, endpoint_id, entry_id, number, at, duration_ms, status, fault)
SELECT id, endpoint_id, entry_id, number, at, duration_ms, status, fault FROM tried
"""
HEALTH = """
SELECT id, failures, failing_since, retry_at FROM webhook_endpoint WHERE id = ANY ($1::uuid[]) ORDER BY id FOR UPDATE
"""
KEEP_HEALTH = """
UPDATE webhook_endpoint p SET failures = h.failures, failing_since = h.failing_since, retry_at = h.retry_at
FROM unnest($1::uuid[], $2::int[], $3::timestamptz[], $4::timestamptz[]) AS h(id, failures, failing_since, retry_at)
WHERE p.id = h.id
"""
# An endpoint is back: what waits for its next attempt need not wait for hours more.
HURRY = """
UPDATE webhook_message SET due_at = $2 WHERE endpoint_id = ANY ($1::uuid[]) AND state = 'PENDING' AND attempts > 0
  AND due_at > $2 AND leased_until IS NULL
"""


async def finish_attempts(
    connection: "Connection[Any]", attempts: Sequence[Attempt], now: datetime, chance: float
) -> None:
    """Writes down how attempts went: one statement where all is well, four in a transaction otherwise. `chance` is from
    0 to 1, for the jitter."""
    troubled = {one.message.endpoint_id for one in attempts if not one.succeeded or one.message.failures}
    if not troubled:
        await connection.execute(FINISH, *columns_of(attempts, now, chance), now)
        return
    async with connection.transaction():
        health = {
            row["id"]: Health(row["failures"], row["failing_since"], row["retry_at"])
            for row in await connection.fetch(HEALTH, list(troubled))
        }
        await connection.execute(FINISH, *columns_of(attempts, now, chance), now)
        known = {
            id: judged(was, [one for one in attempts if one.message.endpoint_id == id], now, chance)
            for id, was in health.items()
        }
        await connection.execute(
            KEEP_HEALTH,
            list(known),
            [one.failures for one in known.values()],
            [one.failing_since for one in known.values()],
            [one.retry_at for one in known.values()],
        )
        if back := [id for id, was in health.items() if was.is_open and not known[id].failures]:
            await connection.execute(HURRY, back, now)


def judged(health: Health, attempts: Iterable[Attempt], now: datetime, chance: float) -> Health:
    """An endpoint after one round of attempts: many that fail at once are one failure, and any success is a success."""
    if any(one.succeeded for one in attempts):
        return Health()
    asked = max((one.wait for one in attempts if one.wait is not None), default=None)
    return health.after_failure(now, chance, asked)


def columns_of(attempts: Sequence[Attempt], now: datetime, chance: float) -> list[list[Any]]:
    """The columns of `tried`."""
    rows: list[tuple[Any, ...]] = []
    for place, one in enumerate(attempts):
        message = one.message
        # Another one for each, or what failed together would come back together.
        state, due_at = one.ending(now, (chance + place / len(attempts)) % 1)
        told = (message.endpoint_id, message.entry_id, message.until, message.member_id, message.partner_id)
        tried = (new_id(), message.attempts + 1, one.at, one.duration_ms, one.status, one.fault)
        rows.append((*told, *tried, state.value, due_at))
    return [list(column) for column in zip(*rows, strict=True)]
