"""Telling again: one message, a time range, what came after one, or all that was given up; made anew from the log."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from partners import audit
from partners.actors import Actor
from partners.errors import BadInput, NotFound
from partners.keys import Keys
from partners.services.approvals import bare
from partners.values import value
from partners.webhooks.events import (
    IS_EVENT,
    IS_STAGGERED,
    IS_WANTED,
    LANE,
    TESTED,
    TOLD_AT,
    entry_of,
    names_of,
    public_id,
)
from partners.webhooks.messages import PULL
from partners.webhooks.reach import lock_endpoint

IDS_MAX = 100
AT_ONCE_MAX = 10_000

# When an endpoint was, or is to be, told of the entry `e`: of a staggered one that is all there is to ask for, since
# ranges that get narrower would else find the moment itself. What is not told yet is not there.
TOLD = f"""
SELECT e.*, l.index, {LANE} AS lane,
  coalesce(CASE WHEN {IS_STAGGERED} THEN {{said}} END, {TOLD_AT.format(key="CAST(:delays AS bytea)")}) AS told_at
FROM webhook_endpoint p JOIN audit_entry e ON e.partner_id = p.partner_id JOIN log_leaf l ON l.entry_id = e.id
{{message}} WHERE p.id = :endpoint AND {{which}}
"""  # noqa: S608  constants
# Looked up for what is staggered alone, which is little: a planner that knows of no message yet keeps a plan that reads
# all of the endpoint's for each entry.
ANY_MESSAGE = {
    "said": "(SELECT o.told_at FROM webhook_message o WHERE o.endpoint_id = p.id AND o.entry_id = e.id)",
    "message": "",
}
THE_MESSAGE = {
    "said": "m.told_at",
    "message": "JOIN webhook_message m ON m.endpoint_id = p.id AND m.entry_id = e.id",
}
BY_ID = f"e.id = ANY (CAST(:ids AS uuid[])) AND {IS_EVENT} AND (e.action <> '{TESTED}' OR e.subject_id = p.id)"
PARKED = "m.state = 'PARKED'"
# Nobody asks for what is younger than it, and the time of an entry is never later than when it is told.
RANGE = f"e.at <= :now AND e.at >= CAST(:since AS timestamptz) - interval '24 hours' AND {IS_WANTED}"
AGAIN = """
WITH told AS MATERIALIZED ({told}), wanted AS (
  SELECT * FROM told WHERE told_at <= :now AND told_at >= :since AND told_at < :until
    AND (told_at, id) > (CAST(:since AS timestamptz), CAST(:after AS uuid)) ORDER BY told_at, id LIMIT :most
), made AS (
  INSERT INTO webhook_message (endpoint_id, entry_id, index, action, lane, state, attempts, replays, told_at,
    pending_since, due_at)
  SELECT CAST(:endpoint AS uuid), id, index, action, lane, 'PENDING', 0, 1, told_at, CAST(:now AS timestamptz),
    CAST(:now AS timestamptz) FROM wanted
  ON CONFLICT (endpoint_id, entry_id) DO UPDATE SET state = 'PENDING', attempts = 0, leased_until = NULL,
    ended_at = NULL, replays = least(webhook_message.replays + 1, 32767), pending_since = :now, due_at = :now
    WHERE webhook_message.state <> 'PENDING'
      OR (webhook_message.attempts > 0 AND coalesce(webhook_message.leased_until, :now) <= :now)
)
SELECT id FROM wanted ORDER BY told_at, id
"""
ONE_TOLD = sa.text(
    f"SELECT told_at FROM ({TOLD.format(**ANY_MESSAGE, which='e.id = :after')}) AS t WHERE told_at <= :now"  # noqa: S608
)
FIRST_ID = UUID(int=0)
EVER = datetime(1970, 1, 1, tzinfo=UTC)


@value
class Replay:
    """What to tell again, one of: public `ids`; what was told from `since` until before `until`; what was told `after`
    a message (its public id), also until before `until`; all that is `parked`."""

    ids: Collection[UUID] | None = None
    since: datetime | None = None
    until: datetime | None = None
    after: UUID | None = None
    parked: bool = False

    def check(self) -> None:
        """BadInput unless it says one thing."""
        ways = [self.ids is not None, self.after is not None, self.parked, self.since is not None]
        if sum(ways) != 1 or (self.until is not None and (self.ids is not None or self.parked)):
            raise BadInput("one of: ids, since (with until), after (with until), parked")
        if self.ids is not None and not 1 <= len(set(self.ids)) <= IDS_MAX:
            raise BadInput(f"ids: 1 to {IDS_MAX}")
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise BadInput("until: later than since")


@value
class Replayed:
    """How many messages are to be told again, and the one after which to go on when there are more."""

    count: int
    goes_on_after: UUID | None


async def replay(
    session: AsyncSession, endpoint_id: UUID, asked: Replay, *, keys: Keys, actor: Actor, now: datetime
) -> Replayed:
    """Makes messages of an endpoint pending again, at most 10,000, those that were pruned, or never made, from the log;
    what is pending untried stays as it is. They are told in the log's order, and what waits of the same member behind
    them.

    NotFound for an endpoint out of reach and for ids that are none of its events; BadInput.
    """
    asked.check()
    endpoint = await lock_endpoint(session, endpoint_id, actor)
    about: dict[str, Any] = {"endpoint": endpoint_id, "delays": names_of(keys).delays, "now": now}
    about |= {"since": EVER, "after": FIRST_ID, "until": asked.until or now + timedelta(seconds=1), "most": AT_ONCE_MAX}
    which = RANGE
    if asked.ids is not None:
        about["ids"], which = [entry_of(keys, id) for id in set(asked.ids)], BY_ID
    elif asked.parked:
        which = PARKED
    elif asked.after is not None:
        about["after"] = entry_of(keys, asked.after)
        about["since"] = await told_at(session, about, asked.after)
    else:
        about["since"] = asked.since
    told = TOLD.format(**(THE_MESSAGE if asked.parked else ANY_MESSAGE), which=which)
    statement = sa.text(AGAIN.format(told=told))
    found = list(await session.scalars(statement, about))
    if asked.ids is not None and (unknown := set(asked.ids) - {public_id(keys, id) for id in found}):
        raise NotFound("no such message", unknownMessages=[f"evt_{id.hex}" for id in sorted(unknown)])
    await (await bare(session)).execute(PULL, [endpoint_id], now)
    subject = audit.Subject(endpoint.partner_id, subject_id=endpoint.id, units=len(found))
    await audit.record(session, "webhook.replayed", subject, actor, now)
    return Replayed(len(found), public_id(keys, found[-1]) if len(found) == AT_ONCE_MAX else None)


async def told_at(session: AsyncSession, about: dict[str, Any], after: UUID) -> datetime:
    """When the endpoint was told of an entry; NotFound for what it was not."""
    at: datetime | None = await session.scalar(ONE_TOLD, about)
    if at is None:
        raise NotFound("no such message", unknownMessages=[f"evt_{after.hex}"])
    return at
