"""What a partner is told of a moment that may be the same at every partner of one member: its day (law 8)."""

from dataclasses import replace
from datetime import datetime
from typing import Any

from partners.actors import Actor, ActorKind
from partners.reading import day_of
from partners.services.reading import Seen
from partners.tables import ServiceState
from partners.threads import Clocks, clocks
from partners.values import value

BY_HAND = ("partner:", "member:")


def reversal_told(reversal: Any, actor: Actor) -> tuple[datetime, bytes | None]:
    """When it was reversed, and by which leaf. Staff may do so at all partners in one moment, and do when they erase a
    member: a partner is told the day, and no hash, whose place in the public tiles would tell the moment."""
    if actor.kind is not ActorKind.PARTNER or reversal.reversed_by.startswith(BY_HAND):
        return reversal.reversed_at, reversal.leaf_hash
    return day_of(reversal.reversed_at), None


@value
class End:
    """How a request's clocks stand, when the first answer came, when it was settled, and when it ended."""

    clocks: Clocks
    answered_at: datetime | None
    solved_at: datetime | None
    ended_at: datetime | None


def end_told(seen: Seen, now: datetime) -> End:
    """Of a request that was cancelled and that the asker may not look into any more, as are those of a member who was
    erased, the day; and not when answers would have been due, which the waiting before the end has moved."""
    thread, ended_at = seen.thread, seen.request.ended_at
    read = clocks(thread, now)
    if seen.shown or seen.request.state != ServiceState.CANCELLED or ended_at is None:
        return End(read, thread.answered_at, thread.solved_at, ended_at)
    day = day_of(ended_at)
    answered_at = thread.answered_at if thread.answered_at is None or thread.answered_at < ended_at else day
    hidden = replace(read, answer_due_at=None, solve_due_at=None)
    return End(hidden, answered_at, None if thread.solved_at is None else day, day)
