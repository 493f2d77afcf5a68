"""Reviews of members' claims: staff read them and close them."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import strawberry

from partners import reviews, tables
from partners.members import view_members
from partners.tables import ReviewState
from schema.catalogue import Perk, perks_by_id
from schema.context import Info
from schema.ids import MEMBER, PARTNER, REVIEW, optional_id, read_id, show_id
from schema.members import Member
from schema.nodes import Node
from schema.outcomes import UserError, plain_error
from schema.paging import Connection, connect, page_size, read_cursor
from schema.permissions import Staff, field, object_type
from schema.selection import selected

MAY_REVIEW = Staff("members:admin")

strawberry.enum(ReviewState, description="OPEN and UPHELD keep the member from the partner's perks; CLEARED does not.")


@object_type(
    permission=MAY_REVIEW,
    description="A member claimed a partner's perks faster than a rule allows. Until it is cleared, nothing of that "
    "partner is for the member.",
)
class Review(Node):
    state: ReviewState = field(description="Whether it stands.")
    member: Member | None = field(description="Whose claims.")
    perk: Perk | None = field(description="The perk whose rule opened it, with its partner.")
    opened_at: datetime = field(description="When the claim came that was one too many.")
    closed_at: datetime | None = field(description="When staff last decided.")
    closed_by: str | None = field(description="Who did.")
    note: str | None = field(description="Why.")

    @classmethod
    def of(cls, row: tables.Review, member: Member | None, perk: Perk | None) -> "Review":
        """A review with what was fetched beside it."""
        return cls(
            id=strawberry.ID(show_id(REVIEW, row.id)),
            state=ReviewState(row.state),
            member=member,
            perk=perk,
            opened_at=row.opened_at,
            closed_at=row.closed_at,
            closed_by=row.closed_by,
            note=row.note,
        )


@strawberry.input(description="Which reviews; every condition that is given must hold.")
class ReviewFilter:
    state: ReviewState | None = strawberry.field(default=None, description="In this state.")
    member: strawberry.ID | None = strawberry.field(default=None, description="Of this member.")
    partner: strawberry.ID | None = strawberry.field(default=None, description="Of claims on this partner's perks.")


async def find_reviews(
    info: Info, filter: ReviewFilter | None = None, first: int | None = None, after: str | None = None
) -> Connection[Review]:
    """A page of reviews, newest first: one statement, and one each for members and perks where they are selected."""
    size, wanted = page_size(first), filter or ReviewFilter()
    async with info.context.reading() as session:
        rows = await reviews.list_reviews(
            session,
            state=wanted.state,
            member_id=optional_id(MEMBER, wanted.member),
            partner_id=optional_id(PARTNER, wanted.partner),
            first=size + 1,
            after=read_cursor(after),
        )
    shown = {row.id: one for row, one in zip(rows, await reviews_of(info, rows), strict=True)}
    page: Connection[Review] = connect(rows, size, after, id_of=lambda row: row.id, node_of=lambda row: shown[row.id])
    return page


async def reviews_of(info: Info, rows: Sequence[tables.Review]) -> list[Review]:
    """Rows with their members and perks, where those are selected."""
    names = selected(info)
    members: dict[UUID, Member] = {}
    if "member" in names and rows:
        async with info.context.reading() as session:
            seen = await view_members(session, {row.member_id for row in rows}, asker=None, now=info.context.now)
        members = {id: Member.of(one, for_partner=False) for id, one in seen.items()}
    perks = await perks_by_id(info, {row.perk_id for row in rows}) if "perk" in names and rows else {}
    return [Review.of(row, members.get(row.member_id), perks.get(row.perk_id)) for row in rows]


async def load_review(info: Info, id: UUID) -> Review | None:
    """One review."""
    async with info.context.reading() as session:
        row = await reviews.find_review(session, id)
    return None if row is None else (await reviews_of(info, [row]))[0]


@strawberry.input(description="What staff decided.")
class CloseReviewInput:
    review: strawberry.ID = strawberry.field(description="Which.")
    cleared: bool = strawberry.field(
        description="True: the member may claim again, and claims so far no longer count. False: it stays kept out."
    )
    note: str | None = strawberry.field(default=None, description="Why, 1 to 500 characters; for staff alone.")


@object_type(permission=MAY_REVIEW, description="The review, or why it could not be closed.")
class CloseReviewPayload:
    review: Review | None = field(description="The review as it is now.")
    user_errors: list[UserError] = field(description="Why not; empty when it is closed.")


async def close_review(info: Info, input: CloseReviewInput) -> CloseReviewPayload:
    """Clears or upholds a review; one that was upheld can be cleared later."""
    context = info.context
    async with context.sessions.begin() as session:
        row, refused = await reviews.close_review(
            session,
            read_id(REVIEW, input.review),
            cleared=input.cleared,
            note=input.note,
            actor=context.actor,
            now=context.now,
        )
    [review] = await reviews_of(info, [row])
    return CloseReviewPayload(review=review, user_errors=[] if refused is None else plain_error(refused, ["review"]))
