"""Who has which tier, from when and why."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from partners import audit, tables
from partners.actors import Actor
from partners.errors import BadInput
from partners.members import lock_member
from partners.programme import Programme
from partners.references import MemberRef
from partners.tables import AssignmentCause

NOTE_LENGTH_MAX = 500
TO_COME = "endsAt: a time that is to come"


async def assign_tier(
    session: AsyncSession,
    reference: MemberRef,
    tier: str,
    *,
    programme: Programme,
    cause: AssignmentCause,
    ends_at: datetime | None,
    note: str | None,
    actor: Actor,
    now: datetime,
) -> tables.TierAssignment:
    """Gives a member a tier from now on; the one before ends at the same instant.

    NotFound for the member, BadInput for a tier the programme has not, or an end that has passed.
    """
    check_tier(tier, programme)
    if ends_at is not None and ends_at <= now:
        raise BadInput(TO_COME)
    if note is not None and len(note) > NOTE_LENGTH_MAX:
        raise BadInput(f"note: at most {NOTE_LENGTH_MAX} characters")
    member = await lock_member(session, reference)
    assignment = tables.TierAssignment
    # Those that start later are none of ours yet: assignments are made for now, so an open one is the current one.
    for current in await session.scalars(
        select(assignment).where(
            assignment.member_id == member.id, (col(assignment.ends_at) > now) | col(assignment.ends_at).is_(None)
        )
    ):
        current.ends_at = max(now, current.starts_at)
    given = assignment(member_id=member.id, tier=tier, starts_at=now, ends_at=ends_at, cause=cause, note=note)
    session.add(given)
    member.version += 1
    await audit.record(
        session,
        "tier.assigned",
        audit.Subject(member_id=member.id, subject_id=given.id, tier=tier),
        actor,
        now,
        notes=[cause.value],
    )
    return given


def check_tier(tier: str, programme: Programme) -> None:
    """BadInput for a tier that the programme has not."""
    if tier not in programme.ranks:
        raise BadInput(f"the programme has no tier {tier!r}; it has {', '.join(programme.ranks)}")
