"""What members did, by the thousand: a chunk is one statement, and scores follow."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from asyncpg import Connection

from partners.errors import BadInput
from partners.import_rows import ActivityRow, Outcome
from partners.imports import RECORD, Import, packed
from partners.scoring import score_members

# A row that was inserted has no xmax; one that was updated has this transaction's.
WRITE_ACTIVITY = """
WITH given AS (
  SELECT r.*, m.id AS member_id FROM json_to_recordset($1)
    AS r(place int, external_id text, indicator text, source text, at timestamptz, amount bigint)
  LEFT JOIN member m USING (external_id)
), written AS (
  INSERT INTO activity (id, member_id, indicator, source, at, amount)
  SELECT new_id(), member_id, indicator, source, at, amount FROM given WHERE member_id IS NOT NULL
  ON CONFLICT (member_id, indicator, source) DO UPDATE SET at = excluded.at, amount = excluded.amount
    WHERE (activity.at, activity.amount) <> (excluded.at, excluded.amount)
  RETURNING member_id, indicator, source, xmax = 0 AS fresh
)
SELECT g.member_id, w.fresh FROM given g
LEFT JOIN written w USING (member_id, indicator, source) ORDER BY g.place
"""


def check_activity_row(row: ActivityRow, brought: Import, now: datetime) -> None:
    """BadInput for what can't be, whatever is stored."""
    if row.at > now:
        raise BadInput("at: a time that has passed")
    for column, text in (("indicator", row.indicator), ("source", row.source)):
        if not text.isprintable():
            raise BadInput(f"{column}: printable characters")


async def import_activity(
    connection: "Connection[Any]", rows: Sequence[ActivityRow], brought: Import, now: datetime
) -> list[Outcome | BadInput]:
    """Adds and corrects activities, within the caller's transaction; each line's outcome, in order.

    No two of the rows have the same key. One entry tells of the whole chunk, by its counts; scores follow.
    """
    packed_rows = packed([{"place": place} | row.model_dump() for place, row in enumerate(rows)])
    outcomes: list[Outcome | BadInput] = []
    changed: set[UUID] = set()
    for row, written in zip(rows, await connection.fetch(WRITE_ACTIVITY, packed_rows), strict=True):
        if written["member_id"] is None:
            outcomes.append(BadInput(f"external_id: no such member: {row.external_id}"))
        elif written["fresh"] is None:
            outcomes.append(Outcome.UNCHANGED)
        else:
            outcomes.append(Outcome.NEW if written["fresh"] else Outcome.CHANGED)
            changed.add(written["member_id"])
    notes = [f"{one.upper()}:{count}" for one in (Outcome.NEW, Outcome.CHANGED) if (count := outcomes.count(one))]
    if notes:
        entry = {"action": "activity.imported", "notes": notes}
        await connection.execute(RECORD, packed([entry]), now, brought.actor.kind, brought.actor.id)
        await score_members(connection, brought.programme, list(changed), brought.actor, now)
    return outcomes
