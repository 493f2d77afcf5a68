"""Staff look into one member's claims on one partner's perks, opened when they come too fast (the rule `velocity`)."""

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from partners import audit, tables
from partners.actors import SYSTEM, Actor
from partners.eligibility import Decision
from partners.errors import BadInput, NotFound
from partners.facts import RefusalCode
from partners.tables import ReviewState

NOTE_LENGTH_MAX = 500
# Written out: one plan for every value of a parameter could not use the index on those that stand.
STANDS = sa.text("state IN ('OPEN', 'UPHELD')")


def came_too_fast(decision: Decision) -> bool:
    """Whether it was a velocity rule that refused, so that a claim opens a review."""
    return any(refusal.code is RefusalCode.UNDER_REVIEW and refusal.rule == "velocity" for refusal in decision.refusals)


async def open_review(
    session: AsyncSession, member_id: UUID, partner_id: UUID, perk_id: UUID, now: datetime
) -> UUID | None:
    """Keeps the member from the partner's perks until staff clear it; the review's id, or None where one stands
    already, also one that another claim opens at this moment."""
    review = tables.Review(member_id=member_id, partner_id=partner_id, perk_id=perk_id, opened_at=now)
    statement = (
        insert(tables.Review)
        .values(review.model_dump())
        .on_conflict_do_nothing(index_elements=["member_id", "partner_id"], index_where=STANDS)
        .returning(col(tables.Review.id))
    )
    opened: UUID | None = await session.scalar(statement)
    if opened is not None:
        await set_reviews(session, review, stands=True)
        await audit.record(session, "review.opened", subject_of(review), SYSTEM, now)
    return opened


async def set_reviews(session: AsyncSession, review: tables.Review, *, stands: bool) -> None:
    """Adds the partner to those of the member's reviews, or removes it; what was decided on older facts is stale."""
    member = tables.Member
    change = sa.func.array_append if stands else sa.func.array_remove
    values = {"reviews": change(member.reviews, review.partner_id), "version": col(member.version) + 1}
    await session.execute(sa.update(member).where(col(member.id) == review.member_id).values(values))


async def close_review(
    session: AsyncSession, review_id: UUID, *, cleared: bool, note: str | None, actor: Actor, now: datetime
) -> tuple[tables.Review, RefusalCode | None]:
    """CLEARED lets the member claim again, and the claims before no longer count; UPHELD keeps it out. What was upheld
    can be cleared later; anything else that is closed is WRONG_STATE. NotFound; BadInput for a long note."""
    if note is not None and not 1 <= len(note.strip()) <= NOTE_LENGTH_MAX:
        raise BadInput(f"note: 1 to {NOTE_LENGTH_MAX} characters")
    query = select(tables.Review).where(tables.Review.id == review_id).with_for_update()
    review = await session.scalar(query.execution_options(populate_existing=True))
    if review is None:
        raise NotFound("no such review")
    action = "review.cleared" if cleared else "review.upheld"
    if review.state != ReviewState.OPEN and not (cleared and review.state == ReviewState.UPHELD):
        refused = RefusalCode.WRONG_STATE
        await audit.record(session, action, subject_of(review), actor, now, refused=[refused])
        return review, refused
    review.state = ReviewState.CLEARED if cleared else ReviewState.UPHELD
    review.closed_at, review.closed_by, review.note = now, actor.id, note and note.strip()
    if cleared:
        await set_reviews(session, review, stands=False)
    await audit.record(session, action, subject_of(review), actor, now)
    return review, None


async def list_reviews(
    session: AsyncSession,
    *,
    state: ReviewState | None = None,
    member_id: UUID | None = None,
    partner_id: UUID | None = None,
    first: int,
    after: UUID | None,
) -> list[tables.Review]:
    """Reviews, newest first."""
    review = tables.Review
    query = select(review).order_by(col(review.id).desc()).limit(first)
    for column, wanted in ((review.state, state), (review.member_id, member_id), (review.partner_id, partner_id)):
        if wanted is not None:
            query = query.where(column == wanted)
    if after is not None:
        query = query.where(col(review.id) < after)
    return list(await session.scalars(query))


async def find_review(session: AsyncSession, id: UUID) -> tables.Review | None:
    """One review."""
    return await session.get(tables.Review, id)


def subject_of(review: tables.Review) -> audit.Subject:
    """A review as the subject of an audit entry."""
    return audit.Subject(review.partner_id, review.perk_id, review.member_id, review.id)
