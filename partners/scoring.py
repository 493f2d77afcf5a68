"""A member's score: the weighted sum of what it did over the trailing window, worked out where the activities are."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from asyncpg import Connection

from partners.actors import Actor
from partners.programme import SCORE_MAX, Programme

FIRST_ID = UUID(int=0)
# Members are locked in the order of their ids, like everywhere. Only whose score is another one is written, with a
# higher version: what was decided on the old one is stale. One entry tells of all that changed, by their count.
SCORE = f"""
WITH those AS MATERIALIZED ({{those}}), weight AS (
  SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS w(indicator, weight, cap)
), part AS (
  SELECT a.member_id, least(greatest(sum(a.amount) * w.weight, -w.cap), w.cap) AS points
  FROM activity a JOIN weight w USING (indicator)
  WHERE a.member_id IN (SELECT id FROM those) AND a.at > $4 AND a.at <= $5
  GROUP BY a.member_id, indicator, w.weight, w.cap
), whole AS MATERIALIZED (
  SELECT s.id, least(greatest(coalesce(sum(p.points), 0), -{SCORE_MAX}), {SCORE_MAX})::bigint AS score
  FROM those s LEFT JOIN part p ON p.member_id = s.id GROUP BY s.id
), locked AS MATERIALIZED (
  SELECT m.id, w.score FROM member m JOIN whole w USING (id) WHERE m.score <> w.score ORDER BY m.id
  FOR NO KEY UPDATE OF m
), changed AS (
  UPDATE member m SET score = l.score, version = m.version + 1 FROM locked l WHERE m.id = l.id RETURNING 1
)
SELECT last, changed, CASE WHEN changed > 0 THEN record_audit($5, 'scores.computed', 'DONE',
  ARRAY['CHANGED:' || changed], $6, $7, NULL, NULL, NULL, NULL, NULL, NULL) END
FROM (SELECT (SELECT id FROM those ORDER BY id DESC LIMIT 1) AS last, (SELECT count(*) FROM changed) AS changed
  OFFSET 0) AS done
"""  # noqa: S608  constants alone
SCORE_SOME = SCORE.format(those="SELECT id FROM member WHERE id = ANY ($8::uuid[])")
SCORE_NEXT = SCORE.format(those="SELECT id FROM member WHERE id > $8 ORDER BY id LIMIT 1000")


async def score_members(
    connection: "Connection[Any]", programme: Programme, members: Sequence[UUID], actor: Actor, now: datetime
) -> int:
    """Works out the scores of these members anew; how many changed."""
    changed: int = await connection.fetchval(SCORE_SOME, *weights_of(programme, actor, now), members, column=1)
    return changed


async def score_everybody(connection: "Connection[Any]", programme: Programme, actor: Actor, now: datetime) -> int:
    """Works out every score anew, a thousand members at a time, since what was done longer ago than the window no
    longer counts; how many changed."""
    after: UUID | None = FIRST_ID
    changed = 0
    while after is not None:
        row = await connection.fetchrow(SCORE_NEXT, *weights_of(programme, actor, now), after)
        assert row is not None
        after, changed = row["last"], changed + row["changed"]
    return changed


def weights_of(programme: Programme, actor: Actor, now: datetime) -> tuple[Any, ...]:
    """What counts how much, from when until when, and on whose behalf: the first arguments of both statements."""
    indicators = programme.indicator
    return (
        [one.handle for one in indicators],
        [one.weight for one in indicators],
        [SCORE_MAX if one.cap is None else one.cap for one in indicators],
        now - timedelta(days=programme.score.window_days),
        now,
        actor.kind.value,
        actor.id,
    )
